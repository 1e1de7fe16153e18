"""Derivatives of the exact denoiser, whose formula is a covariance."""

import re

import numpy as np
import pytest
import tensorflow as tf
from support.dense_posterior import (
    LEVELS,
    TOLERANCE,
    adapted,
    crowd,
    dense,
    derivative,
    flat,
    noisy_like,
)

pytestmark = pytest.mark.usefixtures("small_blocks")


def dense_derivative(data, x, sigma):
    """Returns J `[batch, M, M]` and dD/dsigma `[batch, M]`."""
    weights, mean = dense(data, x, sigma)
    data = flat(data) / (255 if data.dtype == np.uint8 else 1)
    squares = np.square(flat(x)[:, None] - data).sum(-1)
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), len(x))[:, None]
    away = data - mean[:, None]
    weighted = weights[..., None] * away
    jacobian = np.swapaxes(weighted, 1, 2) @ away / sigma[..., None] ** 2
    # Without their mean, which dominates at large sigma.
    squares -= (weights * squares).sum(1, keepdims=True)
    slope = (weighted * squares[..., None]).sum(1) / sigma**3
    return jacobian, slope


def assert_derivative(denoise, data, x, sigma, rtol, atol):
    """Compares both; the error of J v in units of (rtol |J| + atol) |v|."""
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
    """Returns events half way between two of the data: ties."""
    values = data[: 2 * n] / (255 if data.dtype == np.uint8 else 1)
    return ((values[:n] + values[n:]) / 2).astype("float32")


@pytest.mark.parametrize(
    "dtype", ["uint8", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_the_derivative_is_a_covariance(of_digits, digits, dtype):
    """At every sigma, in one batch, far from the data and at ties."""
    denoise, data = of_digits.denoise, digits
    if dtype == "float32":
        data = (digits / 255).astype(dtype)
        denoise = adapted(data[:1500]).denoise
    sigma, n = np.float32(LEVELS), len(LEVELS)
    noisy = noisy_like(data, sigma[:, None, None, None], n)
    for x in (noisy, midpoints(data, n)):
        assert_derivative(denoise, data[:1500], x, sigma, TOLERANCE, TOLERANCE)


def test_the_derivative_in_float64(float64, digits):
    sigma = np.array(LEVELS)
    x = noisy_like(digits, sigma[:, None, None, None], len(sigma), "float64")
    denoise = adapted(digits[:1500]).denoise
    assert_derivative(denoise, digits[:1500], x, sigma, 1e-6, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_the_derivative_within_a_crowd(size):
    data = crowd(size)
    sigma = np.float32([1e-3, 0.01, 0.1, 1.0])
    x = noisy_like(data, sigma[:, None], 4)
    # x is rounded to 2^-22, and D and J change over distances of sigma.
    denoise = adapted(data).denoise
    assert_derivative(denoise, data, x, sigma, 3e-3, 1e-3)


@pytest.mark.slow
def test_the_derivative_between_duplicates():
    """More than have float64 weights, at a sigma where float32 fails."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.random((1, 50))] * 30 + [rng.random((9, 50))])
    data = data.astype("float32")
    x = np.stack([(data[0] + data[35]) / 2, data[0], data[35]])
    sigma = np.float32([0.002, 0.5, 2.0])
    assert_derivative(adapted(data).denoise, data, x, sigma, 1e-5, 1e-5)


@pytest.mark.parametrize(
    "jit_compile", [pytest.param(True, marks=pytest.mark.slow), False]
)
def test_a_graph_computes_values_and_gradients(of_digits, digits, jit_compile):
    """By x and by a sigma that all events share."""
    data = digits[:1500]

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(x, sigma):
        with tf.GradientTape() as tape:
            tape.watch([x, sigma])
            denoised = of_digits.denoise(x, sigma)
            loss = tf.reduce_sum(tf.sin(3 * denoised))
        gradients = tape.gradient(loss, [x, sigma])
        probabilities, _ = of_digits.posterior(x, sigma, 3)
        return denoised, gradients, probabilities

    x, sigma = noisy_like(digits, 0.3, 3), np.float32(0.3)
    denoised, (by_x, by_sigma), probabilities = run(
        tf.constant(x), tf.constant(sigma)
    )
    weights, mean = dense(data, x, sigma)
    np.testing.assert_allclose(flat(denoised), mean, atol=TOLERANCE)
    best = -np.sort(-weights)[:, :3]
    np.testing.assert_allclose(probabilities, best, rtol=3e-3, atol=1e-30)
    upstream = 3 * np.cos(3 * mean)
    jacobian, slope = dense_derivative(data, x, sigma)
    expected = np.einsum("bij,bi->bj", jacobian, upstream)
    np.testing.assert_allclose(flat(by_x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_sigma, (slope * upstream).sum(), rtol=1e-3)


def test_the_derivative_stores_no_blocks(of_digits):
    """TensorFlow would collect each block of the loop in a TensorList."""
    step = tf.function(
        lambda x, sigma: derivative(of_digits.denoise, x, sigma, x),
        input_signature=[tf.TensorSpec([4, 8, 8, 1]), tf.TensorSpec([4])],
        autograph=False,
    )
    # Including the functions that it calls.
    graph = str(step.get_concrete_function().graph.as_graph_def())
    kinds = set(re.findall(r'\bop: "(\w+)"', graph))
    assert any("While" in kind for kind in kinds)
    assert not [kind for kind in kinds if kind.startswith("TensorList")]


@pytest.mark.slow
def test_the_second_derivative(float64):
    """For the data -a, +a: D(y) = a tanh(a'y / sigma^2)."""
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
