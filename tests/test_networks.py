"""Networks give the shapes that are asked of them, whatever the image."""

import numpy as np
import pytest

import keras_genmodels as kgm


@pytest.mark.parametrize(
    "shape",
    [
        (8, 8, 1),
        (9, 9, 1),
        (28, 28, 1),
        (32, 32, 3),
        (17, 30, 3),
        (64, 64, 3),
        (48, 65, 2),
        (3, 50, 1),
    ],
)
def test_conv_networks_fit_images_of_any_size(shape):
    encoder = kgm.conv_encoder(shape, 10, filters=4)
    assert encoder(np.zeros((2, *shape), np.float32)).shape == (2, 10)
    params_shape = (*shape[:2], 2 * shape[2])
    decoder = kgm.conv_decoder(5, params_shape, filters=4)
    assert decoder(np.zeros((2, 5), np.float32)).shape == (2, *params_shape)


def test_every_output_pixel_of_the_conv_decoder_hears_the_latent():
    decoder = kgm.conv_decoder(3, (13, 22, 1), filters=4)
    rng = np.random.default_rng(0)
    outputs = decoder(rng.standard_normal((8, 3)).astype("float32")).numpy()
    assert (outputs.std(axis=0) > 0).all()


def test_every_input_pixel_is_heard_by_the_conv_encoder():
    encoder = kgm.conv_encoder((9, 14, 1), 6, filters=4)
    pixels = np.eye(9 * 14, dtype=np.float32).reshape(-1, 9, 14, 1)
    difference = encoder(pixels) - encoder(np.zeros((1, 9, 14, 1)))
    assert (np.abs(difference).max(axis=1) > 0).all()


def test_mlp_networks_have_the_widths_that_are_asked():
    encoder = kgm.mlp_encoder((7, 5), 6, hidden_sizes=(11, 12))
    assert [w.shape for w in encoder.weights[::2]] == [
        (35, 11),
        (11, 12),
        (12, 6),
    ]
    decoder = kgm.mlp_decoder(3, (7, 5), hidden_sizes=(12, 11))
    assert decoder(np.zeros((4, 3), np.float32)).shape == (4, 7, 5)
