"""log p(x) of a denoiser, by the probability-flow ODE."""

import functools
import math
from typing import NamedTuple

import tensorflow as tf

from keras_genmodels.core import counter_rng, loop_cache, xla
from keras_genmodels.core.events import shape_of_events
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling import _runge_kutta
from keras_genmodels.sampling._density_arguments import (
    BATCH_SIZE,
    density_seeds,
    in_batches,
    resolve,
)
from keras_genmodels.sampling._jacobian import (
    jacobian_trace,
    quadratic_forms,
    traces,
    vector_product,
)
from keras_genmodels.sampling._loop import checked_denoise
from keras_genmodels.sampling.conditions import with_condition
from keras_genmodels.sampling.label_groups import by_label, has_label_per_event

# Largest event whose Jacobian's trace is computed exactly.
MAX_EXACT_SIZE = 256
# Folded into the seeds of rows.
_SIGNS_STREAM = 12
# Parts of the interval of ln sigma that have random signs of their own.
_NUM_PANELS = 16
# Vectors that are computed at once outside of graphs.
_VECTOR_BATCH_SIZE = 2048
# Of a step, in nats, by the dtype that D is computed in.
_TOLERANCES = {"float64": 1e-5, "float32": 1e-3}
_TOLERANCE_16_BITS = 0.1


class ProbabilityFlow(NamedTuple):
    """The result of `probability_flow`, tensors `[batch]`.

    Args:
        log_density: float64, log p_sigma(x) in nats.
        standard_error: float64, of the random estimate of the trace, in nats;
            0 if the trace is exact.
        num_evaluations: int32, evaluations of D along the path. Each but one
            in six also takes M or `num_probes` products with its Jacobian.
        solver_error: float64, sum of the estimated errors of the steps of the
            ODE, in nats. On closed forms the actual error was at most twice
            that.
    """

    log_density: tf.Tensor
    standard_error: tf.Tensor
    num_evaluations: tf.Tensor
    solver_error: tf.Tensor


def probability_flow(
    denoiser,
    x,
    sigma=None,
    *,
    condition=None,
    sigma_max=None,
    noisy_data=None,
    seed=0,
    tolerance=None,
    max_steps=10000,
    num_probes=2,
    jit_compile="auto",
):
    """Computes log p_sigma(x), the log density of data with noise of a level.

    Along the probability-flow ODE, in s = ln sigma,

        dx/ds = x - D(x, sigma),   d log p_sigma(x) / ds = tr J - M,

    J being the Jacobian of D at x. It is solved from x up to the denoiser's
    highest level, where the density of noisy data is known:
    `denoiser.noisy_data(sigma_max)`. The step size of each row is controlled.

    The trace of J is exact for M <= 256 values; it takes M products with J.
    For larger events it is Hutchinson's estimate, the mean of z' J z over
    random signs z, which are drawn anew in each sixteenth of the interval of
    ln sigma. The path itself is not random.

    If D is not the posterior mean of any distribution, as one that was
    learned, the result is the log density of what the ODE generates from
    p_sigma_max.

    Args:
        denoiser: a `Denoiser` that needs sigma, or a function of x and sigma.
        x: float tensor or array `[batch, *event_shape]`.
        sigma: level of the density, > 0, scalar or `[batch]`; by default the
            denoiser's lowest. A function needs it.
        condition: label of all events, or int `[batch]`, for a conditional
            denoiser: log p(x|label). Each label is a pass of its own. None
            stands for "no label" in a model trained with label dropout.
        sigma_max: level where the path ends, float >= sigma; by default the
            denoiser's highest. A function needs it.
        noisy_data: the distribution at `sigma_max`, an object with
            `log_prob(x)`; by default the denoiser's. A function needs it.
        seed: int, int32 `[2]` or `[batch, 2]`, of the signs; row i depends on
            the i-th row seed alone. Unused if the trace is exact.
        tolerance: float > 0, in nats: the largest estimated error of a step.
            By default 1e-5 if D is computed in float64, 1e-3 in float32 and
            0.1 in 16 bits, whose rounding no step size reduces.
        max_steps: int >= 1. Steps do not become smaller than 1 / `max_steps`
            of the interval of ln sigma, which bounds the work; see
            `solver_error`.
        num_probes: int >= 2, random sign vectors; not used for an exact trace.
        jit_compile: whether XLA compiles D: a bool, or "auto": on a GPU.

    Returns:
        `ProbabilityFlow`; NaN for events where D is not finite.

    Raises:
        ValueError: for a denoiser that does not need sigma, so that D is not
            known at each level, and for a bad argument.

    #### References

    Song et al. (2021), Score-based generative modeling through stochastic
    differential equations, arXiv:2011.13456, section 4.3. Karras et al.
    (2022), arXiv:2206.00364, equation 1. Hutchinson (1990), A stochastic
    estimator of the trace of the influence matrix for Laplacian smoothing
    splines, Comm. Statist. Simula. 19.
    """
    if tolerance is None:
        tolerance = _default_tolerance(denoiser)
    check(tolerance > 0, f"tolerance must be > 0, got {tolerance}")
    check_count("max_steps", max_steps)
    check_count("num_probes", num_probes, least=2)
    if has_label_per_event(denoiser, condition):
        estimate = functools.partial(
            probability_flow,
            denoiser,
            sigma_max=sigma_max,
            noisy_data=noisy_data,
            tolerance=tolerance,
            max_steps=max_steps,
            num_probes=num_probes,
            jit_compile=jit_compile,
        )
        return by_label(
            estimate, ProbabilityFlow, denoiser, x, sigma, condition, seed
        )
    denoiser = with_condition(denoiser, condition)
    levels = resolve(denoiser, x, sigma, sigma_max, noisy_data)
    is_exact = math.prod(levels.x.shape[1:]) <= MAX_EXACT_SIZE
    jit_compile = xla.resolve_loop(jit_compile, denoiser)
    run = loop_cache.loop_of(
        denoiser,
        _following,
        levels.x,
        any_size=not jit_compile,  # XLA compiles each size anyway.
        num_probes=None if is_exact else num_probes,
        max_steps=max_steps,
        jit_compile=jit_compile,
    )
    constants = [
        tf.constant(value, tf.float64)
        for value in (levels.sigma_max, tolerance)
    ]
    rows = density_seeds(seed, levels.x, _SIGNS_STREAM)
    end, *found = in_batches(
        functools.partial(_apply, run, constants),
        *(levels.x, levels.sigma, rows),
        batch_size=_VECTOR_BATCH_SIZE
        if levels.x.shape.rank == 2
        else BATCH_SIZE,
    )
    return ProbabilityFlow(levels.end.log_prob(end) + found[0], *found[1:])


def _default_tolerance(denoiser):
    dtype = getattr(denoiser, "compute_dtype", "float32")
    return _TOLERANCES.get(dtype, _TOLERANCE_16_BITS)


def _apply(run, constants, *rows):
    return run(*rows, *constants)


def _following(denoise, spec, num_probes, max_steps, jit_compile):
    """Builds the compiled path.

    Args:
        denoise: function of x and sigma.
        spec: `tf.TensorSpec` of x, which may have free sides.
        num_probes: as of `probability_flow`; None for the exact trace.
        max_steps: as of `probability_flow`.
        jit_compile: bool, whether XLA compiles D and its products.

    Returns:
        compiled function of x, sigma, row seeds, sigma_max and tolerance, to
        the end of the path, the integral, its standard error, the number of
        evaluations and the error of the solver.
    """

    def run(x, sigma, rows, sigma_max, tolerance):
        flow = _Flow(denoise, x, rows, num_probes, jit_compile)
        start = tf.math.log(sigma)
        problem = _runge_kutta.Problem(
            flow.derivative,
            _error_in_nats,
            start,
            tf.broadcast_to(tf.math.log(sigma_max), tf.shape(start)),
            flow.num_panels,
            tolerance,
            max_steps,
        )
        x = tf.reshape(tf.cast(x, tf.float64), (-1, flow.size))
        path = _runge_kutta.integrate(problem, x, flow.num_integrals)
        return (
            tf.reshape(path.x, (-1, *flow.shape)),
            tf.reduce_sum(tf.reduce_mean(path.integrals, axis=2), axis=1),
            _standard_error(path.integrals),
            path.num_steps * _runge_kutta.NUM_STAGES,
            path.error,
        )

    row, scalar = (tf.TensorSpec(shape, tf.float64) for shape in ([None], []))
    seed = tf.TensorSpec([None, 2], tf.int32)
    signature = [spec, row, seed, scalar, scalar]
    compiled = tf.function(run, input_signature=signature, autograph=False)
    # Traced now, or TensorFlow would warn about tracing several loops.
    return compiled.get_concrete_function()


class _Flow:
    """The derivatives of x and log p along the probability-flow ODE.

    Args:
        denoise, num_probes, jit_compile: as of `_following`.
        x: float tensor `[batch, ...]`, whose path it is.
        rows: int32 tensor `[batch, 2]`, a seed per row.
    """

    def __init__(self, denoise, x, rows, num_probes, jit_compile):
        compiled = functools.partial(
            tf.function, jit_compile=jit_compile, autograph=False
        )
        self._denoise = compiled(functools.partial(checked_denoise, denoise))
        self._multiply = compiled(functools.partial(vector_product, denoise))
        self._trace = compiled(functools.partial(jacobian_trace, denoise))
        self._dtype = x.dtype
        self._rows = rows
        self.shape = shape_of_events(x)
        self.size = math.prod(self.shape)
        self._is_exact = num_probes is None
        self._num_probes = self.size if self._is_exact else num_probes
        self.num_integrals = 1 if self._is_exact else num_probes
        self.num_panels = 1 if self._is_exact else _NUM_PANELS

    def derivative(self, stage, x, t, panel):
        """Returns dx/ds `[batch, M]` and M - tr J `[batch, num_integrals]`."""
        events = tf.cast(tf.reshape(x, (-1, *self.shape)), self._dtype)
        sigma = tf.cast(tf.exp(t), self._dtype)
        denoised = tf.cast(self._denoise(events, sigma), x.dtype)
        fall = tf.cond(
            stage == _runge_kutta.UNUSED_STAGE,
            lambda: tf.zeros((tf.shape(x)[0], self.num_integrals), x.dtype),
            lambda: (
                tf.cast(self.size, x.dtype) - self._traces(events, sigma, panel)
            ),
        )
        return x - tf.reshape(denoised, (-1, self.size)), fall

    def _traces(self, events, sigma, panel):
        if self._is_exact and events.shape.rank == 2:
            return traces(self._trace, events, sigma)
        probe = functools.partial(self._probe, panel)
        forms = quadratic_forms(
            self._multiply, events, sigma, probe, self._num_probes
        )
        if self._is_exact:
            return tf.reduce_sum(forms, axis=1, keepdims=True)
        return forms

    def _probe(self, panel, row, number):
        if self._is_exact:
            return tf.one_hot(number, self.size)
        numbers = tf.gather(panel, row) * self._num_probes + number
        return _signs(tf.gather(self._rows, row), numbers, self.size)


def _error_in_nats(t, removed, error_of_x, error_of_integrals):
    """Returns the error of a step, in nats, `[batch]`.

    A change of x by d changes log p_sigma(x) by d times the score, which is
    (D(x) - x) / sigma^2; or by about |d| / sigma, as x - D(x) contains noise.

    Args:
        t: ln sigma, `[batch]`.
        removed: x - D(x, sigma), `[batch, M]`.
        error_of_x: `[batch, M]`.
        error_of_integrals: `[batch, num_integrals]`.
    """
    sigma = tf.exp(t)
    by_score = tf.abs(tf.reduce_sum(removed * error_of_x, axis=1)) / sigma**2
    by_noise = tf.norm(error_of_x, axis=1) / sigma
    of_integral = tf.abs(tf.reduce_mean(error_of_integrals, axis=1))
    return tf.maximum(tf.maximum(by_score, by_noise), of_integral)


def _standard_error(integrals):
    """Returns the standard error of the sum over panels, `[batch]`."""
    count = integrals.shape[2]
    if count == 1:
        return tf.zeros_like(integrals[:, 0, 0])
    variances = tf.math.reduce_variance(integrals, axis=2) / (count - 1)
    return tf.sqrt(tf.reduce_sum(variances, axis=1))


def _signs(rows, numbers, size):
    """Draws vectors of random signs, `[n, size]`."""
    normals = counter_rng.normals(rows, numbers, size, tf.float32)
    return tf.where(normals < 0, -1.0, 1.0)
