"""Conditional VAEs with each kind of prior layer: bounds, files, training."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support.importance_bounds import gradient_statistics, pair
from support.linear_gaussian import (
    A,
    B,
    S,
    W,
    gaussian_params,
    linear_cvae,
)
from support.small_cvaes import (
    NUM_CLASSES,
    OBSERVED,
    SHAPE,
    dicts,
    images,
    labels,
    of_labels,
    of_parts,
)
from support.small_priors import LEARNED, make_prior

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.core.model_config import copy_model
from keras_genmodels.metrics import likelihood

# Of the features of a condition.
WIDTH = 5


def make_conditional(kind):
    return make_prior(kind, 2, SHAPE, condition_size=WIDTH)


def with_prior(kind, label_dropout=0.1, **settings):
    return of_labels(
        prior=make_conditional(kind), label_dropout=label_dropout, **settings
    )


EACH_LEARNED = [
    pytest.param(kind, marks=() if kind == "vamp" else pytest.mark.exhaustive)
    for kind in LEARNED
]


@pytest.mark.parametrize(
    "kind",
    [
        "vamp",
        *(
            pytest.param(kind, marks=pytest.mark.exhaustive)
            for kind in ("standard", "flow", "mixture")
        ),
    ],
)
def test_bounds_and_samples_follow_from_the_distributions(kind):
    model, x, y = with_prior(kind), images(5), np.array([0, 1, 2, 3, 1])
    noise = np.random.default_rng(0).standard_normal((3, 5, 2), np.float32)
    q, prior = model.encode(x, y), model.prior(y)
    z = q.loc + q.stddev() * noise
    ratio = prior.log_prob(z) - q.log_prob(z)
    fit = [model.decode(each, y).log_prob(x) for each in z]
    np.testing.assert_allclose(
        model.log_weights(x, y, noise=noise), fit + ratio, rtol=1e-4
    )
    depends = np.ptp(model.prior(np.arange(4)).log_prob(z[0, :1])) > 1e-3
    assert depends == (kind != "standard")
    assert model.elbo_terms(x, y, seed=1)["rate"].shape == (5,)
    for guidance in (0.0, 1.0):
        drawn = model.sample(condition=y, seed=2, guidance=guidance)
        assert len(np.unique(drawn[:, 0, 0])) == 5
    assert model.sample(3, seed=1).shape == (3, *SHAPE)
    assert np.isfinite(model.monte_carlo(x, y, seed=1)).all()
    assert likelihood.latent_means(model, x, y).shape == (5, 2)


@pytest.mark.parametrize(
    ("posterior", "dropout"),
    [
        ("full", 0.2),
        pytest.param("diagonal", 0.0, marks=pytest.mark.slow),
    ],
)
def test_a_vamp_prior_is_the_mixture_of_posteriors_given_the_label(
    float64, posterior, dropout
):
    """In a batch of many rows, and of fewer rows than labels."""
    model = with_prior("vamp", dropout, posterior=posterior)
    u = model.prior_layer.get_weights()[0]
    given = np.arange(NUM_CLASSES + (dropout > 0)).repeat(2)
    z = np.random.default_rng(0).standard_normal((len(given), 2))
    expected = [
        scipy.special.logsumexp(model.encode(u, [c] * 6).log_prob(each))
        - np.log(6)
        for each, c in zip(z, given, strict=True)
    ]
    np.testing.assert_allclose(model.prior(given).log_prob(z), expected)
    for rows in (slice(2), slice(1, 3)):
        few = model.prior(given[rows]).log_prob(z[rows])
        np.testing.assert_allclose(few, expected[rows])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vamp", marks=pytest.mark.slow),
        pytest.param("flow", marks=pytest.mark.exhaustive),
        pytest.param("mixture", marks=pytest.mark.exhaustive),
    ],
)
def test_samples_of_a_graph_are_those_of_eager_execution(kind):
    """As in an export, of any number of rows."""
    model = with_prior(kind)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def sample(rows, y):
        return model.sample(condition=y, seed=rows)

    for y in (np.array([2, 3]), np.array([0, 1, 2, 3, 0, 1])):
        rows = seeds.row_seeds(1, len(y))
        np.testing.assert_allclose(
            sample(rows, y), model.sample(condition=y, seed=rows), rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_a_prior_of_other_conditions_completes_images(kind):
    model, x = of_parts(prior=make_conditional(kind)), images(4)
    assert model.prior(x).batch_shape == (4,)
    model.compile("sgd", run_eagerly=True)
    model.fit({"image": x, "condition": x}, verbose=0)
    drawn = model.sample(condition=x, seed=1).numpy()
    np.testing.assert_array_equal(drawn[:, OBSERVED], x[:, OBSERVED])


# --- Files and training. ---------------------------------------------------


@pytest.mark.parametrize("kind", EACH_LEARNED)
def test_files_and_copies_keep_the_prior_and_share_the_encoder(kind, tmp_path):
    model, x, y = with_prior(kind), images(4), np.array([0, 1, 2, 3])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    noise = np.zeros((1, 4, 2), np.float32)
    for copy in (loaded, copy_model(model)):
        assert copy.prior_layer.get_config() == model.prior_layer.get_config()
        np.testing.assert_array_equal(
            copy.log_weights(x, y, noise=noise),
            model.log_weights(x, y, noise=noise),
        )
        before = copy.prior(y).log_prob(noise).numpy()
        for weight in copy.encoder.weights:
            weight.assign(weight * 1.5 + 0.1)
        changed = np.abs(copy.prior(y).log_prob(noise) - before).max() > 1e-3
        assert changed == (kind == "vamp")


def test_without_a_prior_layer_it_is_as_before():
    model = of_labels()
    assert isinstance(model.prior_layer, kgm.StandardNormal)
    assert model.prior().batch_shape == ()
    learned = of_labels(learned=True)
    assert learned.prior_layer is None
    assert learned.adapted
    for each in (model, learned):
        config = each.get_config()
        del config["prior"]
        old = kgm.ConditionalVAE.from_config(config)
        old.set_weights(each.get_weights())
        np.testing.assert_array_equal(
            old.sample(condition=labels(3), seed=1),
            each.sample(condition=labels(3), seed=1),
        )


@pytest.mark.parametrize("kind", EACH_LEARNED)
def test_every_weight_of_the_prior_is_trained(kind):
    model = with_prior(kind)
    model.compile("sgd", run_eagerly=True)
    if kind == "vamp":
        assert not model.adapted
        model.adapt(dicts(12))
        assert model.adapted
        u = model.prior_layer.pseudo_inputs.numpy()
        assert all((each == images(12)).all((1, 2, 3)).any() for each in u)
    before = [w.numpy() for w in model.prior_layer.trainable_weights]
    model.fit(dicts(12), epochs=1, verbose=0)
    for old, weight in zip(
        before, model.prior_layer.trainable_weights, strict=True
    ):
        assert np.abs(weight - old).max() > 0, weight.path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior": "flow"}, "must be a layer"),
        ({"prior": kgm.MixturePrior(3)}, "latents 3, and the model of 2"),
        (
            {"prior": kgm.MixturePrior(2, condition_size=4)},
            r"features of shape \(4,\), and the model of \(5,\)",
        ),
        ({"prior": kgm.VampPrior((8, 8, 1))}, "event_shape"),
        ({"prior": kgm.MixturePrior(2), "learned": True}, "prior_network"),
        ({"free_bits": 1, "prior": kgm.MixturePrior(2)}, "prior N"),
        ({"free_bits": 1, "learned": True}, "prior N"),
    ],
)
def test_bad_priors_and_free_bits_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        of_labels(**settings)


def test_a_vamp_prior_of_other_conditions_is_refused():
    with pytest.raises(ValueError, match="VampPrior requires num_classes"):
        of_parts(prior=kgm.VampPrior(SHAPE, 6))


class WithFeatures(kgm.VampPrior):
    """A VampPrior that also takes features of the condition."""

    condition_size = WIDTH

    def distribution(self, encode=None, features=None):
        assert features.shape[1:] == (WIDTH,)
        return super().distribution(encode)


def test_a_prior_may_take_the_encoder_and_the_features_of_the_condition():
    model = of_labels(prior=WithFeatures(SHAPE, 6))
    assert model.prior(labels(3)).batch_shape == (3,)
    assert model.sample(condition=labels(3), seed=1).shape == (3, *SHAPE)


# --- Exact answers. --------------------------------------------------------


@pytest.mark.slow
def test_a_fixed_mixture_has_the_exact_likelihood(float64):
    rng = np.random.default_rng(2)
    c, kernel = rng.standard_normal((5, 2)), rng.random((5, 2))
    z = rng.standard_normal((5, 2))
    offset = c @ kernel.T + B
    x = z @ W.T + offset + S * rng.standard_normal((5, 5))
    layer = make_prior("mixture", 2, condition_size=2)
    model = linear_cvae("full", 2, prior=layer)
    model.decoder.set_weights([np.concatenate([W.T, kernel.T]), B])
    gain = np.linalg.solve(A, W.T)
    model.encoder.set_weights(
        gaussian_params(
            model.posterior,
            np.concatenate([gain.T, -(gain @ kernel).T]),
            -gain @ B,
            4 * S**2 * np.linalg.inv(A),
        )
    )
    prior = model.prior(c)
    parts = prior.components_distribution
    exact = [
        scipy.special.logsumexp(
            [
                scipy.stats.multivariate_normal(
                    W @ mean + center,
                    W @ np.diag(variance) @ W.T + S**2 * np.eye(5),
                ).logpdf(event)
                for mean, variance in zip(means, variances, strict=True)
            ],
            b=probs,
        )
        for event, center, means, variances, probs in zip(
            x,
            offset,
            parts.mean().numpy(),
            parts.variance().numpy(),
            prior.mixture_distribution.probs_parameter().numpy(),
            strict=True,
        )
    ]
    noise = np.random.default_rng(0).standard_normal((20000, 5, 2))
    weights = np.exp(model.log_weights(x, c, noise=noise) - exact)
    error = weights.std(0) / np.sqrt(len(weights))
    np.testing.assert_array_less(np.abs(weights.mean(0) - 1), 3 * error)
    bound = kgm.log_likelihood(
        model, x, c, num_samples=5000, jit_compile=False
    ).numpy()
    spread = weights.std(0) / np.sqrt(5000)
    np.testing.assert_array_less(np.abs(bound - exact), 4 * spread)
    assert np.mean(model.elbo(x, c, seed=0) - exact) < 0


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vamp", marks=pytest.mark.slow),
        pytest.param("flow", marks=pytest.mark.exhaustive),
        pytest.param("mixture", marks=pytest.mark.exhaustive),
    ],
)
def test_both_gradients_agree_in_expectation(float64, kind):
    """Of the importance-weighted bound; of a VampPrior the encoder is in p."""
    found = [
        gradient_statistics(model, dicts(4), 300)
        for model in pair(lambda **kw: with_prior(kind, 0.0, **kw), count=3)
    ]
    means, errors = zip(*found, strict=True)
    difference = np.abs(means[0] - means[1])
    scale = np.maximum(np.hypot(*errors), 1e-9)
    # The same noise is drawn, so that the bound is a wide one.
    assert (difference < 4.5 * scale).all()
    assert not np.allclose(means[0], means[1], rtol=1e-6)
