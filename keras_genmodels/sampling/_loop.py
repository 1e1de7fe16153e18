"""The loop `x <- x + h (D(x) - x) + gamma eps` of restoring and generating."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.events import per_event
from keras_genmodels.core.validation import check


def restoring(denoise, spec, has_sigma, jit_compile, record):
    """Builds the compiled loop of `restore`.

    Args:
        denoise: function of x and sigma.
        spec: `tf.TensorSpec` of x.
        has_sigma: whether sigma is an argument.
        jit_compile: whether XLA compiles the loop.
        record: whether to return the trajectory.

    Returns:
        `tf.function` of x, sigma if `has_sigma`, step_size, max_steps and
        tolerance, each `[batch]`, to the fields of `Restoration`.
    """
    if record and jit_compile:
        # XLA does not compile loops that record an unknown number of steps.
        denoise, jit_compile = tf.function(denoise, jit_compile=True), False

    def run(x, *settings):
        sigma = settings[0] if has_sigma else None
        step_size, max_steps, tolerance = settings[-3:]

        def rule(step, residual):
            is_active = residual > tolerance
            h = tf.where(is_active, step_size, 0)
            return h, 1 - h, ~is_active | (step + 1 >= max_steps)

        return _iterate(
            denoise, x, max_steps > 0, lambda step: sigma, rule, record=record
        )

    row = tf.TensorSpec([None], spec.dtype)
    count = tf.TensorSpec([None], tf.int32)
    return tf.function(
        run,
        input_signature=[spec, *[row] * has_sigma, row, count, row],
        jit_compile=jit_compile,
        autograph=False,
    )


def generating(denoise, spec, has_sigma, stochastic, jit_compile):
    """Builds the compiled loop of `generate`.

    Args:
        denoise, spec, has_sigma, jit_compile: as in `restoring`.
        stochastic: whether to add noise in each step.

    Returns:
        `tf.function` of x, row seeds, the schedule (noise levels if
        `has_sigma`, else step sizes), sigma_min and beta, to x.
    """

    def run(x, rows, schedule, sigma_min, beta):
        def to_rows(*values):
            return [tf.broadcast_to(v, tf.shape(x)[:1]) for v in values]

        def level(step):
            return to_rows(schedule[step])[0] if has_sigma else None

        def rule_of_levels(step, residual):
            ratio = schedule[step + 1] / schedule[step]
            h = tf.minimum((1 - ratio) / beta, 1)
            return to_rows(h, ratio, step + 2 >= tf.size(schedule))

        def rule_of_steps(step, residual):
            is_last = residual <= sigma_min
            is_last |= step + 1 >= tf.size(schedule)
            h = tf.where(~is_last, schedule[step], 1)
            return h, tf.where(~is_last, 1 - beta * h, 0), is_last

        return _iterate(
            denoise,
            x,
            to_rows(True)[0],
            level,
            rule_of_levels if has_sigma else rule_of_steps,
            rows if stochastic else None,
        )[0]

    scalar = tf.TensorSpec([], spec.dtype)
    return tf.function(
        run,
        input_signature=[
            spec,
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([None], spec.dtype),
            scalar,
            scalar,
        ],
        jit_compile=jit_compile,
        autograph=False,
    )


def _iterate(
    denoise, x, is_active, sigma_at, rule, noise_rows=None, record=False
):
    """Repeats `x <- x + h (D(x) - x) + gamma eps` until all rows are done.

    Args:
        denoise: function of x and sigma.
        x: initial events, `[batch, ...]`.
        is_active: bool `[batch]`, rows that are updated at all.
        sigma_at: function of the step (from 0) to sigma `[batch]`, or None if
            the noise level is estimated by the residual.
        rule: function of the step and the residual `[batch]` to h `[batch]`
            (0: no update), the ratio `[batch]` of the next noise level to this
            one, and bool `[batch]`, whether this is the row's last step.
        noise_rows: int32 `[batch, 2]`, row seeds of eps; None for gamma = 0.
        record: whether to return the trajectory.

    Returns:
        x, num_steps, residual, and the trajectory or None.
    """

    def unfinished(step, x, is_active, *_):
        return tf.reduce_any(is_active)

    def advance(step, x, is_active, num_steps, residual, *trajectory):
        sigma = sigma_at(step)
        change = _change(denoise, x, sigma)
        latest = _root_mean_square(change)
        residual = tf.where(is_active, latest, residual)
        h, ratio, is_last = rule(step, latest)
        is_active &= tf.math.is_finite(latest)
        updated = x + per_event(h, x) * change
        if noise_rows is not None:
            level = latest if sigma is None else sigma
            gamma = level * tf.sqrt(tf.maximum(ratio**2 - (1 - h) ** 2, 0))
            eps = seeds.normal(
                seeds.fold_in(noise_rows, step), x.shape[1:], x.dtype
            )
            updated += per_event(gamma, x) * eps
        x = tf.where(per_event(is_active, x), updated, x)
        num_steps += tf.cast(is_active & (h != 0), tf.int32)
        trajectory = [array.write(step + 1, x) for array in trajectory]
        is_active &= ~is_last
        return step + 1, x, is_active, num_steps, residual, *trajectory

    zeros = tf.zeros_like(is_active, tf.int32)
    start = [0, x, is_active, zeros, tf.cast(zeros, x.dtype)]
    if record:
        array = tf.TensorArray(
            x.dtype, 1, dynamic_size=True, element_shape=x.shape
        )
        start.append(array.write(0, x))
    _, x, _, num_steps, residual, *trajectory = tf.while_loop(
        unfinished, advance, start
    )
    if not record:
        return x, num_steps, residual, None
    # No row may have been updated in the last step.
    most_steps = tf.reduce_max(tf.concat([num_steps, [0]], axis=0))
    return x, num_steps, residual, trajectory[0].stack()[: 1 + most_steps]


def _change(denoise, x, sigma):
    return checked_denoise(denoise, x, sigma) - x


def checked_denoise(denoise, x, sigma):
    """Returns D(x, sigma) in the dtype of x.

    Raises:
        ValueError: if it has another shape than x.
    """
    denoised = tf.cast(denoise(x, sigma), x.dtype)
    check(
        denoised.shape.is_compatible_with(x.shape),
        "the denoiser must return an event of the shape of x, "
        f"{x.shape}, got {denoised.shape}",
    )
    return tf.ensure_shape(denoised, x.shape)


def _root_mean_square(x):
    x = tf.reshape(x, (tf.shape(x)[0], int(np.prod(x.shape[1:]))))
    return tf.sqrt(tf.reduce_mean(x**2, axis=1))
