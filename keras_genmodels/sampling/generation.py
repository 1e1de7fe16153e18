"""Generates events from noise with any denoiser.

Generating is restoring while the noise level falls from sigma to sigma': the
step x <- x + (1 - sigma' / sigma) (D(x, sigma) - x) is Euler's for the
probability-flow ODE.
"""

import tensorflow as tf

from keras_genmodels.core import loop_cache, seeds, xla
from keras_genmodels.core.events import check_num
from keras_genmodels.core.validation import check
from keras_genmodels.sampling import _walks, attributes, schedules
from keras_genmodels.sampling._inputs import (
    check_scale,
    initial_events,
    resolve_levels,
    validate_inputs,
)
from keras_genmodels.sampling.conditions import with_condition
from keras_genmodels.sampling.restoration import converge
from keras_genmodels.sampling.walk_settings import (
    MAX_STEPS,
    MOST_STEPS_OF_ROWS,
    SCHEDULE,
    SOLVER,
    as_num_steps,
    check_settings,
    default_num_steps,
)


def generate(
    denoiser,
    shape,
    num,
    *,
    seed,
    condition=None,
    guidance=0.0,
    solver=None,
    schedule=None,
    num_steps=None,
    stochasticity=0.0,
    sigma_max=None,
    sigma_min=None,
    final_denoising=True,
    initial=None,
    trajectory=False,
    jit_compile="auto",
):
    """Generates events from noise, by denoising at falling noise levels.

    It starts with a draw from the denoiser's own distribution of noisy data at
    `sigma_max` (`denoiser.noisy_data(sigma_max)`).

    - A denoiser that receives sigma solves the probability-flow ODE dx /
      dsigma = (x - D(x, sigma)) / sigma with `solver`, at the levels of
      `schedule` from `sigma_max` to `sigma_min`; the last step goes to level
      0. With `stochasticity`, a step from sigma to sigma' first goes to the
      level (1 - h) sigma, h = min(1, (1 - sigma' / sigma) / beta), beta = 1 -
      `stochasticity`, and noise then raises it to sigma'.
    - For a blind one, which does not receive sigma, the level is estimated by
      the residual, sigma_t = |D(x) - x| / sqrt(M), with steps x <- x + h_t
      (D(x) - x) + gamma_t eps, h_t = h_0 t / (1 + h_0 (t - 1)), and h_0 such
      that the level should fall to `sigma_min` in `num_steps`. gamma_t^2 =
      ((1 - beta h_t)^2 - (1 - h_t)^2) sigma_t^2. An event is finished by a
      whole denoising step (h = 1) once its level is at most `sigma_min`, or
      after `num_steps`.
    - One trained at a single level runs `restore` at that level, with
      step_size 0.1 and its default tolerance, and takes neither `sigma_min`
      nor `stochasticity`. It only removes noise of its training level;
      starting from noise of another level is out of distribution, so samples
      are often not images.

    A projection on a subspace (`LinearDenoiser` with a rank) leaves every
    point of the subspace fixed, so generating returns noise within it.

    Args:
        denoiser: as in `restore`; a function is passed sigma.
        shape: shape of one event, a tuple, or an int n for (n,).
        num: int >= 1, or in a graph an int32 scalar tensor, number of events.
        seed: int, int32 `[2]` or `[num, 2]`; event i depends on the i-th row
            seed and condition alone.
        condition, guidance: as of `Denoiser.denoise`, scalar or `[num]`.
        solver: "dpmpp_2m" (the default), "heun" or "euler"; only for a
            denoiser that receives sigma.
        schedule: "geometric" (the default) or "karras"; as `solver`.
        num_steps: int >= 1 or ints `[num]`, number of evaluations of D, by
            default 20; odd for "heun", by default 19. For a denoiser that does
            not receive sigma their maximum, by default 100; at most 1000 if
            each event has its own.
        stochasticity: in [0, 1), strength of the added noise; 0 for
            "dpmpp_2m".
        sigma_max, sigma_min: first and last noise level, 0 < sigma_min <=
            sigma_max; by default the denoiser's `sigma_range`. A function
            needs both.
        final_denoising: whether the last step goes from `sigma_min` to level
            0. False ends the walk at `sigma_min`, so that the events are
            draws of p_sigma_min; only for a denoiser that receives sigma.
            "heun" then takes an even number of evaluations.
        initial: float tensor or array `[num, *shape]` to start from instead,
            such as noisy images of the level `sigma_max`. A function, which
            has no `noisy_data`, needs it.
        trajectory: whether to return the events after each evaluation of D,
            too.
        jit_compile: as in `restore`.

    Returns:
        float tensor `[num, *shape]`, not clipped; with `trajectory`
        `[1 + most steps, num, *shape]`, from the start to the result. An event
        that is finished is repeated.

    Raises:
        ValueError: if an argument is out of range, is needed and missing, or
            does not apply to the denoiser or solver.

    #### References

    Karras et al. (2022), Elucidating the design space of diffusion-based
    generative models, arXiv:2206.00364. Lu et al. (2022), DPM-Solver++,
    arXiv:2211.01095. Kadkhodaie and Simoncelli (2021), Stochastic solutions
    for linear inverse problems using the prior implicit in a denoiser,
    arXiv:2007.13640, algorithm 1.
    """
    check_num(num)
    num_steps = as_num_steps(num_steps)
    denoiser = with_condition(denoiser, condition, guidance)
    check_settings(
        denoiser, solver, schedule, num_steps, stochasticity, final_denoising
    )
    needs_sigma = attributes.needs_sigma(denoiser)
    single_level = not needs_sigma and attributes.has_single_level(denoiser)
    check(
        not single_level or sigma_min is None,
        "a denoiser of a single noise level takes no sigma_min",
    )
    levels = resolve_levels(denoiser, sigma_max, sigma_min)
    rows = seeds.row_seeds(seed, num)
    x = initial_events(denoiser, shape, rows, levels[0], initial)
    compiling = {
        "jit_compile": xla.resolve_loop(jit_compile, denoiser),
        "record": bool(trajectory),
    }
    if single_level:
        return _restored(denoiser, x, num_steps, **compiling)
    x, _ = validate_inputs(denoiser, x, levels[0] if needs_sigma else None)
    if initial is not None:
        check_scale(denoiser, x, levels[0])
    start = denoiser, x, rows, levels, num_steps, stochasticity
    if not needs_sigma:
        return _walk_by_residual(*start, **compiling)
    return _walk_by_levels(
        *start,
        solver=solver or SOLVER,
        schedule=schedule or SCHEDULE,
        to_zero=bool(final_denoising),
        **compiling,
    )


def _walk_by_levels(
    denoiser, x, rows, levels, num_steps, stochasticity, **compiling
):
    """Generates with a denoiser that receives sigma."""
    run = loop_cache.loop_of(
        denoiser,
        _walks.by_levels,
        x,
        any_size=not compiling["jit_compile"],
        stochastic=stochasticity > 0,
        **compiling,
    )
    default = default_num_steps(compiling["solver"], compiling["to_zero"])
    counts = _counts(x, num_steps, default)
    return run(x, rows, counts, *_as_float64(*levels, 1 - stochasticity))


def _walk_by_residual(
    denoiser, x, rows, levels, num_steps, stochasticity, **compiling
):
    """Generates with a blind denoiser."""
    run = loop_cache.loop_of(
        denoiser,
        _walks.by_residual,
        x,
        any_size=not compiling["jit_compile"],
        stochastic=stochasticity > 0,
        **compiling,
    )
    counts = _counts(x, num_steps, MAX_STEPS)
    first = _first_steps(counts, num_steps, *levels, float(stochasticity))
    return run(
        x, rows, counts, first, *_as_float64(levels[1], 1 - stochasticity)
    )


def _counts(x, num_steps, default):
    """Returns the number of evaluations of each row, int32 `[batch]`."""
    if num_steps is None:
        num_steps = default
    if tf.is_tensor(num_steps) and num_steps.shape.rank:
        check(
            num_steps.shape.is_compatible_with(x.shape[:1]),
            f"num_steps must be one int, or one for each of {x.shape[0]} "
            f"samples, got {num_steps.shape[0]}",
        )
    return tf.broadcast_to(tf.cast(num_steps, tf.int32), tf.shape(x)[:1])


def _first_steps(counts, num_steps, *levels):
    """Returns the first step size of each row, float64 `[batch]`."""
    if not tf.is_tensor(num_steps):
        count = num_steps or MAX_STEPS
        h_0 = schedules.first_step(levels[0], levels[1], count, levels[2])
        return tf.fill(tf.shape(counts), tf.constant(h_0, tf.float64))
    known = [
        schedules.first_step(levels[0], levels[1], count, levels[2])
        for count in range(1, MOST_STEPS_OF_ROWS + 1)
    ]
    return tf.gather(tf.constant(known, tf.float64), counts - 1)


def _restored(denoiser, x, num_steps, jit_compile, record):
    found = converge(
        denoiser,
        x,
        max_steps=MAX_STEPS if num_steps is None else num_steps,
        trajectory=record,
        jit_compile=jit_compile,
    )
    return found.trajectory if record else found.x


def _as_float64(*values):
    return [tf.constant(value, tf.float64) for value in values]
