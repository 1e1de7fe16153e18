"""Solvers of the probability-flow ODE dx / dsigma = (x - D(x, sigma)) / sigma.

A solver has two parts. Its step is a function of the current x and D(x), of
those of the evaluation before, and of the noise levels. Its evaluations are a
function of the number of the evaluation to these levels.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_genmodels.core.events import per_event


class Levels(NamedTuple):
    """Noise levels of one evaluation of D, float64 `[batch]` each.

    Args:
        last: of the evaluation before; at the first that of this one.
        current: of this evaluation.
        target: to which the solver steps.
        noise: standard deviation of the noise to add then.
    """

    last: tf.Tensor
    current: tf.Tensor
    target: tf.Tensor
    noise: tf.Tensor


class Evaluation(NamedTuple):
    """Events and their denoised versions, `[batch, ...]` each."""

    x: tf.Tensor
    denoised: tf.Tensor


class Solver(NamedTuple):
    """A solver of `SOLVERS`.

    Args:
        step: function of `Evaluation` now and before, and `Levels`, to x.
        evaluations: function of the number of the evaluation (from 0), their
            count `[batch]`, a function of index and count of levels to
            levels, and beta; to `Levels`.
        adds_noise: whether it may be stochastic.
        needs_odd: whether the number of evaluations must be odd.
    """

    step: Callable
    evaluations: Callable
    adds_noise: bool = False
    needs_odd: bool = False


def euler(now, before, levels):
    """Returns x + (1 - sigma' / sigma) (D - x): order 1."""
    ratio = _for_events(levels.target / levels.current, now.x)
    return now.x + (1 - ratio) * (now.denoised - now.x)


def dpmpp_2m(now, before, levels):
    """Returns the step of DPM-Solver++(2M), order 2.

    It is Euler's with D extrapolated from the last two evaluations. The first
    step and that to level 0 are Euler's.

    #### References

    Lu et al. (2022), DPM-Solver++: fast solver for guided sampling of
    diffusion probabilistic models, arXiv:2211.01095, algorithm 2.
    """
    # 0 for level 0 and for equal levels.
    target = tf.where(levels.target > 0, levels.target, levels.current)
    weight = tf.math.divide_no_nan(
        tf.math.log(levels.current / target),
        2 * tf.math.log(levels.last / levels.current),
    )
    slope = now.denoised - before.denoised
    denoised = now.denoised + _for_events(weight, now.x) * slope
    return euler(Evaluation(now.x, denoised), before, levels)


def heun(now, before, levels):
    """Returns the step of Heun's method, order 2.

    An evaluation at the target itself corrects the Euler step of the
    evaluation before.

    #### References

    Karras et al. (2022), arXiv:2206.00364, algorithm 1.
    """
    ratio = _for_events(levels.current / levels.last, now.x)
    corrected = before.x + 0.5 * (
        (1 - ratio) * (before.denoised - before.x)
        + (1 / ratio - 1) * (now.denoised - now.x)
    )
    is_correction = per_event(levels.target == levels.current, now.x)
    return tf.where(is_correction, corrected, euler(now, before, levels))


def one_evaluation_a_level(step, count, level_at, beta):
    """Returns the `Levels` of solvers with one evaluation for each level.

    Args:
        step: int32 scalar, number of the evaluation.
        count: int32 `[batch]`, number of evaluations of each row.
        level_at: function of an index and the number of levels, `[batch]`
            each, to noise levels, float64 `[batch]`; 0 from that number on.
        beta: float64 scalar in (0, 1], 1 - stochasticity.
    """
    step = tf.minimum(step, count - 1)
    current, following = level_at(step, count), level_at(step + 1, count)
    target = _lowered(current, following, beta)
    last = level_at(tf.maximum(step - 1, 0), count)
    return Levels(last, current, target, _missing_noise(target, following))


def two_evaluations_a_level(step, count, level_at, beta):
    """Returns the `Levels` of Heun's method, for an odd count.

    All levels but the last one have a prediction, at even numbers, and then a
    correction. With noise, no correction is below the last level, as D would
    be evaluated there.
    """
    step = tf.minimum(step, count - 1)
    index, num_levels = step // 2, (count + 1) // 2
    current = level_at(index, num_levels)
    following = level_at(index + 1, num_levels)
    lowest = level_at(num_levels - 1, num_levels)
    target = tf.maximum(_lowered(current, following, beta), lowest)
    target = tf.where(following > 0, target, 0)
    noise = _missing_noise(target, following)
    is_correction = step % 2 == 1
    return Levels(
        current,
        tf.where(is_correction, target, current),
        target,
        tf.where(is_correction, noise, 0),
    )


def _lowered(current, following, beta):
    """Returns the level before noise is added, from 0 to `following`."""
    h = tf.minimum((1 - following / current) / beta, 1)
    return (1 - h) * current


def _missing_noise(target, following):
    return tf.sqrt(tf.maximum(following**2 - target**2, 0))


def _for_events(values, x):
    return per_event(tf.cast(values, x.dtype), x)


SOLVERS = {
    "dpmpp_2m": Solver(dpmpp_2m, one_evaluation_a_level),
    "heun": Solver(
        heun, two_evaluations_a_level, adds_noise=True, needs_odd=True
    ),
    "euler": Solver(euler, one_evaluation_a_level, adds_noise=True),
}
