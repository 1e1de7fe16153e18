"""Distributions against independent formulas in float64."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_genmodels.distributions.pixels import (
    DiscretizedLogistic,
    GreyBernoulli,
)

LEVELS = np.arange(256) / 255.0


def _reference_probabilities(loc, scale):
    """Differences of the logistic CDF at the borders between levels."""
    borders = (np.arange(255) + 0.5) / 255
    below = scipy.special.expit((borders - loc) / scale)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


@pytest.mark.parametrize("loc", [-0.3, 0.0, 0.4, 0.999, 2.0])
@pytest.mark.parametrize("scale", [1e-4, 3e-3, 0.05, 1.0, 100.0])
def test_probabilities_are_those_of_the_rounded_logistic(loc, scale):
    distribution = DiscretizedLogistic(np.float64(loc), np.float64(scale))
    probabilities = np.exp(distribution.log_prob(LEVELS))
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(
        probabilities, _reference_probabilities(loc, scale), atol=1e-13
    )
    np.testing.assert_allclose(
        distribution.mean(), (probabilities * LEVELS).sum(), atol=1e-12
    )


def test_log_prob_is_exact_far_out_in_float32():
    distribution = DiscretizedLogistic(np.float32(0.1), np.float32(1e-3))
    # Far above loc the probability of a level is that of an exponential:
    # exp(-(x - h - loc) / scale) (1 - exp(-2 h / scale)), h = 1/510.
    x, half = 200 / 255, 1 / 510
    expected = -(x - half - 0.1) / 1e-3 + np.log1p(-np.exp(-2 * half / 1e-3))
    np.testing.assert_allclose(
        distribution.log_prob(np.float32(x)), expected, rtol=1e-5
    )


def test_gradients_are_finite_at_every_level():
    loc, scale = tf.Variable(0.2), tf.Variable(2e-4)
    with tf.GradientTape() as tape:
        log_prob = DiscretizedLogistic(loc, scale).log_prob(
            LEVELS.astype("float32")
        )
    for gradient in tape.gradient(log_prob, [loc, scale]):
        assert np.isfinite(gradient)


def test_samples_follow_the_probabilities():
    distribution = DiscretizedLogistic(np.float64(0.03), np.float64(0.02))
    samples = distribution.sample(20000, seed=[0, 1]).numpy()
    counts = np.bincount(np.round(255 * samples).astype(int), minlength=256)
    np.testing.assert_allclose(
        255 * samples, np.round(255 * samples), atol=1e-9
    )
    expected = _reference_probabilities(0.03, 0.02)
    error = np.sqrt(20000 * expected * (1 - expected)) + 1
    assert (np.abs(counts - 20000 * expected) < 5 * error).all()


@pytest.mark.parametrize("x", [0.5, -1 / 255, 256 / 255, np.nan])
def test_values_off_the_levels_are_refused(x):
    distribution = DiscretizedLogistic(0.5, 0.1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="k/255"):
        distribution.log_prob(x)
    compiled = tf.function(distribution.log_prob, jit_compile=True)
    assert compiled(tf.constant(x, tf.float32)) == -np.inf


def test_bernoulli_is_a_bernoulli():
    logits = np.linspace(-30, 30, 13)
    ours = GreyBernoulli(logits)
    for x, sign in ((0.0, -1), (1.0, 1)):
        np.testing.assert_allclose(
            ours.log_prob(x),
            scipy.special.log_expit(sign * logits),
            rtol=1e-12,
        )
    np.testing.assert_allclose(ours.mean(), scipy.special.expit(logits))


@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize("logits", [-3.0, 0.0, 50.0])
def test_bernoulli_has_the_right_gradient(x, logits):
    logits = tf.Variable(logits, dtype=tf.float64)
    with tf.GradientTape() as tape:
        log_prob = GreyBernoulli(logits).log_prob(x)
    expected = x - scipy.special.expit(logits.numpy())
    np.testing.assert_allclose(
        tape.gradient(log_prob, logits), expected, atol=1e-14
    )


def test_grey_values_are_refused_unless_allowed():
    with pytest.raises(tf.errors.InvalidArgumentError, match="binarise"):
        GreyBernoulli(0.0).log_prob(0.5)
    grey = GreyBernoulli(1.0, grey_values=True)
    expected = 0.25 * grey.log_prob(1.0) + 0.75 * grey.log_prob(0.0)
    np.testing.assert_allclose(grey.log_prob(0.25), expected, rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[0, 1\]"):
        grey.log_prob(255.0)
