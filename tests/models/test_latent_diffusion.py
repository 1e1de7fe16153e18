"""A denoiser of latents as prior, against the linear-Gaussian model."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from support import linear_gaussian
from support.gaussian_priors import MEAN, covariance, gaussian_prior
from support.linear_gaussian import B, S, W

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.distributions import latents

tfd = tfp.distributions
pytestmark = pytest.mark.usefixtures("without_xla")


@pytest.mark.usefixtures("float64")
def test_the_log_density_of_a_gaussian_prior_is_that_of_the_gaussian():
    z = np.random.default_rng(1).normal(size=(2, 3, 2)) * 2
    found = gaussian_prior().prior().log_prob(z)
    exact = scipy.stats.multivariate_normal(MEAN, covariance()).logpdf(z)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_log_likelihood_is_exact_with_the_exact_posterior():
    """Each importance weight is p(x) then, whatever the draw."""
    model, x = gaussian_prior(), linear_gaussian.data(4)
    exact = scipy.stats.multivariate_normal(
        W @ MEAN + B, W @ covariance() @ W.T + S**2 * np.eye(5)
    ).logpdf(x)
    found = kgm.log_likelihood(model, x, num_samples=3)
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "solver",
    [
        "dpmpp_2m",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("euler", "heun")),
    ],
)
def test_draws_have_the_moments_of_the_prior(solver):
    """For Gaussian data a draw is an affine function of the noise."""
    denoiser = gaussian_prior().denoiser
    prior = kgm.sampling.flow_prior.FlowPrior(
        denoiser, "float64", solver=solver, num_steps=400
    )
    noise = np.concatenate([np.zeros((1, 2)), np.eye(2)])
    mean, *ends = prior.transform(noise).numpy()
    root = np.array(ends) - mean
    np.testing.assert_allclose(mean, MEAN, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        root.T @ root, covariance(), rtol=0.03 if solver == "euler" else 1e-3
    )


def tiny_vae(**settings):
    posterior = kgm.MultivariateNormalDiag(2)
    return kgm.VAE(
        kgm.mlp_encoder((4, 4, 1), posterior.params_size, (8,)),
        kgm.mlp_decoder(2, (4, 4, 1), (8,)),
        posterior,
        kgm.IndependentBernoulli((4, 4, 1)),
        **settings,
    )


def tiny_denoiser(size=2, **settings):
    network = kgm.mlp_denoiser((size,), hidden_sizes=(8,))
    return kgm.DenoisingAutoencoder(network, sigma=(0.02, 5), **settings)


def images(n=8):
    x = np.random.default_rng(0).integers(0, 2, (n, 4, 4, 1))
    return x.astype("float32")


@pytest.fixture
def model():
    return kgm.LatentDiffusion(tiny_vae(), tiny_denoiser(num_noise_draws=2))


def trained(model, steps=3):
    model.compile("adam", run_eagerly=True)
    model.adapt(images())
    for _ in range(steps):
        model.train_on_batch(images())
    return model


def test_training_changes_the_denoiser_only_and_repeats_exactly(model):
    again = kgm.LatentDiffusion.from_config(model.get_config())
    again.set_weights(model.get_weights())
    before = model.vae.get_weights()
    for one in (model, again):
        trained(one)
    for found, expected in (
        (model.vae.get_weights(), before),
        (model.get_weights(), again.get_weights()),
    ):
        for value, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, other)
    own = model.denoiser.trainable_variables
    assert len(model.trainable_variables) == len(own) > 0


def test_fit_adapts_to_the_latents_and_evaluate_reports_the_error(model):
    model.compile("adam", run_eagerly=True)
    model.fit(images(64), batch_size=64, verbose=0)
    z = model.vae.encode(images(64)).sample(seed=1).numpy()
    mean = model.denoiser.data_mean
    np.testing.assert_allclose(mean, z.mean(0), rtol=0, atol=0.6)
    found = model.evaluate(images(), verbose=0, return_dict=True)
    assert found.keys() == {"loss", "squared_error"}


@pytest.mark.usefixtures("float64")
def test_the_mean_given_a_noisy_draw_is_that_of_the_gaussian():
    """What is left of z is independent of the noisy draw."""
    rng, num = np.random.default_rng(0), 100_000
    mean, deviation = np.array([[1.0, -2.0]]), np.array([[0.5, 1.5]])
    sigma = 0.7
    z = mean + deviation * rng.standard_normal((num, 2))
    noisy = z + sigma * rng.standard_normal((num, 2))
    posterior = tfd.MultivariateNormalDiag(mean, deviation)
    found = latents.mean_given_noisy(
        posterior,
        tf.constant(noisy)[:, None],
        tf.fill([num, 1], tf.cast(sigma, tf.float64)),
    )
    rest = z - found[:, 0].numpy()
    variance = deviation[0] ** 2 * sigma**2 / (deviation[0] ** 2 + sigma**2)
    np.testing.assert_allclose(rest.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(rest.var(0), variance, rtol=0.02)
    np.testing.assert_allclose((rest * noisy).mean(0), 0, atol=0.02)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("draws", [1, 3])
def test_the_loss_is_zero_where_the_denoiser_knows_the_posterior(draws):
    """A new network denoises N(mean, variance I) exactly."""
    model = kgm.LatentDiffusion(
        tiny_vae(), tiny_denoiser(num_noise_draws=draws)
    )
    model.denoiser.adapt(np.random.default_rng(0).normal(2, 3, (100, 2)))
    mean = np.asarray(model.denoiser.data_mean)
    deviation = np.sqrt(np.asarray(model.denoiser._variance))
    model.encode = lambda x: tfd.MultivariateNormalDiag(
        np.tile(mean, (len(x), 1)), np.full((len(x), 2), deviation)
    )
    model.compile("adam")
    for training in (False, True):
        terms = model(images(), training=training)
        np.testing.assert_allclose(terms["weighted_error"], 0, atol=1e-12)
        assert tf.reduce_mean(terms["squared_error"]) > 0.1


def test_the_encoder_runs_as_in_inference_while_training():
    vae = tiny_vae()
    encoder = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Dropout(0.99), vae.encoder]
    )
    vae = kgm.VAE(
        encoder, vae.decoder, vae.posterior, kgm.IndependentBernoulli((4, 4, 1))
    )
    model = kgm.LatentDiffusion(vae, tiny_denoiser())
    model.compile("adam")
    seen = []
    model.encode = lambda x: seen.append(vae.encode(x)) or seen[-1]
    model(images(), training=True)
    np.testing.assert_array_equal(seen[0].loc, vae.encode(images()).loc)


@pytest.mark.slow
def test_a_sample_is_decoded_from_the_prior_and_rows_are_independent(model):
    trained(model)
    rows = seeds.row_seeds(3, 4)
    found = model.sample(4, seed=3)
    z = latents.transform(model.prior(), model._row_noise(rows))
    np.testing.assert_allclose(found, model.decode(z).mean(), atol=1e-6)
    part = model.sample(2, seed=rows[2:])
    np.testing.assert_allclose(found[2:], part, atol=1e-6)
    walk = model.sample(
        2, seed=rows[2:], solver="heun", num_steps=4, trajectory=True
    )
    assert walk.shape == (5, 2, 4, 4, 1)


@pytest.mark.usefixtures("float64")
def test_it_keeps_samples_and_dtypes_through_a_file(tmp_path):
    keras.config.set_dtype_policy("float32")
    denoiser = tiny_denoiser()
    keras.config.set_dtype_policy("float64")
    model = trained(kgm.LatentDiffusion(tiny_vae(), denoiser, seed=5))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.seed == 5
    assert loaded.vae.encoder.compute_dtype == "float64"
    assert loaded.denoiser.compute_dtype == "float32"
    assert loaded.sample(2, seed=0).dtype == tf.float64
    np.testing.assert_array_equal(
        model.sample(2, seed=0), loaded.sample(2, seed=0)
    )


def test_the_default_number_of_draws_is_small(model, monkeypatch):
    trained(model, steps=0)
    counts = []

    def log_weights(x, *, noise):
        counts.append(noise.shape[0])
        return tf.zeros(tf.shape(noise)[:2])

    monkeypatch.setattr(model, "log_weights", log_weights)
    kgm.log_likelihood(model, images(1))
    assert counts == [100]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kgm.LatentDiffusion(tiny_vae(), tiny_denoiser(3)),
            "2 numbers",
        ),
        (
            lambda: kgm.LatentDiffusion(tiny_vae(), tiny_denoiser(blind=True)),
            "network must take",
        ),
        (
            lambda: kgm.LatentDiffusion(tiny_vae(), kgm.LinearDenoiser(rank=1)),
            "receives sigma",
        ),
        (
            lambda: kgm.LatentDiffusion(tiny_denoiser(), tiny_denoiser()),
            "latent-variable model",
        ),
        (
            lambda: kgm.LatentDiffusion(
                kgm.LatentDiffusion(tiny_vae(), tiny_denoiser()),
                tiny_denoiser(),
            ),
            "prior of its own",
        ),
        (
            lambda: kgm.LatentDiffusion(tiny_vae(), tiny_denoiser()).prior(),
            "adapt",
        ),
        (
            lambda: kgm.LatentDiffusion(tiny_vae(), kgm.LinearDenoiser())(
                images()
            ),
            "not trained",
        ),
        (
            lambda: kgm.LatentDiffusion(tiny_vae(), tiny_denoiser()).sample(
                condition=[1], seed=0
            ),
            "no condition",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
