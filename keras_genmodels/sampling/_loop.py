"""The loop over a denoiser that restoring and generating share."""

import math
from typing import NamedTuple

import tensorflow as tf

from keras_genmodels.core.events import per_event, shape_of_events
from keras_genmodels.core.validation import check


class Step(NamedTuple):
    """The result of one evaluation of D.

    Args:
        x: next events, `[batch, ...]`.
        residual: `[batch]`, root mean square of D(x) - x before the step.
        is_update: bool `[batch]`, whether it counts as an update.
        is_last: bool `[batch]`, whether it is the row's last one.
        memory: tuple of tensors that the next step receives.
    """

    x: tf.Tensor
    residual: tf.Tensor
    is_update: tf.Tensor
    is_last: tf.Tensor
    memory: tuple = ()


def iterate(take_step, x, is_active, memory=(), record=False):
    """Repeats `x, ... = take_step(step, x, memory)` until all rows are done.

    A row whose residual is not finite keeps its last x.

    Args:
        take_step: function of the number of the step (from 0), x and memory to
            a `Step`.
        x: initial events, `[batch, ...]`.
        is_active: bool `[batch]`, rows that are updated at all.
        memory: tuple of tensors for the first step.
        record: whether to return the trajectory.

    Returns:
        x, the number of updates and the last residual, `[batch]` each, and
        the trajectory or None.
    """

    def unfinished(step, x, is_active, *_):
        return tf.reduce_any(is_active)

    def advance(step, x, is_active, num_steps, residual, memory, trajectory):
        taken = take_step(step, x, memory)
        residual = tf.where(is_active, taken.residual, residual)
        is_active &= tf.math.is_finite(taken.residual)
        x = tf.where(per_event(is_active, x), taken.x, x)
        num_steps += tf.cast(is_active & taken.is_update, tf.int32)
        trajectory = [array.write(step + 1, x) for array in trajectory]
        is_active &= ~taken.is_last
        memory = list(taken.memory)
        return step + 1, x, is_active, num_steps, residual, memory, trajectory

    zeros = tf.zeros_like(is_active, tf.int32)
    trajectory = []
    if record:
        array = tf.TensorArray(
            x.dtype, 1, dynamic_size=True, element_shape=x.shape
        )
        trajectory.append(array.write(0, x))
    residual = tf.cast(zeros, x.dtype)
    start = [0, x, is_active, zeros, residual, list(memory), trajectory]
    _, x, _, num_steps, residual, _, trajectory = tf.while_loop(
        unfinished, advance, start
    )
    if not record:
        return x, num_steps, residual, None
    # No row may have been updated in the last step.
    most_steps = tf.reduce_max(tf.concat([num_steps, [0]], axis=0))
    return x, num_steps, residual, trajectory[0].stack()[: 1 + most_steps]


def compile_denoiser(denoise, jit_compile, record):
    """Returns the denoiser of a loop, and whether XLA compiles the loop.

    XLA does not compile loops that record an unknown number of steps; it then
    compiles only the denoiser.
    """
    if record and jit_compile:
        return tf.function(denoise, jit_compile=True, autograph=False), False
    return denoise, jit_compile


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


def root_mean_square(x):
    """Returns that of the values of each event, `[batch]`."""
    size = math.prod(shape_of_events(x))
    x = tf.reshape(x, (tf.shape(x)[0], size))
    return tf.sqrt(tf.reduce_mean(x**2, axis=1))
