"""The settings of `generate`: defaults, and what fits together."""

import numbers

import numpy as np
import tensorflow as tf

from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling.attributes import has_single_level, needs_sigma
from keras_genmodels.sampling.schedules import SCHEDULES
from keras_genmodels.sampling.solvers import SOLVERS

# Defaults for a denoiser that receives sigma.
SOLVER, SCHEDULE = "dpmpp_2m", "geometric"
# For others, the maximum of evaluations.
MAX_STEPS = 100
# The largest maximum that rows of a blind denoiser can have of their own: each
# has step sizes of its own.
MOST_STEPS_OF_ROWS = 1000


def default_num_steps(solver, final_denoising=True):
    """Returns the default number of evaluations of D of a solver."""
    is_odd = solver in SOLVERS and SOLVERS[solver].needs_odd
    return 19 if is_odd and final_denoising else 20


def as_num_steps(num_steps):
    """Returns numbers of evaluations, one for each sample, as a tensor.

    Args:
        num_steps: as in `generate`. None, an int and a tensor are returned as
            they are.

    Raises:
        ValueError: for a list that is no array.
    """
    if not isinstance(num_steps, list | tuple | np.ndarray):
        return num_steps
    try:
        return tf.convert_to_tensor(num_steps)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"num_steps must be an int, or one for each sample, got {num_steps}"
        ) from error


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
    if not needs_sigma(denoiser):
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
        ("schedule", schedule or SCHEDULE, SCHEDULES),
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
            "num_steps must be an int, or one for each sample, got "
            f"{num_steps.numpy() if tf.executing_eagerly() else num_steps}",
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
    if has_single_level(denoiser):
        kind = "a denoiser of a single noise level repeats one restoring step"
    else:
        kind = "a blind denoiser finds the noise levels by its residual"
    for name, value in (("solver", solver), ("schedule", schedule)):
        check(value is None, f"{kind}: it takes no {name}, got {value!r}")
    check(
        stochasticity == 0 or not has_single_level(denoiser),
        "a denoiser of a single noise level takes no stochasticity",
    )
