"""Roundoff of the exact denoiser, and how it is avoided."""

import numpy as np
import pytest
import tensorflow as tf
from support.dense_posterior import (
    LEVELS,
    TOLERANCE,
    adapted,
    crowd,
    dense,
    derivative,
    flat,
    noisy_like,
)

from keras_genmodels.denoisers import _posterior_mean, _weighted_sums

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture
def compiled_again():
    """For tests that change functions that others have compiled."""
    _posterior_mean._compiled.cache_clear()
    yield
    _posterior_mean._compiled.cache_clear()


@pytest.mark.parametrize(
    "kind", ["uint8", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_float32_is_accurate_at_every_sigma(digits, kind):
    data = digits if kind == "uint8" else (digits / 255).astype("float32")
    known = data[:1500]
    denoiser = adapted(known)
    posterior = tf.function(lambda x, sigma: denoiser.posterior(x, sigma, 5))
    for sigma in LEVELS:
        x = noisy_like(data, sigma)
        sigmas = np.full(len(x), sigma, np.float32)
        weights, expected = dense(known, x, sigmas)
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, sigmas)),
            expected,
            atol=TOLERANCE,
            err_msg=f"sigma {sigma}",
        )
        probabilities, indices = posterior(x, sigmas)
        order = np.argsort(-weights, axis=1, kind="stable")[:, :5]
        best = np.take_along_axis(weights, order, 1)
        np.testing.assert_allclose(probabilities, best, rtol=3e-3, atol=1e-30)
        found = np.take_along_axis(weights, indices.numpy(), 1)
        np.testing.assert_allclose(found, best, rtol=3e-3)


def test_float64_is_accurate_to_its_last_digits(float64, digits):
    known = digits[:1500]
    denoiser = adapted(known)
    posterior = tf.function(lambda x, sigma: denoiser.posterior(x, sigma, 3))
    for sigma in LEVELS:
        x = noisy_like(digits, sigma, dtype="float64")
        sigmas = np.full(len(x), sigma)
        weights, expected = dense(known, x, sigmas)
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, sigmas)), expected, rtol=1e-6, atol=1e-9
        )
        np.testing.assert_allclose(
            posterior(x, sigmas).probabilities,
            -np.sort(-weights)[:, :3],
            rtol=1e-5,
            atol=1e-300,
        )


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_many_neighbours_within_a_small_sigma(size):
    data = crowd(size)
    denoiser = adapted(data)
    for sigma in np.float32([1e-4, 1e-3, 0.01, 0.1]):
        x = noisy_like(data, sigma, 4)
        _, expected = dense(data, x, sigma)
        # In units of sigma, the distance of the neighbours.
        np.testing.assert_allclose(
            (flat(denoiser.denoise(x, sigma)) - expected) / sigma,
            np.zeros_like(x),
            atol=3e-3 + 2.0**-22 / sigma,
            err_msg=f"sigma {sigma}",
        )


def spoilt_weights(events, x, sigma):
    """Replaces `_exact_weights`: marks rows computed in float64 by NaN."""
    weights = exact_weights(events, x, sigma)
    return weights._replace(mean=weights.mean * np.nan)


exact_weights = _posterior_mean._exact_weights


def test_images_do_not_need_float64(digits, monkeypatch, compiled_again):
    """It takes three times as long."""
    monkeypatch.setattr(_posterior_mean, "_exact_weights", spoilt_weights)
    denoiser = adapted(digits[:1500])
    for sigma in LEVELS:
        x = noisy_like(digits, sigma)
        _, expected = dense(digits[:1500], x, np.float32(sigma))
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, sigma)), expected, atol=TOLERANCE
        )
    data = crowd(1)
    assert np.isnan(adapted(data).denoise(data[:4], 0.001)).all()


@pytest.mark.slow
def test_only_rows_that_need_float64_use_it(monkeypatch, compiled_again):
    """So that no row depends on the others in the batch."""
    query = _weighted_sums.EventSet.query

    def spoilt(self, x, sigma, dtype, splits):
        found = query(self, x, sigma, dtype, splits)
        if dtype == tf.float64:
            found = found._replace(precision=found.precision * np.nan)
        return found

    data = crowd(1)
    denoiser = adapted(data)
    sigma = np.float32([1.0, 0.001, 1.0])
    expected = denoiser.posterior(data[:3], sigma, 2).probabilities.numpy()
    monkeypatch.setattr(_weighted_sums.EventSet, "query", spoilt)
    found = denoiser.posterior(data[:3], sigma, 2).probabilities.numpy()
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[::2], expected[::2])

    monkeypatch.undo()
    expected = derivative(denoiser.denoise, data[:3], sigma, data[:3] - 3)
    _posterior_mean._compiled.cache_clear()
    monkeypatch.setattr(_posterior_mean, "_exact_weights", spoilt_weights)
    found = derivative(denoiser.denoise, data[:3], sigma, data[:3] - 3)
    for part, unspoilt in zip(found, expected, strict=True):
        assert np.isnan(part.numpy()[1]).all()
        np.testing.assert_allclose(part[::2], unspoilt[::2], rtol=1e-6)


@pytest.mark.parametrize("rows", [15, 320, 333])
def test_top_k_agrees_with_a_sort(rows):
    # Few values, so that many are equal: the upper ones come first.
    values = np.random.default_rng(0).integers(0, 9, (rows, 5))
    order = np.argsort(-values, axis=0, kind="stable")
    for k in (1, 3, 15):
        best, indices = _weighted_sums._top_k(
            tf.constant(values, tf.float32), k
        )
        np.testing.assert_array_equal(indices, order[:k].T)
        np.testing.assert_array_equal(
            best, np.take_along_axis(values, order[:k], 0).T
        )
