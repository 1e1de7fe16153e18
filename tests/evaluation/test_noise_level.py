"""The estimate of the noise level of images."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from support.evaluated_runs import adapted, digits
from support.known_denoisers import Blind, ByLabel, Gaussian

import keras_genmodels as kgm
from keras_genmodels.core import arrays
from keras_genmodels.evaluation import noise_level

VARIANCES = np.concatenate([np.geomspace(1e-3, 2, 40), np.zeros(10)])


def noisy_gaussians(sigma, count=20):
    generator = np.random.default_rng(0)
    scales = np.sqrt(VARIANCES + sigma**2)
    noise = generator.standard_normal((count, len(VARIANCES)))
    return (0.5 + scales * noise).astype(np.float32)


@pytest.mark.parametrize(
    "sigma",
    [*(pytest.param(s, marks=pytest.mark.slow) for s in (0.1, 2.0)), 0.5],
)
def test_it_is_the_maximum_likelihood_level_of_gaussian_data(sigma):
    """Found by maximising the density itself.

    The denoiser's Jacobian is diagonal, so that a single random sign an entry
    gives its trace.
    """
    noisy = noisy_gaussians(sigma)
    denoiser = Gaussian(np.full(len(VARIANCES), 0.5), VARIANCES, None)
    found = noise_level.estimate_levels(denoiser, noisy, seed=0, num_steps=60)

    def surprise(log_level, y):
        scales = np.sqrt(VARIANCES + np.exp(2 * log_level))
        return -scipy.stats.norm(0.5, scales).logpdf(y).sum()

    likeliest = [
        np.exp(
            scipy.optimize.minimize_scalar(
                surprise, bounds=(-4, 1.3), args=(y,), method="bounded"
            ).x
        )
        for y in noisy
    ]
    # What float32 and the tolerance of the search leave.
    np.testing.assert_allclose(found, likeliest, rtol=2e-4)


def test_eight_steps_are_enough():
    noisy = noisy_gaussians(0.3, count=200)
    denoiser = Gaussian(np.full(len(VARIANCES), 0.5), VARIANCES, None)
    found = noise_level.estimate_levels(denoiser, noisy, seed=0)
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert found.mean() == pytest.approx(0.3, abs=4 * error)
    # The best denoiser removes less than all of the noise.
    removed = noisy - denoiser.denoise(noisy, 0.3).numpy()
    taken = np.sqrt(np.mean(np.square(removed), axis=1))
    assert taken.mean() < 0.3 - 20 * error


@pytest.mark.parametrize("sigma", [0.1, 0.25, 1.0])
def test_the_wiener_filter_estimates_the_level_of_digits(sigma):
    images = arrays.as_float(digits().train.images)
    noise = np.random.default_rng(0).standard_normal(images.shape)
    noisy = (images + sigma * noise).astype(np.float32)
    wiener = adapted(kgm.LinearDenoiser())
    found = noise_level.estimate_levels(wiener, noisy, seed=0)
    # Digits are no Gaussians: 2 % off was measured.
    assert found.mean() == pytest.approx(sigma, rel=0.04)


def test_a_conditional_denoiser_is_given_the_labels():
    mean = np.full(len(VARIANCES), 0.5)
    parts = [Gaussian(mean, k * VARIANCES, None) for k in (1, 0.2, 3)]
    noisy = noisy_gaussians(0.3, count=3)
    found = noise_level.estimate_levels(
        ByLabel(*parts), noisy, np.array([0, 1, 0]), seed=0
    )
    expected = [
        noise_level.estimate_levels(part, noisy, seed=0) for part in parts[:2]
    ]
    np.testing.assert_allclose(
        found, np.where([True, False, True], *expected), rtol=1e-4
    )


def test_a_denoiser_without_sigma_needs_one_step():
    """The noise of a projection is what it removes."""
    noisy = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    denoiser = Blind([1, 1, 1, 0, 0, 0, 0, 0])
    found = noise_level.estimate_levels(denoiser, noisy, seed=0)
    expected = np.sqrt(np.square(noisy[:, 3:]).sum(1) / 5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_denoiser_that_removes_nothing_finds_no_noise():
    noisy = np.ones((2, 4), np.float32)
    found = noise_level.estimate_levels(Blind([1, 1, 1, 1]), noisy, seed=0)
    np.testing.assert_array_equal(found, 0)


def test_a_denoiser_that_is_not_finite_gives_nan():
    variances = VARIANCES.copy()
    variances[0] = np.nan
    denoiser = Gaussian(np.full(len(VARIANCES), 0.5), variances, None)
    noisy = noisy_gaussians(0.3, count=2)
    found = noise_level.estimate_levels(denoiser, noisy, seed=0)
    assert np.isnan(found).all()
