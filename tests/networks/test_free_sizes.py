"""U-Nets for images of any size, and how far their pixels reach."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.denoisers import DenoisingAutoencoder
from keras_genmodels.networks import denoisers as networks
from keras_genmodels.networks.layers import DepthToSpace
from keras_genmodels.networks.reach import Reach, reach_of
from keras_genmodels.networks.sizes import CropLike

SMALL = {"filters": (2, 3, 4), "blocks": 1}
BUILDS = {
    "unet": lambda shape, **kwargs: networks.unet(
        shape, noise_conditional=False, **SMALL, **kwargs
    ),
    "bias_free_unet": lambda shape: networks.bias_free_unet(shape, **SMALL),
    "stem_of_2": lambda shape: networks.bias_free_unet(
        shape, filters=(3, 4), blocks=1, stem_stride=2
    ),
}
each_network = pytest.mark.parametrize("name", BUILDS)


def strided_without_padding():
    x = keras.Input((None, None, 1))
    h = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(x, CropLike()([DepthToSpace()(h), x]))


def positive(network):
    """Makes all weights positive, so that every ReLU passes its input on."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.uniform(0.1, 1, weight.shape) / weight.shape[-1])
    return network


@each_network
def test_a_free_network_has_the_weights_of_a_fixed_one(name):
    fixed, free = BUILDS[name]((8, 12, 2)), BUILDS[name]((None, None, 2))
    assert free.input_shape == free.output_shape == (None, None, None, 2)
    positive(free)
    fixed.set_weights(free.get_weights())
    x = np.random.default_rng(1).random((3, 8, 12, 2)).astype("float32")
    np.testing.assert_allclose(free(x), fixed(x), rtol=1e-6)


@each_network
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (31, 4)])
def test_sizes_are_padded_by_reflection_and_cropped(name, size):
    free = positive(BUILDS[name]((None, None, 1)))
    x = np.random.default_rng(1).random((2, *size, 1)).astype("float32")
    padding = [(0, 0), *((0, -side % 4) for side in size), (0, 0)]
    whole = free(np.pad(x, padding, "reflect"))
    np.testing.assert_allclose(
        free(x), whole[:, : size[0], : size[1]], rtol=1e-6
    )


@pytest.mark.slow
def test_every_size_from_the_least_up_is_denoised_as_if_padded():
    model = DenoisingAutoencoder(
        positive(BUILDS["bias_free_unet"]((None, None, 1))), blind=True
    )
    rng = np.random.default_rng(1)
    model.adapt(rng.random((4, 8, 8, 1)))
    for height in range(4, 14):
        for width in range(4, 14):
            x = rng.random((1, height, width, 1), np.float32)
            sides = [(0, -side % 4) for side in (height, width)]
            padded = np.pad(x, [(0, 0), *sides, (0, 0)], "reflect")
            whole = model.denoise(padded)[:, :height, :width]
            np.testing.assert_allclose(model.denoise(x), whole, rtol=1e-4)


@pytest.mark.usefixtures("float64")
@each_network
def test_the_reach_is_how_far_gradients_go(name):
    free = positive(BUILDS[name]((None, None, 1)))
    reach = reach_of(free)
    assert reach.stride == 4
    start, size = 40, 88
    x = tf.constant(np.random.default_rng(1).random((1, size, size, 1)))
    before, after = [], []
    for row in range(start, start + reach.stride):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = free(x)[0, row, row, 0]
        used = np.flatnonzero(np.abs(tape.gradient(y, x)[0]).sum((1, 2)))
        before.append(row - used[0])
        after.append(used[-1] - row)
    assert (max(before), max(after)) == reach[:2]


@pytest.mark.usefixtures("float64")
def test_crops_by_multiples_of_the_stride_have_the_same_interior():
    free = positive(BUILDS["unet"]((None, None, 1)))
    before, after, stride = reach_of(free)
    x = np.random.default_rng(1).random((1, 96, 101, 1))
    whole, top, left = free(x), 2 * stride, 3 * stride
    part = free(x[:, top:, left:])
    np.testing.assert_allclose(
        part[:, before:, before:-after],
        whole[:, top + before :, left + before : -after],
        rtol=1e-12,
    )


def test_a_stem_of_stride_4_sees_the_neighbours_of_its_squares():
    network = networks.unet((None, None, 1), filters=(2, 3), stem_stride=4)
    # 7 to the far side of the next square; 8 and 4 convolutions at the strides
    # 4 and 8; 4 by the step between them.
    assert reach_of(network) == Reach(7 + 32 + 32 + 4, 7 + 32 + 32 + 4, 8)


def test_the_default_network_reaches_44_pixels():
    # 1 by the stem; 8, 8 and 4 convolutions at the strides 1, 2 and 4; 3 by
    # the steps between them: 1 + 8 + 16 + 16 + 3.
    network = networks.unet((None, None, 3))
    assert reach_of(network) == Reach(44, 44, 4)
    assert reach_of(network) is reach_of(network)


@pytest.mark.parametrize(
    "network",
    [
        networks.unet((8, 8, 1), filters=(2, 4), attention_levels=1),
        networks.mlp_denoiser((8, 8, 1), hidden_sizes=(2,)),
        keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3)]),
        strided_without_padding(),
    ],
    ids=["attention", "dense", "valid padding", "strides without padding"],
)
def test_networks_without_a_known_reach_are_refused(network):
    with pytest.raises(ValueError, match="reach"):
        reach_of(network)


def test_attention_requires_images_of_one_size():
    with pytest.raises(ValueError, match="attention_levels requires"):
        networks.unet((None, None, 1), attention_levels=1)


@pytest.mark.parametrize("shape", [(None, 8, 1), (None, None), (None, None, 0)])
def test_only_both_sides_are_free(shape):
    with pytest.raises(ValueError, match="image_shape"):
        networks.unet(shape)


def test_a_file_restores_a_free_network(tmp_path):
    free = positive(BUILDS["unet"]((None, None, 1)))
    free.save(tmp_path / "free.keras")
    loaded = keras.models.load_model(tmp_path / "free.keras")
    x = np.random.default_rng(1).random((1, 5, 6, 1)).astype("float32")
    np.testing.assert_array_equal(loaded(x), free(x))
