"""Distribution of the noise levels of a denoiser's training."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core.validation import check


def as_log_normal(log_normal, sigma):
    """Returns `(median, standard deviation)` as floats, or None.

    Args:
        log_normal: None, or the median and the standard deviation of ln sigma.
        sigma: `(lowest, highest)`, the ends of the range.

    Raises:
        ValueError: unless both are finite and > 0 and sigma is a range.
    """
    if log_normal is None:
        return None
    values = np.asarray(log_normal, np.float64)
    check(
        values.shape == (2,) and np.all((values > 0) & np.isfinite(values)),
        "log_normal must be (median, standard deviation of ln sigma), each "
        f"> 0, got {log_normal!r}",
    )
    check(
        sigma[0] < sigma[1],
        f"log_normal requires a range of sigma, got only {sigma[0]}",
    )
    median, scale = map(float, values)
    check(
        sigma[0] <= median <= sigma[1],
        f"the median of log_normal must lie within {sigma}, got {median}",
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
