"""A new kind of model is one file: a user's, outside the package."""

import importlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels import datasets, runs, serving
from keras_genmodels.core import seeds
from keras_genmodels.export import export
from keras_genmodels.export.check import check_version
from keras_genmodels.models import likelihood
from keras_genmodels.runs.evaluate import Settings, evaluate

SHAPE = (8, 8, 1)
# What a user writes, and all that a user writes.
FILE = '''
"""A VAE with two layers of latents."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

import keras_genmodels as kgm

tfb, tfd = tfp.bijectors, tfp.distributions


@keras.saving.register_keras_serializable("two_layers")
class TwoLayerVAE(kgm.LatentVariableModel):
    """p(top) = N(0, I), p(bottom|top), p(x|top, bottom); z = [top, bottom].

    The posterior is q(top|x) q(bottom|x, top).
    """

    def __init__(
        self, likelihood, top_size=2, bottom_size=3, width=16, **settings
    ):
        super().__init__(likelihood, top_size + bottom_size, **settings)
        self.top_size = top_size
        self.bottom_size = bottom_size
        self.width = width
        self.encoder = kgm.mlp_encoder(self.event_shape, width, (width,))
        self.decoder = kgm.mlp_decoder(
            self.latent_size, likelihood.params_shape, (width,)
        )
        self.top_posterior = keras.layers.Dense(2 * top_size)
        self.bottom_posterior = keras.layers.Dense(2 * bottom_size)
        self.bottom_prior = keras.layers.Dense(2 * bottom_size)
        self.top_posterior.build((None, width))
        self.bottom_posterior.build((None, width + top_size))
        self.bottom_prior.build((None, top_size))
        self.built = True

    def _encode(self, x, features):
        h = self.encoder(x)
        loc, log_scale = tf.split(self.top_posterior(h), 2, axis=-1)

        def bottom(top):
            # Draws of z come first: [num_samples, batch, ...].
            shape = tf.concat([tf.shape(top)[:-1], [self.width]], axis=0)
            inputs = tf.concat([tf.broadcast_to(h, shape), top], axis=-1)
            return self.bottom_posterior(inputs)

        return self._chain(loc, log_scale, bottom)

    def _decode(self, z, features):
        return self.likelihood(self.decoder(z))

    def _prior(self, features):
        zeros = tf.zeros(self.top_size, self.statistics_dtype)
        return self._chain(zeros, zeros, self.bottom_prior)

    def _chain(self, loc, log_scale, bottom):
        """Returns N(top; loc, scale^2) N(bottom; shift(top), scale(top)^2)."""
        pad = [[0, 0]] * (loc.shape.rank - 1) + [[0, self.bottom_size]]
        return tfd.TransformedDistribution(
            tfd.MultivariateNormalDiag(
                tf.pad(loc, pad), tf.exp(tf.pad(log_scale, pad))
            ),
            tfb.RealNVP(
                num_masked=self.top_size,
                shift_and_log_scale_fn=lambda top, _: tf.split(
                    bottom(top), 2, axis=-1
                ),
            ),
        )
'''


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    package = folder / "users_models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "two_layers.py").write_text(FILE)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("users_models.two_layers")
    finally:
        sys.path.remove(str(folder))


@pytest.mark.slow
def test_its_bounds_agree_with_its_densities(module):
    """The same by `log_prob` of the distributions that the verbs return."""
    model = module.TwoLayerVAE(kgm.IndependentBernoulli(SHAPE))
    x = np.random.default_rng(0).integers(0, 2, (3, *SHAPE)).astype("float32")
    noise = np.random.default_rng(1).standard_normal((4, 3, 5))
    weights = model.log_weights(x, noise=noise.astype("float32"))
    posterior = model.encode(x)
    for eps, weight in zip(noise, weights, strict=True):
        z = posterior.bijector.forward(
            posterior.distribution.loc
            + posterior.distribution.stddev() * eps.astype("float32")
        )
        expected = (
            model.prior().log_prob(z)
            + model.decode(z).log_prob(x)
            - posterior.log_prob(z)
        )
        np.testing.assert_allclose(weight, expected, rtol=1e-4)
    # The elbo, by 20000 draws, is below the estimate of log p(x).
    elbo = model.elbo(np.repeat(x, 2000, axis=0), seed=0).numpy()
    elbo = elbo.reshape(3, -1)
    error = elbo.std(1) / np.sqrt(elbo.shape[1])
    bound = likelihood.log_likelihood(
        model, x, num_samples=1000, jit_compile=False
    )
    assert (elbo.mean(1) < bound.numpy() + 4 * error).all()
    with pytest.raises(ValueError, match="Gaussian posterior"):
        doubly = module.TwoLayerVAE(
            model.likelihood,
            num_importance_samples=2,
            doubly_reparameterized=True,
        )
        doubly.compile()
        doubly(tf.constant(x), training=True)


def test_a_file_restores_a_trained_model(module, tmp_path):
    model = module.TwoLayerVAE(kgm.IndependentBernoulli(SHAPE))
    x = np.random.default_rng(0).integers(0, 2, (8, *SHAPE)).astype("float32")
    before = model.get_weights()
    model.compile("adam", run_eagerly=True)
    model.fit(x, batch_size=8, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is module.TwoLayerVAE
    np.testing.assert_array_equal(
        loaded.sample(3, seed=0), model.sample(3, seed=0)
    )


@pytest.mark.slow
def test_it_trains_loads_evaluates_generates_exports_and_is_served(
    module, tmp_path, in_process
):
    data, workdir = datasets.load("digits"), runs.Workdir(tmp_path / "run")
    model = module.TwoLayerVAE(
        kgm.IndependentBernoulli(SHAPE), num_importance_samples=2
    )
    x = (data.test.images[:100] > 127).astype("float32")
    before = np.mean(model.elbo(x, seed=0))
    metrics = runs.train(model, data, workdir, epochs=5, verbose=0)
    assert metrics["kind"] == "TwoLayerVAE"
    for name in ("reconstructions", "samples", "interpolation"):
        assert (workdir.figures / f"{name}.png").exists()

    loaded = workdir.load_model()
    assert type(loaded) is module.TwoLayerVAE
    assert np.mean(loaded.elbo(x, seed=0)) > before + 10
    found = evaluate(
        workdir,
        data,
        Settings(num_images=100, num_samples=20, classifier_steps=30),
    )
    measures = found["sections"]["likelihood"]["measures"]
    assert 0 < measures["active_units"]["value"] <= 5
    assert measures["elbo"]["value"] < measures["log_likelihood"]["value"]

    # An app, in a process that has only the run and the user's package.
    output = tmp_path / "samples.npz"
    flags = [
        f"--workdir={workdir}",
        f"--output={output}",
        "--num_images=3",
        "--import_module=users_models.two_layers",
    ]
    subprocess.run(
        [sys.executable, "-m", "apps.generate", *flags],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    np.testing.assert_allclose(
        np.load(output)["image"], loaded.sample(3, seed=0), atol=1e-5
    )

    # By TensorFlow's C++ loader, every signature as eagerly.
    folder = tmp_path / "exports"
    version = export(loaded, folder, "two_layers", num_samples=20)
    assert check_version(version, loaded).problems == []

    # By requests to a server.
    rows, x = seeds.row_seeds(3, 3), x[:3]
    expected = likelihood.importance_weighted(
        loaded, x, num_samples=20, seed=rows, jit_compile=False
    )
    with (
        serving.Server(folder, port=0) as server,
        serving.Client(server.address, "two_layers") as client,
    ):
        np.testing.assert_allclose(
            client.generate(3, seed=0), loaded.sample(3, seed=0), atol=1e-5
        )
        found = client.log_likelihood(x, seed=rows.numpy())
        np.testing.assert_allclose(
            found["log_likelihood"], expected.log_likelihood, rtol=1e-4
        )
        np.testing.assert_allclose(
            found["elbo"], loaded.elbo(x, seed=rows), rtol=1e-4
        )
