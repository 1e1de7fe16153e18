"""One signature: what its inputs may hold, how they are refused, its work."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

# Of a side of any length: work is bounded.
LONGEST = 4096


class Field(NamedTuple):
    """One input of a signature.

    Args:
        shape: of one row; None for a side of any length from 1 to LONGEST.
        dtype: name of its type.
        limits: what a value must be, in words that follow "must be"; None
            where every value will do.
        keeps: function of the tensor `[batch, *shape]`; gives bool of the
            same shape, which values keep to the limits.
    """

    shape: tuple
    dtype: str = "float32"
    limits: str | None = None
    keeps: Callable | None = None

    def spec(self, name):
        """Gives the `tf.TensorSpec` of a batch."""
        return tf.TensorSpec([None, *self.shape], self.dtype, name)


def finite(shape):
    """Gives a field of finite numbers."""
    return Field(tuple(shape), "float32", "finite", tf.math.is_finite)


def positive():
    """Gives a field of one finite number > 0 a row."""
    return Field(
        (),
        "float32",
        "> 0 and finite",
        lambda x: (x > 0) & tf.math.is_finite(x),
    )


def integers(least, most, limits=None):
    """Gives a field of one int32 in [least, most] a row."""
    return Field(
        (),
        "int32",
        limits or f"in [{least}, {most}]",
        lambda x: (x >= least) & (x <= most),
    )


class Signature(NamedTuple):
    """One signature.

    Args:
        fields: dict of the names of inputs to `Field`.
        compute: function of tensors by these names; gives a dict of tensors.
            Without its checks, and eagerly as well as in a graph.
    """

    fields: dict
    compute: Callable

    def specs(self):
        """Gives the `tf.TensorSpec` of each input, by name."""
        return {name: field.spec(name) for name, field in self.fields.items()}


def seeds():
    """Gives a field of one seed a row."""
    return Field((2,), "int32")


def compiler(settings):
    """Gives what XLA compiles a function with, if that was asked for."""
    if not settings["jit_compile"]:
        return lambda function: function
    return functools.partial(tf.function, jit_compile=True, autograph=False)


def checked(fields, inputs, max_rows):
    """Passes inputs through, or refuses them with a sentence that names one.

    Args:
        fields: dict of names to `Field`.
        inputs: dict of the same names to tensors of a graph.
        max_rows: int, how many rows there may be.

    Returns:
        dict of names to tensors `[batch, *shape]`. Running them raises
        `tf.errors.InvalidArgumentError` for inputs of another shape, of too
        many or no rows or not all of as many, and for values off the limits.
    """
    # TensorFlow takes a tensor to be of the shape that the signature says,
    # which nobody checks outside of Python, and would drop our check of it.
    values = {
        name: tf.compat.v1.placeholder_with_default(inputs[name], None)
        for name in fields
    }
    rows_check = functools.partial(_rows_check, max_rows)
    for stage in (_shape_check, rows_check, _value_check):
        checks = [stage(name, fields, values) for name in fields]
        with tf.control_dependencies([c for c in checks if c is not None]):
            values = {name: tf.identity(x) for name, x in values.items()}
    return {
        name: tf.ensure_shape(values[name], (None, *field.shape))
        for name, field in fields.items()
    }


def _shape_check(name, fields, values):
    # A side may be beyond int32 where another is 0.
    shape = tf.shape(values[name], out_type=tf.int64)
    sides = fields[name].shape
    # So long that each side has a number to compare.
    padded = tf.concat([shape, [-1] * (1 + len(sides))], 0)
    right = tf.size(shape) == 1 + len(sides)
    for i, side in enumerate(sides, 1):
        least, most = (1, LONGEST) if side is None else (side, side)
        right &= (padded[i] >= least) & (padded[i] <= most)
    words = ", ".join(f"1 to {LONGEST}" if n is None else str(n) for n in sides)
    wanted = f"[batch, {words}]" if words else "[batch]"
    return _refuse_unless(right, f"{name} must have shape {wanted}", shape)


def _rows_check(max_rows, name, fields, values):
    first = next(iter(fields))
    rows, others = (
        tf.shape(values[key], out_type=tf.int64)[0] for key in (name, first)
    )
    if name == first:
        right = (rows >= 1) & (rows <= max_rows)
        return _refuse_unless(
            right, f"{name} must have 1 to {max_rows} rows", rows
        )
    return _refuse_unless(
        rows == others, f"{name} must have as many rows as {first}", rows
    )


def _value_check(name, fields, values):
    field = fields[name]
    if field.limits is None:
        return None
    flat = tf.reshape(values[name], (-1,))
    right = tf.reshape(field.keeps(values[name]), (-1,))
    # Of right values the first, which is then not told.
    told = flat[tf.argmin(tf.cast(right, tf.int32))]
    return _refuse_unless(
        tf.reduce_all(right), f"{name} must be {field.limits}", told
    )


def _refuse_unless(right, message, got):
    sentence = tf.strings.format(f"{message}, got {{}}", [got])
    return tf.debugging.Assert(right, [sentence])
