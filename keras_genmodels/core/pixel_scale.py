"""Checks that images are on the scale of pixels in [0, 1].

Wider than [0, 1], so that noise and rounding pass; 0 to 255 does not. Only
arrays and eager tensors are checked: the values of a graph are not known.
"""

import tensorflow as tf

from keras_genmodels.core import assertions

CLEAN = (-1.0, 2.0)
ADVICE = "pixels are in [0, 1]: divide grey levels of 0 to 255 by 255"


def largest_noisy(sigma):
    """Returns the largest distance from 0 of a noisy pixel, 10 + 8 sigma."""
    return 10.0 + 8.0 * sigma


def is_image(event_shape):
    """Returns whether events are (height, width, 1 to 4 channels)."""
    return (
        event_shape is not None
        and len(event_shape) == 3
        and event_shape[-1] in range(1, 5)
    )


def check_clean(x, event_shape, name="x"):
    """Checks clean images.

    Args:
        x: floating array or tensor `[batch, *event_shape]`.
        event_shape: tuple; events that are no images are not checked.
        name: name of the argument, for the message.

    Raises:
        ValueError: for values below -1 or above 2.
    """
    if not _is_symbolic(x):
        _require_clean_scale(x, event_shape, name)


def check_noisy(x, sigma, event_shape):
    """Checks noisy images.

    Args:
        x: floating tensor `[batch, *event_shape]`.
        sigma: noise level, scalar or `[batch]`.
        event_shape: tuple; events that are no images are not checked.

    Raises:
        ValueError: for a value further from 0 than 10 + 8 sigma.
    """
    if not (_is_symbolic(x) or _is_symbolic(sigma)):
        _require_noisy_scale(x, sigma, event_shape, "x")


def require_clean(x, event_shape, name="x"):
    """Checks that events are finite and images clean, also in a graph.

    Args:
        x, event_shape, name: as of `check_clean`.

    Raises:
        ValueError: as `check_clean`, and for values that are not finite; in a
            graph tf.errors.InvalidArgumentError instead, when it runs.
    """
    _require_finite(x, name)
    _require_clean_scale(x, event_shape, name)


def require_noisy(x, sigma, event_shape, name="x"):
    """Checks noisy events as `require_clean`, with the bounds of noisy ones.

    Args:
        x: floating tensor `[batch, *event_shape]`.
        sigma: noise level, scalar or `[batch]`.
        event_shape, name: as of `check_clean`.
    """
    _require_finite(x, name)
    _require_noisy_scale(x, sigma, event_shape, name)


# NaN passes both: it has a message of its own.
def _require_clean_scale(x, event_shape, name):
    if not is_image(event_shape):
        return
    low, high = tf.reduce_min(x), tf.reduce_max(x)
    _require(
        ~((low < CLEAN[0]) | (high > CLEAN[1])) | (tf.size(x) == 0),
        f"{name} has values from {{}} to {{}}, and {ADVICE}",
        low,
        high,
    )


def _require_noisy_scale(x, sigma, event_shape, name):
    if not is_image(event_shape):
        return
    largest = tf.reduce_max(tf.abs(x), (1, 2, 3))
    limit = largest_noisy(tf.cast(sigma, largest.dtype))
    _require(
        ~tf.reduce_any(largest > limit),
        f"{name} has values up to {{}} for a sigma of {{}}, and {ADVICE}",
        tf.reduce_max(largest),
        tf.reduce_max(sigma),
    )


def _require_finite(x, name):
    _require(
        tf.reduce_all(tf.math.is_finite(x)),
        f"{name} has values that are not finite (NaN or inf)",
    )


def _require(is_right, message, *values):
    if _is_symbolic(is_right):
        text = tf.strings.format(message, values) if values else message
        assertions.require(is_right, text)
    elif not is_right:
        raise ValueError(message.format(*(f"{float(v):g}" for v in values)))


def _is_symbolic(x):
    return tf.is_tensor(x) and not hasattr(x, "numpy")
