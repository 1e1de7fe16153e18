"""The compiled walks of `generate`."""

import math

import tensorflow as tf

from keras_genmodels.core import counter_rng
from keras_genmodels.core.events import per_event, shape_of_events
from keras_genmodels.sampling import _loop
from keras_genmodels.sampling.schedules import SCHEDULES, growing_step
from keras_genmodels.sampling.solvers import SOLVERS, Evaluation

_ROWS = tf.TensorSpec([None, 2], tf.int32)
_COUNTS = tf.TensorSpec([None], tf.int32)
_SCALAR = tf.TensorSpec([], tf.float64)


def by_levels(
    denoise, spec, solver, schedule, stochastic, to_zero, jit_compile, record
):
    """Builds the walk of a denoiser that receives sigma.

    Args:
        denoise: function of x and sigma.
        spec: `tf.TensorSpec` of x.
        solver: key of `SOLVERS`.
        schedule: key of `SCHEDULES`.
        stochastic: whether to add noise.
        to_zero: whether the last step goes from sigma_min to level 0; else
            the walk ends at sigma_min.
        jit_compile: whether XLA compiles the walk.
        record: whether to return the trajectory.

    Returns:
        `tf.function` of x, row seeds, the number of evaluations `[batch]`,
        sigma_max, sigma_min and beta, to x or the trajectory.
    """
    solver, schedule = SOLVERS[solver], SCHEDULES[schedule]
    denoise, jit_compile = _loop.compile_denoiser(denoise, jit_compile, record)

    def run(x, rows, counts, sigma_max, sigma_min, beta):
        def level_at(index, count):
            position = index / tf.maximum(count - 1, 1)
            level = schedule(tf.minimum(position, 1), sigma_max, sigma_min)
            return tf.where(index < count, level, 0)

        def take_step(step, x, before):
            # An evaluation at sigma_min, which is not made, if it ends there.
            planned = counts if to_zero else counts + 1
            levels = solver.evaluations(step, planned, level_at, beta)
            sigma = tf.cast(levels.current, x.dtype)
            denoised = _loop.checked_denoise(denoise, x, sigma)
            now = Evaluation(x, denoised)
            following = solver.step(now, Evaluation(*before), levels)
            if stochastic:
                following += _noise(rows, step, x, levels.noise)
            residual = _loop.root_mean_square(denoised - x)
            always = tf.ones_like(counts, tf.bool)
            is_last = step + 1 >= counts
            return _loop.Step(following, residual, always, is_last, now)

        return _result(take_step, x, (x, x), record)

    signature = [spec, _ROWS, _COUNTS, _SCALAR, _SCALAR, _SCALAR]
    return _compiled(run, signature, jit_compile)


def by_residual(denoise, spec, stochastic, jit_compile, record):
    """Builds the walk of a denoiser that does not receive sigma.

    Args:
        denoise, spec, stochastic, jit_compile, record: as of `by_levels`.

    Returns:
        `tf.function` of x, row seeds, the maximum of evaluations and the first
        step size `[batch]`, sigma_min and beta, to x or the trajectory.
    """
    denoise, jit_compile = _loop.compile_denoiser(denoise, jit_compile, record)

    def run(x, rows, counts, first_steps, sigma_min, beta):
        sigma_min, beta = (
            tf.cast(value, x.dtype) for value in (sigma_min, beta)
        )

        def take_step(step, x, memory):
            change = _loop.checked_denoise(denoise, x, None) - x
            level = _loop.root_mean_square(change)
            is_last = level <= sigma_min
            is_last |= step + 1 >= counts
            t = tf.cast(step + 1, tf.float64)
            h = tf.cast(growing_step(first_steps, t), x.dtype)
            h = tf.where(~is_last, h, 1)
            following = x + per_event(h, x) * change
            if stochastic:
                left = tf.where(~is_last, 1 - beta * h, 0)
                missing = tf.maximum(left**2 - (1 - h) ** 2, 0)
                following += _noise(rows, step, x, level * tf.sqrt(missing))
            return _loop.Step(following, level, tf.ones_like(is_last), is_last)

        return _result(take_step, x, (), record)

    first_steps = tf.TensorSpec([None], tf.float64)
    signature = [spec, _ROWS, _COUNTS, first_steps, _SCALAR, _SCALAR]
    return _compiled(run, signature, jit_compile)


def _result(take_step, x, memory, record):
    is_active = tf.ones(tf.shape(x)[:1], tf.bool)
    x, *_, trajectory = _loop.iterate(take_step, x, is_active, memory, record)
    return trajectory if record else x


def _compiled(run, signature, jit_compile):
    return tf.function(
        run, input_signature=signature, jit_compile=jit_compile, autograph=False
    )


def _noise(rows, step, x, scale):
    """Draws noise of a scale `[batch]`; number 0 is that of the start."""
    numbers = tf.zeros_like(rows[:, 0]) + step + 1
    size = math.prod(shape_of_events(x))
    eps = counter_rng.normals(rows, numbers, size, x.dtype)
    scale = tf.cast(scale, x.dtype)
    return per_event(scale, x) * tf.reshape(eps, tf.shape(x))
