"""Generates events from noise with any denoiser.

Generating is restoring while the noise level falls from sigma to sigma': the
step x <- x + (1 - sigma' / sigma) (D(x, sigma) - x) is Euler's for the
probability-flow ODE.
"""

import numbers

import numpy as np
import tensorflow as tf

from keras_genmodels.core import loop_cache, seeds, xla
from keras_genmodels.core.events import check_num
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling import _walks, schedules
from keras_genmodels.sampling._inputs import (
    check_scale,
    initial_events,
    resolve_levels,
    validate_inputs,
)
from keras_genmodels.sampling.conditions import with_condition
from keras_genmodels.sampling.restoration import converge
from keras_genmodels.sampling.solvers import SOLVERS

# Defaults for a denoiser that receives sigma.
SOLVER, SCHEDULE = "dpmpp_2m", "geometric"
# And for others: the maximum, and the step size for a single noise level.
MAX_STEPS, _STEP_SIZE = 100, 0.1
# The largest maximum that rows of a blind denoiser can have of their own: each
# has step sizes of its own.
MOST_STEPS_OF_ROWS = 1000


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
        num_steps: int >= 1 or int32 tensor `[num]`, number of evaluations of
            D, by default 20; odd for "heun", by default 19. For a denoiser
            that does not receive sigma their maximum, by default 100; at most
            1000 in a tensor.
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
    denoiser = with_condition(denoiser, condition, guidance)
    check_settings(
        denoiser, solver, schedule, num_steps, stochasticity, final_denoising
    )
    needs_sigma = getattr(denoiser, "needs_sigma", True)
    single_level = not needs_sigma and _has_single_level(denoiser)
    check(
        not single_level or sigma_min is None,
        "a denoiser of a single noise level takes no sigma_min",
    )
    sigma_max, sigma_min = resolve_levels(denoiser, sigma_max, sigma_min)
    rows = seeds.row_seeds(seed, num)
    x = initial_events(denoiser, shape, rows, sigma_max, initial)
    compiling = {
        "jit_compile": xla.resolve(jit_compile, generate),
        "record": bool(trajectory),
    }
    if single_level:
        return _restored(denoiser, x, num_steps, **compiling)
    x, _ = validate_inputs(denoiser, x, sigma_max if needs_sigma else None)
    if initial is not None:
        check_scale(denoiser, x, sigma_max)
    compiling["stochastic"] = stochasticity > 0
    constants = _as_float64(sigma_min, 1 - stochasticity)
    if needs_sigma:
        compiling |= {
            "solver": solver or SOLVER,
            "schedule": schedule or SCHEDULE,
            "to_zero": bool(final_denoising),
        }
        run = loop_cache.loop_of(denoiser, _walks.by_levels, x, **compiling)
        default = default_num_steps(solver or SOLVER, final_denoising)
        counts = _counts(x, num_steps, default)
        return run(x, rows, counts, *_as_float64(sigma_max), *constants)
    run = loop_cache.loop_of(denoiser, _walks.by_residual, x, **compiling)
    counts = _counts(x, num_steps, MAX_STEPS)
    levels = float(sigma_max), float(sigma_min)
    first = _first_steps(counts, num_steps, *levels, float(stochasticity))
    return run(x, rows, counts, first, *constants)


def _counts(x, num_steps, default):
    """Returns the number of evaluations of each row, int32 `[batch]`."""
    if num_steps is None:
        num_steps = default
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


def default_num_steps(solver, final_denoising=True):
    """Returns the default number of evaluations of D of a solver."""
    is_odd = solver in SOLVERS and SOLVERS[solver].needs_odd
    return 19 if is_odd and final_denoising else 20


def check_settings(
    denoiser,
    solver=None,
    schedule=None,
    num_steps=None,
    stochasticity=0.0,
    final_denoising=True,
):
    """Raises ValueError for settings of `generate` that do not fit together.

    Args:
        denoiser, solver, schedule, num_steps, stochasticity, final_denoising:
            as in `generate`.
    """
    check(
        isinstance(stochasticity, numbers.Real) and 0 <= stochasticity < 1,
        f"stochasticity must be in [0, 1), got {stochasticity!r}",
    )
    if not getattr(denoiser, "needs_sigma", True):
        _check_without_levels(denoiser, solver, schedule, stochasticity)
        check(
            final_denoising,
            "final_denoising=False requires a denoiser that receives sigma",
        )
        _check_num_steps(num_steps, most=MOST_STEPS_OF_ROWS)
        return
    solver = SOLVER if solver is None else solver
    for name, value, known in (
        ("solver", solver, SOLVERS),
        ("schedule", schedule or SCHEDULE, schedules.SCHEDULES),
    ):
        check(
            value in known,
            f"{name} must be one of {', '.join(known)}, got {value!r}",
        )
    noisy = [name for name, found in SOLVERS.items() if found.adds_noise]
    check(
        stochasticity == 0 or solver in noisy,
        f"stochasticity requires solver {' or '.join(noisy)}, not {solver}",
    )
    _check_num_steps(num_steps)
    parity, ending = ("odd", "") if final_denoising else ("even", " here")
    check(
        not SOLVERS[solver].needs_odd
        or _have_remainder(num_steps, int(final_denoising)),
        f"num_steps must be {parity} for {solver}{ending}, which evaluates D "
        f"twice for each level but the last, got {num_steps}",
    )


def _have_remainder(num_steps, remainder):
    """Returns whether known numbers leave a remainder when divided by 2."""
    if tf.is_tensor(num_steps):
        num_steps = tf.get_static_value(num_steps)
    known = [] if num_steps is None else np.asarray(num_steps)
    return bool(np.all(np.asarray(known) % 2 == remainder))


def _check_num_steps(num_steps, most=None):
    """Checks the number of evaluations, if it is known.

    Args:
        num_steps: as in `generate`.
        most: their maximum, if they are a tensor; None for no limit.
    """
    if tf.is_tensor(num_steps):
        check(
            num_steps.dtype.is_integer and num_steps.shape.rank in (0, 1),
            f"num_steps must be an int or int32 [num], got {num_steps}",
        )
        counts = tf.get_static_value(num_steps)
        if counts is None:
            return
        counts = np.ravel(counts).tolist()
    else:
        counts = [] if num_steps is None else [num_steps]
    for count in counts:
        check_count("num_steps", count)
    check(
        most is None or not tf.is_tensor(num_steps) or max(counts) <= most,
        f"num_steps of rows must be at most {most}, got {num_steps}",
    )


def _check_without_levels(denoiser, solver, schedule, stochasticity):
    """Checks the settings of a denoiser that does not receive sigma."""
    if _has_single_level(denoiser):
        kind = "a denoiser of a single noise level repeats one restoring step"
    else:
        kind = "a blind denoiser finds the noise levels by its residual"
    for name, value in (("solver", solver), ("schedule", schedule)):
        check(value is None, f"{kind}: it takes no {name}, got {value!r}")
    check(
        stochasticity == 0 or not _has_single_level(denoiser),
        "a denoiser of a single noise level takes no stochasticity",
    )


def _restored(denoiser, x, num_steps, jit_compile, record):
    found = converge(
        denoiser,
        x,
        step_size=_STEP_SIZE,
        max_steps=MAX_STEPS if num_steps is None else num_steps,
        trajectory=record,
        jit_compile=jit_compile,
    )
    return found.trajectory if record else found.x


def _as_float64(*values):
    return [tf.constant(value, tf.float64) for value in values]


def _has_single_level(denoiser):
    sigma_range = getattr(denoiser, "sigma_range", None)
    return sigma_range is not None and sigma_range[0] == sigma_range[1]
