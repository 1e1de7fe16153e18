"""The loop over any denoiser: it restores images, and generates from noise.

One loop serves both. Restoring repeats x <- x + eta (D(x, sigma) - x) at one
noise level; generating is the same update while the level falls from sigma to
sigma', with eta = 1 - sigma' / sigma, which is the Euler step of the
probability-flow ODE.
"""

import numbers
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core import loop_cache as compiled
from keras_genmodels.core import seeds
from keras_genmodels.core.events import per_event
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling import schedules
from keras_genmodels.sampling._inputs import (
    knows_one_level,
    read_events,
    read_levels,
    read_setting,
    read_start,
)

# Of the lecture's loop, for a model that knows a single level.
_STEP_SIZE = 0.1


class Restoration(NamedTuple):
    """What `restore` returns.

    Args:
        x: float tensor `[batch, ...]`, where each image came to.
        num_steps: int32 `[batch]`, how many updates it took.
        residual: float `[batch]`, root mean square of D(x) - x at the last
            evaluation of D (0 where `max_steps` 0 allows none).
        trajectory: float `[1 + most steps, batch, ...]`, all x from the first
            to the last; an image that rests stays as it is. None unless asked
            for.
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
    step_size=0.1,
    max_steps=100,
    tolerance=1e-3,
    trajectory=False,
    jit_compile=None,
):
    """Repeats `x <- x + step_size * (D(x, sigma) - x)` until x rests.

    Each image stops by itself, before the first update at which the root mean
    square of D(x) - x is at most `tolerance`, or after `max_steps` updates; or
    where D(x) is not finite, at the last x that was. One step of size 1, with
    `tolerance` 0, is one denoising, which `denoise_once` does.

    The loop is compiled once for a denoiser and a shape of events: other
    settings or batch sizes don't trace again (XLA compiles for each batch
    size). Keep the denoiser: a new object or lambda is compiled anew, as is
    at each call one that can't be hashed or referred to weakly. What a
    function reads from elsewhere is read once; a denoiser that is adapted
    again is best given as itself.

    Args:
        denoiser: an object with `denoise(x, sigma)`, or a function, called
            with both by position: `[batch, ...]` and `[batch]` (or None) to
            `[batch, ...]`.
        x: floating tensor or array `[batch, ...]`.
        sigma: noise level > 0 told to the denoiser, scalar or `[batch]`; None
            where it needs none.
        step_size: eta in (0, 2), scalar or `[batch]`. Above 1 it overshoots.
        max_steps: int in [0, 2**31), scalar or `[batch]`.
        tolerance: >= 0, in units of x, scalar or `[batch]`.
        trajectory: whether to return the way, too.
        jit_compile: whether XLA compiles the loop (with `trajectory`, the
            denoiser in it). None: on a GPU.

    Returns:
        Restoration.

    Raises:
        UserError: if an argument is out of range, `x` is not finite, or the
            denoiser does not take such `x` and `sigma`.

    #### References

    Alain and Bengio (2014), What regularized auto-encoders learn from the
    data-generating distribution, JMLR 15.
    """
    x, sigma = read_events(denoiser, x, sigma)
    settings = (
        read_setting("step_size", step_size, x),
        read_setting("max_steps", max_steps, x),
        read_setting("tolerance", tolerance, x),
    )
    run = compiled.loop_of(
        denoiser,
        _restoring,
        x,
        told=sigma is not None,
        jit_compile=_use_xla(jit_compile),
        record=bool(trajectory),
    )
    return Restoration(*run(x, *([] if sigma is None else [sigma]), *settings))


def denoise_once(denoiser, x, sigma=None):
    """Gives D(x, sigma), from the compiled loop: one step of size 1.

    Args:
        denoiser, x, sigma: as in `restore`.

    Returns:
        float tensor like `x`; NaN for an image where D(x, sigma) is not finite.

    Raises:
        UserError: as `restore`.
    """
    found = restore(
        denoiser, x, sigma=sigma, step_size=1.0, max_steps=1, tolerance=0.0
    )
    is_right = per_event(tf.math.is_finite(found.residual), found.x)
    return tf.where(is_right, found.x, np.nan)


def generate(
    denoiser,
    shape,
    num,
    *,
    seed,
    sigma_max=None,
    sigma_min=None,
    num_steps=100,
    stochasticity=0.0,
    initial=None,
    jit_compile=None,
):
    """Walks from noise to the manifold: restoring with a falling noise level.

    The linear denoiser of a rank has no attractors: it takes off the noise
    outside of its subspace and leaves what lies within, so that its walk ends
    in noise of that subspace, as the lecture has it.

    The walk starts at the data's mean plus `sigma_max` times noise, and each
    step is x <- x + h (D(x) - x) + gamma eps. With beta = 1 - `stochasticity`

    - a denoiser that is told sigma gets levels that fall from `sigma_max` to
      `sigma_min` by a constant factor, and then to 0; from sigma to sigma',
      h = min(1, (1 - sigma' / sigma) / beta);
    - one that needs no sigma has the level read off the residual, sigma_t =
      |D(x) - x| / sqrt(M), and h_t = h_0 t / (1 + h_0 (t - 1)), h_0 such that
      the level should fall to `sigma_min` in `num_steps`; an image is done
      with one whole denoising (h = 1) once its level has, or the steps are up;
    - one that was trained at a single level knows no other: it walks at that
      level by `restore` with step_size 0.1 and its tolerance, and takes
      neither `sigma_min` nor `stochasticity`. Expect it to remove what noise
      of its level it knows; far from the data, where the walk starts unless
      the level is high, it was never trained, so that the end is often no
      image.

    gamma puts noise back so that the level falls to the same sigma' all the
    same: gamma^2 = sigma'^2 - (1 - h)^2 sigma^2, with sigma' = (1 - beta h)
    sigma where the level is read off. It is 0 for `stochasticity` 0; the walk
    is then the Euler method for dx / dsigma = (x - D(x, sigma)) / sigma.

    Args:
        denoiser: as in `restore`; a function is told sigma.
        shape: shape of one event, a tuple, or an int n for (n,).
        num: int >= 1, or in a graph an int32 scalar tensor, how many.
        seed: int, int32 `[2]` or `[num, 2]`; event i depends on the i-th row
            seed alone.
        sigma_max, sigma_min: where the noise level starts and ends, > 0 and
            not rising; by default the denoiser's `sigma_range`. A function
            has none and needs both.
        num_steps: int >= 1, how often D is evaluated (at most, where the
            level is read off).
        stochasticity: in [0, 1), how much noise is put back.
        initial: float tensor or array `[num, *shape]` to start from instead,
            such as noisy images at the level `sigma_max`. A function knows no
            mean of the data and needs it.
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
    needs_sigma = getattr(denoiser, "needs_sigma", True)
    one_level = not needs_sigma and knows_one_level(denoiser)
    check(
        not one_level or (stochasticity == 0 and sigma_min is None),
        "a model of a single level is walked by the plain loop, which puts no "
        "noise back and stays at the level: leave out stochasticity and "
        "sigma_min",
    )
    sigma_max, sigma_min = read_levels(denoiser, sigma_max, sigma_min)
    check_count("num_steps", num_steps)
    check(
        isinstance(stochasticity, numbers.Real) and 0 <= stochasticity < 1,
        f"stochasticity must be in [0, 1), got {stochasticity!r}",
    )
    if not tf.is_tensor(num):
        check_count("num", num)
    rows = seeds.row_seeds(seed, num)
    x = read_start(denoiser, shape, rows, sigma_max, initial)
    if one_level:
        return restore(
            denoiser,
            x,
            step_size=_STEP_SIZE,
            max_steps=num_steps,
            jit_compile=jit_compile,
        ).x
    x, _ = read_events(denoiser, x, sigma_max if needs_sigma else None)
    if needs_sigma:
        plan = schedules.falling_levels(sigma_max, sigma_min, num_steps)
    else:
        plan = schedules.growing_steps(
            sigma_max, sigma_min, num_steps, stochasticity
        )
    run = compiled.loop_of(
        denoiser,
        _generating,
        x,
        told=needs_sigma,
        stochastic=stochasticity > 0,
        jit_compile=_use_xla(jit_compile),
    )
    plan, sigma_min, beta = (
        tf.constant(value, x.dtype)
        for value in (plan, sigma_min, 1 - stochasticity)
    )
    return run(x, rows, plan, sigma_min, beta)


def _restoring(denoise, spec, told, jit_compile, record):
    """Makes the compiled loop of `restore`."""
    if record and jit_compile:
        # XLA takes no loop that records for it knows not how long.
        denoise, jit_compile = tf.function(denoise, jit_compile=True), False

    def run(x, *settings):
        sigma = settings[0] if told else None
        step_size, max_steps, tolerance = settings[-3:]

        def rule(step, residual):
            walks = residual > tolerance
            h = tf.where(walks, step_size, 0)
            return h, 1 - h, ~walks | (step + 1 >= max_steps)

        return _walk(
            denoise, x, max_steps > 0, lambda step: sigma, rule, record=record
        )

    row = tf.TensorSpec([None], spec.dtype)
    count = tf.TensorSpec([None], tf.int32)
    return tf.function(
        run,
        input_signature=[spec, *[row] * told, row, count, row],
        jit_compile=jit_compile,
        autograph=False,
    )


def _generating(denoise, spec, told, stochastic, jit_compile):
    """Makes the compiled loop of `generate`."""

    def run(x, rows, plan, sigma_min, beta):
        def to_rows(*values):
            return [tf.broadcast_to(v, tf.shape(x)[:1]) for v in values]

        def level(step):
            return to_rows(plan[step])[0] if told else None

        def rule_of_levels(step, residual):
            ratio = plan[step + 1] / plan[step]
            h = tf.minimum((1 - ratio) / beta, 1)
            return to_rows(h, ratio, step + 2 >= tf.size(plan))

        def rule_of_steps(step, residual):
            last = (residual <= sigma_min) | (step + 1 >= tf.size(plan))
            h = tf.where(~last, plan[step], 1)
            return h, tf.where(~last, 1 - beta * h, 0), last

        return _walk(
            denoise,
            x,
            to_rows(True)[0],
            level,
            rule_of_levels if told else rule_of_steps,
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


def _walk(denoise, x, walking, sigma_at, rule, noise_rows=None, record=False):
    """The loop: `x <- x + h (D(x) - x) + gamma eps` until every row is done.

    Args:
        denoise: function of `x` and sigma.
        x: where to start, `[batch, ...]`.
        walking: bool `[batch]`, the rows to begin with.
        sigma_at: function of the step (from 0); the sigma `[batch]` to tell,
            or None for the level read off the residual.
        rule: function of the step and the residual `[batch]`; gives h
            `[batch]` (0: no step), ratio `[batch]` (the next noise level over
            this one) and bool `[batch]` whether the row is done after this
            step.
        noise_rows: int32 `[batch, 2]`, seeds of the noise that is put back;
            None puts none back.
        record: whether to return the way.

    Returns:
        x, num_steps, residual and, or None, the way.
    """

    def unfinished(step, x, walking, *_):
        return tf.reduce_any(walking)

    def advance(step, x, walking, num_steps, residual, *way):
        sigma = sigma_at(step)
        change = _change(denoise, x, sigma)
        now = _root_mean_square(change)
        residual = tf.where(walking, now, residual)
        h, ratio, last = rule(step, now)
        walking &= tf.math.is_finite(now)
        moved = x + per_event(h, x) * change
        if noise_rows is not None:
            level = now if sigma is None else sigma
            gamma = level * tf.sqrt(tf.maximum(ratio**2 - (1 - h) ** 2, 0))
            eps = seeds.normal(
                seeds.fold_in(noise_rows, step), x.shape[1:], x.dtype
            )
            moved += per_event(gamma, x) * eps
        x = tf.where(per_event(walking, x), moved, x)
        num_steps += tf.cast(walking & (h != 0), tf.int32)
        way = [way[0].write(step + 1, x)] if record else []
        return step + 1, x, walking & ~last, num_steps, residual, *way

    none = tf.zeros_like(walking, tf.int32)
    start = [0, x, walking, none, tf.cast(none, x.dtype)]
    if record:
        way = tf.TensorArray(
            x.dtype, 1, dynamic_size=True, element_shape=x.shape
        )
        start.append(way.write(0, x))
    _, x, _, num_steps, residual, *way = tf.while_loop(
        unfinished, advance, start
    )
    if record:
        # In the last round it may be that all rows rest.
        most_steps = tf.reduce_max(tf.concat([num_steps, [0]], axis=0))
        way = [way[0].stack()[: 1 + most_steps]]
    return x, num_steps, residual, way[0] if record else None


def _change(denoise, x, sigma):
    estimate = tf.cast(denoise(x, sigma), x.dtype)
    check(
        estimate.shape.is_compatible_with(x.shape),
        "the denoiser must give what has the shape of x, "
        f"{x.shape}, got {estimate.shape}",
    )
    return tf.ensure_shape(estimate, x.shape) - x


def _root_mean_square(x):
    x = tf.reshape(x, (tf.shape(x)[0], int(np.prod(x.shape[1:]))))
    return tf.sqrt(tf.reduce_mean(x**2, axis=1))


def _use_xla(jit_compile):
    if jit_compile is not None:
        return bool(jit_compile)
    return bool(tf.config.get_visible_devices("GPU"))
