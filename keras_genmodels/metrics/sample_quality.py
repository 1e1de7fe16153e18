"""Precision, recall, density, coverage and Frechet distance of samples."""

import math

import numpy as np
import threadpoolctl
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.metrics.estimates import average

# MiB of distances in memory at once.
_WORKING_MEMORY = 64

# Squared distances that differ by less, relative to the largest squared norm
# about the mean, are equal: float32 features of one image differ by as much in
# two batches, and |a|^2 - 2 a'b + |b|^2 in float64 by less.
_TIE = 1e-12

# Of the jackknife: random halves, and the fewest events to halve.
_NUM_HALVINGS = 10
_MIN_EVENTS = 20


def precision_recall(features, real_features, *, k=5):
    """Computes the precision and the recall of samples.

    Each set of events is replaced by the union of balls around its events,
    each of which reaches to the k-th nearest other event of the set.
    Precision is the share of the samples within the balls of the real events,
    recall the share of the real events within the balls of the samples. Both
    depend on k and on the sizes of the sets: compare only numbers of equal
    ones.

    The standard errors are those of a jackknife that leaves out half of both
    sets (Shao and Wu, 1989): the root mean square, over ten random halvings
    that are always the same, of half the difference between the two halves.
    Leaving out a tenth overestimates them where one ball decides for many
    similar samples: up to 1.15 for a share, where halves give at most 0.5. An
    error is never below that of the share's posterior, see
    `estimates.average`.

    On Gaussians of 60 to 200 events the errors were 0.8 to 1.2 times the
    spread of repetitions, that of the Frechet distance 0.9 to 1.5 times; if
    all samples lie close together among outliers, those of precision and
    density were 0.5 to 0.9 times.

    Args:
        features: floating array `[n, d]`, of the samples, of which there must
            be at least 20 and 2 (k + 1).
        real_features: floating array `[num_real, d]`, likewise.
        k: int >= 1.

    Returns:
        dict of floats: `precision` and `recall` in [0, 1], each with its
        `..._standard_error`.

    Raises:
        NotMeasured: for too few features.
        ValueError: for features that are not finite, or of another type or
            shape.

    #### References

    Kynkaanniemi et al. (2019), Improved precision and recall metric for
    assessing generative models, arXiv:1904.06991, eq. 1 and 2. Shao and Wu
    (1989), A general theory for jackknife variance estimation, Annals of
    Statistics 17.
    """
    check_count("k", k)

    def measure(features, real):
        return {
            "precision": _num_balls(features, real, k) > 0,
            "recall": _num_balls(real, features, k) > 0,
        }

    units = {"precision": 1, "recall": 1}
    return _with_errors(measure, features, real_features, 2 * (k + 1), units)


def density_coverage(features, real_features, *, k=5):
    """Computes the density and the coverage of samples.

    With the balls of the real events, as in `precision_recall`: density is
    the mean number of balls that a sample lies in, divided by k, so that a
    single outlier among the real events counts for little; coverage is the
    share of the balls that contain a sample. As many new real events get 1
    and about 1 - 2**-k. The balls are closed, so that the real events
    themselves get 1 + 1 / k and 1.

    The standard errors are those of `precision_recall`. That of the density
    is at least 1 / k of that of the share of samples in any ball, each of
    which adds at least 1 / k.

    Args:
        features: floating array `[n, d]`, of the samples, of which there must
            be at least 20 and 2 (k + 1).
        real_features: floating array `[num_real, d]`, likewise.
        k: int >= 1.

    Returns:
        dict of floats: `density` >= 0 and `coverage` in [0, 1], each with its
        `..._standard_error`.

    Raises:
        NotMeasured, ValueError: as `precision_recall`.

    #### References

    Naeem et al. (2020), Reliable fidelity and diversity metrics for
    generative models, arXiv:2002.09797, section 3.2.
    """
    check_count("k", k)

    def measure(features, real):
        nearest, _ = _neighbours(features, 1).kneighbors(real)
        return {
            "density": _num_balls(features, real, k) / k,
            "coverage": nearest[:, 0] <= _radii(real, k),
        }

    units = {"density": 1 / k, "coverage": 1}
    return _with_errors(measure, features, real_features, 2 * (k + 1), units)


def frechet_classifier_distance(features, real_features):
    """Computes the Frechet distance of Gaussians fitted to both sets.

        |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)),

    with the means and covariances of the features: the square of the
    2-Wasserstein distance, as is usual. It is comparable only with numbers of
    the same features, hence not with the FID, and of equally many events: its
    bias falls as 1/n.

    The standard error is that of `precision_recall`.

    Args:
        features: floating array `[n, d]`, of the samples, n >= 20.
        real_features: floating array `[num_real, d]`, num_real >= 20.

    Returns:
        dict of floats: `frechet_classifier_distance` >= 0, in squared units
        of the features, and its `..._standard_error`.

    Raises:
        NotMeasured, ValueError: as `precision_recall`.

    #### References

    Heusel et al. (2017), GANs trained by a two time-scale update rule
    converge to a local Nash equilibrium, arXiv:1706.08500, eq. 6.
    """

    def measure(features, real):
        return {"frechet_classifier_distance": _frechet(features, real)}

    return _with_errors(measure, features, real_features, 0, {})


def nearest_training_images(features, training_features, k=1):
    """Finds the training images that are nearest to each sample.

    Args:
        features: floating array `[n, d]`, of the samples.
        training_features: floating array `[num_train, d]`.
        k: int in [1, num_train].

    Returns:
        indices, int `[n, k]`, into the training features, the nearest first;
        distances, float64 `[n, k]`, Euclidean.

    Raises:
        NotMeasured: for no features, or fewer training features than k.
        ValueError: for features that are not finite, or of another type or
            shape.
    """
    check_count("k", k)
    features, training = _validate(
        features, training_features, 1, k, "training_"
    )
    indices = _neighbours(training, k).kneighbors(
        features, return_distance=False
    )
    # |a|^2 - 2 a'b + |b|^2 leaves 1e-7 between equal features.
    distances = np.stack(
        [
            np.linalg.norm(features - training[column], axis=1)
            for column in indices.T
        ],
        axis=1,
    )
    order = np.argsort(distances, axis=1, kind="stable")
    return (
        np.take_along_axis(indices, order, axis=1),
        np.take_along_axis(distances, order, axis=1),
    )


def _with_errors(measure, features, real_features, least, units):
    """Measures two sets, and halves of both for the standard errors.

    Args:
        measure: function of features `[n, d]` and real features to a dict of
            arrays `[n]`, which are averaged, or of numbers.
        features, real_features: arrays, not yet validated.
        least: how many of either the metric needs.
        units: dict of the names of the averages to the smallest number above
            0 that is averaged.

    Returns:
        dict of floats, each with its `..._standard_error`.
    """
    least = max(least, _MIN_EVENTS)
    sets = _validate(features, real_features, least, least)
    generator = np.random.default_rng(0)
    # On arrays this small, threads that wait for each other take 5 to 20
    # times as long if other programs run.
    with threadpoolctl.threadpool_limits(1):
        pairs = [
            [measure(*half) for half in _halves(sets, generator)]
            for _ in range(_NUM_HALVINGS)
        ]
        whole = measure(*sets)
    figures = {}
    for name, values in whole.items():
        differences = [np.mean(a[name]) - np.mean(b[name]) for a, b in pairs]
        error = math.sqrt(np.mean(np.square(differences))) / 2
        if name in units:
            of_share = average(values > 0).standard_error
            error = max(error, units[name] * of_share)
        figures[name] = float(np.mean(values))
        figures[f"{name}_standard_error"] = error
    return figures


def _halves(sets, generator):
    """Divides each set at random into two halves."""
    drawn = [x[generator.permutation(len(x))] for x in sets]
    sizes = [len(x) // 2 for x in sets]
    return (
        [x[:n] for x, n in zip(drawn, sizes, strict=True)],
        [x[n : 2 * n] for x, n in zip(drawn, sizes, strict=True)],
    )


def _validate(features, others, least, least_others, prefix="real_"):
    """Validates two sets of features; subtracts the mean of the second.

    Centred, their distances have little rounding error.

    Returns:
        both, float64 `[n, d]`.
    """
    features = _as_features(features, "features", least)
    others = _as_features(others, f"{prefix}features", least_others)
    check(
        features.shape[1] == others.shape[1],
        f"features have {features.shape[1]} values each, and "
        f"{prefix}features have {others.shape[1]}",
    )
    mean = others.mean(0)
    return features - mean, others - mean


def _as_features(features, name, least):
    features = np.asarray(features)
    check(
        features.dtype.kind == "f" and features.ndim == 2 and features.shape[1],
        f"{name} must be floating, of shape [n, d], got {features.dtype} of "
        f"shape {features.shape}",
    )
    if len(features) < least:
        raise NotMeasured(
            f"{name} must be of at least {least} images, got {len(features)}"
        )
    check(
        np.isfinite(features).all(),
        f"{name} have values that are not finite (NaN or inf)",
    )
    return features.astype(np.float64)


def _neighbours(features, k):
    # Brute force is faster than trees from about ten dimensions on.
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features)


def _radii(centres, k):
    """Computes the radius of each ball, `[n]`, with ties inside."""
    distances, _ = _neighbours(centres, k).kneighbors()
    widest = np.max(np.sum(centres**2, axis=1))
    return np.sqrt(distances[:, -1] ** 2 + _TIE * widest)


def _num_balls(features, centres, k):
    """Counts the balls around the centres that contain each event, `[n]`."""
    radii = _radii(centres, k)
    chunks = pairwise_distances_chunked(
        features,
        centres,
        reduce_func=lambda distances, start: (distances <= radii).sum(1),
        working_memory=_WORKING_MEMORY,
    )
    return np.concatenate(list(chunks))


def _frechet(features, others):
    """Computes the distance of two Gaussians from factors of covariances.

    With C_i = R_i' R_i, the trace of (C_1 C_2)^(1/2) is the sum of the
    singular values of R_1 R_2'. Nothing is squared, nor inverted.
    """
    (mean, factor), (other_mean, other_factor) = map(
        _gaussian, (features, others)
    )
    squares = (mean - other_mean, factor, other_factor)
    shared = np.linalg.norm(factor @ other_factor.T, "nuc")
    # For equal sets the rounding error may be negative.
    return max(0.0, float(sum(np.sum(x**2) for x in squares) - 2 * shared))


def _gaussian(features):
    """Returns the mean, `[d]`, and R with R'R the covariance."""
    mean = features.mean(0)
    factor = np.linalg.qr(features - mean, mode="r")
    return mean, factor / math.sqrt(len(features) - 1)
