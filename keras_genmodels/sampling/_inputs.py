"""Checks of arguments, most of them of the functions over any denoiser."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import as_floating, as_sigma
from keras_genmodels.core.validation import check
from keras_genmodels.denoisers.base import Denoiser


def read_events(denoiser, x, sigma):
    """Checks x and sigma; gives x as a tensor, sigma as `[batch]` or None."""
    if isinstance(denoiser, Denoiser):
        x, sigma = denoiser.read(x, sigma)
    else:
        if not callable(getattr(denoiser, "denoise", denoiser)):
            raise UserError(
                "denoiser must have denoise(x, sigma) or be a function of "
                f"both, got {denoiser!r}"
            )
        x = as_floating(x)
        check(
            x.shape.rank is not None and x.shape.rank >= 2,
            f"x must have shape [batch, ...], got {x.shape}",
        )
        sigma = None if sigma is None else as_sigma(sigma, x)
    value = tf.get_static_value(x)
    check(
        value is None or np.isfinite(value).all(),
        "x has values that are not finite (NaN or inf)",
    )
    return x, sigma


# The limits in words, and whether a known value keeps to them.
_SETTINGS = {
    "step_size": ("in (0, 2)", lambda v: (v > 0) & (v < 2)),
    "max_steps": (
        "an int in [0, 2**31)",
        lambda v: (v.dtype.kind in "iu") & (v >= 0) & (v < 2**31),
    ),
    "tolerance": (">= 0", lambda v: v >= 0),
}


def read_setting(name, value, x):
    """Reads a setting of the loop as `[batch]`, int32 or of x's dtype."""
    dtype = tf.int32 if name == "max_steps" else x.dtype
    limits, keeps = _SETTINGS[name]
    if not tf.is_tensor(value):
        # By way of NumPy, as TensorFlow would round Python's floats.
        value = np.asarray(value)
    known = tf.get_static_value(value) if tf.is_tensor(value) else value
    check(
        known is None
        or (
            np.asarray(known).dtype.kind in "fiu"
            and np.all(keeps(np.asarray(known)))
        ),
        f"{name} must be {limits}, got {known}",
    )
    value = tf.cast(value, dtype)
    check(
        value.shape.rank == 0
        or (
            value.shape.rank == 1
            and value.shape.is_compatible_with(x.shape[:1])
        ),
        f"{name} must be a scalar or [batch], got {value.shape}",
    )
    return tf.broadcast_to(value, tf.shape(x)[:1])


def read_levels(denoiser, sigma_max, sigma_min):
    """Resolves the noise levels to start and to end at."""
    if sigma_max is None or sigma_min is None:
        known = getattr(denoiser, "sigma_range", None)
        check(
            known is not None,
            "this denoiser has no sigma_range: give sigma_max and sigma_min",
        )
        sigma_max = known[1] if sigma_max is None else sigma_max
        sigma_min = min(known[0], sigma_max) if sigma_min is None else sigma_min
    check(
        0 < sigma_min <= sigma_max < np.inf,
        "the levels must be 0 < sigma_min <= sigma_max, got sigma_min="
        f"{sigma_min}, sigma_max={sigma_max}",
    )
    return float(sigma_max), float(sigma_min)


def knows_one_level(denoiser):
    known = getattr(denoiser, "sigma_range", None)
    return known is not None and known[0] == known[1]


def read_start(denoiser, shape, rows, sigma_max, initial):
    """Gives `initial`, or the data's mean plus noise."""
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if initial is not None:
        initial = tf.convert_to_tensor(initial)
        check(
            initial.shape.is_compatible_with((rows.shape[0], *shape)),
            f"initial must have shape {[rows.shape[0], *shape]}, got "
            f"{initial.shape}",
        )
        return initial
    mean = getattr(denoiser, "data_mean", None)
    check(
        mean is not None,
        "this denoiser has no data_mean to start from: give initial",
    )
    mean = tf.convert_to_tensor(mean)
    check(
        mean.shape.is_compatible_with(shape),
        f"shape must be {tuple(mean.shape)} as the data's, got {shape}",
    )
    return mean + sigma_max * seeds.normal(rows, shape, mean.dtype)
