"""The importance-weighted likelihood: exact answers, contracts, bad input."""

import gc
import weakref

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support.linear_gaussian import (
    conditional_data,
    conditional_log_likelihood,
    data,
    linear_cvae,
    linear_vae,
    log_likelihood,
    set_true_posterior,
)
from support.recording import recorded
from support.small_cvaes import OBSERVED, images, labels, of_labels, of_parts
from support.small_vaes import binary_images, make_vae

import keras_genmodels as kgm
from keras_genmodels.core import counter_rng, seeds
from keras_genmodels.models import likelihood

PARTS = np.array([True, False, False, True, False])


def estimate(model, x, condition=None, *, num_samples, **kwargs):
    """Without XLA, which would take seconds to compile each model."""
    kwargs = {"jit_compile": False, **kwargs}
    result = likelihood.importance_weighted(
        model, x, condition, num_samples=num_samples, **kwargs
    )
    return tuple(part.numpy() for part in result)


# --- Exact answers. --------------------------------------------------------


# A block that is not full, and several; a single draw, and a full block.
@pytest.mark.parametrize(
    "num_samples",
    [7, 250, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 100))],
)
def test_with_the_true_posterior_it_is_exact(float64, num_samples):
    model = set_true_posterior(linear_vae())
    x = data(20)
    value, effective = estimate(model, x, num_samples=num_samples)
    np.testing.assert_allclose(value, log_likelihood(x), rtol=1e-9)
    np.testing.assert_allclose(effective, num_samples, rtol=1e-9)


@pytest.mark.parametrize(
    "num_samples", [pytest.param(500, marks=pytest.mark.slow), 1030]
)
def test_the_mean_weight_is_the_likelihood(float64, num_samples):
    """It has no bias before the logarithm, and q is wide enough."""
    model = linear_vae()
    set_true_posterior(model, widen=1.4)
    x = data(200)
    value, effective = estimate(model, x, num_samples=num_samples, seed=1)
    ratio = np.exp(value - log_likelihood(x))
    # Of weights of variance v about their mean 1, k / (1 + v) are effective.
    error = np.sqrt((num_samples / effective - 1) / num_samples)
    deviation = (ratio - 1) / error
    assert abs(deviation.mean()) < 4 / np.sqrt(len(x))
    assert 0.85 < deviation.std() < 1.15
    assert (effective < 0.9 * num_samples).all()


@pytest.mark.slow
def test_it_rises_with_the_number_of_samples(float64):
    """From the elbo, of which KL(q || true posterior) is the shortfall."""
    wide = 3.0
    model = linear_vae()
    set_true_posterior(model, widen=wide)
    x = data(300)
    shortfalls = [
        log_likelihood(x) - estimate(model, x, num_samples=k)[0]
        for k in (1, 4, 20)
    ]
    averages = np.mean(shortfalls, axis=1)
    assert averages[0] > averages[1] > averages[2] > 0
    divergence = wide**2 - 1 - 2 * np.log(wide)
    error = shortfalls[0].std() / np.sqrt(len(x))
    assert abs(averages[0] - divergence) < 4 * error < 2.5


@pytest.mark.slow
def test_counts_may_be_numpy_integers():
    model, x = make_vae(), binary_images(3)
    found = [
        estimate(model, x, num_samples=count(7), chunk_size=count(5))[0]
        for count in (int, np.int64, np.uint8)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_one_sample_is_an_elbo(float64):
    """In expectation, though its rate is drawn and not in closed form."""
    model, x = make_vae("full"), np.tile(binary_images(1), (3000, 1, 1, 1))
    value, effective = estimate(model, x.astype(float), num_samples=1)
    np.testing.assert_array_equal(effective, 1)
    difference = value - model.elbo(x, seed=3).numpy()
    error = difference.std() / np.sqrt(len(x))
    assert abs(difference.mean()) < 4 * error < 0.5


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(None, id="all", marks=pytest.mark.slow),
        pytest.param(PARTS, id="unobserved"),
    ],
)
def test_conditional_estimates_agree_with_the_exact_likelihood(float64, mask):
    """Where nothing fits, and posteriors and priors bend with c."""
    x, c = conditional_data(10, mask)
    model = linear_cvae("full", c.shape[1], (16,), observed_mask=mask)
    kernel, bias = model.decoder.get_weights()
    model.decoder.set_weights([0.5 * kernel, bias])
    # Wide posteriors, so that no weight outdoes all others.
    *weights, bias = model.encoder.get_weights()
    model.encoder.set_weights([*weights, np.add(bias, [0, 0, 2.3, 0, 2.3])])
    value, effective = estimate(model, x, c, num_samples=5000)
    exact = conditional_log_likelihood(model, x, c)
    error = 1 / np.sqrt(effective)
    np.testing.assert_array_less(np.abs(value - exact), 4 * error)
    assert np.median(error) < 0.06
    assert np.abs(model.elbo(x, c, seed=0) - exact).max() > 1


def test_the_estimate_covers_the_unobserved_pixels_only():
    """The same by NumPy, from the model's distributions."""
    model, x = of_parts(learned=True), images(3)
    c = x * OBSERVED
    rows, numbers = seeds.row_seeds(4, 3), np.arange(5)[:, np.newaxis]
    noise = counter_rng.normals(
        rows, numbers + np.zeros((1, 3), int), 2, tf.float32
    ).numpy()
    q, prior = model.encode(x, c), model.prior(c)
    log_weights = []
    for eps in noise:
        z = q.mean() + tf.linalg.matvec(np.linalg.cholesky(q.covariance()), eps)
        p = model.decode(z, c).mean().numpy().astype(float)
        pixels = np.log(np.where(x == 1, p, 1 - p))[:, ~OBSERVED].sum(1)
        log_weights.append(prior.log_prob(z) - q.log_prob(z) + pixels)
    expected = scipy.special.logsumexp(log_weights, 0) - np.log(5)
    value, _ = estimate(model, x, c, num_samples=5, seed=4)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_the_estimate_does_not_depend_on_chunks_batches_or_order():
    model, x = make_vae("full"), binary_images(9)
    value, effective = estimate(model, x, num_samples=130, seed=5)
    for chunk_size in (33, 1000):
        again = estimate(
            model, x, num_samples=130, seed=5, chunk_size=chunk_size
        )
        np.testing.assert_allclose(again[0], value, rtol=1e-5)
        np.testing.assert_allclose(again[1], effective, rtol=1e-3)
    rows = seeds.row_seeds(5, 9)[::-1]
    for start, stop in ((0, 1), (1, 9)):
        again, _ = estimate(
            model,
            x[::-1][start:stop],
            num_samples=130,
            seed=rows[start:stop],
        )
        np.testing.assert_allclose(again, value[::-1][start:stop], rtol=1e-5)
    other, _ = estimate(model, x, num_samples=130, seed=6)
    assert np.abs(other - value).min() > 1e-4


@pytest.mark.parametrize(
    ("num_samples", "chunk_size"),
    [
        (7, 3),
        *(
            pytest.param(*sizes, marks=pytest.mark.slow)
            for sizes in [(1, 1), (130, 33), (250, 1000), (500, 64)]
        ),
    ],
)
def test_at_most_chunk_size_draws_are_decoded_at_once(num_samples, chunk_size):
    plain, x = make_vae(), binary_images(5)
    decoder, layer = recorded(plain.decoder)
    model = kgm.VAE(plain.encoder, decoder, plain.posterior, plain.likelihood)
    settings = {"num_samples": num_samples, "seed": 5}
    expected, _ = estimate(plain, x, **settings)
    layer.sizes.clear()
    value, _ = estimate(model, x, chunk_size=chunk_size, **settings)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert sum(layer.sizes) >= 5 * num_samples
    # And not far fewer, which would be slow.
    assert max(layer.sizes) <= chunk_size < 2 * max(layer.sizes)


# One block of draws; two, the second of which is not full.
@pytest.mark.parametrize(
    ("num_samples", "condition"),
    [
        (7, labels(5)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(7, None), (101, labels(5)), (101, None)]
        ),
    ],
)
def test_with_xla_and_without_it_is_the_same(num_samples, condition):
    model, x = of_labels(label_dropout=0.1), images(5)
    plain, compiled = (
        estimate(
            model,
            x,
            condition,
            num_samples=num_samples,
            jit_compile=jit_compile,
        )
        for jit_compile in (False, True)
    )
    np.testing.assert_allclose(plain[0], compiled[0], rtol=1e-5)
    np.testing.assert_allclose(plain[1], compiled[1], rtol=1e-3)


@pytest.mark.slow
def test_the_estimate_depends_on_the_label():
    model, x = of_labels(label_dropout=0.1), images(5)
    with_label, without = (
        estimate(model, x, condition, num_samples=7)[0]
        for condition in (labels(5), None)
    )
    assert np.abs(with_label - without).min() > 1e-3


# --- Contracts. ------------------------------------------------------------


def test_effective_samples_are_between_one_and_all():
    model, x = make_vae(), binary_images(20)
    model.encoder.set_weights([20 * w for w in model.encoder.get_weights()])
    value, effective = estimate(model, x, num_samples=64)
    assert effective.min() >= 1
    assert effective.max() <= 64
    # This encoder is so far off that one or two draws dominate.
    assert np.median(effective) < 5
    assert np.isfinite(value).all()


@pytest.mark.parametrize(
    "kind", ["bernoulli", pytest.param("gaussian", marks=pytest.mark.slow)]
)
def test_bfloat16_networks_keep_a_float32_estimate(bfloat16, kind):
    model = make_vae("full", kind)
    x = binary_images()
    value, effective = estimate(model, x, num_samples=200)
    assert value.dtype == effective.dtype == np.float32
    keras.config.set_dtype_policy("float32")
    exact = make_vae("full", kind)
    exact.set_weights(model.get_weights())
    # bfloat16 has 8 bits of mantissa: half a percent of some 50 nats.
    expected, _ = estimate(exact, x, num_samples=200)
    np.testing.assert_allclose(value, expected, rtol=1e-2)


@pytest.mark.slow
def test_float64_policy_gives_float64(float64):
    model, c = of_labels(learned=True), labels()
    for part in estimate(model, images(), c, num_samples=2):
        assert part.dtype == np.float64


class Counting(keras.layers.Layer):
    """Counts how often it is traced."""

    traces = 0

    def call(self, x):
        self.traces += 1
        return x


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param("auto", marks=pytest.mark.slow)]
)
def test_the_loop_is_compiled_once_and_freed_with_the_model(jit_compile):
    counter = Counting()
    model = kgm.VAE(
        kgm.mlp_encoder((8, 8, 1), 6, (16,)),
        keras.Sequential(
            [keras.Input((3,)), counter, kgm.mlp_decoder(3, (8, 8, 1), (16,))]
        ),
        kgm.MultivariateNormalDiag(3),
        kgm.IndependentBernoulli((8, 8, 1)),
    )
    counter.traces = 0
    for n, num_samples in ((3, 200), (5, 300), (1, 5000), (3, 100)):
        x = binary_images(n)
        settings = {"num_samples": num_samples, "seed": n}
        estimate(model, x, **settings, jit_compile=jit_compile)
    assert counter.traces == 1
    settings = {"num_samples": 100, "chunk_size": 500}
    estimate(model, x, **settings, jit_compile=jit_compile)
    assert counter.traces == 2
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.slow
def test_it_works_within_a_graph():
    model, x = make_vae(), binary_images(3)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1])])
    def within(x):
        return kgm.log_likelihood(model, x, num_samples=50, jit_compile=False)

    value, _ = estimate(model, x, num_samples=50)
    for n in (0, 1, 3):
        np.testing.assert_allclose(within(x[:n]), value[:n], rtol=1e-6)


def test_log_likelihood_is_the_first_part_of_importance_weighted():
    model, x = make_vae(), binary_images(3)
    settings = {"num_samples": 9, "seed": 3, "jit_compile": False}
    np.testing.assert_array_equal(
        kgm.log_likelihood(model, x, **settings),
        likelihood.importance_weighted(model, x, **settings).log_likelihood,
    )


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_samples": 0}, "num_samples must be an int >= 1, got 0"),
        ({"num_samples": 10.0}, "num_samples must be an int >= 1, got 10.0"),
        ({"chunk_size": 0}, "chunk_size must be an int >= 1, got 0"),
        ({"seed": -1}, "seed must be in"),
        ({"seed": seeds.row_seeds(0, 3)}, "got 3 row seeds for 2 rows"),
        ({"x": binary_images(2)[..., 0]}, r"x must have shape \[batch, 8, 8"),
        ({"x": binary_images(2).astype(int)}, "x must be of floating type"),
        ({"condition": [0, 1]}, "a VAE takes no condition"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    arguments = {"x": binary_images(2), "num_samples": 2, **kwargs}
    with pytest.raises(ValueError, match=message) as refusal:
        likelihood.importance_weighted(make_vae(), **arguments)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (None, "needs a condition"),
        ([0, 7], "labels must be 0 to 2, got 7"),
        ([0, 1, 2], "got 3 conditions for 2 rows"),
    ],
)
def test_bad_conditions_are_refused(condition, message):
    with pytest.raises(ValueError, match=message) as refusal:
        kgm.log_likelihood(of_labels(), images(2), condition, num_samples=2)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_values_off_the_support_are_refused(jit_compile):
    """XLA drops the check, which is made up for."""
    x = binary_images(3)
    x[1, 0] = 0.5
    with pytest.raises(tf.errors.InvalidArgumentError, match="binarise them"):
        estimate(make_vae(), x, num_samples=2, jit_compile=jit_compile)
