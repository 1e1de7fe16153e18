"""Events and noise levels as they are given: read, checked, in one shape."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.errors import UserError


def as_floating(x):
    """Reads x as a floating tensor.

    Raises:
        UserError: if it is of another type.
    """
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise UserError(
            "x must be of floating type (images: uint8 / 255), got "
            f"{x.dtype.name}"
        )
    return x


def as_sigma(sigma, x):
    """Reads a noise level as one number per event.

    Args:
        sigma: > 0, scalar or `[batch]`.
        x: float tensor `[batch, ...]`.

    Returns:
        tensor `[batch]` of x's dtype.

    Raises:
        UserError: if it has another shape; if it is known now and not > 0.
    """
    if not tf.is_tensor(sigma):
        # By way of NumPy, as TensorFlow would round Python's floats.
        try:
            sigma = np.asarray(sigma, x.dtype.as_numpy_dtype)
        except (TypeError, ValueError):
            raise UserError(
                f"sigma must be a number or [batch], got {sigma!r}"
            ) from None
    sigma = tf.cast(sigma, x.dtype)
    if sigma.shape.rank not in (0, 1) or (
        sigma.shape.rank == 1
        and not sigma.shape.is_compatible_with(x.shape[:1])
    ):
        raise UserError(
            f"sigma must be a scalar or [batch], got {sigma.shape} for "
            f"{x.shape[0]} events"
        )
    value = tf.get_static_value(sigma)
    if value is not None and not np.all((value > 0) & np.isfinite(value)):
        raise UserError(f"sigma must be > 0 and finite, got {value}")
    return tf.broadcast_to(sigma, tf.shape(x)[:1])


def per_event(values, x):
    """Reshapes `[batch]` so that it goes with `x` `[batch, ...]`."""
    return tf.reshape(values, (-1,) + (1,) * (x.shape.rank - 1))


def event_batches(data, name="adapt"):
    """Reads the data that a denoiser is adapted to, batch by batch.

    Args:
        data: array or tensor `[n, *event_shape]`, or a `tf.data.Dataset` of
            batches of such, or of dicts with a batch under `image`; floating,
            or uint8, read as value / 255.
        name: who asks, for the messages.

    Yields:
        arrays `[batch, *event_shape]`, uint8 or floating, finite.

    Raises:
        UserError: if there are no data, if they are not finite, of another
            type, or if the shapes or types of the batches differ.
    """
    first, found = None, False
    for batch in _batches(data, name):
        if batch.dtype != np.uint8 and batch.dtype.kind != "f":
            raise UserError(
                f"{name} takes floating data or uint8 (read as value / 255), "
                f"got {batch.dtype}"
            )
        if batch.ndim < 2:
            raise UserError(
                f"{name} takes batches [batch, ...], got shape {batch.shape}"
            )
        first = batch if first is None else first
        if (batch.shape[1:], batch.dtype) != (first.shape[1:], first.dtype):
            raise UserError(
                f"{name} got events of {batch.shape[1:]} ({batch.dtype}) after "
                f"such of {first.shape[1:]} ({first.dtype})"
            )
        if batch.dtype != np.uint8 and not np.isfinite(batch).all():
            raise UserError(f"{name} got data that are not finite (NaN or inf)")
        if batch.size:
            found = True
            yield batch
    if not found:
        raise UserError(f"{name} got no data")


_ROWS = 4096


def _batches(data, name):
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise UserError(f"{name} got a data set without end: take(n) of it")
        for batch in data.as_numpy_iterator():
            batch = batch.get("image") if isinstance(batch, dict) else batch
            if not isinstance(batch, np.ndarray):
                raise UserError(
                    f"{name} takes batches of events, or dicts with such "
                    f"under 'image', got {data.element_spec}"
                )
            yield batch
        return
    data = np.asarray(data)
    if data.ndim == 0:
        raise UserError(f"{name} takes batches [batch, ...], got {data!r}")
    for start in range(0, max(1, len(data)), _ROWS):
        yield data[start : start + _ROWS]
