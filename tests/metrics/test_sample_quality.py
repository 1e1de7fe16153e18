"""Metrics of features: closed forms, loops over pairs, limits, errors."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import threadpoolctl

from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.metrics import sample_quality

METRICS = (
    sample_quality.precision_recall,
    sample_quality.density_coverage,
    sample_quality.frechet_classifier_distance,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Does not let threads wait for each other over arrays this small."""
    with threadpoolctl.threadpool_limits(1):
        yield


def normal(count, width=4, seed=0, shift=0.0, scale=1.0):
    draws = np.random.default_rng(seed).standard_normal((count, width))
    return shift + scale * draws


def distance(a, b):
    return math.sqrt(sum((a - b) ** 2))


def radius(centres, i, k):
    others = [distance(centres[i], x) for j, x in enumerate(centres) if j != i]
    return sorted(others)[k - 1]


def balls_of_each(points, centres, k):
    """Which balls each point is in, pair by pair: bool `[n, num_balls]`."""
    return np.array(
        [
            [
                distance(point, centre) <= radius(centres, i, k)
                for i, centre in enumerate(centres)
            ]
            for point in points
        ]
    )


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_against_loops_over_pairs(k):
    features, real = normal(25, 3, shift=0.5), normal(31, 3, seed=1)
    figures = sample_quality.precision_recall(features, real, k=k)
    precise = balls_of_each(features, real, k).any(1)
    recalled = balls_of_each(real, features, k).any(1)
    assert 0 < precise.mean() < 1
    assert figures["precision"] == pytest.approx(precise.mean())
    assert 0 < recalled.mean() < 1
    assert figures["recall"] == pytest.approx(recalled.mean())


@pytest.mark.parametrize("k", [1, 3])
def test_density_and_coverage_against_loops_over_pairs(k):
    features, real = normal(25, 3, shift=0.5), normal(31, 3, seed=1)
    figures = sample_quality.density_coverage(features, real, k=k)
    is_within = balls_of_each(features, real, k)
    density = is_within.sum() / (k * 25)
    coverage = is_within.any(0).mean()
    assert figures["density"] == pytest.approx(density)
    assert 0 < coverage < 1
    assert figures["coverage"] == pytest.approx(coverage)


def test_five_neighbours_are_the_default():
    features, real = normal(25, 3, shift=0.5), normal(31, 3, seed=1)
    for metric in METRICS[:2]:
        assert metric(features, real) == metric(features, real, k=5)
        assert metric(features, real) != metric(features, real, k=1)


# Far from the origin, where rounding would decide whether ties are within.
@pytest.mark.parametrize("shift", [0, 1e3])
@pytest.mark.parametrize("k", [1, 5])
def test_a_set_against_itself_is_ideal(shift, k):
    real = normal(300, 8, shift=shift)
    # The same values in another memory layout are rounded otherwise.
    features = np.asfortranarray(real[::-1])
    figures = sample_quality.precision_recall(features, real, k=k)
    assert (figures["precision"], figures["recall"]) == (1, 1)
    figures = sample_quality.density_coverage(features, real, k=k)
    assert figures["coverage"] == 1
    assert figures["density"] == pytest.approx(1 + 1 / k)
    figures = sample_quality.frechet_classifier_distance(features, real)
    # float64 of the sum of squares, 8 (1 + shift^2) at most.
    assert figures["frechet_classifier_distance"] < 1e-9


def test_new_draws_have_the_density_and_coverage_of_theory():
    figures = sample_quality.density_coverage(
        normal(500, 6), normal(500, 6, seed=1), k=3
    )
    # Naeem et al. (2020). Of 100 such draws the standard deviations were 0.04
    # and 0.017, and the averages 1.007 and 0.876.
    assert figures["density"] == pytest.approx(1, abs=0.16)
    assert figures["coverage"] == pytest.approx(1 - 2**-3, abs=0.07)


def test_noise_far_away_is_the_worst():
    features, real = normal(100, shift=50.0), normal(100, seed=1)
    figures = sample_quality.precision_recall(features, real)
    figures |= sample_quality.density_coverage(features, real)
    names = {"precision", "recall", "density", "coverage"}
    assert [figures[name] for name in names] == [0] * 4
    figures = sample_quality.frechet_classifier_distance(features, real)
    assert figures["frechet_classifier_distance"] == pytest.approx(
        4 * 50**2, rel=0.05
    )


def test_one_real_event_repeated_is_precise_and_recalls_nothing_else():
    real = normal(50)
    features = np.repeat(real[:1], 20, axis=0)
    figures = sample_quality.precision_recall(features, real)
    assert (figures["precision"], figures["recall"]) == (1, 1 / 50)
    assert sample_quality.density_coverage(features, real)["coverage"] < 0.5


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    features, real = normal(200, shift=0.5), normal(300, seed=1)
    whole = [metric(features, real) for metric in METRICS[:2]]
    # MiB: about nine rows of 300 distances.
    monkeypatch.setattr(sample_quality, "_WORKING_MEMORY", 2e-2)
    assert [metric(features, real) for metric in METRICS[:2]] == whole


@pytest.mark.parametrize("width", [1, 3])
def test_frechet_distance_of_known_gaussians(width):
    """Samples made to have the mean and the covariance exactly."""
    generator = np.random.default_rng(0)
    moments, sets = [], []
    for count in (40, 60):
        mean = generator.standard_normal(width)
        factor = generator.standard_normal((width, width))
        x = generator.standard_normal((count, width))
        x = np.linalg.qr(x - x.mean(0))[0] * math.sqrt(count - 1)
        sets.append(mean + x @ factor)
        moments.append((mean, factor.T @ factor))
    (m1, c1), (m2, c2) = moments
    truth = np.sum((m1 - m2) ** 2) + np.trace(
        c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real
    )
    figures = sample_quality.frechet_classifier_distance(*sets)
    assert figures["frechet_classifier_distance"] == pytest.approx(truth)


def test_frechet_distance_of_fewer_events_than_features():
    """The covariances are singular, of different planes of 40 dimensions."""
    features = np.zeros((20, 40))
    real = np.zeros((20, 40))
    features[:, :3], real[:, 1:4] = normal(20, 3), normal(20, 3, seed=1)
    figures = sample_quality.frechet_classifier_distance(features, real)
    narrow = sample_quality.frechet_classifier_distance(
        features[:, :4], real[:, :4]
    )
    assert figures == pytest.approx(narrow)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_standard_errors_are_about_the_spread_of_repetitions(metric):
    figures = [
        metric(
            normal(60, seed=seed, shift=0.5),
            normal(90, seed=1000 + seed, scale=1.2),
        )
        for seed in range(40)
    ]
    for name in figures[0]:
        if f"{name}_standard_error" in figures[0]:
            spread = np.std([figure[name] for figure in figures])
            errors = [figure[f"{name}_standard_error"] for figure in figures]
            # The spread of 40 is known to 11 %.
            assert 0.75 < np.mean(errors) / spread < 1.35, name


def test_standard_errors_of_shares_are_at_most_a_half():
    """Of samples that are all alike, one real event decides for all."""
    errors = []
    for seed in range(8):
        real = np.random.default_rng(seed).standard_t(3, (100, 4))
        features = normal(100, seed=seed, shift=2.0, scale=0.05)
        figures = sample_quality.precision_recall(features, real)
        errors.append(figures["precision_standard_error"])
    # Leaving out tenths gave 0.9.
    assert 0.2 < max(errors) <= 0.5


def test_standard_errors_do_not_vanish_where_all_agree():
    """They are those of Beta(1 + hits, 1 + misses), which has no end."""
    features, real = normal(100, shift=50.0), normal(200, seed=1)
    figures = sample_quality.precision_recall(features, real)
    figures |= sample_quality.density_coverage(features, real)
    expected = {
        "precision": scipy.stats.beta(1, 101).std(),
        "recall": scipy.stats.beta(1, 201).std(),
        "density": scipy.stats.beta(1, 101).std() / 5,
        "coverage": scipy.stats.beta(1, 201).std(),
    }
    for name, error in expected.items():
        assert figures[f"{name}_standard_error"] == pytest.approx(error)
    near = normal(100, seed=2, scale=0.1)
    figures = sample_quality.precision_recall(near, real)
    assert figures["precision"] == 1
    error = figures["precision_standard_error"]
    assert error == pytest.approx(expected["precision"])


def test_nearest_training_images_against_all_distances():
    features, training = normal(7), normal(40, seed=1)
    indices, distances = sample_quality.nearest_training_images(
        features, training, 3
    )
    assert indices.shape == distances.shape == (7, 3)
    for i, x in enumerate(features):
        every = np.array([distance(x, y) for y in training])
        np.testing.assert_array_equal(indices[i], np.argsort(every)[:3])
        np.testing.assert_allclose(distances[i], np.sort(every)[:3])


def test_a_training_image_is_its_own_nearest_at_no_distance():
    training = normal(60, shift=1e3).astype(np.float32)
    indices, distances = sample_quality.nearest_training_images(
        training[5:8], training
    )
    np.testing.assert_array_equal(indices[:, 0], [5, 6, 7])
    np.testing.assert_array_equal(distances, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 0], r"must be floating, of shape \[n, d\]"),
        (lambda x: x[:, :0], r"must be floating, of shape \[n, d\]"),
        (lambda x: x.astype(int), "must be floating"),
        (
            lambda x: np.where(x > 1, np.nan, x),
            "have values that are not finite",
        ),
        (lambda x: x[:0], r"must be of at least .* got 0"),
    ],
)
def test_bad_features_are_errors(change, message):
    x = normal(30)
    for metric in (*METRICS, sample_quality.nearest_training_images):
        with pytest.raises(ValueError, match=f"^features {message}"):
            metric(change(x), x)
        with pytest.raises(ValueError, match=f"_features {message}"):
            metric(x, change(x))
        with pytest.raises(ValueError, match=r"4 values each.* have 3"):
            metric(x, x[:, :3])


def test_too_few_events_are_not_measured():
    x = normal(60)
    for metric in METRICS:
        with pytest.raises(
            NotMeasured, match=r"^features must be of at least 20"
        ):
            metric(x[:19], x)
        with pytest.raises(
            NotMeasured, match="real_features must be of at least 2"
        ):
            metric(x, x[:19])
    for metric in METRICS[:2]:
        with pytest.raises(
            NotMeasured, match="features must be of at least 32 images, got"
        ):
            metric(x[:31], x, k=15)
        with pytest.raises(ValueError, match="k must be an int >= 1, got 0"):
            metric(x, x, k=0)
    with pytest.raises(
        NotMeasured, match="training_features must be of at least 9"
    ):
        sample_quality.nearest_training_images(x, x[:8], 9)
