"""log p(x) of a denoiser from its squared errors, by the I-MMSE relation."""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core import loop_cache, xla
from keras_genmodels.core.counter_rng import normals
from keras_genmodels.core.events import shape_of_events
from keras_genmodels.core.validation import check_count
from keras_genmodels.sampling._density_arguments import (
    density_seeds,
    in_batches,
    resolve,
)
from keras_genmodels.sampling._loop import checked_denoise
from keras_genmodels.sampling.conditions import with_condition
from keras_genmodels.sampling.label_groups import by_label, has_label_per_event

# Folded into the seeds of rows: for the integral, and for the highest level.
_NOISE_STREAM, _END_STREAM = 11, 13
# Pairs of draws of the density at the highest level, which cost no D.
_NUM_END_DRAWS = 64


class LogDensity(NamedTuple):
    """The result of `integrate_errors`, tensors `[batch]`.

    Args:
        log_density: float64, log p_sigma(x) in nats.
        standard_error: float64, in nats.
        num_evaluations: int32, evaluations of D.
    """

    log_density: tf.Tensor
    standard_error: tf.Tensor
    num_evaluations: tf.Tensor


def integrate_errors(
    denoiser,
    x,
    sigma=None,
    *,
    condition=None,
    sigma_max=None,
    noisy_data=None,
    seed=0,
    num_levels=64,
    num_draws=2,
    jit_compile="auto",
):
    """Estimates log p_s(x) from the squared error of denoising noisy versions.

    Let s = `sigma`, tau^2 = sigma^2 - s^2, g = 1 / tau^2, and E(z) = z +
    (1 - s^2 / sigma^2) (D(z, sigma) - z): for z = x + tau eps, the posterior
    mean of an event that carries noise of the level s. With its squared error
    mmse(g) = E |x - E(x + tau eps)|^2 over eps ~ N(0, I),

        -log p_s(x) = 1/2 int_{g_min} (mmse(g) - M / g) dg
                      - E log p_{sigma_max}(x + tau_max eps),

    g_min being that of the highest level, below which the density of noisy
    data is known. In ln sigma the integrand is bounded; the integral is
    Gauss and Legendre's. Draws come in pairs of eps and -eps, and |eps|^2,
    of the known mean M, is a control variate.

    It needs no derivative of D, and is independent of the ODE of
    `probability_flow`. For a D that is no posterior mean the two differ, and
    their difference measures the error of D.

    Args:
        denoiser, x, sigma, condition, sigma_max, noisy_data: as of
            `probability_flow`.
        seed: int, int32 `[2]` or `[batch, 2]`; row i depends on the i-th row
            seed alone.
        num_levels: int >= 1, nodes of the integral.
        num_draws: int >= 2, pairs of eps and -eps per node.
        jit_compile: whether XLA compiles D: a bool, or "auto": on a GPU.

    Returns:
        `LogDensity`.

    Raises:
        ValueError: as `probability_flow`.

    #### References

    Guo, Shamai and Verdu (2005), Mutual information and minimum mean-square
    error in Gaussian channels, IEEE Trans. Inf. Theory 51. Kong et al.
    (2023), Information-theoretic diffusion, arXiv:2302.03792, equation 9.
    """
    check_count("num_levels", num_levels)
    check_count("num_draws", num_draws, least=2)
    if has_label_per_event(denoiser, condition):
        estimate = functools.partial(
            integrate_errors,
            denoiser,
            sigma_max=sigma_max,
            noisy_data=noisy_data,
            num_levels=num_levels,
            num_draws=num_draws,
            jit_compile=jit_compile,
        )
        return by_label(
            estimate, LogDensity, denoiser, x, sigma, condition, seed
        )
    denoiser = with_condition(denoiser, condition)
    levels = resolve(denoiser, x, sigma, sigma_max, noisy_data)
    jit_compile = xla.resolve_loop(jit_compile, denoiser)
    run = loop_cache.loop_of(
        denoiser,
        _measuring,
        levels.x,
        any_size=not jit_compile,  # XLA compiles each size anyway.
        num_levels=num_levels,
        num_draws=num_draws,
        jit_compile=jit_compile,
    )
    sigma_max = tf.constant(levels.sigma_max, tf.float64)
    rows, end_rows = (
        density_seeds(seed, levels.x, stream)
        for stream in (_NOISE_STREAM, _END_STREAM)
    )

    def estimate(x, sigma, rows, end_rows):
        integral, variance = run(x, sigma, rows, sigma_max)
        end, end_variance = _end_density(
            x, sigma, end_rows, sigma_max, levels.end
        )
        return integral + end, tf.sqrt(variance + end_variance)

    found = in_batches(estimate, levels.x, levels.sigma, rows, end_rows)
    count = tf.fill(tf.shape(found[0]), 2 * num_levels * num_draws)
    return LogDensity(*found, count)


def _measuring(denoise, spec, num_levels, num_draws, jit_compile):
    """Builds the compiled integral.

    Returns:
        compiled function of x, sigma, row seeds and sigma_max to the integral
        and the variance of its estimate, float64 `[batch]`.
    """
    measured = functools.partial(
        _error,
        tf.function(
            functools.partial(checked_denoise, denoise),
            jit_compile=jit_compile,
            autograph=False,
        ),
        spec,
    )
    nodes, weights = np.polynomial.legendre.leggauss(num_levels)
    count = num_levels * num_draws

    def run(x, sigma, rows, sigma_max):
        size = math.prod(shape_of_events(x))
        length = tf.math.log(sigma_max / sigma)
        # At the highest level there is no integral.
        is_below = length > 0
        length = tf.where(is_below, length, 1)
        # ln(sigma / s) at the nodes.
        ratios = length * (nodes[:, None] + 1) / 2

        def advance(i, errors, squares):
            eps = _draw(rows, i, size)
            error = measured(x, sigma, ratios[i // num_draws], eps)
            square = tf.reduce_sum(eps**2, axis=1)
            return i + 1, errors.write(i, error), squares.write(i, square)

        array = tf.TensorArray(tf.float64, count, element_shape=[None])
        _, *arrays = tf.while_loop(
            lambda i, *_: i < count,
            advance,
            (0, array, array),
            parallel_iterations=1,
        )
        errors, squares = (
            tf.reshape(array.stack(), (num_levels, num_draws, -1))
            for array in arrays
        )
        gains = _gains(errors, squares, tf.cast(size, tf.float64))
        # dtau^2 / (2 tau^2) = sigma^2 / tau^2 dln(sigma).
        scale = length * weights[:, None] / 2 / -tf.math.expm1(-2 * ratios)
        terms = tf.where(is_below, gains * scale[:, None], 0)
        return _sum_of_means(terms)

    row, scalar = (tf.TensorSpec(shape, tf.float64) for shape in ([None], []))
    signature = [spec, row, tf.TensorSpec([None, 2], tf.int32), scalar]
    compiled = tf.function(run, input_signature=signature, autograph=False)
    # Traced now, or TensorFlow would warn about tracing several loops.
    return compiled.get_concrete_function()


def _error(denoise, spec, x, sigma, ratio, eps):
    """Returns |x - E(x + tau eps)|^2 / tau^2, averaged over eps and -eps.

    Args:
        denoise: function of x and sigma.
        spec: `tf.TensorSpec` of x.
        x, sigma: the events and the level s of their density, `[batch]`.
        ratio: float64 `[batch]`, ln of the level of D over s.
        eps: float64 `[batch, M]`.

    Returns:
        float64 `[batch]`.
    """
    shape = tf.shape(eps)
    level = sigma * tf.exp(ratio)
    tau = (sigma * tf.sqrt(tf.math.expm1(2 * ratio)))[:, None]
    share = -tf.math.expm1(-2 * ratio)[:, None]
    clean = tf.reshape(tf.cast(x, tf.float64), shape)
    error = 0.0
    for noise in (eps, -eps):
        z = tf.reshape(clean + tau * noise, tf.shape(x))
        z = tf.cast(z, spec.dtype)
        change = denoise(z, tf.cast(level, spec.dtype))
        # In float64: tau divides the difference.
        change = tf.cast(change, tf.float64) - tf.cast(z, tf.float64)
        part = noise + share / tau * tf.reshape(change, shape)
        error += tf.reduce_sum(part**2, axis=1) / 2
    return error


def _gains(errors, squares, size):
    """Returns M - mmse / tau^2 of each draw, less a control variate.

    |eps|^2 has the mean M. Its coefficient is the ratio of error and |eps|^2
    at the level below, which is independent of the draws at this one, and
    1 at the lowest level.

    Args:
        errors, squares: `[levels, draws, batch]`, mmse / tau^2 and |eps|^2.
        size: float64 scalar tensor, M.
    """
    ratios = tf.reduce_mean(errors, axis=1) / tf.reduce_mean(squares, axis=1)
    ratios = tf.concat([tf.ones_like(ratios[:1]), ratios[:-1]], axis=0)
    coefficient = tf.minimum(ratios, 1)[:, None]
    return size - errors + coefficient * (squares - size)


def _sum_of_means(terms):
    """Returns the sum over axis 0 of the means over axis 1, and its variance.

    Args:
        terms: `[levels, draws, batch]`.
    """
    count = terms.shape[1]
    variances = tf.math.reduce_variance(terms, axis=1) / (count - 1)
    return (
        tf.reduce_sum(tf.reduce_mean(terms, axis=1), axis=0),
        tf.reduce_sum(variances, axis=0),
    )


def _end_density(x, sigma, rows, sigma_max, end):
    """Estimates E log p_sigma_max(x + tau_max eps), and its variance."""
    size = math.prod(x.shape[1:])
    flat = tf.reshape(tf.cast(x, tf.float64), (-1, size))
    share = 1 - (sigma / sigma_max) ** 2
    tau = sigma_max * tf.sqrt(share)

    def log_prob(z):
        return end.log_prob(tf.reshape(z, (-1, *x.shape[1:])))

    def advance(i, values):
        eps = _draw(rows, i, size)
        noise = tau[:, None] * eps
        pair = (log_prob(flat + noise) + log_prob(flat - noise)) / 2
        control = share / 2 * (tf.reduce_sum(eps**2, axis=1) - size)
        return i + 1, values.write(i, pair + control)

    values = tf.TensorArray(tf.float64, _NUM_END_DRAWS, element_shape=[None])
    _, values = tf.while_loop(
        lambda i, _: i < _NUM_END_DRAWS,
        advance,
        (0, values),
        parallel_iterations=1,
    )
    return _sum_of_means(values.stack()[None])


def _draw(rows, number, size):
    """Draws eps of a number for each row, float64 `[batch, size]`."""
    numbers = tf.fill(tf.shape(rows)[:1], number)
    return normals(rows, numbers, size, tf.float64)
