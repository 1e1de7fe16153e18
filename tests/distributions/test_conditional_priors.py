"""Priors p(z|c), against autodiff, SciPy and the layer given one condition."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.distributions import gaussian_mixture

SIZE, WIDTH, BATCH = 3, 2, 4
FEATURES = (
    np.random.default_rng(4).standard_normal((BATCH, WIDTH)).astype("float32")
)


def perturbed(layer):
    """Moves all weights, as a new layer ignores the condition."""
    rng = np.random.default_rng(1)
    layer.set_weights(
        [w + 0.4 * rng.standard_normal(w.shape) for w in layer.get_weights()]
    )
    return layer


def flow():
    return kgm.RealNVPPrior(
        SIZE, num_couplings=3, hidden_sizes=(8,), condition_size=WIDTH
    )


def mixture():
    return kgm.MixturePrior(
        SIZE, num_components=4, condition_size=WIDTH, hidden_sizes=(8,)
    )


KINDS = {"flow": flow, "mixture": mixture}


def vectors(*shape):
    rng = np.random.default_rng(3)
    return rng.standard_normal((*shape, SIZE)).astype("float32")


def test_the_log_determinant_of_a_flow_is_that_of_its_jacobian():
    prior = perturbed(flow()).distribution(features=FEATURES)
    z = tf.constant(vectors(BATCH))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        noise, log_det = prior.to_noise(z)
    jacobian = tape.batch_jacobian(noise, z, experimental_use_pfor=False)
    assert np.abs(log_det).min() > 0.01
    np.testing.assert_allclose(
        log_det, np.linalg.slogdet(jacobian.numpy())[1], atol=1e-5
    )
    np.testing.assert_allclose(prior.transform(noise), z, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_has_the_distribution_of_its_condition(kind):
    layer = perturbed(KINDS[kind]())
    prior, z = layer.distribution(features=FEATURES), vectors(2, BATCH)
    found = prior.log_prob(z).numpy()
    assert prior.batch_shape == (BATCH,)
    assert found.shape == (2, BATCH)
    rows = seeds.row_seeds(0, BATCH)
    drawn = layer.draw(rows, features=FEATURES)
    assert drawn.shape == (BATCH, SIZE)
    for i in (0, 3):
        given = FEATURES[i : i + 1]
        alone = layer.distribution(features=given)
        np.testing.assert_allclose(
            alone.log_prob(z[:, i : i + 1])[:, 0], found[:, i], rtol=1e-4
        )
        np.testing.assert_allclose(
            layer.draw(rows[i : i + 1], features=given), drawn[i : i + 1], 1e-4
        )
    # The same z has another density under each condition.
    assert np.ptp(prior.log_prob(z[0, 0])) > 0.01
    assert prior.sample(5, seed=1).shape == (5, BATCH, SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_layer_ignores_the_condition_and_learns_it(kind):
    layer, z = KINDS[kind](), vectors(1)
    with tf.GradientTape() as tape:
        log_prob = layer.distribution(features=FEATURES).log_prob(z)
        loss = tf.reduce_sum(log_prob * [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(log_prob, [log_prob[0]] * BATCH, rtol=1e-6)
    if kind == "flow":
        normal = kgm.StandardNormal(SIZE).distribution()
        np.testing.assert_allclose(log_prob[:1], normal.log_prob(z), rtol=1e-6)
    kernels = [w for w in layer.trainable_weights if w.name == "kernel"]
    assert np.abs(tape.gradient(loss, kernels[-1])).max() > 0


def test_a_mixture_is_that_of_its_network(float64):
    layer = perturbed(mixture())
    z = vectors(BATCH).astype("f8")
    logits, loc, raw, kernel, bias, last = layer.get_weights()
    h = FEATURES @ kernel + bias
    shifts = (h * scipy.special.expit(h)) @ last
    parts = np.split(shifts, [4, 4 + 4 * SIZE], axis=1)
    logits, loc, raw = (
        weight + part.reshape(-1, *weight.shape)
        for weight, part in zip((logits, loc, raw), parts, strict=True)
    )
    scale = 1e-4 + np.log1p(np.exp(raw))
    log_probs = scipy.stats.norm(loc, scale).logpdf(z[:, None]).sum(-1)
    expected = scipy.special.logsumexp(
        log_probs + scipy.special.log_softmax(logits, axis=1), axis=1
    )
    prior = layer.distribution(features=FEATURES)
    np.testing.assert_allclose(prior.log_prob(z), expected)
    np.testing.assert_allclose(
        prior.mean(),
        (scipy.special.softmax(logits, axis=1)[..., None] * loc).sum(1),
    )


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_a_batch_of_mixtures_has_the_log_density_of_tfp(float64, full):
    layer = (
        kgm.MultivariateNormalTriL if full else kgm.MultivariateNormalDiag
    )(SIZE)
    params = np.random.default_rng(2).standard_normal((6, layer.params_size))
    components = gaussian_mixture.take(
        layer(params), tf.constant([[0, 1, 2], [3, 4, 5]])
    )
    prior = gaussian_mixture.uniform_mixture(components)
    z = vectors(5, 2).astype("f8")
    expected = tf.reduce_logsumexp(components.log_prob(z[:, :, None]), -1)
    np.testing.assert_allclose(
        prior.log_prob(z), expected - np.log(3), rtol=1e-10
    )
    uniform = tf.constant([0.1, 0.9], "float64")
    np.testing.assert_allclose(
        prior.select(uniform).log_prob(z),
        layer(params[[0, 5]]).log_prob(z),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_keeps_its_arguments(kind):
    layer = perturbed(KINDS[kind]())
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(
        copy.distribution(features=FEATURES).log_prob(vectors(1)),
        layer.distribution(features=FEATURES).log_prob(vectors(1)),
    )


def test_it_is_float32_under_a_mixed_policy(bfloat16):
    features = tf.cast(FEATURES, "bfloat16")
    prior = mixture().distribution(features=features)
    assert prior.log_prob(vectors(BATCH)).dtype == tf.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flow().distribution(), "condition_size, which is 2"),
        (
            lambda: kgm.MixturePrior(SIZE).distribution(features=FEATURES),
            "condition_size, which is 0",
        ),
        (lambda: kgm.MixturePrior(2, condition_size=-1), "condition_size"),
        (lambda: kgm.RealNVPPrior(2, condition_size=1.5), "condition_size"),
        (lambda: kgm.MixturePrior(2, hidden_sizes=(3,)), "hidden_sizes"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
