"""The layers that hold a prior p(z), against autodiff, TFP and SciPy."""

import functools
import json

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.distributions import gaussian_mixture

tfd = tfp.distributions
SIZE = 5


def perturbed(layer, stddev=0.3):
    """Moves all weights, as a flow starts as the identity."""
    rng = np.random.default_rng(1)
    layer.set_weights(
        [w + stddev * rng.standard_normal(w.shape) for w in layer.get_weights()]
    )
    return layer


def flow(**settings):
    return perturbed(
        kgm.RealNVPPrior(SIZE, num_couplings=5, hidden_sizes=(16,), **settings)
    )


def mixture(**settings):
    return perturbed(kgm.MixturePrior(SIZE, num_components=4, **settings))


def vamp(**settings):
    return kgm.VampPrior((3,), num_pseudo_inputs=4, **settings)


def encode(x, full=False):
    """A posterior of latents of the size of the others."""
    params = np.random.default_rng(2).standard_normal((3, 2 * SIZE))
    layer = kgm.MultivariateNormalDiag(SIZE)
    if full:
        layer = kgm.MultivariateNormalTriL(SIZE)
        params = np.random.default_rng(2).standard_normal(
            (3, layer.params_size)
        )
    return layer(tf.matmul(x, tf.cast(params, x.dtype)))


KINDS = {
    "standard": lambda: kgm.StandardNormal(SIZE),
    "flow": flow,
    "mixture": mixture,
    "vamp": vamp,
}


def vectors(shape, dtype="float32"):
    return (
        np.random.default_rng(3).standard_normal((*shape, SIZE)).astype(dtype)
    )


def test_the_log_determinant_of_a_flow_is_that_of_its_jacobian():
    prior = flow().distribution()
    z = tf.constant(vectors((4,)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        noise, log_det = prior.to_noise(z)
    jacobian = tape.batch_jacobian(
        noise, z, experimental_use_pfor=False
    ).numpy()
    # Each entry is coupled with every other one.
    assert np.abs(jacobian).min() > 0
    assert np.abs(log_det).min() > 0.1
    np.testing.assert_allclose(
        log_det, np.linalg.slogdet(jacobian)[1], atol=1e-5
    )
    np.testing.assert_allclose(prior.transform(noise), z, atol=1e-5)


def test_a_new_flow_is_a_standard_normal():
    z = vectors((4,))
    found = kgm.RealNVPPrior(SIZE).distribution().log_prob(z)
    expected = kgm.StandardNormal(SIZE).distribution().log_prob(z)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_takes_any_leading_dimensions(kind):
    prior = KINDS[kind]().distribution(encode)
    z = vectors((2, 3))
    found = prior.log_prob(z).numpy()
    assert found.shape == (2, 3)
    np.testing.assert_allclose(prior.log_prob(z[1]), found[1], rtol=1e-5)
    np.testing.assert_allclose(prior.log_prob(z[1, 2]), found[1, 2], rtol=1e-5)
    assert prior.event_shape == (SIZE,)
    assert prior.batch_shape == ()
    assert prior.sample(7, seed=1).shape == (7, SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_depends_on_the_seed_of_its_row_alone(kind):
    layer = KINDS[kind]()
    rows = seeds.row_seeds(0, 6)
    found = layer.draw(rows, encode).numpy()
    assert len(np.unique(found)) == found.size
    np.testing.assert_allclose(
        layer.draw(rows[2:4], encode), found[2:4], rtol=1e-4
    )


@pytest.mark.parametrize("by", ["rows", "distribution"])
@pytest.mark.parametrize("kind", ["mixture", "vamp"])
def test_draws_of_a_mixture_have_its_moments(kind, by):
    layer, num = KINDS[kind](), 4000
    prior = layer.distribution(encode)
    drawn = (
        layer.draw(seeds.row_seeds(0, num), encode)
        if by == "rows"
        else prior.sample((num // 2, 2), seed=(0, 0))
    )
    drawn = drawn.numpy().reshape(num, SIZE)
    variance = prior.variance().numpy()
    z = (drawn - prior.mean().numpy()) / np.sqrt(variance)
    assert np.abs(z.mean(0)).max() < 4 / np.sqrt(num)
    error = (z**2).std(0) / np.sqrt(num)
    np.testing.assert_array_less(np.abs((z**2).mean(0) - 1), 4 * error)


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
def test_matrix_products_give_the_log_density_of_tfp(float64, full):
    x = np.random.default_rng(0).random((6, 3))
    components = encode(tf.constant(x), full)
    found = gaussian_mixture.log_prob_of_each(components)(vectors((4,), "f8"))
    expected = components.log_prob(vectors((4, 1), "f8"))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@functools.cache
def log_prob_and_gradient(full, jit_compile):
    """Returns a function that all scales share, as compiling takes seconds."""

    @tf.function(jit_compile=jit_compile)
    def run(loc, stddev, z):
        components = (
            tfd.MultivariateNormalTriL(loc, tf.linalg.diag(stddev))
            if full
            else tfd.MultivariateNormalDiag(loc, stddev)
        )
        with tf.GradientTape() as tape:
            tape.watch(loc)
            found = gaussian_mixture.uniform_mixture(components).log_prob(z)
        return found, tape.gradient(found, loc)

    return run


@pytest.mark.parametrize("scale", [0.2, 0.02, 0.005])
@pytest.mark.parametrize(
    ("full", "jit_compile"),
    [
        pytest.param(False, False, id="diagonal"),
        pytest.param(True, False, id="full"),
        pytest.param(True, True, id="full-xla", marks=pytest.mark.slow),
        pytest.param(False, True, id="diagonal-xla", marks=pytest.mark.slow),
    ],
)
def test_narrow_components_are_exact_in_float32(scale, full, jit_compile):
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(50, 20)).astype(np.float32)
    stddev = scale * np.exp(rng.normal(size=loc.shape) / 3).astype(np.float32)
    z = (loc[:30] + scale * rng.normal(size=(30, 20))).astype(np.float32)
    log_prob = log_prob_and_gradient(full, jit_compile)
    found, gradient = log_prob(*map(tf.constant, (loc, stddev, z)))
    each = scipy.stats.norm(loc.astype("f8"), stddev.astype("f8")).logpdf(
        z[:, np.newaxis].astype("f8")
    )
    expected = scipy.special.logsumexp(each.sum(-1), axis=1) - np.log(50)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("narrow", [1e-2, 1e-3])
def test_turned_narrow_components_are_exact_in_float32(narrow):
    """The terms of a square cancel, though centres lie within the scales."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(20, 10, 10)))[0]
    scales = np.repeat([1, narrow], 5)
    covariance = (axes * scales**2) @ axes.swapaxes(1, 2)
    root = np.linalg.cholesky(covariance).astype(np.float32)
    loc, z = (
        np.einsum("kij,kj->ki", root, rng.normal(size=(20, 10))).astype("f4")
        for _ in range(2)
    )
    components = tfd.MultivariateNormalTriL(loc, root)
    found = gaussian_mixture.uniform_mixture(components).log_prob(z)
    each = tfd.MultivariateNormalTriL(loc.astype("f8"), root.astype("f8"))
    expected = scipy.special.logsumexp(
        each.log_prob(z[:, np.newaxis].astype("f8")), axis=1
    ) - np.log(20)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-3)


def test_a_mixture_is_that_of_its_weights(float64):
    layer = mixture()
    z = vectors((3,), "f8")
    logits, loc, raw = layer.get_weights()
    scale = 1e-4 + np.log1p(np.exp(raw))
    log_probs = scipy.stats.norm(loc, scale).logpdf(z[:, None]).sum(-1)
    expected = scipy.special.logsumexp(
        log_probs + scipy.special.log_softmax(logits), axis=1
    )
    np.testing.assert_allclose(layer.distribution().log_prob(z), expected)


def test_a_vamp_prior_is_the_mixture_of_its_posteriors(float64):
    layer = vamp()
    # Beyond the range, to which the posteriors' events are clipped.
    layer.pseudo_inputs.assign(3 * layer.pseudo_inputs - 1)
    components = encode(np.clip(layer.get_weights()[0], 0, 1))
    z = vectors((3,), "f8")
    expected = scipy.special.logsumexp(
        components.log_prob(z[:, None]), axis=1
    ) - np.log(4)
    np.testing.assert_allclose(layer.distribution(encode).log_prob(z), expected)


def test_pseudo_inputs_are_different_events_of_the_data():
    layer = vamp()
    data = np.random.default_rng(0).random((9, 3), np.float32)
    assert not layer.adapted
    layer.adapt(tf.data.Dataset.from_tensor_slices(data).batch(4), seed=1)
    assert layer.adapted
    found = layer.get_weights()[0]
    same = (found[:, None] == data).all(-1)
    assert (same.sum(1) == 1).all()
    assert (same.sum(0) <= 1).all()
    with pytest.raises(ValueError, match="num_pseudo_inputs must be at most"):
        layer.adapt(data[:3])
    with pytest.raises(ValueError, match="shape"):
        layer.adapt(np.zeros((9, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_keeps_its_arguments_and_its_dtype(kind):
    make = KINDS[kind]
    layer = make()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]
    copy.set_weights(layer.get_weights())
    z = vectors((3,))
    np.testing.assert_array_equal(
        copy.distribution(encode).log_prob(z),
        layer.distribution(encode).log_prob(z),
    )
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_is_float32_under_a_mixed_policy(kind, bfloat16):
    layer = KINDS[kind]()
    prior = layer.distribution(lambda x: encode(tf.cast(x, "float32")))
    assert prior.dtype == tf.float32
    assert {w.dtype for w in layer.weights} <= {"float32"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kgm.StandardNormal(0), "latent_size must be an int >= 1"),
        (lambda: kgm.RealNVPPrior(1), "latent_size of 2 or more, got 1"),
        (lambda: kgm.RealNVPPrior(2, num_couplings=0), "num_couplings"),
        (lambda: kgm.MixturePrior(2, num_components=0), "num_components"),
        (lambda: kgm.VampPrior((2,), num_pseudo_inputs=0), "num_pseudo_inputs"),
        (lambda: kgm.VampPrior((2,), value_range=(1, 0)), "value_range"),
        (lambda: vamp().distribution(), "needs the encoder"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
