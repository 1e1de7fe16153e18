"""Checks and conversions of events and noise levels."""

import types

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core.lazy_arrays import LazyArray
from keras_genmodels.core.pixel_scale import check_clean
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.core.wording import kind_of

_BATCH_SIZE = 4096


def as_floating(x):
    """Returns x as a tensor.

    Raises:
        ValueError: unless its dtype is floating.
    """
    x = tf.convert_to_tensor(x)
    check(
        x.dtype.is_floating,
        f"x must be of floating type (images: uint8 / 255), got {x.dtype.name}",
    )
    return x


def as_sigma(sigma, x):
    """Returns a noise level as one number per event.

    Args:
        sigma: > 0, scalar or `[batch]`.
        x: float tensor `[batch, ...]`.

    Returns:
        tensor `[batch]` of x's dtype.

    Raises:
        ValueError: for another shape, or a value, if it is known statically,
            that is not finite and > 0.
    """
    if not tf.is_tensor(sigma):
        # TensorFlow would convert Python's floats to float32 first.
        try:
            sigma = np.asarray(sigma, x.dtype.as_numpy_dtype)
        except (TypeError, ValueError):
            raise ValueError(
                f"sigma must be a number or [batch], got {sigma!r}"
            ) from None
    sigma = tf.cast(sigma, x.dtype)
    check(
        sigma.shape.rank == 0
        or (
            sigma.shape.rank == 1
            and sigma.shape.is_compatible_with(x.shape[:1])
        ),
        f"sigma must be a scalar or [batch], got {sigma.shape} for "
        f"{x.shape[0]} events",
    )
    value = tf.get_static_value(sigma)
    check(
        value is None or np.all((value > 0) & np.isfinite(value)),
        f"sigma must be > 0 and finite, got {value}",
    )
    return tf.broadcast_to(sigma, tf.shape(x)[:1])


def check_num(num):
    """Raises ValueError unless a number of samples is an int >= 1.

    Args:
        num: int, or an integer tensor, which is checked if its value is known.
    """
    if tf.is_tensor(num):
        num = tf.get_static_value(num)
        if num is None:
            return
        num = num.item()
    check_count("num", num)


def is_any_size(event_shape):
    """Returns whether events are images of any size, (None, None, channels)."""
    return event_shape is not None and None in tuple(event_shape)


def spec_of(x, event_shape=None):
    """Returns the `tf.TensorSpec` of x for any number of events.

    Args:
        x: tensor `[batch, ...]`.
        event_shape: that a model takes. Its free sides become those of the
            spec, which then holds for images of any size.
    """
    sides = event_shape if is_any_size(event_shape) else x.shape[1:]
    return tf.TensorSpec([None, *sides], x.dtype)


def has_shape(shape, event_shape):
    """Returns whether a shape is that of an event.

    Args:
        shape: of an array, without the batch axis.
        event_shape: that a model takes; an axis of None fits any length.
    """
    return tf.TensorShape(event_shape).is_compatible_with(shape)


def num_events(x):
    """Returns the number of events of `[batch, ...]`, an int if known."""
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def shape_of_events(x):
    """Returns the shape of an event of `[batch, ...]`, for `tf.reshape`.

    Returns:
        tuple of ints; a side that is not known yet, as of images of any size
        in a graph, is an int32 tensor.
    """
    sides = tf.unstack(tf.shape(x)) if None in x.shape[1:] else x.shape
    return tuple(
        side if known is None else known
        for side, known in zip(sides[1:], x.shape[1:], strict=True)
    )


def per_event(values, x):
    """Returns `[batch]` values in a shape that broadcasts with `x`."""
    return tf.reshape(values, (-1,) + (1,) * (x.shape.rank - 1))


def event_batches(data, name="adapt"):
    """Reads data batch by batch and checks each batch.

    Args:
        data: array, `LazyArray` or tensor `[n, *event_shape]`, or a
            `tf.data.Dataset`, `keras.utils.PyDataset` or generator of batches
            of such; in place of an array or batch also a dict with it under
            `image`. Floating, or uint8 (values of 255 stand for 1).
        name: name of the argument or function, for messages.

    Yields:
        arrays `[batch, *event_shape]`, uint8 or floating, finite.

    Raises:
        ValueError: if there are no data, if they are not finite or of another
            dtype, or if shape or dtype differ between batches.
    """
    first, is_empty = None, True
    for batch in _batches(data, name):
        first = batch if first is None else first
        _check_batch(batch, first, name)
        if batch.size:
            is_empty = False
            yield batch
    check(not is_empty, f"{name} got no data")


def clean_batches(data):
    """Reads data of `adapt` as `event_batches`.

    Raises:
        ValueError: as `event_batches`, and for images on a wrong scale.
    """
    for batch in event_batches(data):
        if batch.dtype != np.uint8:
            check_clean(batch, batch.shape[1:], "data")
        yield batch


def _check_batch(batch, first, name):
    is_uint8 = batch.dtype == np.uint8
    check(
        is_uint8 or batch.dtype.kind == "f",
        f"{name} takes floating data or uint8 (read as value / 255), got "
        f"{batch.dtype}",
    )
    check(
        batch.ndim >= 2,
        f"{name} takes batches [batch, ...], got shape {batch.shape}",
    )
    check(
        (batch.shape[1:], batch.dtype) == (first.shape[1:], first.dtype),
        f"{name} got events of {batch.shape[1:]} ({batch.dtype}) after events "
        f"of {first.shape[1:]} ({first.dtype})",
    )
    check(
        is_uint8 or np.isfinite(batch).all(),
        f"{name} got data that are not finite (NaN or inf)",
    )


def _batches(data, name):
    if isinstance(data, tf.data.Dataset):
        check(
            data.cardinality() != tf.data.INFINITE_CARDINALITY,
            f"{name} got an infinite data set: call {name}(data.take(n))",
        )
        yield from _each_image(data.as_numpy_iterator(), name)
        return
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        check(
            count is not None,
            f"{name} got an infinite data set: give it one with a number of "
            "batches",
        )
        items = (data[i] for i in range(count))
        yield from _each_image(items, name)
        return
    if isinstance(data, types.GeneratorType):
        yield from _each_image(data, name)
        return
    data = data["image"] if isinstance(data, dict) else data
    if not isinstance(data, LazyArray):
        data = np.asarray(data)
    check(data.ndim, f"{name} takes batches [batch, ...], got {data!r}")
    batch_size = getattr(data, "batch_size", None) or _BATCH_SIZE
    for start in range(0, max(1, len(data)), batch_size):
        yield data[start : start + batch_size]


def _each_image(items, name):
    """Yields the batch of events of each item of a data set."""
    for item in items:
        if isinstance(item, tuple) and len(item) == 1:
            (item,) = item
        batch = item.get("image") if isinstance(item, dict) else item
        check(
            isinstance(batch, np.ndarray | tf.Tensor),
            f"{name} takes batches of events, or dicts with such under "
            f"'image', got {_describe(item)}",
        )
        yield np.asarray(batch)


def _describe(item):
    if isinstance(item, dict):
        return f"a dict of {sorted(item)}"
    if isinstance(item, tuple | list):
        return f"{kind_of(item)} of {len(item)}"
    return repr(item)[:100]
