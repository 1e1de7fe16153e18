"""Checks of the arguments of the loops over a denoiser."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.events import as_floating, as_sigma
from keras_genmodels.core.validation import check
from keras_genmodels.sampling import attributes
from keras_genmodels.sampling.noisy_data import noisy_data_of


def validate_inputs(denoiser, x, sigma):
    """Returns x as a float tensor, and sigma as `[batch]` or None.

    Raises:
        ValueError: if they are not arguments of the denoiser, if x is not
            finite, and if `denoiser` is none.
    """
    if hasattr(denoiser, "validate_inputs"):
        x, sigma = denoiser.validate_inputs(x, sigma)
    else:
        check(
            callable(getattr(denoiser, "denoise", denoiser)),
            "denoiser must have denoise(x, sigma) or be a function of both, "
            f"got {denoiser!r}",
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


def check_scale(denoiser, x, sigma):
    """Raises ValueError if images are on another scale than the denoiser's."""
    if hasattr(denoiser, "validate_noisy"):
        denoiser.validate_noisy(x, sigma)


# Description of the allowed values, and a test of static ones.
_SETTINGS = {
    "step_size": ("in (0, 2)", lambda v: (v > 0) & (v < 2)),
    "max_steps": (
        "an int in [0, 2**31)",
        lambda v: (v.dtype.kind in "iu") & (v >= 0) & (v < 2**31),
    ),
    "tolerance": (">= 0", lambda v: v >= 0),
}


def validate_setting(name, value, x):
    """Returns a setting of `restore` as `[batch]`, int32 or of x's dtype."""
    dtype = tf.int32 if name == "max_steps" else x.dtype
    allowed, is_allowed = _SETTINGS[name]
    if not tf.is_tensor(value):
        # TensorFlow would convert Python's floats to float32 first.
        value = np.asarray(value)
    static = tf.get_static_value(value) if tf.is_tensor(value) else value
    check(
        static is None
        or (
            np.asarray(static).dtype.kind in "fiu"
            and np.all(is_allowed(np.asarray(static)))
        ),
        f"{name} must be {allowed}, got {static}",
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


def resolve_levels(denoiser, sigma_max, sigma_min):
    """Returns the first and the last noise level of `generate`, floats."""
    if sigma_max is None or sigma_min is None:
        sigma_range = attributes.sigma_range(denoiser)
        check(
            sigma_range is not None,
            "this denoiser has no sigma_range: pass sigma_max and sigma_min",
        )
        lowest, highest = sigma_range
        sigma_max = highest if sigma_max is None else sigma_max
        sigma_min = min(lowest, sigma_max) if sigma_min is None else sigma_min
    check(
        0 < sigma_min <= sigma_max < np.inf,
        "the levels must be 0 < sigma_min <= sigma_max, got sigma_min="
        f"{sigma_min}, sigma_max={sigma_max}",
    )
    return float(sigma_max), float(sigma_min)


def initial_events(denoiser, shape, rows, sigma_max, initial):
    """Returns `initial`, or draws from p_sigma_max of the denoiser's data."""
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if initial is not None:
        initial = tf.convert_to_tensor(initial)
        check(
            initial.shape.is_compatible_with((rows.shape[0], *shape)),
            f"initial must have shape {[rows.shape[0], *shape]}, got "
            f"{initial.shape}",
        )
        return initial
    start = noisy_data_of(denoiser, sigma_max, shape)
    check(
        start.event_shape.is_compatible_with(shape),
        f"shape must be {tuple(start.event_shape)} as the data's, got {shape}",
    )
    return start.draw(rows)
