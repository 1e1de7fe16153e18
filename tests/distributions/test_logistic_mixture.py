"""Mixtures of rounded logistics against sums over all values of a pixel."""

import itertools

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.distributions import DiscretizedLogisticMixture

LEVELS = np.arange(256) / 255.0


def mixture(channels, scale, num=2, components=3, seed=0):
    """Returns random mixtures, and the arrays of their parameters."""
    rng = np.random.default_rng(seed)
    sizes = (num, channels, components)
    parameters = {
        "logits": rng.normal(size=(num, components)),
        "loc": 0.5 + 0.3 * rng.normal(size=sizes),
        "scale": scale * np.exp(rng.normal(size=sizes)),
        "coefficients": rng.normal(
            size=(num, channels * (channels - 1) // 2, components)
        ),
    }
    return DiscretizedLogisticMixture(**parameters), parameters


def pixels_and_probabilities(distribution, channels):
    """Returns all values of a pixel, and the probability of each."""
    values = np.array([*itertools.product(LEVELS, repeat=channels)])
    return values, np.exp(distribution.log_prob(values[:, np.newaxis]))


def reference(x, parameters):
    """Returns log P of pixels, by differences of distribution functions."""
    total = np.log(scipy.special.softmax(parameters["logits"], axis=-1))
    pair = 0
    for c in range(x.shape[-1]):
        centre = parameters["loc"][:, c].copy()
        for j in range(c):
            offset = x[:, j, np.newaxis] - parameters["loc"][:, j]
            centre += parameters["coefficients"][:, pair] * offset
            pair += 1
        value, scale = x[:, c, np.newaxis], parameters["scale"][:, c]
        upper = np.where(value == 1, np.inf, value + 1 / 510)
        lower = np.where(value == 0, -np.inf, value - 1 / 510)
        ends = [(end - centre) / scale for end in (upper, lower)]
        total = total + np.log(np.subtract(*map(scipy.special.expit, ends)))
    return scipy.special.logsumexp(total, axis=-1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("scale", [2e-3, 0.02, 0.2, 1.0])
def test_probabilities_sum_to_one_and_give_the_mean(channels, scale):
    distribution, _ = mixture(channels, scale)
    values, probabilities = pixels_and_probabilities(distribution, channels)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-12)
    mean = np.einsum("vn,vc->nc", probabilities, values)
    np.testing.assert_allclose(distribution.mean(), mean, atol=2e-3)


def test_log_prob_of_three_channels_is_that_of_their_chain():
    distribution, parameters = mixture(3, 0.5, num=50)
    rng = np.random.default_rng(1)
    x = np.round(255 * rng.uniform(size=(50, 3))) / 255
    x[0] = 0, 1, 0
    np.testing.assert_allclose(
        distribution.log_prob(x), reference(x, parameters), rtol=1e-9
    )


def test_samples_follow_the_probabilities():
    distribution, _ = mixture(2, 4e-3, num=1, seed=3)
    _, probabilities = pixels_and_probabilities(distribution, 2)
    num = 20_000
    samples = np.round(255 * distribution.sample(num, seed=[0, 1]).numpy())
    places = (256 * samples[:, 0, 0] + samples[:, 0, 1]).astype(int)
    counts = np.bincount(places, minlength=256**2)
    expected = num * probabilities[:, 0]
    assert np.sum(expected > 20) > 50
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 5).all()


def test_the_mean_of_three_channels_is_that_of_samples():
    distribution, _ = mixture(3, 0.1, num=4)
    num = 40_000
    samples = distribution.sample(num, seed=[0, 1]).numpy()
    error = samples.std(0) / np.sqrt(num)
    difference = np.abs(samples.mean(0) - distribution.mean())
    assert (difference < 4 * error + 2e-3).all()


def test_values_off_the_levels_are_refused():
    distribution = DiscretizedLogisticMixture(
        *map(tf.constant, ([0.0], [[0.5]], [[0.1]])), tf.zeros((0, 1))
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="k/255"):
        distribution.log_prob([0.5])
    compiled = tf.function(distribution.log_prob, jit_compile=True)
    assert compiled(tf.constant([0.5])) == -np.inf


def test_one_component_without_coefficients_has_independent_channels():
    shape = (3, 2, 3)
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=(2, 5, *shape)) / 2
    x = np.round(255 * rng.uniform(size=(5, *shape))) / 255
    zeros = np.zeros((5, 3, 2, 3))
    independent = kgm.IndependentDiscretizedLogistic(shape, dtype="float64")(
        np.concatenate([loc, scale], axis=-1)
    )
    layer = kgm.IndependentLogisticMixture(shape, 1, dtype="float64")
    assert layer.params_shape == (3, 2, 10)
    distribution = layer(
        np.concatenate([zeros[..., :1], loc, scale, zeros], axis=-1)
    )
    assert distribution.event_shape == shape
    np.testing.assert_allclose(
        distribution.log_prob(x), independent.log_prob(x), rtol=1e-10
    )
    np.testing.assert_allclose(
        distribution.mean(), independent.mean(), atol=1e-3
    )


def test_parameters_are_read_in_their_order():
    """Those of one pixel stay together, with the components last."""
    layer = kgm.IndependentLogisticMixture((2, 2, 3), 2)
    assert layer.params_size == 2 * 2 * 2 * (1 + 3 + 3 + 3)
    params = np.zeros((1, 2, 2, 10, 2), np.float32)
    params[0, 1, 0, 9, 1] = 7  # of channel 3 on channel 2, component 2
    params[0, 0, 1, 1, 0] = 0.25  # the centre of channel 1, component 1
    found = layer(params.reshape(1, -1)).distribution
    assert np.argwhere(found.coefficients != 0).tolist() == [[0, 1, 0, 2, 1]]
    assert np.argwhere(found.loc != 0.5).tolist() == [[0, 0, 1, 0, 0]]


def test_training_is_finite_at_both_ends_of_the_levels():
    layer = kgm.IndependentLogisticMixture((1, 2, 3), 2)
    params = tf.Variable(tf.random.stateless_normal((1, 40), (0, 1)) * 5)
    x = tf.constant([[[[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]]])
    with tf.GradientTape() as tape:
        log_prob = layer(params).log_prob(x)
    gradient = tape.gradient(log_prob, params)
    assert np.isfinite(gradient).all() and np.isfinite(log_prob).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((4, 4, 5),), "at most 4"),
        (((),), "at most 4"),
        (((4, 4, 3), 0), "num_components"),
    ],
)
def test_other_shapes_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        kgm.IndependentLogisticMixture(*arguments)


def test_a_mask_of_observed_pixels_is_refused():
    shape = (4, 4, 3)
    posterior = kgm.MultivariateNormalDiag(2)
    likelihood = kgm.IndependentLogisticMixture(shape)
    with pytest.raises(ValueError, match="observed_mask requires a likelihood"):
        kgm.ConditionalVAE(
            kgm.mlp_encoder(shape, posterior.params_size, (8,), 4),
            kgm.mlp_decoder(2, likelihood.params_shape, (8,), 4),
            posterior,
            likelihood,
            kgm.mlp_encoder(shape, 4, (8,)),
            observed_mask=np.ones(shape, bool),
        )
