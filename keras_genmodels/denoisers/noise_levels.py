"""Noise levels of a denoiser's training: their range and distribution."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core.validation import check

# Of a denoiser that receives sigma: up to where the noisy data are Gaussian,
# so that it generates, and mostly from 0.1 to 1, where it restores.
_RANGE, _LOG_NORMAL = (0.02, 40.0), (0.35, 1.2)
# Of a blind one, whose network is not scaled to the level.
_BLIND_RANGE = (0.05, 1.5)


def resolve(sigma, log_normal, blind):
    """Checks the noise levels of a training and fills in their defaults.

    Args:
        sigma, log_normal, blind: as of `DenoisingAutoencoder`.

    Returns:
        `(lowest, highest)`, and the median and the standard deviation of
        ln sigma of log-normal levels, else None; all floats.

    Raises:
        ValueError: for levels that are not positive or not in order, and for a
            log-normal distribution of a single level, or with its median
            outside of the range.
    """
    if sigma is None:
        sigma = _BLIND_RANGE if blind else _RANGE
        if log_normal is None and not blind:
            log_normal = _LOG_NORMAL
    levels = np.atleast_1d(np.asarray(sigma, np.float64))
    check(
        levels.shape in ((1,), (2,))
        and np.all((levels > 0) & np.isfinite(levels))
        and levels[0] <= levels[-1],
        f"sigma must be a level > 0 or (lowest, highest), got {sigma!r}",
    )
    lowest, highest = float(levels[0]), float(levels[-1])
    check(
        not blind or lowest < highest,
        f"blind requires a range of sigma, got only {lowest}",
    )
    if log_normal is not None:
        log_normal = _as_log_normal(log_normal, lowest, highest)
    return (lowest, highest), log_normal


def _as_log_normal(log_normal, lowest, highest):
    values = np.asarray(log_normal, np.float64)
    check(
        values.shape == (2,) and np.all((values > 0) & np.isfinite(values)),
        "log_normal must be (median, standard deviation of ln sigma), each "
        f"> 0, got {log_normal!r}",
    )
    check(
        lowest < highest,
        f"log_normal requires a range of sigma, got only {lowest}",
    )
    median, scale = map(float, values)
    check(
        lowest <= median <= highest,
        f"the median of log_normal must lie within {lowest} and {highest}, "
        f"got {median}",
    )
    return median, scale


def quantile(p, sigma, log_normal):
    """Returns the noise levels below which a part p of the levels lie.

    Args:
        p: float tensor, in [0, 1].
        sigma: `(lowest, highest)`.
        log_normal: `(median, standard deviation of ln sigma)` of log-normal
            levels, cut at the ends of the range; None for log-uniform ones.

    Returns:
        Tensor of p's shape and dtype, within the range.
    """
    lowest, highest = map(math.log, sigma)
    if log_normal is None:
        return tf.exp(lowest + p * (highest - lowest))
    median, scale = math.log(log_normal[0]), log_normal[1]
    first, last = (
        0.5 * math.erfc((median - end) / (scale * math.sqrt(2)))
        for end in (lowest, highest)
    )
    level = median + scale * tf.math.ndtri(first + p * (last - first))
    return tf.exp(tf.clip_by_value(level, lowest, highest))
