"""Normalization of channels, which is deprecated, and FiLM."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.network_inputs import SMALL, images, inputs_of, perturb

from keras_genmodels.networks import denoisers as networks
from keras_genmodels.networks import layers
from keras_genmodels.networks.channel_normalization import ChannelNormalization


@pytest.fixture
def channel_normalization():
    """Returns a function that builds the layer without its warning."""

    def build(groups, **kwargs):
        config = {"groups": groups, **kwargs}
        return ChannelNormalization.from_config(config)

    return build


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_normalization_agrees_with_keras(
    float64, channel_normalization, groups
):
    x = tf.constant(3 + 2 * images((7, 5, 6), 4, "float64"))
    factors = images((7, 5, 6), 4, "float64")
    ours = perturb(built(channel_normalization(groups), x))
    theirs = built(keras.layers.GroupNormalization(groups), x)
    theirs.set_weights(ours.get_weights())
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            total = tf.reduce_sum(factors * y)
        gradients = tape.gradient(total, [x, *layer.trainable_variables])
        results.append([y, *gradients])
    (ours, *our_gradients), (theirs, *their_gradients) = results
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    # Gradients are differences of sums over the pixels, which cancel digits.
    for ours, theirs in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_normalization_in_float32_and_bfloat16(channel_normalization):
    x = 3 + 2 * images((7, 5, 6), 4)
    exact = keras.layers.GroupNormalization(3)(x).numpy()
    single = channel_normalization(3)(x)
    np.testing.assert_allclose(single, exact, atol=1e-4)
    mixed = channel_normalization(3, dtype="mixed_bfloat16")(x)
    assert mixed.dtype == tf.bfloat16
    # bfloat16 has 8 bits: the input 5 / 0.6 is rounded to 1/256 of itself.
    np.testing.assert_allclose(tf.cast(mixed, "float32"), exact, atol=0.1)


def test_normalization_is_deprecated_but_loads():
    with pytest.warns(DeprecationWarning, match="GroupNormalization"):
        layer = ChannelNormalization(2, name="old")
    config = keras.saving.serialize_keras_object(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = keras.saving.deserialize_keras_object(config)
    assert (copy.groups, copy.name) == (2, "old")


@pytest.mark.parametrize("name", ["normalization", "film"])
def test_modulation_scales_and_shifts(name, channel_normalization):
    layer = layers.FiLM() if name == "film" else channel_normalization(3)
    x = images((7, 5, 6))
    scale, shift = np.random.default_rng(2).standard_normal((2, 2, 1, 1, 6))
    modulation = np.concatenate([scale, shift], -1)[:, 0, 0].astype("float32")
    plain = layer([x, np.zeros_like(modulation)])
    expected = plain * (1 + scale) + shift
    np.testing.assert_allclose(layer([x, modulation]), expected, atol=1e-5)


@pytest.mark.parametrize("noise_conditional", [True, False])
def test_normalization_groups_are_deprecated_but_normalise(noise_conditional):
    with pytest.warns(DeprecationWarning, match="normalization_groups") as seen:
        network = networks.unet(
            (9, 13, 3),
            noise_conditional=noise_conditional,
            normalization_groups=2,
            **SMALL,
        )
    assert [warning.filename for warning in seen] == [__file__]
    x = images((9, 13, 3))
    normalized = [
        keras.Model(network.input, layer.output)
        for layer in network.layers
        if isinstance(layer, ChannelNormalization)
    ]
    assert len(normalized) == 5
    for part in normalized:
        groups = np.reshape(
            part(inputs_of(network, x)), (2, -1, 2, part.output.shape[-1] // 2)
        )
        np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-4)
    perturb(network)
    assert np.any(network(inputs_of(network, x)))


def built(layer, x):
    layer.build(x.shape)
    return layer
