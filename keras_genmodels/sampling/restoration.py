"""Restores events and generates them from noise, with any denoiser.

Restoring repeats x <- x + eta (D(x, sigma) - x) at one noise level. Generating
is the same update while the level falls from sigma to sigma', with eta = 1 -
sigma' / sigma, the Euler step of the probability-flow ODE.
"""

import numbers
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core import loop_cache, seeds, xla
from keras_genmodels.core.events import check_num, per_event
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling import _loop, schedules
from keras_genmodels.sampling._inputs import (
    check_scale,
    initial_events,
    resolve_levels,
    validate_inputs,
    validate_setting,
)
from keras_genmodels.sampling.conditions import with_condition

# Step size of generating with a denoiser of a single noise level.
_STEP_SIZE = 0.1


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
    step_size=0.1,
    max_steps=100,
    tolerance=1e-3,
    trajectory=False,
    jit_compile="auto",
):
    """Repeats `x <- x + step_size * (D(x, sigma) - x)` until x converges.

    Each event stops by itself: before the first update at which the root mean
    square of D(x) - x is at most `tolerance`, after `max_steps` updates, or at
    the last finite x if D(x) is not finite. `denoise_once` returns D(x).

    The loop is compiled once per denoiser and shape of events, for all
    settings and batch sizes (XLA compiles each batch size). Reuse the denoiser
    object: a new object or lambda compiles again; one that cannot be hashed or
    weakly referenced compiles at each call. A function's captured values are
    read when it is traced; pass a denoiser that is adapted again as itself.

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
    settings = (
        validate_setting("step_size", step_size, x),
        validate_setting("max_steps", max_steps, x),
        validate_setting("tolerance", tolerance, x),
    )
    run = loop_cache.loop_of(
        denoiser,
        _loop.restoring,
        x,
        has_sigma=sigma is not None,
        jit_compile=xla.resolve(jit_compile, _loop.restoring),
        record=bool(trajectory),
    )
    return Restoration(*run(x, *([] if sigma is None else [sigma]), *settings))


def denoise_once(denoiser, x, sigma=None, condition=None):
    """Returns D(x, sigma), computed by the compiled loop.

    Args:
        denoiser, x, sigma, condition: as in `restore`.

    Returns:
        float tensor like `x`; NaN for events whose D(x, sigma) is not finite.

    Raises:
        ValueError: as `restore`.
    """
    result = restore(
        denoiser,
        x,
        sigma=sigma,
        condition=condition,
        step_size=1.0,
        max_steps=1,
        tolerance=0.0,
    )
    is_finite = per_event(tf.math.is_finite(result.residual), result.x)
    return tf.where(is_finite, result.x, np.nan)


def generate(
    denoiser,
    shape,
    num,
    *,
    seed,
    condition=None,
    guidance=0.0,
    sigma_max=None,
    sigma_min=None,
    num_steps=100,
    stochasticity=0.0,
    initial=None,
    jit_compile="auto",
):
    """Generates events from noise, by restoring at falling noise levels.

    It starts with a draw from the denoiser's own distribution of noisy data at
    `sigma_max` (`denoiser.noisy_data(sigma_max)`). Each step is
    x <- x + h (D(x) - x) + gamma eps. With beta = 1 - `stochasticity`

    - a denoiser that needs sigma gets levels that fall from `sigma_max` to
      `sigma_min` by a constant factor, then to 0. From sigma to sigma',
      h = min(1, (1 - sigma' / sigma) / beta);
    - for one that does not, the level is estimated by the residual, sigma_t =
      |D(x) - x| / sqrt(M), and h_t = h_0 t / (1 + h_0 (t - 1)), with h_0 such
      that the level should fall to `sigma_min` in `num_steps`. An event is
      finished by a whole denoising step (h = 1) once its level is at most
      `sigma_min`, or after `num_steps`;
    - one trained at a single level runs `restore` at that level, with
      step_size 0.1 and its default tolerance, and takes neither `sigma_min`
      nor `stochasticity`. It only removes noise of its training level;
      starting from noise of another level is out of distribution, so samples
      are often not images.

    gamma adds noise such that the level still falls to sigma': gamma^2 =
    sigma'^2 - (1 - h)^2 sigma^2, where sigma' = (1 - beta h) sigma if the
    level is estimated. gamma = 0 for `stochasticity` 0: Euler's method for
    dx / dsigma = (x - D(x, sigma)) / sigma.

    A projection on a subspace (`LinearDenoiser` with a rank) leaves every
    point of the subspace fixed, so generating returns noise within it.

    Args:
        denoiser: as in `restore`; a function is passed sigma.
        shape: shape of one event, a tuple, or an int n for (n,).
        num: int >= 1, or in a graph an int32 scalar tensor, number of events.
        seed: int, int32 `[2]` or `[num, 2]`; event i depends on the i-th row
            seed and condition alone.
        condition, guidance: as of `Denoiser.denoise`, scalar or `[num]`.
        sigma_max, sigma_min: first and last noise level, 0 < sigma_min <=
            sigma_max; by default the denoiser's `sigma_range`. A function
            needs both.
        num_steps: int >= 1, number of evaluations of D (the maximum, if the
            level is estimated).
        stochasticity: in [0, 1), strength of the added noise.
        initial: float tensor or array `[num, *shape]` to start from instead,
            such as noisy images of the level `sigma_max`. A function, which
            has no `noisy_data`, needs it.
        jit_compile: as in `restore`.

    Returns:
        float tensor `[num, *shape]`, not clipped.

    Raises:
        ValueError: if an argument is out of range, or is needed and missing.

    #### References

    Karras et al. (2022), Elucidating the design space of diffusion-based
    generative models, arXiv:2206.00364, equation 1 and algorithm 1.
    Kadkhodaie and Simoncelli (2021), Stochastic solutions for linear inverse
    problems using the prior implicit in a denoiser, arXiv:2007.13640,
    algorithm 1.
    """
    denoiser = with_condition(denoiser, condition, guidance)
    needs_sigma = getattr(denoiser, "needs_sigma", True)
    single_level = not needs_sigma and _has_single_level(denoiser)
    check(
        not single_level or (stochasticity == 0 and sigma_min is None),
        "a denoiser of a single noise level takes neither stochasticity nor "
        "sigma_min",
    )
    levels = resolve_levels(denoiser, sigma_max, sigma_min)
    _check_numbers(num, num_steps, stochasticity)
    jit_compile = xla.resolve(jit_compile, _loop.generating)
    rows = seeds.row_seeds(seed, num)
    x = initial_events(denoiser, shape, rows, levels[0], initial)
    if single_level:
        return restore(
            denoiser,
            x,
            step_size=_STEP_SIZE,
            max_steps=num_steps,
            jit_compile=jit_compile,
        ).x
    x, _ = validate_inputs(denoiser, x, levels[0] if needs_sigma else None)
    if initial is not None:
        check_scale(denoiser, x, levels[0])
    if needs_sigma:
        schedule = schedules.falling_levels(*levels, num_steps)
    else:
        schedule = schedules.growing_steps(*levels, num_steps, stochasticity)
    run = loop_cache.loop_of(
        denoiser,
        _loop.generating,
        x,
        has_sigma=needs_sigma,
        stochastic=stochasticity > 0,
        jit_compile=jit_compile,
    )
    constants = (schedule, levels[1], 1 - stochasticity)
    return run(x, rows, *(tf.constant(value, x.dtype) for value in constants))


def _check_numbers(num, num_steps, stochasticity):
    check_count("num_steps", num_steps)
    check(
        isinstance(stochasticity, numbers.Real) and 0 <= stochasticity < 1,
        f"stochasticity must be in [0, 1), got {stochasticity!r}",
    )
    check_num(num)


def _has_single_level(denoiser):
    sigma_range = getattr(denoiser, "sigma_range", None)
    return sigma_range is not None and sigma_range[0] == sigma_range[1]
