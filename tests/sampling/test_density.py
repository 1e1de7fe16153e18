"""Both estimates of log p(x) of a denoiser, against closed forms."""

import functools
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support.known_denoisers import MEAN, Blind, Gaussian

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.sampling import density, immse
from keras_genmodels.sampling.noisy_data import NoisyGaussian, start_noise

LEVELS = (0.05, 0.3, 1.0)
ROWS = 24

pytestmark = pytest.mark.usefixtures("float64", "without_xla")


def points(size=6, count=20):
    """Data of different scales along correlated axes."""
    generator = np.random.default_rng(0)
    scales = np.geomspace(0.02, 1.5, size)
    axes = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return 0.5 + generator.normal(size=(count, size)) * scales @ axes


def linear():
    denoiser = kgm.LinearDenoiser()
    denoiser.adapt(points())
    return denoiser


def exact():
    denoiser = kgm.EmpiricalDenoiser()
    denoiser.adapt(points())
    return denoiser


def log_density_of_gaussian(x, sigma):
    data = points()
    covariance = np.cov(data.T, bias=True) + sigma**2 * np.eye(data.shape[1])
    return scipy.stats.multivariate_normal(data.mean(0), covariance).logpdf(x)


def log_density_of_set(x, sigma):
    data = points()
    squares = np.square(x[:, None] - data).sum(-1)
    log_sum = scipy.special.logsumexp(-squares / (2 * sigma**2), axis=1)
    size = data.shape[1]
    normaliser = size / 2 * math.log(2 * math.pi * sigma**2)
    return log_sum - math.log(len(data)) - normaliser


def noisy_rows():
    """Returns noisy data of all levels, the level of each, and both oracles."""
    sigma = np.repeat(LEVELS, ROWS // len(LEVELS))
    noise = np.random.default_rng(1).normal(size=(ROWS, points().shape[1]))
    return points(count=ROWS) + sigma[:, None] * noise, sigma


def expected(log_density, x, sigma):
    rows = zip(x, sigma, strict=True)
    return np.array([log_density(row[None], s).item() for row, s in rows])


KNOWN = {
    "Gaussian": (linear, log_density_of_gaussian, 1e-4),
    "finite set": (exact, log_density_of_set, 1e-3),
}
each_known = pytest.mark.parametrize(
    ("make", "log_density", "tolerance"),
    [
        KNOWN["Gaussian"],
        pytest.param(*KNOWN["finite set"], marks=pytest.mark.slow),
    ],
)


@each_known
def test_the_ode_gives_the_closed_form(make, log_density, tolerance):
    x, sigma = noisy_rows()
    found = kgm.probability_flow(make(), x, sigma)
    np.testing.assert_allclose(
        found.log_density, expected(log_density, x, sigma), atol=tolerance
    )
    np.testing.assert_array_equal(found.standard_error, 0)
    # Higher levels are nearer to the end.
    evaluations = found.num_evaluations.numpy()
    assert (np.diff(evaluations.reshape(len(LEVELS), -1).mean(1)) < 0).all()
    assert evaluations.max() < 1000


@each_known
def test_the_integral_of_errors_agrees(make, log_density, tolerance):
    x, sigma = (np.repeat(value, 10, axis=0) for value in noisy_rows())
    # The variance is 0.43 to 0.52, depending on the seed.
    found = immse.integrate_errors(make(), x, sigma, num_levels=24, seed=1)
    error = (found.log_density - expected(log_density, x, sigma)).numpy()
    variance = np.mean(found.standard_error.numpy() ** 2)
    assert abs(error.mean()) < 3 * math.sqrt(variance / len(x))
    # Of 240 errors, at levels with different variances.
    assert np.mean(error**2) == pytest.approx(variance, rel=0.3)
    assert variance < 0.55


@pytest.mark.slow
@each_known
def test_noisy_data_are_no_likelier_than_noise(make, log_density, tolerance):
    """The entropy of x + sigma eps is at least that of sigma eps."""
    data, sigma = points(), 0.3
    noise = np.random.default_rng(2).normal(size=(200, data.shape[1]))
    x = data[np.arange(200) % len(data)] + sigma * noise
    surprise = -kgm.log_likelihood(make(), x, sigma=sigma).numpy()
    least = data.shape[1] / 2 * math.log(2 * math.pi * math.e * sigma**2)
    error = surprise.std() / math.sqrt(len(x))
    assert surprise.mean() > least - 3 * error


def correlated(size=300):
    """Returns a Gaussian with a J that is not diagonal.

    Random signs would give the trace of a diagonal one exactly.
    """
    mirror = np.random.default_rng(3).normal(size=size)
    axes = np.eye(size) - 2 * np.outer(mirror, mirror) / (mirror @ mirror)
    return Gaussian(np.zeros(size), np.geomspace(4, 1e-4, size), axes)


@pytest.mark.slow
def test_hutchinsons_estimate_is_unbiased():
    denoiser, sigma = correlated(), 0.2
    event = 0.1 * np.random.default_rng(4).normal(size=300)
    x = np.tile(event, (ROWS, 1))
    found = density.probability_flow(denoiser, x, sigma, tolerance=1e-4)
    deviations = np.sqrt(denoiser.variances + sigma**2)
    along = event @ denoiser.axes
    truth = scipy.stats.norm(0, deviations).logpdf(along).sum()
    z = ((found.log_density - truth) / found.standard_error).numpy()
    assert abs(np.mean(z)) < 4 / math.sqrt(ROWS)
    assert abs(np.mean(z**2) - 1) < 4 * math.sqrt(2 / ROWS)


@pytest.mark.slow
def test_a_row_depends_on_its_own_seed_alone():
    denoiser = correlated()
    x = np.random.default_rng(4).normal(size=(3, 300))
    seeds = tf.constant([[1, 2], [3, 4], [5, 6]])
    for estimate in (
        functools.partial(density.probability_flow, tolerance=0.1),
        functools.partial(immse.integrate_errors, num_levels=4),
    ):
        together = estimate(denoiser, x, 0.5, seed=seeds)
        alone = estimate(denoiser, x[1:2], 0.5, seed=seeds[1:2])
        for one, all_rows in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_rows[1], rtol=1e-9)
        assert len({*together.standard_error.numpy()}) == 3


@pytest.mark.slow
def test_an_imperfect_denoiser_shows_in_the_difference():
    """2 % too much near the level 0.5, in 64 dimensions."""
    size, rows = 64, 32
    right = Gaussian(np.ones(size), np.geomspace(2, 0.01, size), np.eye(size))
    noise = np.random.default_rng(5).normal(size=(rows, size))
    x = 1 + noise * np.sqrt(right.variances + 0.1**2)

    def wrong(x, sigma):
        excess = 0.02 * tf.exp(-(tf.math.log(sigma / 0.5) ** 2))
        return right.denoise(x, sigma) * (1 + excess)[:, None]

    known = {"sigma_max": 4.0, "noisy_data": right.noisy_data(4.0)}
    gaps = []
    for denoiser in (right.denoise, wrong):
        flow = kgm.probability_flow(denoiser, x, 0.1, tolerance=1e-4, **known)
        errors = immse.integrate_errors(denoiser, x, 0.1, **known)
        gaps.append((flow.log_density - errors.log_density).numpy())
    # The same draws, of which most of the error cancels.
    added = gaps[1] - gaps[0]
    assert abs(gaps[0].mean()) < 3 * gaps[0].std() / math.sqrt(rows)
    assert added.mean() == pytest.approx(0.2, abs=0.1)


@pytest.mark.slow
def test_the_density_at_the_highest_level_is_the_denoisers_own():
    x = points()
    denoiser = exact()
    highest = denoiser.sigma_range[1]
    found = kgm.probability_flow(denoiser, x, highest)
    expected = log_density_of_set(x, highest)
    np.testing.assert_allclose(found.log_density, expected, rtol=1e-12)
    # One event at the highest level, and the others below it.
    levels = np.full(len(x), 0.3)
    levels[1] = highest
    found = immse.integrate_errors(denoiser, x, levels, num_levels=8)
    assert abs(found.log_density[1] - expected[1]) < 1e-9
    assert np.isfinite(found.standard_error).all()
    same = immse.integrate_errors(denoiser, x, 0.3, num_levels=8).log_density
    np.testing.assert_array_equal(
        np.delete(found.log_density, 1), np.delete(same, 1)
    )


@pytest.mark.slow
def test_the_draws_of_an_estimate_are_not_those_of_samples(monkeypatch):
    """x may be a sample of the same seed, and must not depend on them."""
    used, draw = [], immse._draw

    def keep(rows, number, size):
        used.append(rows)
        return draw(rows, number, size)

    monkeypatch.setattr(immse, "_draw", keep)
    x = points()
    immse.integrate_errors(exact(), x, 0.3, num_levels=2, seed=0)
    rows = seeds.row_seeds(0, len(x))
    starts = start_noise(rows, x.shape[1:], tf.float64)
    found = start_noise(used[-1], x.shape[1:], tf.float64)
    assert np.abs(found - starts).min() > 1e-3


@pytest.mark.slow
def test_hutchinsons_signs_are_of_seeds_of_their_own(monkeypatch):
    monkeypatch.setattr(density, "MAX_EXACT_SIZE", 1)
    denoiser, x = exact(), points()

    def estimate():
        return kgm.probability_flow(denoiser, x, 0.3, seed=0).log_density

    found = estimate()
    monkeypatch.setattr(
        density,
        "density_seeds",
        lambda seed, x, stream: seeds.row_seeds(seed, len(x)),
    )
    assert np.abs(found - estimate()).max() > 1e-6


@pytest.mark.slow
def test_a_denoiser_that_is_not_finite_has_no_density():
    def broken(x, sigma):
        return x / tf.where(x > 1e3, tf.zeros_like(x), 2)

    x = np.array([[0.1, 0.2], [0.1, 1e4]])
    end = NoisyGaussian(tf.zeros(2, tf.float64), 1.0)
    known = {"sigma_max": 1.0, "noisy_data": end}
    found = kgm.probability_flow(broken, x, 0.1, **known).log_density
    np.testing.assert_array_equal(np.isfinite(found), [True, False])


def labelled(sigma=(0.05, 1.5)):
    """Returns an untrained denoiser of three classes that its label shifts."""
    network = kgm.mlp_denoiser((4,), hidden_sizes=(8,), num_classes=3)
    denoiser = kgm.DenoisingAutoencoder(network, sigma=sigma, num_classes=3)
    denoiser.adapt(points(4))
    for weight in denoiser.trainable_weights:
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) / 3)
    return denoiser


@pytest.mark.slow
def test_each_row_has_the_density_of_its_label():
    denoiser, x = labelled(), points(4)[:4]
    settings = {"sigma": 0.5, "tolerance": 1e-3}
    rows = kgm.log_likelihood(denoiser, x, [0, 2, 0, 2], **settings).numpy()
    for label in (0, 2):
        alone = kgm.log_likelihood(denoiser, x, label, **settings).numpy()
        which = [label // 2, 2 + label // 2]
        np.testing.assert_allclose(rows[which], alone[which], atol=1e-6)
    assert np.abs(rows - alone)[[0, 2]].min() > 1e-3
    few = {"num_levels": 4, "seed": np.array([[0, 1]] * 4, np.int32)}
    rows, alone = (
        immse.integrate_errors(denoiser, x, 0.5, condition=condition, **few)
        for condition in ([0, 2, 0, 2], 2)
    )
    for mine, theirs in zip(rows, alone, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine[1::2], theirs[1::2], rtol=1e-5)
    # In a graph, of labels that are not known when it is traced, as exported.
    compiled = tf.function(
        lambda x, labels: kgm.probability_flow(
            denoiser, x, 0.5, condition=labels, tolerance=1e-3
        ),
        input_signature=[
            tf.TensorSpec((None, 4)),
            tf.TensorSpec((None,), tf.int32),
        ],
        autograph=False,
    )
    labels = tf.constant([0, 2, 0, 2])
    found = compiled(x, labels)
    eager = kgm.log_likelihood(denoiser, x, [0, 2, 0, 2], **settings)
    np.testing.assert_allclose(found.log_density, eager, rtol=1e-5)
    assert found.num_evaluations.dtype == tf.int32
    with pytest.raises(ValueError, match="condition"):
        kgm.log_likelihood(denoiser, x, [0, 2], sigma=0.5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        compiled(x, tf.constant([0, 2]))
    assert kgm.log_likelihood(denoiser, x[:0], labels[:0]).shape == (0,)


@pytest.mark.slow
def test_the_highest_level_is_not_rounded_for_labels():
    """1.1 is above 1.1 in float32, and there the density is known."""
    denoiser, x, labels = labelled((0.05, 1.1)), points(4)[:3], [1, 0, 2]
    expected = denoiser.noisy_data(1.1).log_prob(x)
    for sigma in (1.1, [1.1] * 3):
        found = kgm.log_likelihood(denoiser, x, labels, sigma=sigma)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("denoiser", "settings", "words"),
    [
        (Blind([1, 1]), {}, "does not take sigma"),
        (lambda x, sigma: x, {}, "pass sigma and sigma_max"),
        (lambda x, sigma: x, {"sigma": 1, "sigma_max": 2}, "pass noisy_data"),
        (Gaussian(), {"sigma": 5.0}, "sigma must be at most 4"),
        (Gaussian(), {"sigma_max": math.inf}, "sigma_max must be a number"),
        (Gaussian(), {"sigma_max": [4.0]}, "sigma_max must be a number"),
        (Gaussian(), {"tolerance": 0}, "tolerance must be > 0"),
        (Gaussian(), {"max_steps": 0}, "max_steps must be an int"),
        (Gaussian(), {"num_probes": 1}, "num_probes must be an int"),
        (Gaussian(), {"num_samples": 5}, "num_samples cannot be set"),
        (Gaussian(), {"condition": 0.3}, "condition must be None"),
    ],
)
def test_bad_arguments_are_refused(denoiser, settings, words):
    size = 2 if isinstance(denoiser, Blind) else len(MEAN)
    with pytest.raises(ValueError, match=words):
        kgm.log_likelihood(denoiser, np.zeros((1, size)), **settings)


@pytest.mark.parametrize(
    "estimate",
    [kgm.log_likelihood, kgm.probability_flow, immse.integrate_errors],
)
def test_images_on_another_scale_are_refused(estimate):
    images = np.random.default_rng(0).uniform(size=(9, 4, 4, 1))
    denoiser = kgm.LinearDenoiser()
    denoiser.adapt(images)
    with pytest.raises(ValueError, match="divide grey levels"):
        estimate(denoiser, 255 * images, sigma=0.3)


def test_draws_of_the_two_estimates_are_independent():
    """Signs of Hutchinson's estimate are not those of the other's noise."""
    x = tf.zeros((4, 300), tf.float64)
    noise, end, signs = (
        np.sign(immse._draw(density.density_seeds(0, x, stream), 0, 300))
        for stream in (
            immse._NOISE_STREAM,
            immse._END_STREAM,
            density._SIGNS_STREAM,
        )
    )
    for one, other in ((noise, signs), (noise, end), (end, signs)):
        # 1200 signs: four standard errors.
        assert abs(np.mean(one * other)) < 4 / np.sqrt(1200)
