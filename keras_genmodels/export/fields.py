"""Inputs of a signature, and the checks that refuse wrong ones."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_genmodels.core import assertions
from keras_genmodels.export.values import FINITE, Integers, Values

# Longest axis of an input without a fixed size, which bounds the work.
MAX_SIDE = 4096
# Example images of any size are as wide as this many times their least side,
# less a pixel, so that the network has to pad them.
_EXAMPLE_WIDTH = 4


class FreeSides(NamedTuple):
    """Height and width of images of any size.

    Args:
        least: int >= 1, the least height and width.
        max_pixels: int, the largest height times width, at least `least`
            squared.
    """

    least: int
    max_pixels: int

    def example(self):
        """Returns the `(height, width)` of example images."""
        width = max(self.least, _EXAMPLE_WIDTH * self.least - 1)
        return self.least, min(width, self.max_pixels // self.least)

    def to_json(self):
        """Returns what model.json says of them."""
        return {**self._asdict(), "example": list(self.example())}


class Field(NamedTuple):
    """One input of a signature.

    Args:
        shape: shape of one row; None for an axis of any size from 1 to
            MAX_SIDE, or as `sides` say.
        dtype: name of the dtype, float32 or int32.
        values: the `Values` that are accepted.
        example: the `Values` that example requests are drawn from; None for
            `values`.
        sides: `FreeSides` of images of any size, else None.
    """

    shape: tuple
    dtype: str = "float32"
    values: Values = FINITE
    example: Values | None = None
    sides: FreeSides | None = None

    def spec(self, name):
        """Returns the `tf.TensorSpec` of a batch."""
        return tf.TensorSpec([None, *self.shape], self.dtype, name)

    def to_json(self):
        """Returns what model.json says of the input."""
        return {
            "dtype": self.dtype,
            "shape": [None, *self.shape],
            "values": self.values.to_json(),
            "example": (self.example or self.values).to_json(),
            **({"sides": self.sides.to_json()} if self.sides else {}),
        }


class Signature(NamedTuple):
    """One signature of an exported model.

    Args:
        fields: dict of input names to `Field`s.
        compute: function of tensors with these names that returns a dict of
            tensors. It does not check its arguments and also runs eagerly.
        max_example_rows: int, rows of the largest example request; None for
            no limit.
    """

    fields: dict
    compute: Callable
    max_example_rows: int | None = None

    def specs(self):
        """Returns the `tf.TensorSpec` of each input, by name."""
        return {name: field.spec(name) for name, field in self.fields.items()}


def seeds():
    """Returns the field of one int32 seed `[2]` per row."""
    return Field(
        (2,),
        "int32",
        Integers(-(2**31), 2**31 - 1),
        example=Integers(0, 2**31 - 1),
    )


def compiler(settings):
    """Returns the decorator that compiles with XLA if the settings ask so."""
    if not settings["jit_compile"]:
        return lambda function: function
    return functools.partial(tf.function, jit_compile=True, autograph=False)


def checked(fields, inputs, max_rows):
    """Passes inputs through, or refuses them with a message naming one.

    A refusal is `tf.errors.InvalidArgumentError`, gRPC's INVALID_ARGUMENT. It
    consists of a sentence and of `INPUT:CODE`, for programs; the code is
    `shape`, `pixels`, `rows`, or that of the `Values`.

    Args:
        fields: dict of names to `Field`s.
        inputs: dict of the same names to tensors of a graph.
        max_rows: int, maximum number of rows.

    Returns:
        dict of names to tensors `[batch, *shape]`. Evaluating them raises if
        an input has another shape, too many pixels, no or too many rows,
        another number of rows than the first input, or a value that is not
        accepted.
    """
    # A TensorFlow graph assumes the shapes of its signature, which only Python
    # enforces, and would remove our checks of them.
    values = {
        name: tf.compat.v1.placeholder_with_default(inputs[name], None)
        for name in fields
    }
    rows_check = functools.partial(_rows_check, max_rows)
    for stage in (_shape_check, _pixel_check, rows_check, _value_check):
        checks = [stage(name, fields, values) for name in fields]
        checks = [check for check in checks if check is not None]
        with tf.control_dependencies(checks):
            values = {name: tf.identity(x) for name, x in values.items()}
    return {
        name: tf.ensure_shape(values[name], (None, *field.shape))
        for name, field in fields.items()
    }


def _shape_check(name, fields, values):
    # int64, as a request can hold axes beyond int32 if another axis is 0.
    shape = tf.shape(values[name], out_type=tf.int64)
    sides, free = fields[name].shape, fields[name].sides
    low, high, words = 1, MAX_SIDE, f"1 to {MAX_SIDE}"
    if free is not None:
        low, high, words = free.least, tf.int64.max, f"at least {free.least}"
    # Padded, so that a shape of too few axes can be indexed as well.
    padded = tf.concat([shape, [-1] * (1 + len(sides))], 0)
    is_right = tf.size(shape) == 1 + len(sides)
    for i, side in enumerate(sides, 1):
        least, most = (low, high) if side is None else (side, side)
        is_right &= (padded[i] >= least) & (padded[i] <= most)
    words = [words if n is None else str(n) for n in sides]
    wanted = f"have shape [{', '.join(['batch', *words])}]"
    return _refuse_unless(is_right, name, "shape", wanted, shape)


def _pixel_check(name, fields, values):
    """Returns the check of the size of images; None for other inputs."""
    sides = fields[name].sides
    if sides is None:
        return None
    size = tf.shape(values[name], out_type=tf.int64)[1:3]
    # Not their product, which may exceed int64.
    is_right = size[0] <= sides.max_pixels // tf.maximum(size[1], 1)
    wanted = f"have at most {sides.max_pixels} pixels"
    return _refuse_unless(is_right, name, "pixels", wanted, size)


def _rows_check(max_rows, name, fields, values):
    first = next(iter(fields))
    rows, others = (
        tf.shape(values[key], out_type=tf.int64)[0] for key in (name, first)
    )
    if name == first:
        is_right = (rows >= 1) & (rows <= max_rows)
        wanted = f"have 1 to {max_rows} rows"
    else:
        is_right = rows == others
        wanted = f"have as many rows as {first}"
    return _refuse_unless(is_right, name, "rows", wanted, rows)


def _value_check(name, fields, values):
    accepted = fields[name].values
    flat = tf.reshape(values[name], (-1,))
    others = [values[other] for other in accepted.others]
    is_right = tf.reshape(accepted.contains(values[name], *others), (-1,))
    # The first wrong value, for the message.
    got = flat[tf.argmin(tf.cast(is_right, tf.int32))]
    return _refuse_unless(
        tf.reduce_all(is_right), name, accepted.code, f"be {accepted}", got
    )


def _refuse_unless(is_right, name, code, wanted, got):
    sentence = tf.strings.format(f"{name} must {wanted}, got {{}}", [got])
    return assertions.require(is_right, sentence, code=f"{name}:{code}")
