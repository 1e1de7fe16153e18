"""Restores events with any denoiser: repeats x <- x + eta (D(x, sigma) - x)."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core import loop_cache, xla
from keras_genmodels.core.events import per_event
from keras_genmodels.sampling import _loop
from keras_genmodels.sampling._inputs import (
    check_scale,
    validate_inputs,
    validate_setting,
)
from keras_genmodels.sampling.conditions import with_condition

# Defaults of `restore`.
STEP_SIZE, MAX_STEPS, TOLERANCE = 0.1, 100, 1e-3


class Restoration(NamedTuple):
    """The result of `restore`.

    Args:
        x: float tensor `[batch, ...]`, the final events.
        num_steps: int32 `[batch]`, number of updates.
        residual: float `[batch]`, root mean square of D(x) - x at the last
            evaluation of D (0 if `max_steps` is 0).
        trajectory: float `[1 + most steps, batch, ...]`, all iterates from
            the first to the last; an event that has converged is repeated.
            None unless requested.
    """

    x: tf.Tensor
    num_steps: tf.Tensor
    residual: tf.Tensor
    trajectory: tf.Tensor | None = None


def restore(
    denoiser,
    x,
    *,
    sigma=None,
    condition=None,
    step_size=STEP_SIZE,
    max_steps=MAX_STEPS,
    tolerance=TOLERANCE,
    trajectory=False,
    jit_compile="auto",
):
    """Repeats `x <- x + step_size * (D(x, sigma) - x)` until x converges.

    Each event stops by itself: before the first update at which the root mean
    square of D(x) - x is at most `tolerance`, after `max_steps` updates, or at
    the last finite x if D(x) is not finite. `denoise_once` returns D(x).

    The loop is compiled once per denoiser and shape of events, for all
    settings, batch sizes and, of a denoiser of images of any size, sizes (XLA
    compiles each batch size and size). Reuse the denoiser object: a new object
    or lambda compiles again; one that cannot be hashed or weakly referenced
    compiles at each call. A function's captured values are read when it is
    traced; pass a denoiser that is adapted again as itself.

    Args:
        denoiser: an object with `denoise(x, sigma)`, or a function, called
            with positional arguments `[batch, ...]` and `[batch]` (or None),
            that returns `[batch, ...]`.
        x: floating tensor or array `[batch, ...]`.
        sigma: noise level > 0 passed to the denoiser, scalar or `[batch]`;
            None if it needs none.
        condition: labels, scalar or `[batch]`, for a conditional denoiser;
            None stands for "no label" if it was trained with label dropout.
        step_size: eta in (0, 2), scalar or `[batch]`. Above 1 it overshoots.
        max_steps: int in [0, 2**31), scalar or `[batch]`.
        tolerance: >= 0, in units of x, scalar or `[batch]`.
        trajectory: whether to return all iterates.
        jit_compile: bool, whether XLA compiles the loop (with `trajectory`,
            only the denoiser), or "auto": on a GPU.

    Returns:
        Restoration.

    Raises:
        ValueError: if an argument is out of range, if `x` is not finite, or
            if the denoiser does not accept `x` and `sigma`, also if x is on
            another scale (see `Denoiser.denoise`).

    #### References

    Alain and Bengio (2014), What regularized auto-encoders learn from the
    data-generating distribution, JMLR 15.
    """
    denoiser = with_condition(denoiser, condition)
    x, sigma = validate_inputs(denoiser, x, sigma)
    check_scale(denoiser, x, sigma)
    return converge(
        denoiser,
        x,
        sigma,
        step_size=step_size,
        max_steps=max_steps,
        tolerance=tolerance,
        trajectory=trajectory,
        jit_compile=jit_compile,
    )


def converge(
    denoiser,
    x,
    sigma=None,
    *,
    step_size=STEP_SIZE,
    max_steps=MAX_STEPS,
    tolerance=TOLERANCE,
    trajectory=False,
    jit_compile="auto",
):
    """Does as `restore`, from any x: attractors are searched from far away.

    Args:
        denoiser, x, sigma, step_size, max_steps, tolerance, trajectory,
        jit_compile: as of `restore`.

    Returns:
        Restoration.

    Raises:
        ValueError: as `restore`, but for images on another scale.
    """
    x, sigma = validate_inputs(denoiser, x, sigma)
    settings = (
        validate_setting("step_size", step_size, x),
        validate_setting("max_steps", max_steps, x),
        validate_setting("tolerance", tolerance, x),
    )
    jit_compile = xla.resolve_loop(jit_compile, denoiser)
    run = loop_cache.loop_of(
        denoiser,
        _build,
        x,
        any_size=not jit_compile,  # XLA compiles each size anyway.
        has_sigma=sigma is not None,
        jit_compile=jit_compile,
        record=bool(trajectory),
    )
    return Restoration(*run(x, *([] if sigma is None else [sigma]), *settings))


def denoise_once(denoiser, x, sigma=None, condition=None, *, any_scale=False):
    """Returns D(x, sigma), computed by the compiled loop.

    Args:
        denoiser, x, sigma, condition: as in `restore`.
        any_scale: whether images may be on another scale than pixels in [0, 1].

    Returns:
        float tensor like `x`; NaN for events whose D(x, sigma) is not finite.

    Raises:
        ValueError: as `restore`.
    """
    run = converge if any_scale else restore
    result = run(
        with_condition(denoiser, condition),
        x,
        sigma=sigma,
        step_size=1.0,
        max_steps=1,
        tolerance=0.0,
    )
    is_finite = per_event(tf.math.is_finite(result.residual), result.x)
    return tf.where(is_finite, result.x, np.nan)


def _build(denoise, spec, has_sigma, jit_compile, record):
    """Builds the compiled loop.

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
    denoise, jit_compile = _loop.compile_denoiser(denoise, jit_compile, record)

    def run(x, *settings):
        sigma = settings[0] if has_sigma else None
        step_size, max_steps, tolerance = settings[-3:]

        def take_step(step, x, memory):
            change = _loop.checked_denoise(denoise, x, sigma) - x
            residual = _loop.root_mean_square(change)
            is_update = residual > tolerance
            h = tf.where(is_update, step_size, 0)
            is_last = ~is_update | (step + 1 >= max_steps)
            x += per_event(h, x) * change
            return _loop.Step(x, residual, is_update, is_last)

        return _loop.iterate(take_step, x, max_steps > 0, record=record)

    row = tf.TensorSpec([None], spec.dtype)
    count = tf.TensorSpec([None], tf.int32)
    return tf.function(
        run,
        input_signature=[spec, *[row] * has_sigma, row, count, row],
        jit_compile=jit_compile,
        autograph=False,
    )
