"""An adaptive Runge-Kutta method with a step size of its own for each row."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core.events import shape_of_events

# Cash and Karp's pair of orders 5 and 4: stages, weights, and the weights of
# the error estimate.
_STAGES = np.zeros((6, 6))
_STAGES[1, :1] = [1 / 5]
_STAGES[2, :2] = [3 / 40, 9 / 40]
_STAGES[3, :3] = [3 / 10, -9 / 10, 6 / 5]
_STAGES[4, :4] = [-11 / 54, 5 / 2, -70 / 27, 35 / 27]
_STAGES[5, :5] = [
    1631 / 55296,
    175 / 512,
    575 / 13824,
    44275 / 110592,
    253 / 4096,
]
_WEIGHTS = np.array([37 / 378, 0, 250 / 621, 125 / 594, 0, 512 / 1771])
_ERROR_WEIGHTS = _WEIGHTS - np.array(
    [2825 / 27648, 0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4]
)
NUM_STAGES = len(_WEIGHTS)
# The one stage whose f neither result nor error uses.
UNUSED_STAGE = 1

_FIRST_STEP = 0.1
# Of the factor between two step sizes.
_SAFETY, _LEAST_FACTOR, _LARGEST_FACTOR = 0.9, 0.2, 5.0


class Problem(NamedTuple):
    """What `integrate` solves: dx/dt = v(x, t), and the integral of f(x, t).

    Args:
        derivative: function of the stage (int32 scalar), x `[batch, M]`, t
            `[batch]` and the panel, int32 `[batch]`, to v `[batch, M]` and f
            `[batch, k]`, float64. In stage `UNUSED_STAGE` f is not used.
        error: function of t, v at the start of a step, and the step's errors
            of x and of the integral of f, to one error, `[batch]`.
        start, end: float64 `[batch]`, first and last t.
        num_panels: int >= 1. The interval is divided into panels of equal
            length, at whose ends steps end, so that f may depend on the panel.
        tolerance: float > 0, the largest error of a step.
        max_steps: int >= 1. No step is smaller than 1 / `max_steps` of the
            interval, whatever its error, which bounds the work.
    """

    derivative: object
    error: object
    start: tf.Tensor
    end: tf.Tensor
    num_panels: int
    tolerance: float
    max_steps: int


class Path(NamedTuple):
    """A path up to `t`; also the state of the loop.

    Args:
        x: float64 `[batch, M]`.
        integrals: float64 `[batch, panels, k]`, of f over each panel.
        error: float64 `[batch]`, sum of the errors of the steps.
        num_steps: int32 `[batch]`, steps tried, rejected ones too.
        t: float64 `[batch]`.
        panel: int32 `[batch]`; `num_panels` at the end.
        size: float64 `[batch]`, of the next step.
    """

    x: tf.Tensor
    integrals: tf.Tensor
    error: tf.Tensor
    num_steps: tf.Tensor
    t: tf.Tensor
    panel: tf.Tensor
    size: tf.Tensor


def integrate(problem, x, num_integrals):
    """Solves an ordinary differential equation with error control.

    A step whose error is above the tolerance is repeated with a smaller one.
    Row i of the result depends on row i of the arguments alone. A row whose
    error is not finite ends at once.

    Args:
        problem: `Problem`.
        x: float64 `[batch, M]`, the start.
        num_integrals: int, k.

    Returns:
        `Path`, up to the end.

    #### References

    Cash and Karp (1990), A variable order Runge-Kutta method for initial value
    problems with rapidly varying right-hand sides, ACM TOMS 16.
    """
    zeros = tf.zeros_like(problem.start)
    count = tf.zeros_like(zeros, tf.int32)
    shape = (tf.shape(x)[0], problem.num_panels, num_integrals)
    width = (problem.end - problem.start) / problem.num_panels
    start = Path(
        x,
        tf.zeros(shape, x.dtype),
        zeros,
        count,
        problem.start,
        count,
        tf.minimum(width, _FIRST_STEP),
    )
    (path,) = tf.while_loop(
        lambda path: tf.reduce_any(path.panel < problem.num_panels),
        lambda path: (_advance(problem, path),),
        (start,),
    )
    return path


def _advance(problem, path):
    """Tries one step of each row."""
    length = problem.end - problem.start
    least = length / problem.max_steps
    done = tf.cast(path.panel + 1, least.dtype) / problem.num_panels
    edge = problem.start + length * done
    is_cut = path.size >= edge - path.t
    step = tf.where(is_cut, edge - path.t, path.size)
    change, integral, error = _step(problem, path, step)
    is_finite = tf.math.is_finite(error)
    is_small = (error <= problem.tolerance) | (step <= least)
    is_new = (path.panel < problem.num_panels) & (is_small | ~is_finite)
    factor = _SAFETY * (problem.tolerance / tf.maximum(error, 1e-30)) ** 0.2
    factor = tf.clip_by_value(factor, _LEAST_FACTOR, _LARGEST_FACTOR)
    size = tf.maximum(step * factor, least)
    # The end of a panel, which cut this step short, does not limit the next.
    size = tf.where(is_cut & is_small, tf.maximum(size, path.size), size)
    panel = path.panel + tf.cast(is_new & is_cut, tf.int32)
    place = tf.one_hot(path.panel, problem.num_panels, dtype=integral.dtype)
    integral = tf.where(is_new[:, None], integral, 0)
    return Path(
        tf.where(is_new[:, None], path.x + change, path.x),
        path.integrals + place[:, :, None] * integral[:, None, :],
        path.error + tf.where(is_new, error, 0),
        path.num_steps + tf.cast(path.panel < problem.num_panels, tf.int32),
        tf.where(is_new, tf.where(is_cut, edge, path.t + step), path.t),
        tf.where(is_finite, panel, problem.num_panels),
        tf.where(is_finite, size, length),
    )


def _step(problem, path, step):
    """Computes one step of each row.

    Returns:
        the change of x, `[batch, M]`, the integral of f, `[batch, k]`, and the
        error, `[batch]`.
    """
    stages, weights, error_weights = (
        tf.constant(values, path.x.dtype)
        for values in (_STAGES, _WEIGHTS, _ERROR_WEIGHTS)
    )

    def combine(weights, derivatives):
        return step[:, None] * tf.einsum("s,bsm->bm", weights, derivatives)

    def stage(i, v, f):
        t = path.t + step * tf.reduce_sum(stages[i])
        x = path.x + combine(stages[i], v)
        found = problem.derivative(i, x, t, path.panel)
        place = tf.one_hot(i, NUM_STAGES, dtype=x.dtype)[:, None]
        new = [
            values + place * value[:, None, :]
            for values, value in zip((v, f), found, strict=True)
        ]
        return i + 1, *new

    def zeros(size):
        return tf.zeros((tf.shape(path.x)[0], NUM_STAGES, size), path.x.dtype)

    (size,) = shape_of_events(path.x)
    _, v, f = tf.while_loop(
        lambda i, *_: i < NUM_STAGES,
        stage,
        (0, zeros(size), zeros(path.integrals.shape[2])),
    )
    errors = [combine(error_weights, values) for values in (v, f)]
    error = problem.error(path.t, v[:, 0], *errors)
    return combine(weights, v), combine(weights, f), error
