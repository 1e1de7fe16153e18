"""Networks of the package have channels last, whatever keras.json says."""

import keras
import numpy as np
import pytest

import keras_genmodels as kgm

SHAPE = (8, 12, 3)


@pytest.fixture
def channels_first():
    """Runs a test with `"image_data_format": "channels_first"`."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


BUILDERS = {
    "mlp_encoder": lambda: kgm.mlp_encoder(SHAPE, 4, (5,)),
    "mlp_decoder": lambda: kgm.mlp_decoder(2, SHAPE, (5,)),
    "conv_encoder": lambda: kgm.conv_encoder(SHAPE, 4, filters=2),
    "conv_encoder of a condition": lambda: kgm.conv_encoder(
        SHAPE, 4, filters=2, condition_size=3
    ),
    "conv_decoder": lambda: kgm.conv_decoder(2, (9, 12, 3), filters=2),
    "image_condition": lambda: kgm.image_condition(SHAPE, 4, filters=2),
    "unet": lambda: kgm.unet((9, 12, 3), filters=(2, 4), blocks=1),
    "bias_free_unet": lambda: kgm.bias_free_unet(
        (9, 12, 3), filters=(2, 4), blocks=1
    ),
    "mlp_denoiser": lambda: kgm.mlp_denoiser(SHAPE, hidden_sizes=(5,)),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_networks_are_the_same_whatever_the_layout_of_keras(
    build, channels_first
):
    keras.utils.set_random_seed(0)
    network = build()
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(0)
    expected = build()
    assert network.output_shape == expected.output_shape
    keras.config.set_image_data_format("channels_first")
    rng = np.random.default_rng(0)
    inputs = [rng.random((2, *i.shape[1:]), "float32") for i in network.inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    np.testing.assert_array_equal(network(inputs), expected(inputs))


def test_a_model_of_convolutions_trains_whatever_the_layout(channels_first):
    posterior = kgm.MultivariateNormalDiag(2)
    likelihood = kgm.IndependentNormal(SHAPE)
    model = kgm.VAE(
        kgm.conv_encoder(SHAPE, posterior.params_size, filters=2),
        kgm.conv_decoder(2, likelihood.params_shape, filters=2),
        posterior,
        likelihood,
    )
    model.compile(run_eagerly=True)
    x = np.random.default_rng(0).random((4, *SHAPE), "float32")
    assert np.isfinite(model.fit(x, verbose=0).history["loss"][0])
