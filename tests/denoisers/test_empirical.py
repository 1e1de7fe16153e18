"""The exact denoiser against the formula, written out densely in float64."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_genmodels import UserError
from keras_genmodels.denoisers import (
    EmpiricalDenoiser,
    LinearDenoiser,
    _weighted_sums,
    empirical,
)

LEVELS = [1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 1e4]


@pytest.fixture
def traced_anew():
    """For tests that change what was compiled for other sets of a shape."""
    empirical._compiled.cache_clear()
    yield
    empirical._compiled.cache_clear()


@pytest.fixture
def small_blocks(monkeypatch, traced_anew):
    """Blocks of many groups, and a last one of groups that are not full."""
    monkeypatch.setattr(_weighted_sums, "_BLOCK", 512)


@pytest.fixture(scope="module")
def digits():
    """Images as bytes, `[1797, 8, 8, 1]`."""
    images = load_digits().images[..., None] * 255 / 16
    return np.rint(images).astype(np.uint8)


def adapted(data):
    denoiser = EmpiricalDenoiser()
    denoiser.adapt(data)
    return denoiser


def flat(x):
    return np.reshape(x, (len(x), -1)).astype(np.float64)


def dense(data, x, sigma):
    """P(x_i|x) `[batch, N]` and D(x) `[batch, M]` by direct differences."""
    data = flat(data) / (255 if data.dtype == np.uint8 else 1)
    squares = np.square(flat(x)[:, None] - data).sum(-1)
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), len(x))
    logits = -squares / (2 * sigma[:, None] ** 2)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return weights, weights @ data


def noisy_like(data, sigma, n=6, dtype="float32"):
    """Events outside of the data, with noise: far from every x_i."""
    rng = np.random.default_rng(0)
    clean = data[-n:] / (255 if data.dtype == np.uint8 else 1)
    return (clean + sigma * rng.standard_normal(clean.shape)).astype(dtype)


# Of D float32 may lose 0.003 of how far the events are from it, at worst, and
# in effect far less.
TOLERANCE = 1e-4


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_float32_is_right_at_every_sigma(digits, small_blocks, kind):
    data = digits if kind == "uint8" else (digits / 255).astype("float32")
    known = data[:1500]
    denoiser = adapted(known)
    posterior = tf.function(lambda x, sigma: denoiser.posterior(x, sigma, 5))
    for sigma in LEVELS:
        x = noisy_like(data, sigma)
        sigmas = np.full(len(x), sigma, np.float32)
        weights, expected = dense(known, x, sigmas)
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, sigmas)),
            expected,
            atol=TOLERANCE,
            err_msg=f"sigma {sigma}",
        )
        probabilities, indices = posterior(x, sigmas)
        order = np.argsort(-weights, axis=1, kind="stable")[:, :5]
        best = np.take_along_axis(weights, order, 1)
        np.testing.assert_allclose(probabilities, best, rtol=3e-3, atol=1e-30)
        found = np.take_along_axis(weights, indices.numpy(), 1)
        np.testing.assert_allclose(found, best, rtol=3e-3)


def test_float64_is_right_to_the_last_digits(float64, digits, small_blocks):
    known = digits[:1500]
    denoiser = adapted(known)
    posterior = tf.function(lambda x, sigma: denoiser.posterior(x, sigma, 3))
    for sigma in LEVELS:
        x = noisy_like(digits, sigma, dtype="float64")
        sigmas = np.full(len(x), sigma)
        weights, expected = dense(known, x, sigmas)
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, sigmas)), expected, rtol=1e-6, atol=1e-9
        )
        np.testing.assert_allclose(
            posterior(x, sigmas).probabilities,
            -np.sort(-weights)[:, :3],
            rtol=1e-5,
            atol=1e-300,
        )


def crowd(size):
    """Neighbours by the hundred within each of the sigmas below."""
    rng = np.random.default_rng(0)
    return rng.random((20000, size)).astype("float32") + 3


@pytest.mark.parametrize("size", [1, 2])
def test_crowds_within_a_small_sigma(size):
    """Hundreds of neighbours share the probability: few don't suffice."""
    data = crowd(size)
    denoiser = adapted(data)
    for sigma in np.float32([1e-4, 1e-3, 0.01, 0.1]):
        x = noisy_like(data, sigma, 4)
        _, expected = dense(data, x, sigma)
        # In units of sigma, which is how far the neighbours are apart.
        np.testing.assert_allclose(
            (flat(denoiser.denoise(x, sigma)) - expected) / sigma,
            np.zeros_like(x),
            atol=3e-3 + 2.0**-22 / sigma,
            err_msg=f"sigma {sigma}",
        )


def spoilt_weights(events, x, sigma):
    """Stands for `_exact_weights`, to tell which rows it was asked for."""
    weights = exact_weights(events, x, sigma)
    return weights._replace(mean=weights.mean * np.nan)


exact_weights = empirical._exact_weights


def test_all_is_done_in_float64_only_for_crowds(
    digits, small_blocks, monkeypatch
):
    """Which takes three times as long: among images few share all."""
    monkeypatch.setattr(empirical, "_exact_weights", spoilt_weights)
    denoiser = adapted(digits[:1500])
    for sigma in LEVELS:
        x = noisy_like(digits, sigma)
        _, expected = dense(digits[:1500], x, np.float32(sigma))
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, sigma)), expected, atol=TOLERANCE
        )
    data = crowd(1)
    assert np.isnan(adapted(data).denoise(data[:4], 0.001)).all()


def test_only_the_rows_that_need_float64_get_it(monkeypatch, traced_anew):
    """So that no row depends on what else is in the batch."""
    query = _weighted_sums.EventSet.query

    def spoilt(self, x, sigma, dtype):
        events, precision = query(self, x, sigma, dtype)
        if dtype == tf.float64:
            precision *= np.nan
        return _weighted_sums.Query(events, precision)

    data = crowd(1)
    denoiser = adapted(data)
    sigma = np.float32([1.0, 0.001, 1.0])
    expected = denoiser.posterior(data[:3], sigma, 2).probabilities.numpy()
    monkeypatch.setattr(_weighted_sums.EventSet, "query", spoilt)
    found = denoiser.posterior(data[:3], sigma, 2).probabilities.numpy()
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[::2], expected[::2])

    monkeypatch.undo()
    expected = derivative(denoiser.denoise, data[:3], sigma, data[:3] - 3)
    empirical._compiled.cache_clear()
    monkeypatch.setattr(empirical, "_exact_weights", spoilt_weights)
    found = derivative(denoiser.denoise, data[:3], sigma, data[:3] - 3)
    for part, unspoilt in zip(found, expected, strict=True):
        assert np.isnan(part.numpy()[1]).all()
        np.testing.assert_allclose(part[::2], unspoilt[::2], rtol=1e-6)


@pytest.mark.parametrize("rows", [15, 320, 333])
def test_the_best_of_groups_are_the_best_of_all(rows):
    # So few values that many are equal: the upper ones come first.
    values = np.random.default_rng(0).integers(0, 9, (rows, 5))
    order = np.argsort(-values, axis=0, kind="stable")
    for k in (1, 3, 15):
        best, indices = _weighted_sums._top_k(
            tf.constant(values, tf.float32), k
        )
        np.testing.assert_array_equal(indices, order[:k].T)
        np.testing.assert_array_equal(
            best, np.take_along_axis(values, order[:k], 0).T
        )


def derivative(denoise, x, sigma, vectors):
    """Gives D, J' v and v' dD/dsigma, as reverse mode does."""
    x, sigma, vectors = map(tf.convert_to_tensor, (x, sigma, vectors))
    with tf.GradientTape() as tape:
        tape.watch([x, sigma])
        denoised = denoise(x, sigma)
    return denoised, *tape.gradient(denoised, [x, sigma], vectors)


def dense_derivative(data, x, sigma):
    """J `[batch, M, M]` and dD/dsigma `[batch, M]` by direct differences."""
    weights, mean = dense(data, x, sigma)
    data = flat(data) / (255 if data.dtype == np.uint8 else 1)
    squares = np.square(flat(x)[:, None] - data).sum(-1)
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), len(x))[:, None]
    away = data - mean[:, None]
    weighted = weights[..., None] * away
    jacobian = np.swapaxes(weighted, 1, 2) @ away / sigma[..., None] ** 2
    # Their mean taken off: at large sigma it is nearly all there is of them.
    squares -= (weights * squares).sum(1, keepdims=True)
    slope = (weighted * squares[..., None]).sum(1) / sigma**3
    return jacobian, slope


def assert_derivative(denoise, data, x, sigma, rtol, atol):
    """Compares them, J v in units of (rtol |J| + atol) |v|."""
    vectors = np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
    _, products, slopes = derivative(denoise, x, sigma, vectors)
    assert products.dtype == slopes.dtype == x.dtype
    jacobian, slope = dense_derivative(data, x, sigma)
    vectors = flat(vectors)
    scale = rtol * np.linalg.norm(jacobian, 2, axis=(1, 2)) + atol
    expected = np.einsum("bij,bj->bi", jacobian, vectors)
    error = np.linalg.norm(flat(products) - expected, axis=1)
    assert (error <= scale * np.linalg.norm(vectors, axis=1)).all()
    length = np.linalg.norm(slope, axis=1) * np.linalg.norm(vectors, axis=1)
    error = np.abs(slopes - (slope * vectors).sum(1))
    assert (error <= rtol * length + atol / sigma).all()


def midpoints(data, n):
    """Events half way from some of the data to others: ties."""
    values = data[: 2 * n] / (255 if data.dtype == np.uint8 else 1)
    return ((values[:n] + values[n:]) / 2).astype("float32")


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_the_derivative_is_a_covariance(digits, small_blocks, kind):
    """At every sigma, all in one batch, far from the data and at ties."""
    data = digits if kind == "uint8" else (digits / 255).astype("float32")
    denoiser, n = adapted(data[:1500]), len(LEVELS)
    sigma = np.float32(LEVELS)
    noisy = noisy_like(data, sigma[:, None, None, None], n)
    for x in (noisy, midpoints(data, n)):
        assert_derivative(
            denoiser.denoise, data[:1500], x, sigma, TOLERANCE, TOLERANCE
        )


def test_the_derivative_in_float64(float64, digits, small_blocks):
    sigma = np.array(LEVELS)
    x = noisy_like(digits, sigma[:, None, None, None], len(sigma), "float64")
    denoise = adapted(digits[:1500]).denoise
    assert_derivative(denoise, digits[:1500], x, sigma, 1e-6, 1e-9)


@pytest.mark.parametrize("size", [1, 2])
def test_the_derivative_within_a_crowd(size):
    data = crowd(size)
    sigma = np.float32([1e-3, 0.01, 0.1, 1.0])
    x = noisy_like(data, sigma[:, None], 4)
    # Of x 2^-22 is rounded off, and D and J change over a way of sigma.
    denoise = adapted(data).denoise
    assert_derivative(denoise, data, x, sigma, 3e-3, 1e-3)


def test_the_derivative_between_duplicates():
    """More than are weighed one by one, at a sigma where float32 fails."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.random((1, 50))] * 30 + [rng.random((9, 50))])
    data = data.astype("float32")
    x = np.stack([(data[0] + data[35]) / 2, data[0], data[35]])
    sigma = np.float32([0.002, 0.5, 2.0])
    assert_derivative(adapted(data).denoise, data, x, sigma, 1e-5, 1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_gradient_of_a_loss_in_a_graph(digits, small_blocks, jit_compile):
    """By x and by a sigma that all share, of what is not linear in D."""
    denoiser, data = adapted(digits[:600]), digits[:600]

    @tf.function(jit_compile=jit_compile, autograph=False)
    def gradient(x, sigma):
        with tf.GradientTape() as tape:
            tape.watch([x, sigma])
            loss = tf.reduce_sum(tf.sin(3 * denoiser.denoise(x, sigma)))
        return tape.gradient(loss, [x, sigma])

    x, sigma = noisy_like(digits, 0.3, 3), np.float32(0.3)
    by_x, by_sigma = gradient(tf.constant(x), tf.constant(sigma))
    upstream = 3 * np.cos(3 * dense(data, x, sigma)[1])
    jacobian, slope = dense_derivative(data, x, sigma)
    expected = np.einsum("bij,bi->bj", jacobian, upstream)
    np.testing.assert_allclose(flat(by_x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_sigma, (slope * upstream).sum(), rtol=1e-3)


def test_the_derivative_keeps_nothing_of_a_block(small_blocks, digits):
    """A loop that is differentiated lists what each of its turns computed."""
    denoiser = adapted(digits[:1500])
    step = tf.function(
        lambda x, sigma: derivative(denoiser.denoise, x, sigma, x),
        input_signature=[tf.TensorSpec([4, 8, 8, 1]), tf.TensorSpec([4])],
        autograph=False,
    )
    # With all the functions that it calls.
    graph = str(step.get_concrete_function().graph.as_graph_def())
    kinds = set(re.findall(r'\bop: "(\w+)"', graph))
    assert any("While" in kind for kind in kinds)
    assert not [kind for kind in kinds if kind.startswith("TensorList")]


def test_what_is_compiled_keeps_no_data(digits):
    """TensorFlow never frees a graph that has a gradient of our own."""
    denoiser = adapted(digits[:40])
    denoiser.denoise(digits[:2] / np.float32(255), 0.3)
    events = denoiser._event_set()
    specs = [tf.TensorSpec(part.shape, part.dtype) for part in events]
    run = empirical._compiled(*specs, tf.float32)
    assert run.experimental_get_tracing_count() == 1
    assert not run.get_concrete_function().captured_inputs


def test_the_second_derivative(float64):
    """Of an x between two points: D(y) = a tanh(a'y / sigma^2)."""
    a = np.array([0.3, -0.2, 0.5])
    denoiser = adapted(np.stack([-a, a]))
    y, sigma = tf.constant([[0.4, 0.1, 0.2]], tf.float64), 0.6
    with tf.GradientTape() as outer:
        outer.watch(y)
        with tf.GradientTape() as inner:
            inner.watch(y)
            total = tf.reduce_sum(denoiser.denoise(y, np.float64(sigma)))
        gradient = tf.reduce_sum(inner.gradient(total, y))
    t = np.tanh(y.numpy() @ a / sigma**2)[:, None]
    np.testing.assert_allclose(
        outer.gradient(gradient, y),
        -2 * t * (1 - t**2) * a * (a.sum() / sigma**2) ** 2,
        rtol=1e-9,
    )


def test_the_limits_are_the_nearest_and_the_mean(digits):
    denoiser = adapted(digits)
    near = (digits[:9] / 255 + 0.01).astype("float32")
    np.testing.assert_allclose(
        denoiser.denoise(near, 1e-4), digits[:9] / 255, atol=1e-7
    )
    np.testing.assert_allclose(
        denoiser.denoise(near, 1e4),
        np.broadcast_to(denoiser.data_mean, near.shape),
        atol=1e-6,
    )


def test_two_points_give_a_tanh(float64):
    """D(y) = a tanh(a'y / sigma^2) for the data -a, +a."""
    a = np.array([0.3, -0.2, 0.5])
    denoiser = adapted(np.stack([-a, a]))
    y = np.random.default_rng(0).normal(size=(4, 3))
    for sigma in np.array([0.1, 0.7, 5.0]):
        np.testing.assert_allclose(
            denoiser.denoise(y, sigma),
            a * np.tanh(y @ a / sigma**2)[:, None],
            rtol=1e-10,
        )


def test_score_is_the_gradient_of_the_log_density(float64):
    rng = np.random.default_rng(0)
    data, y = rng.random((20, 3)), tf.constant(rng.random((4, 3)))
    sigma = np.float64(0.3)
    with tf.GradientTape() as tape:
        tape.watch(y)
        squares = tf.reduce_sum((y[:, None] - data) ** 2, axis=-1)
        log_density = tf.reduce_logsumexp(-squares / (2 * sigma**2), axis=1)
    gradient = tape.gradient(log_density, y)
    np.testing.assert_allclose(
        adapted(data).score(y, sigma), gradient, rtol=1e-9
    )


def test_ties_share_and_duplicates_count_twice():
    # Binary fractions: float32 is exact, so equal distances come out equal.
    data = np.array([[1, 0], [-1, 0], [0, 4], [0, 4]], np.float32) / 4
    denoiser = adapted(data)
    # At equal distance from one event and from one that is there twice.
    data = np.array([[1, 0], [-1, 0], [-1, 0], [1, 4]], np.float32) / 4
    twice = adapted(data)
    for sigma in (1e-4, 0.01, 1.0, 100.0):
        x = np.array([[0, -0.25]], np.float32)
        probabilities, indices = denoiser.posterior(x, sigma, 2)
        assert probabilities[0, 0] == probabilities[0, 1]
        if sigma < 100:
            assert indices.numpy().tolist() == [[0, 1]]
        assert denoiser.denoise(x, sigma)[0, 0] == 0
        x = np.zeros((1, 2), np.float32)
        _, expected = dense(data, x, sigma)
        np.testing.assert_allclose(
            twice.denoise(x, sigma), expected, rtol=1e-5, atol=1e-9
        )


def test_a_whole_crowd_of_duplicates_counts():
    """More than are weighed one by one, at a sigma where float32 fails."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.random((1, 50))] * 30 + [rng.random((9, 50))])
    data[0], data = data[35], data.astype("float32")
    # As far from events 1 to 29 as from 0 and 35, but for rounding.
    x = ((data[0] + data[1]) / 2)[None]
    sigma = np.float32(0.002)
    _, expected = dense(data, x, sigma)
    np.testing.assert_allclose(
        adapted(data).denoise(x, sigma), expected, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_half_way_between_two_images(kind):
    """float32 would be wrong by about a nat, and so by half a pixel."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (300, 28, 28, 1), np.uint8)
    if kind == "float32":
        data = (data / 255).astype("float32")
    values = data / (255 if kind == "uint8" else 1)
    x = ((values[:20] + values[20:40]) / 2).astype("float32")
    sigma = np.float32(0.003)
    weights, expected = dense(data, x, sigma)
    assert (np.sort(weights)[:, -2] > 0.1).any()
    denoiser = adapted(data)
    np.testing.assert_allclose(
        flat(denoiser.denoise(x, sigma)), expected, atol=1e-6
    )
    probabilities, _ = denoiser.posterior(x, sigma, 2)
    np.testing.assert_allclose(
        probabilities, -np.sort(-weights)[:, :2], rtol=1e-5
    )


def test_more_than_have_any_weight():
    data = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    probabilities, indices = adapted(data).posterior(
        np.array([[2.9], [0.1]], np.float32), [1e-3, 1e-3], 4
    )
    assert probabilities.numpy().tolist() == [[1, 0, 0, 0]] * 2
    assert indices.numpy().tolist() == [[3, 2, 1, 0], [0, 1, 2, 3]]
    assert indices.dtype == tf.int32


def test_each_row_has_its_own_sigma(digits, small_blocks):
    denoiser = adapted(digits[:1000])
    x = noisy_like(digits, 0.3)
    sigma = np.array([1e-4, 0.01, 0.1, 0.3, 1.0, 1e4], np.float32)
    together = denoiser.denoise(x, sigma)
    assert together.dtype == tf.float32
    for i in range(6):
        alone = denoiser.denoise(x[i : i + 1], sigma[i])
        np.testing.assert_allclose(together[i : i + 1], alone, atol=TOLERANCE)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_trace_serves_every_batch_and_sigma(
    digits, small_blocks, jit_compile
):
    denoiser = adapted(digits[:1000])
    signature = [tf.TensorSpec([None, 8, 8, 1]), tf.TensorSpec([None])]
    denoise, posterior = (
        tf.function(f, input_signature=signature, jit_compile=jit_compile)
        for f in (denoiser.denoise, lambda x, s: denoiser.posterior(x, s, 3))
    )
    for n, sigma in ((1, 1e-3), (4, 0.15), (4, 0.5)):
        x = noisy_like(digits, sigma, n)
        sigma = np.full(n, sigma, np.float32)
        weights, expected = dense(digits[:1000], x, sigma)
        result = denoise(x, sigma)
        np.testing.assert_allclose(flat(result), expected, atol=TOLERANCE)
        if n == 1 and jit_compile:
            # XLA compiles for each size anew: one will do.
            continue
        best = -np.sort(-weights)[:, :3]
        np.testing.assert_allclose(
            posterior(x, sigma).probabilities, best, rtol=3e-3, atol=1e-30
        )
    assert denoise.experimental_get_tracing_count() == 1


def test_bytes_are_kept_as_bytes_and_read_as_parts_of_255(float64, digits):
    whole, parts = adapted(digits), adapted(digits / 255)
    assert whole.weights[1].dtype == "uint8"
    x = noisy_like(digits, 0.3)
    np.testing.assert_allclose(
        whole.denoise(x, 0.3), parts.denoise(x, 0.3), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(whole.data_mean, parts.data_mean, rtol=1e-12)
    np.testing.assert_allclose(whole.sigma_range, parts.sigma_range)
    total = flat(digits / 255).var(0).sum()
    np.testing.assert_allclose(whole.sigma_range, (0.01, 2 * total**0.5))


def test_a_stream_gives_what_the_array_gives(digits):
    stream = tf.data.Dataset.from_tensor_slices({"image": digits}).batch(77)
    streamed, whole = adapted(stream), adapted(digits)
    for one, other in zip(streamed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_a_second_adapt_replaces_the_first(digits):
    denoiser = adapted(digits[:9])
    x = digits[:1] / 255
    # Of the same shape: what was compiled for the first mustn't serve.
    for data in (digits[:9], 255 - digits[:9]):
        denoiser.adapt(data)
        np.testing.assert_allclose(
            flat(denoiser.denoise(x, 0.1)), dense(data, x, 0.1)[1], atol=1e-6
        )
    denoiser.adapt(np.float32([[1, 2], [3, 4], [5, 6]]))
    assert (denoiser.event_shape, denoiser.num_events) == ((2,), 3)
    assert [w.shape for w in denoiser.weights] == [(2,), (3, 2), (3,)]
    np.testing.assert_allclose(
        denoiser.denoise(np.float32([[3, 4]]), 0.01), [[3, 4]]
    )


def test_one_event_is_all_there_is():
    denoiser = adapted(np.full((1, 3), 0.5, np.float32))
    assert denoiser.sigma_range == (0.01, 0.1)
    for x in (0.5, 9.0):
        result = denoiser.denoise(np.full((2, 3), x, np.float32), 0.01)
        assert result.numpy().tolist() == [[0.5] * 3] * 2


_LOAD = """
import sys
import keras
import numpy as np
import keras_genmodels
exact, linear = map(keras.saving.load_model, sys.argv[1:3])
x = np.load(sys.argv[3])
np.savez(
    sys.argv[4],
    result=exact.denoise(x, 0.3),
    range=exact.sigma_range,
    data=exact.weights[1],
    linear=linear.denoise(x, 0.3),
    linear_range=linear.sigma_range,
)
"""


# Quick: the same of a `VAE`, in test_vae.py.
@pytest.mark.slow
def test_a_fresh_process_loads_what_was_saved(tmp_path, digits):
    exact, linear = adapted(digits[:300]), LinearDenoiser()
    linear.adapt(digits[:300])
    x = noisy_like(digits, 0.3)
    names = ("exact.keras", "linear.keras", "x.npy", "out.npz")
    paths = [tmp_path / name for name in names]
    exact.save(paths[0])
    linear.save(paths[1])
    np.save(paths[2], x)
    subprocess.run([sys.executable, "-c", _LOAD, *paths], check=True)
    out = np.load(paths[3])
    np.testing.assert_allclose(out["result"], exact.denoise(x, 0.3), atol=1e-6)
    assert tuple(out["range"]) == exact.sigma_range
    assert out["data"].dtype == np.uint8
    np.testing.assert_array_equal(out["data"], flat(digits[:300]))
    np.testing.assert_allclose(out["linear"], linear.denoise(x, 0.3), atol=1e-6)
    assert tuple(out["linear_range"]) == linear.sigma_range


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet")
def test_it_loads_as_not_adapted_if_it_was_not(tmp_path):
    EmpiricalDenoiser(name="exact").save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert (copy.event_shape, copy.name) == (None, "exact")
    with pytest.raises(ValueError, match="upgrade the package"):
        EmpiricalDenoiser.from_config({**copy.get_config(), "format": 99})


def test_a_saved_model_runs_on_its_own(tmp_path, digits):
    module = tf.Module()
    module.denoiser = adapted(digits)
    module.denoise = tf.function(
        module.denoiser.denoise,
        input_signature=[tf.TensorSpec([None, 8, 8, 1]), tf.TensorSpec([])],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for sigma in (0.01, 0.3):
        x = noisy_like(digits, sigma)
        np.testing.assert_allclose(
            loaded.denoise(x, sigma),
            module.denoiser.denoise(x, sigma),
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 3)), "no data"),
        (np.array([[1.0, np.inf]]), "not finite"),
        (np.ones((4, 3), np.int64), "floating data or uint8"),
        (np.ones(4), r"\[batch, ...\]"),
    ],
)
def test_bad_data(data, message):
    denoiser = EmpiricalDenoiser()
    with pytest.raises(UserError, match=message):
        denoiser.adapt(data)
    with pytest.raises(UserError, match=r"call adapt\(data\) first"):
        denoiser.posterior(np.ones((1, 3)), 1.0, 1)


def test_bad_calls():
    denoiser = adapted(np.eye(3))
    x = np.ones((2, 3))
    for k in (0, 4):
        with pytest.raises(UserError, match=r"k must be in \[1, 3\]"):
            denoiser.posterior(x, 1.0, k)
    with pytest.raises(UserError, match="k must be an int"):
        denoiser.posterior(x, 1.0, 2.0)
    with pytest.raises(UserError, match="give sigma"):
        denoiser.denoise(x)
    for sigma in (0.0, [1.0, -1.0], np.nan):
        with pytest.raises(UserError, match="sigma must be > 0"):
            denoiser.denoise(x, sigma)
    with pytest.raises(UserError, match="sigma must be a scalar or"):
        denoiser.denoise(x, [1.0, 1.0, 1.0])
    with pytest.raises(UserError, match="x must have shape"):
        denoiser.denoise(x[:, :2], 1.0)
    with pytest.raises(UserError, match="floating type"):
        denoiser.denoise(np.ones((2, 3), np.uint8), 1.0)


def test_psnr_on_digits():
    """The figures measured by another implementation, in dB."""
    images = load_digits().images.astype("float32") / 16
    train, test = images[:1437], images[1437:]
    denoiser = adapted(train)
    noise = np.random.default_rng(0).standard_normal(test.shape)
    for sigma, decibel in (
        (0.1, 17.04),
        (0.25, 17.13),
        (0.5, 15.94),
        (1.0, 13.23),
    ):
        result = denoiser.denoise(test + sigma * noise, sigma)
        mse = np.square(flat(result) - flat(test)).mean(1)
        assert abs(np.mean(-10 * np.log10(mse)) - decibel) < 0.01


def test_short_products_of_a_gpu_are_known_as_such(monkeypatch):
    config = tf.config.experimental
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["GPU"])
    for short, expected in ((True, 2**-11), (False, 2**-24)):
        monkeypatch.setattr(
            config,
            "tensor_float_32_execution_enabled",
            lambda short=short: short,
        )
        assert _weighted_sums._roundoff() == expected
