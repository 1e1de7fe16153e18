"""VAEs with each kind of prior: bounds, gradients, files, training."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support import linear_gaussian
from support.importance_bounds import gradient_statistics, pair
from support.linear_gaussian import B, S, W, linear_vae
from support.small_priors import LEARNED, MEAN, ROOT, make_prior
from support.small_vaes import binary_images, make_vae

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.core.model_config import copy_model


def with_prior(kind, **settings):
    return make_vae(prior=make_prior(kind), **settings)


# Tracing takes seconds: the prior that calls the encoder stands for all.
EACH_LEARNED = [
    pytest.param(kind, marks=() if kind == "vamp" else pytest.mark.slow)
    for kind in LEARNED
]


@pytest.mark.parametrize(
    "kind", [pytest.param("standard", marks=pytest.mark.slow), *EACH_LEARNED]
)
def test_bounds_and_samples_follow_from_the_distributions(kind):
    model, x = with_prior(kind), binary_images(4)
    noise = np.random.default_rng(0).standard_normal((3, 4, 3), np.float32)
    q, prior = model.encode(x), model.prior()
    z = q.loc + q.stddev() * noise
    ratio = prior.log_prob(z) - q.log_prob(z)
    likelihood = [model.decode(each).log_prob(x) for each in z]
    np.testing.assert_allclose(
        model.log_weights(x, noise=noise), likelihood + ratio, rtol=1e-4
    )
    terms = model.elbo_terms(x, seed=1)
    assert terms["rate"].shape == (4,)
    sample = model.sample(5, seed=2)
    np.testing.assert_array_equal(model.sample(5, seed=2), sample)
    assert len(np.unique(sample[:, 0, 0])) == 5
    bound = kgm.log_likelihood(model, x, num_samples=9, jit_compile=False)
    assert np.isfinite(bound).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", EACH_LEARNED)
def test_samples_of_a_graph_are_those_of_eager_execution(kind):
    """As in an export, of any number of rows."""
    model = with_prior(kind)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32)])
    def sample(rows):
        return model.sample(tf.shape(rows)[0], seed=rows)

    rows = seeds.row_seeds(1, 5)
    np.testing.assert_allclose(
        sample(rows), model.sample(5, seed=rows), rtol=1e-5
    )


def test_without_a_prior_it_is_standard_normal():
    model = make_vae()
    assert isinstance(model.prior_layer, kgm.StandardNormal)
    config = model.get_config()
    del config["prior"], config["free_bits"]
    old = kgm.VAE.from_config(config)
    np.testing.assert_array_equal(old.prior().mean(), [0, 0, 0])


# --- Files. ----------------------------------------------------------------


@pytest.mark.parametrize("kind", EACH_LEARNED)
def test_files_and_copies_keep_the_prior_and_share_the_encoder(kind, tmp_path):
    model, x = with_prior(kind), binary_images(4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    noise = np.zeros((1, 4, 3), np.float32)
    for copy in (loaded, copy_model(model)):
        assert copy.prior_layer.get_config() == model.prior_layer.get_config()
        np.testing.assert_array_equal(
            copy.log_weights(x, noise=noise), model.log_weights(x, noise=noise)
        )
        before = copy.prior().log_prob(noise).numpy()
        for weight in copy.encoder.weights:
            weight.assign(weight * 1.5 + 0.1)
        changed = np.abs(copy.prior().log_prob(noise) - before).max() > 1e-3
        assert changed == (kind == "vamp")


# --- Training. -------------------------------------------------------------


@pytest.mark.parametrize("kind", EACH_LEARNED)
def test_every_weight_of_the_prior_is_trained(kind):
    model = with_prior(kind)
    model.compile("sgd", run_eagerly=True)
    before = [w.numpy() for w in model.prior_layer.trainable_weights]
    model.fit(binary_images(12), epochs=1, verbose=0)
    for old, weight in zip(
        before, model.prior_layer.trainable_weights, strict=True
    ):
        assert np.abs(weight - old).max() > 0, weight.path


def test_training_starts_from_pseudo_inputs_of_the_data_and_keeps_them():
    model, x = with_prior("vamp"), binary_images(12)
    model.compile("sgd", run_eagerly=True)
    model.optimizer.learning_rate = 0.0
    model.fit(x, verbose=0)
    first = model.prior_layer.pseudo_inputs.numpy()
    assert all((each == x).all((1, 2, 3)).any() for each in first)
    copy = copy_model(model)
    copy.compile(keras.optimizers.SGD(1e4), run_eagerly=True)
    copy.fit(1 - x, verbose=0)
    assert copy.prior_layer.adapted
    # A step with a large rate leaves them in [0, 1].
    assert copy.prior_layer.pseudo_inputs.numpy().min() >= 0
    assert copy.prior_layer.pseudo_inputs.numpy().max() <= 1
    fresh = with_prior("vamp")
    with pytest.raises(ValueError, match="read only once"):
        fresh.fit(each for each in [x])
    fresh.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="call adapt"):
        fresh.train_on_batch(x)
    fresh.adapt(x)
    fresh.train_on_batch(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior": "flow"}, "must be a layer"),
        ({"prior": kgm.StandardNormal(4)}, "latents 4, and the model of 3"),
        ({"prior": kgm.MixturePrior(3, dtype="float64")}, "dtype float64"),
        ({"prior": kgm.VampPrior((4, 4, 1))}, "event_shape"),
        ({"free_bits": -1}, "free_bits must be >= 0"),
        ({"free_bits": 1, "num_importance_samples": 2}, "free_bits requires"),
        ({"free_bits": 1, "beta": 0}, "beta above 0"),
        ({"free_bits": 1, "posterior": "full"}, "diagonal posterior"),
        ({"free_bits": 1, "prior": kgm.MixturePrior(3)}, "prior N"),
        ({"prior": kgm.MixturePrior(3, condition_size=2)}, "no condition"),
    ],
)
def test_bad_priors_and_free_bits_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_vae(**settings)


@pytest.mark.parametrize(
    "free_bits", [0.2, pytest.param(5.0, marks=pytest.mark.slow)]
)
def test_free_bits_bound_the_mean_rate_of_each_latent_in_training(free_bits):
    model, x = make_vae(free_bits=free_bits), binary_images(12)
    model.encoder.layers[-1].bias.assign([0, 0.5, 1, 0.5, 0.5, 0.5])
    model.compile("sgd", run_eagerly=True)
    terms = model(x, training=True)
    q = model.encode(x)
    loc, scale = q.mean().numpy(), q.stddev().numpy()
    rates = (loc**2 + scale**2 - 1) / 2 - np.log(scale)
    bounded = np.maximum(free_bits, rates.mean(0))
    assert free_bits > 1 or len({*bounded}) == 3
    loss = model.compute_loss(x, None, terms).numpy()
    expected = terms["distortion"].numpy().mean() + bounded.sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(terms["rate"], rates.sum(1), rtol=1e-4)
    evaluated = model.evaluate(x, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(-evaluated["elbo"])


# --- Exact answers. --------------------------------------------------------


def exact_log_likelihood(x):
    covariance = W @ ROOT @ ROOT.T @ W.T + S**2 * np.eye(5)
    return scipy.stats.multivariate_normal(W @ MEAN + B, covariance).logpdf(x)


def fresh_data(n, seed):
    rng = np.random.default_rng(seed)
    z = MEAN + rng.standard_normal((n, 2)) @ ROOT.T
    return z @ W.T + B + S * rng.standard_normal((n, 5))


def test_a_fixed_mixture_has_the_exact_likelihood(float64):
    model = linear_vae("full", prior=make_prior("mixture", 2))
    prior = model.prior_layer.distribution()
    x = linear_gaussian.data(5)
    means = prior.components_distribution.mean().numpy()
    variances = prior.components_distribution.variance().numpy()
    exact = scipy.special.logsumexp(
        [
            scipy.stats.multivariate_normal(
                W @ mean + B, W @ np.diag(variance) @ W.T + S**2 * np.eye(5)
            ).logpdf(x)
            for mean, variance in zip(means, variances, strict=True)
        ],
        axis=0,
        b=prior.mixture_distribution.probs_parameter().numpy()[:, None],
    )
    linear_gaussian.set_true_posterior(model, widen=2.0)
    noise = np.random.default_rng(0).standard_normal((20000, 5, 2))
    weights = np.exp(model.log_weights(x, noise=noise) - exact)
    error = weights.std(0) / np.sqrt(len(weights))
    np.testing.assert_array_less(np.abs(weights.mean(0) - 1), 3 * error)
    bound = kgm.log_likelihood(
        model, x, num_samples=5000, jit_compile=False
    ).numpy()
    spread = weights.std(0) / np.sqrt(5000)
    np.testing.assert_array_less(np.abs(bound - exact), 3 * spread)
    assert np.mean(model.elbo(x, seed=0) - exact) < 0


def test_all_data_as_pseudo_inputs_are_the_aggregated_posterior(float64):
    x = binary_images(6).astype("f8")
    model = with_prior("vamp")
    model.adapt(x)
    terms = model.elbo_terms(x, seed=0)
    noise = model._row_noise(seeds.row_seeds(0, 6))
    q = model.encode(x)
    z = (q.loc + q.stddev() * noise).numpy()
    densities = scipy.stats.norm.logpdf(z[:, None], q.loc, q.stddev()).sum(-1)
    aggregated = scipy.special.logsumexp(densities, axis=1) - np.log(6)
    information = np.diag(densities) - aggregated
    np.testing.assert_allclose(terms["rate"], information, atol=1e-10)
    assert (information <= np.log(6)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_a_trained_prior_reaches_the_exact_likelihood(float64, kind):
    prior = (
        kgm.RealNVPPrior(2, 4, hidden_sizes=(16,))
        if kind == "flow"
        else kgm.MixturePrior(2, 4)
    )
    model = linear_vae("full", prior=prior)
    model.decoder.trainable = False
    steps = 800
    schedule = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        jit_compile=True,
        steps_per_execution=100,
    )
    x = fresh_data(200 * steps, 1)
    model.fit(x, batch_size=200, verbose=0, shuffle=False)
    test = fresh_data(2000, 2)
    bound = kgm.log_likelihood(model, test, num_samples=200).numpy()
    shortfall = exact_log_likelihood(test) - bound
    error = shortfall.std() / np.sqrt(len(test))
    assert -3 * error < shortfall.mean() < 0.02
    assert model.elbo(test, seed=0).numpy().mean() < bound.mean()
    # Its own prior would be far from that.
    assert (
        exact_log_likelihood(test) - linear_gaussian.log_likelihood(test)
    ).mean() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEARNED)
def test_both_gradients_agree_in_expectation(float64, kind):
    """Of the importance-weighted bound; of a VampPrior the encoder is in p."""
    x = binary_images(3).astype("f8")
    found = [
        gradient_statistics(model, x, 300)
        for model in pair(lambda **kw: with_prior(kind, **kw), count=3)
    ]
    means, errors = zip(*found, strict=True)
    difference = np.abs(means[0] - means[1])
    scale = np.maximum(np.hypot(*errors), 1e-9)
    # The same noise is drawn, so that the bound is a wide one.
    assert (difference < 4.5 * scale).all()
    assert not np.allclose(means[0], means[1], rtol=1e-6)
