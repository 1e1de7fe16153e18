"""The distribution of noisy data where generating starts."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support.known_denoisers import AXES, MEAN, VARIANCES, Gaussian

from keras_genmodels.core import seeds
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.noisy_data import NoisyGaussian, start_noise

ROWS = seeds.row_seeds(0, 9)


def make_data(n=10, shape=(3, 2)):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    return 2 + (rng.normal(size=(n, 6)) @ mixing).reshape(n, *shape)


def adapted(denoiser, data):
    denoiser.adapt(data)
    return denoiser


def covariance_of_draws(noisy, size):
    """Returns the covariance A A' of draws m + A eps, without sampling."""
    x = np.reshape(noisy.draw(ROWS), (len(ROWS), size))
    eps = start_noise(ROWS, (size,), tf.float64).numpy()
    factor, error, _, _ = np.linalg.lstsq(
        np.column_stack([eps, np.ones(len(eps))]), x, rcond=None
    )
    np.testing.assert_allclose(error, 0, atol=1e-20)
    return factor[-1], factor[:-1].T @ factor[:-1]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_axes", [0, 2, 4])
def test_gaussian_draws_and_densities_have_the_stated_covariance(num_axes):
    axes, variances = AXES[:, :num_axes], VARIANCES[:num_axes]
    noisy = NoisyGaussian(MEAN, 0.7, variances, axes, remainder=0.2)
    covariance = (axes * variances) @ axes.T
    covariance += 0.2 * (np.eye(4) - axes @ axes.T) + 0.49 * np.eye(4)
    mean, found = covariance_of_draws(noisy, 4)
    np.testing.assert_allclose(mean, MEAN, rtol=1e-12)
    np.testing.assert_allclose(found, covariance, rtol=1e-10, atol=1e-12)
    x = np.random.default_rng(1).normal(size=(5, 4))
    oracle = scipy.stats.multivariate_normal(MEAN, covariance)
    np.testing.assert_allclose(
        noisy.log_prob(tf.constant(x)), oracle.logpdf(x), rtol=1e-12
    )


@pytest.mark.usefixtures("float64")
def test_a_linear_denoiser_starts_from_its_gaussian():
    data = make_data()
    flat, eye = data.reshape(10, 6), np.eye(6)
    covariance = np.cov(flat.T, bias=True)
    for denoiser, mean, expected in (
        (LinearDenoiser(), flat.mean(0), covariance + 4 * eye),
        (
            LinearDenoiser(center=False),
            np.zeros(6),
            flat.T @ flat / 10 + 4 * eye,
        ),
        (LinearDenoiser(rank=2), flat.mean(0), 4 * eye),
    ):
        noisy = adapted(denoiser, data).noisy_data(2.0)
        found_mean, found = covariance_of_draws(noisy, 6)
        np.testing.assert_allclose(found_mean, mean, atol=1e-12)
        np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.usefixtures("float64")
def test_a_finite_set_starts_from_the_mixture_about_its_events():
    data = make_data()
    levels = np.array([0.3, 2.0, 50.0])
    denoiser = adapted(EmpiricalDenoiser(), data)
    x = tf.constant(data[:3] + levels[:, None, None] * 0.5)
    squares = ((x.numpy()[:, None] - data) ** 2).sum((2, 3))
    logits = -squares / (2 * levels[:, None] ** 2)
    expected = scipy.special.logsumexp(logits, axis=1) - np.log(10)
    expected -= 3 * np.log(2 * np.pi * levels**2)
    found = denoiser.noisy_data(levels).log_prob(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    rows = seeds.row_seeds(0, 40)
    noise = 0.3 * start_noise(rows, (3, 2), tf.float64).numpy()
    clean = denoiser.noisy_data(0.3).draw(rows) - noise.reshape(40, 3, 2)
    nearest = ((clean.numpy()[:, None] - data) ** 2).sum((2, 3)).argmin(1)
    np.testing.assert_allclose(clean, data[nearest], rtol=1e-12)
    assert len(set(nearest)) > 4


def test_events_of_a_finite_set_are_drawn_equally_often():
    denoiser = adapted(EmpiricalDenoiser(), np.arange(10.0)[:, None] / 5)
    x = denoiser.noisy_data(1e-3).draw(seeds.row_seeds(1, 20000))
    counts = np.bincount(np.rint(x.numpy()[:, 0] * 5).astype(int))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("make", [LinearDenoiser, EmpiricalDenoiser])
def test_the_score_is_the_gradient_of_the_density(make):
    data = make_data()
    denoiser = adapted(make(), data)
    x, level = tf.constant(data[:4] + 0.3), np.array([0.5, 1.0, 2.0, 4.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = denoiser.noisy_data(level).log_prob(x)
    np.testing.assert_allclose(
        tape.gradient(log_prob, x), denoiser.score(x, level), rtol=1e-9
    )


def test_generating_starts_with_a_draw_of_the_highest_level():
    denoiser, settings = Gaussian(), {"seed": 3, "num_steps": 3}
    for sigma in (4.0, 2.5):
        start = denoiser.noisy_data(sigma).draw(seeds.row_seeds(3, 5))
        np.testing.assert_array_equal(
            generate(denoiser, (4,), 5, sigma_max=sigma, **settings),
            generate(
                denoiser, (4,), 5, sigma_max=sigma, initial=start, **settings
            ),
        )
