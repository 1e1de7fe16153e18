"""What networks return is one tensor of a stated shape per example."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_cvaes import of_labels, of_parts
from support.small_vaes import SHAPE, make_vae

import keras_genmodels as kgm


def vae_parts():
    model = make_vae(latent_size=2)
    names = ("encoder", "decoder", "posterior", "likelihood")
    return {name: getattr(model, name) for name in names}


def heads(combine):
    """An encoder of two heads, as tutorials have it."""
    x = keras.Input(SHAPE)
    h = keras.layers.Flatten()(x)
    means, log_variances = (keras.layers.Dense(2)(h) for _ in range(2))
    return keras.Model(x, combine(means, log_variances))


BAD_OUTPUTS = {
    "a list of 2": lambda *two: [*two],
    "a dict of 2": lambda a, b: {"mean": a, "log_var": b},
    # Of the right count, in the wrong order.
    r"\[2, 3, 2\] for a batch of 3": lambda a, b: keras.ops.stack([a, b]),
    r"\[batch, 2, 2\]": lambda *two: keras.ops.stack(two, -1),
    r"\[batch, 2\]": lambda a, b: a,
    r"int32 \[batch, 4\]": lambda *two: keras.ops.cast(
        keras.ops.concatenate(two), "int32"
    ),
}


@pytest.mark.parametrize("got", BAD_OUTPUTS)
def test_an_encoder_of_several_tensors_is_refused(got):
    parts = {**vae_parts(), "encoder": heads(BAD_OUTPUTS[got])}
    message = rf"encoder must .*\[batch, 4\], got .*{got}"
    if got.startswith("int32"):
        message = "encoder must return one floating tensor"
    with pytest.raises(ValueError, match=message) as refusal:
        kgm.VAE(**parts)
    assert "all means, then all standard deviations" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_concatenated_heads_are_mean_and_raw_scale():
    encoder = heads(lambda *two: keras.ops.concatenate(two, -1))
    model = kgm.VAE(**{**vae_parts(), "encoder": encoder})
    x = np.random.default_rng(0).random((3, *SHAPE), "float32")
    loc, raw_scale = np.split(encoder(x).numpy(), 2, -1)
    posterior = model.encode(x)
    np.testing.assert_allclose(posterior.loc, loc, rtol=1e-6)
    np.testing.assert_allclose(
        posterior.stddev(), 1e-4 + np.log1p(np.exp(raw_scale)), rtol=1e-5
    )


def mixing(shape):
    """A network that returns the right count, not by example."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 2))),
        ]
    )


def test_networks_that_mix_examples_are_refused():
    with pytest.raises(ValueError, match=r"encoder .* \[6, 2\] for a batch"):
        kgm.VAE(**{**vae_parts(), "encoder": mixing(SHAPE)})


@pytest.mark.parametrize("shape", [(64,), (8, 8), SHAPE])
def test_decoders_may_return_flat_events(shape):
    decoder = kgm.mlp_decoder(2, shape, (4,))
    kgm.VAE(**{**vae_parts(), "decoder": decoder})


def test_decoders_with_channels_first_are_refused():
    likelihood = kgm.IndependentNormal((4, 4, 3), stddev=1.0)
    parts = {
        **vae_parts(),
        "encoder": kgm.mlp_encoder((4, 4, 3), 4, (4,)),
        "likelihood": likelihood,
    }
    for shape in ((3, 4, 4), (4, 12)):
        decoder = kgm.mlp_decoder(2, shape, (4,))
        with pytest.raises(ValueError, match=r"decoder .*\[batch, 4, 4, 3\]"):
            kgm.VAE(**{**parts, "decoder": decoder})


class Listing(keras.layers.Layer):
    """Returns a list of what a network returns."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    @property
    def inputs(self):
        return self.network.inputs

    def call(self, inputs):
        return [self.network(inputs)]


@pytest.mark.parametrize(
    "name", ["encoder", "decoder", "prior_network", "condition_network"]
)
@pytest.mark.parametrize("make", [of_labels, of_parts])
def test_every_network_of_a_conditional_vae_is_checked(name, make):
    model = make(learned=True)
    arguments = model._arguments()
    arguments[name] = Listing(arguments[name])
    with pytest.raises(ValueError, match=f"{name} must .* got a list of 1"):
        kgm.ConditionalVAE(**arguments)


def test_networks_of_denoisers_are_checked():
    shape = (4, 4, 1)
    for sigma in ((0.1, 1.0), 0.1):
        network = kgm.mlp_denoiser(
            shape, noise_conditional=sigma != 0.1, hidden_sizes=(4,)
        )
        with pytest.raises(ValueError, match=r"network must .* a list of 1"):
            kgm.DenoisingAutoencoder(
                Listing(network), sigma=sigma, event_shape=shape
            )
    with pytest.raises(ValueError, match=r"network must .* \[6, 2\] for a b"):
        kgm.DenoisingAutoencoder(mixing(shape), sigma=0.1)


def decoder_ending_in(*last):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(64), *last])


def by_operation():
    z = keras.Input((2,))
    probabilities = keras.ops.sigmoid(keras.layers.Dense(64)(z))
    return keras.Model(z, keras.layers.Reshape(SHAPE)(probabilities))


class Probabilities(keras.Model):
    """A decoder that cannot be looked into."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(64)

    def call(self, z):
        return tf.sigmoid(self.dense(z))


SIGMOIDS = {
    "layer": lambda: decoder_ending_in(
        keras.layers.Dense(64, activation="sigmoid")
    ),
    "activation": lambda: decoder_ending_in(
        keras.layers.Activation("sigmoid"), keras.layers.Reshape(SHAPE)
    ),
    "nested": lambda: decoder_ending_in(
        keras.Sequential([keras.layers.Dense(64, "sigmoid")])
    ),
    "operation": by_operation,
    "lambda": lambda: decoder_ending_in(keras.layers.Lambda(tf.sigmoid)),
    "linear after it": lambda: decoder_ending_in(
        keras.layers.Activation(tf.nn.sigmoid), keras.layers.ReLU()
    ),
    "class": Probabilities,
    "zeros": lambda: decoder_ending_in(
        keras.layers.Dense(64, "sigmoid", kernel_initializer="zeros")
    ),
}


@pytest.mark.parametrize("form", SIGMOIDS)
def test_a_decoder_that_ends_in_a_sigmoid_is_refused(form):
    decoder = SIGMOIDS[form]()
    with pytest.raises(ValueError, match="a logit per entry") as refusal:
        kgm.VAE(**{**vae_parts(), "decoder": decoder})
    assert "\n" not in str(refusal.value)
    real = {**vae_parts(), "likelihood": kgm.IndependentNormal(SHAPE)}
    kgm.VAE(**{**real, "decoder": decoder})


LOGITS = {
    "a sigmoid before": [
        keras.layers.Activation("sigmoid"),
        keras.layers.Dense(64),
    ],
    "ReLU": [keras.layers.ReLU()],
    "tanh": [keras.layers.Activation("tanh")],
    "zeros": [keras.layers.Dense(64, kernel_initializer="zeros")],
}


@pytest.mark.parametrize("last", LOGITS)
def test_decoders_of_logits_are_accepted(last):
    decoder = decoder_ending_in(*LOGITS[last])
    kgm.VAE(**{**vae_parts(), "decoder": decoder})


def test_a_sigmoid_is_refused_for_other_likelihoods_of_pixels():
    likelihood = kgm.IndependentDiscretizedLogistic(SHAPE)
    size = likelihood.params_size
    decoder = decoder_ending_in(keras.layers.Dense(size, "sigmoid"))
    parts = {**vae_parts(), "likelihood": likelihood, "decoder": decoder}
    with pytest.raises(ValueError, match="as after a sigmoid"):
        kgm.VAE(**parts)


def test_a_model_that_was_saved_with_a_sigmoid_loads_with_a_warning(tmp_path):
    real = {**vae_parts(), "decoder": SIGMOIDS["layer"]()}
    model = kgm.VAE(**{**real, "likelihood": kgm.IndependentNormal(SHAPE)})
    model.likelihood = vae_parts()["likelihood"]
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="as after a sigmoid"):
        keras.saving.load_model(tmp_path / "model.keras")
