"""Files and dtype policies of a denoising autoencoder."""

import json
import math
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from support.small_autoencoders import (
    RANGE,
    SHAPE,
    Spy,
    compile_eagerly,
    covariance_of,
    events,
    kinds,
    make_dae,
    make_network,
    two_kinds,
)

import keras_genmodels as kgm

DATA = pathlib.Path(__file__).parents[1] / "data"

# Precision.


@kinds
def test_mixed_precision_rounds_nothing_outside_the_network(
    bfloat16, kind, run_eagerly
):
    """D is that of the network's rounded output, in float32.

    How well the network itself computes is up to TensorFlow, whose bfloat16
    matrix products differ between processors.
    """
    model, y, sigma = make_dae(**kind), events(5), 0.3
    for estimate in (model.denoise(y, sigma), *model(y).values()):
        assert estimate.dtype == tf.float32
    spy = Spy(model.network)
    model = kgm.DenoisingAutoencoder(spy, event_shape=SHAPE, **kind)
    model.adapt(events())
    model.run_eagerly = True
    denoised = model.denoise(y, sigma).numpy()
    mean, variance = (
        np.float64(value) for value in (model.data_mean, model.data_stddev**2)
    )
    centred = y - mean
    inputs = y if model.blind else centred / np.sqrt(variance + sigma**2)
    if model.needs_sigma:
        network_inputs, level = spy.inputs
        np.testing.assert_allclose(level, np.log(sigma) / 4, rtol=1e-6)
    else:
        network_inputs = spy.inputs
    # 1e-5: a few roundings of float32, after the mean is subtracted.
    np.testing.assert_allclose(network_inputs, inputs, rtol=1e-5, atol=1e-5)
    skip, out = variance / (variance + sigma**2), -1.0
    if not model.blind:
        out = sigma * np.sqrt(skip)
    outputs = np.float64(spy.outputs)
    expected = out * outputs + (y if model.blind else mean + skip * centred)
    np.testing.assert_allclose(denoised, expected, rtol=1e-5, atol=1e-5)
    model.compile(run_eagerly=run_eagerly)
    model.fit(events(), verbose=0)


def test_float64_stays_float64(float64, run_eagerly):
    model, x = make_dae(), events()
    assert {v.dtype for v in model(x).values()} == {tf.float64}
    assert model.denoise(x, 0.3).dtype == tf.float64
    model.compile(run_eagerly=run_eagerly)
    model.fit(x, verbose=0)


@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
def test_a_file_keeps_the_dtype_policy(policy, request, tmp_path):
    request.getfixturevalue(policy)
    model, x = make_dae(), events(5)
    model.save(tmp_path / "m.keras")
    denoised, terms = model.denoise(x, 0.3), model(x)
    keras.config.set_dtype_policy("float32")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert keras.config.dtype_policy().name == "float32"
    assert copy.dtype_policy == model.dtype_policy
    np.testing.assert_array_equal(copy.denoise(x, 0.3), denoised)
    for name, value in copy(x).items():
        assert value.dtype == terms[name].dtype
        np.testing.assert_array_equal(value, terms[name])


# Files.

_LOAD = """
import sys
import numpy as np, keras
import keras_genmodels
model = keras.saving.load_model(sys.argv[1])
y = np.load(sys.argv[2])
np.savez(sys.argv[3], estimate=model.denoise(y, 0.3), **model(y),
         settings=[*model.sigma, model.num_noise_draws, model.seed])
"""


# The quick tests have it for a `VAE`, in test_vae.py.
@pytest.mark.slow
def test_a_fresh_process_loads_what_was_saved(tmp_path):
    model, y = make_dae(num_noise_draws=2, seed=7), events(5)
    compile_eagerly(model)
    model.fit(events(), verbose=0)
    paths = [tmp_path / name for name in ("m.keras", "y.npy", "out.npz")]
    model.save(paths[0])
    np.save(paths[1], y)
    subprocess.run([sys.executable, "-c", _LOAD, *paths], check=True)
    out = np.load(paths[2])
    np.testing.assert_allclose(
        out["estimate"], model.denoise(y, 0.3), rtol=1e-5
    )
    for name, value in model(y).items():
        np.testing.assert_allclose(out[name], value, rtol=1e-4)
    assert tuple(out["settings"]) == (*RANGE, 2, 7)


@two_kinds
def test_a_file_restores_the_model_and_its_training(
    tmp_path, kind, run_eagerly
):
    model, x = make_dae(**kind), events()
    path = tmp_path / "m.keras"
    model.save(path)
    before = keras.saving.load_model(path)
    for name in ("sigma", "blind", "num_noise_draws", "seed", "event_shape"):
        assert getattr(before, name) == getattr(model, name)
    np.testing.assert_allclose(before.denoise(x, 0.3), model.denoise(x, 0.3))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=run_eagerly)
    model.fit(x, verbose=0)
    model.save(path)
    after = keras.saving.load_model(path)
    for one in (model, after):
        one.fit(x, verbose=0)
    for mine, theirs in zip(
        model.get_weights(), after.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@keras.saving.register_keras_serializable("test_dae")
class OwnNetwork(keras.Model):
    """A user's network, without an `input_shape`."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.hidden = keras.layers.Dense(width, activation="tanh")
        self.out = keras.layers.Dense(SHAPE[-1])

    def call(self, inputs):
        x, level = inputs
        return self.out(self.hidden(x + level[:, None, None]))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def test_a_subclassed_network(tmp_path):
    model = kgm.DenoisingAutoencoder(OwnNetwork(5), event_shape=SHAPE)
    model.compile(keras.optimizers.Adam(0.01))
    x = events()
    losses = model.fit(x, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert copy.network.width == 5
    np.testing.assert_allclose(copy.denoise(x, 0.3), model.denoise(x, 0.3))


def test_a_file_of_a_newer_format_is_refused():
    config = json.loads(json.dumps(make_dae().get_config()))
    assert config["sigma"] == [*RANGE]
    config["format"] += 1
    with pytest.raises(ValueError, match="upgrade the package"):
        kgm.DenoisingAutoencoder.from_config(config)


def test_old_names_are_accepted_with_a_warning():
    network = make_network(noise_conditional=False)
    with pytest.warns(DeprecationWarning, match="num_noise_draws"):
        model = kgm.DenoisingAutoencoder(network, sigma=0.1, copies=2)
    assert model.num_noise_draws == 2
    with pytest.warns(DeprecationWarning, match="sigma"):
        model = kgm.DenoisingAutoencoder(network, 0.1)
    assert model.sigma == (0.1, 0.1)
    model.adapt(events())
    with pytest.warns(DeprecationWarning, match="validate_inputs"):
        model.read(events())


def test_a_file_without_axes_starts_with_isotropic_data():
    model, data = make_dae(), events()
    variance = data.var(0).mean()
    model.load_own_variables({"0": data.mean(0), "1": variance})
    noisy = model.noisy_data(1.0)
    np.testing.assert_allclose(
        covariance_of(noisy), variance * np.eye(6), rtol=1e-5
    )
    oracle = scipy.stats.norm(data.mean(0), np.sqrt(variance + 1))
    np.testing.assert_allclose(
        noisy.log_prob(data), oracle.logpdf(data).sum((1, 2)), rtol=1e-5
    )


def test_a_config_of_format_2_loads():
    """Its layers and arguments have their old names."""
    model = make_dae(num_noise_draws=2, seed=7)
    text = json.dumps(model.get_config())
    for new, old in {
        "num_noise_draws": "copies",
        "FourierFeatures": "LevelFeatures",
        "FiLM": "Modulation",
        "keras_genmodels.networks.layers": "keras_genmodels.denoiser_layers",
    }.items():
        assert new in text
        text = text.replace(new, old)
    config = json.loads(text) | {"format": 2}
    del config["dtype_policy"]
    copy = kgm.DenoisingAutoencoder.from_config(config)
    copy.set_weights(model.get_weights())
    assert (copy.num_noise_draws, copy.seed) == (2, 7)
    x = events(5)
    np.testing.assert_array_equal(copy.denoise(x, 0.3), model.denoise(x, 0.3))


def test_a_denoiser_of_version_0_2_is_as_before_and_starts_at_its_data():
    """It knows the mean and the variance of its data, not their directions."""
    path = DATA / "denoiser_of_version_0_2.keras"
    model = keras.saving.load_model(path)
    stored = np.load(path.with_suffix(".npz"))
    found = model.denoise(stored["noisy"], 0.3)
    np.testing.assert_allclose(found, stored["denoised"], rtol=0, atol=1e-5)
    start = model.noisy_data(1.5)
    variance = start.remainder + 1.5**2
    x = stored["noisy"]
    expected = scipy.stats.norm.logpdf(
        x, model.data_mean, math.sqrt(variance)
    ).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(start.log_prob(x), expected, rtol=1e-5)
    assert float(start.remainder) == pytest.approx(
        float(model.data_stddev) ** 2
    )
    samples = model.sample(200, seed=0).numpy()
    assert samples.mean() == pytest.approx(
        float(np.mean(model.data_mean)), abs=0.03
    )
