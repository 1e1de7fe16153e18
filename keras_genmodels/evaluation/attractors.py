"""The fixed points that restoring leads to."""

import numpy as np

from keras_genmodels import attractors
from keras_genmodels.core import arrays, seeds
from keras_genmodels.evaluation import memorization
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.denoising import noise_levels
from keras_genmodels.metrics.estimates import Estimate, average
from keras_genmodels.training import fit

# The search: starts of each kind, updates of each start, root mean square of
# D(x) - x at which it has converged.
_NUM_STARTS = 16
# Noise of the starts of a network, which at the level of the search has not
# seen images that are further off.
_MOST_NOISE = 1.5
_MAX_STEPS = 200
_TOLERANCE = 1e-4
# Fixed points whose Jacobian is analysed.
_NUM_SPECTRA = 4


def section(denoiser, train, held_out, *, seed, label=None):
    """Measures the fixed points at the lowest common noise level.

    Args:
        denoiser: a `Denoiser` of images.
        train: array `[num_train, height, width, channels]`, the images that
            it was trained on, floating in [0, 1] or uint8.
        held_out: array `[n, height, width, channels]`, not trained on.
        seed: int.
        label: the label for which a conditional denoiser without label
            dropout is analysed; one with dropout is analysed without a label.

    Returns:
        `Section` of `converged`, `num_fixed_points` and, if there are any,
        `memorized_fixed_points`, of those reached from noise, and
        `spectral_radius`.
    """
    level = noise_levels(denoiser)[0]
    sigma = level if denoiser.needs_sigma else None
    denoiser, note = _of_one_label(denoiser, label)
    starts = _starts(denoiser, train, seed)
    points = attractors.fixed_points(
        denoiser,
        starts,
        sigma=sigma,
        max_steps=_MAX_STEPS,
        tolerance=_TOLERANCE,
    )
    found = Section("Attractors", _search_measures(points))
    found.notes.append(
        f"Restoring at sigma {level:g}, from {len(starts) // 2} training "
        f"images and from as much noise.{note}"
    )
    # Training images are fixed points of a D that changes nothing: only noise
    # that becomes a training image shows memorisation.
    reached = np.unique(points.assignments[len(starts) // 2 :])
    reached = points.points[reached[reached >= 0]]
    if len(reached):
        what = "Memorised fixed points"
        found.add(what, _memorized, reached, train, held_out)
    if len(points.points):
        analysed = (denoiser, points.points[:_NUM_SPECTRA], sigma, seed)
        found.add("Spectral radius", _spectral_radius, *analysed)
    return found


def _of_one_label(denoiser, label):
    """Returns a denoiser of x and sigma alone, and a note on its label."""
    if denoiser.condition_kind is None:
        return denoiser, ""
    if denoiser.label_dropout:
        return denoiser.with_condition(None), " Without a label."
    return denoiser.with_condition(label), f" For the label {label}."


def _starts(denoiser, train, seed):
    """Returns training images and as much noise of the highest level."""
    # Random ones: folders of images are sorted by label.
    drawn = np.random.default_rng(seed).permutation(len(train))[:_NUM_STARTS]
    near = arrays.as_float(train[np.sort(drawn)])
    rows = seeds.row_seeds(seed, len(near))
    noise = seeds.normal(rows, near.shape[1:]).numpy()
    level = denoiser.sigma_range[1]
    # One of a given condition is an object around the model.
    if fit.is_trainable(getattr(denoiser, "denoiser", denoiser)):
        level = min(level, _MOST_NOISE)
    far = np.asarray(denoiser.data_mean) + level * noise
    return np.concatenate([near, far.astype(near.dtype)])


def _search_measures(points):
    return {
        "converged": Measure(
            "Converged starts",
            average(points.assignments >= 0),
            "Share of the starts at which the root mean square of D(x) - x "
            f"falls to {_TOLERANCE:g} in {_MAX_STEPS} steps of size 1.",
        ),
        "num_fixed_points": Measure(
            f"Fixed points, of {len(points.ends)} starts",
            Estimate(len(points.points)),
            "Number of distinct images that the starts converge to: one for "
            "each start if nothing attracts.",
        ),
    }


def _memorized(points, train, held_out):
    return {
        "memorized_fixed_points": memorization.measure(
            points,
            train,
            held_out,
            label="Fixed points from noise that are training images",
            what=f"{len(points)} fixed points that noise converges to",
        )
    }


def _spectral_radius(denoiser, points, sigma, seed):
    radii = attractors.jacobian_eigenvalues(
        denoiser,
        points,
        seed=seed,
        sigma=sigma,
        num_eigenvalues=1,
        tolerance=1e-3,
    ).spectral_radius
    return {
        "spectral_radius": Measure(
            "Spectral radius at fixed points",
            average(radii),
            "Largest modulus of an eigenvalue of D's Jacobian, averaged over "
            f"the {len(radii)} fixed points that most starts converge to: a "
            "point attracts if it is below 1.",
        )
    }
