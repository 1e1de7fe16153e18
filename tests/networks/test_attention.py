"""Self-attention in a U-Net."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from keras_genmodels.networks import denoisers as networks
from keras_genmodels.networks import layers


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_heads", [1, 2])
def test_attention_adds_weighted_values_of_all_pixels(num_heads):
    layer = layers.SelfAttention(num_heads)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 5, 8))
    np.testing.assert_array_equal(layer(x), x)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    scale, shift, project, combine, bias = map(np.asarray, layer.weights)
    h = x.reshape(2, 15, 8)
    h = h - h.mean(-1, keepdims=True)
    h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-3) * scale + shift
    query, key, value = np.split(h @ project, 3, axis=-1)
    found, width = np.empty_like(h), 8 // num_heads
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        logits = query[..., part] @ key[..., part].swapaxes(1, 2)
        weights = softmax(logits / np.sqrt(width), axis=-1)
        found[..., part] = weights @ value[..., part]
    expected = x.reshape(2, 15, 8) + found @ combine + bias
    np.testing.assert_allclose(layer(x), expected.reshape(x.shape), rtol=1e-10)


def test_attention_compiles():
    layer = layers.SelfAttention()
    x = tf.constant(
        np.random.default_rng(0).normal(size=(2, 3, 3, 4)), "float32"
    )
    layer(x)
    for weight in layer.weights:
        weight.assign(tf.ones_like(weight) / 3)
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "levels"),
    [(0, []), (1, ["middle"]), (2, ["down_1", "middle", "up_1"])],
)
def test_attention_is_at_the_smallest_levels(count, levels):
    network = networks.unet(
        (8, 8, 1), filters=(4, 6, 64), blocks=1, attention_levels=count
    )
    found = {
        layer.name: layer.num_heads
        for layer in network.layers
        if isinstance(layer, layers.SelfAttention)
    }
    heads = {"middle": 2}
    assert found == {
        f"{name}_block_0_attention": heads.get(name, 1) for name in levels
    }


def test_heads_divide_the_channels():
    with pytest.raises(ValueError, match="num_heads must divide"):
        layers.SelfAttention(3).build((None, 2, 2, 4))


@pytest.mark.parametrize("count", [-1, 1.5])
def test_a_wrong_number_of_levels_is_refused(count):
    with pytest.raises(ValueError, match="attention_levels"):
        networks.unet((8, 8, 1), attention_levels=count)
