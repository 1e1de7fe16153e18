"""Converts what a user passes into the rows of a request."""

import numpy as np

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.validation import check_count

# Inputs for which uint8 is read as value / 255.
_IMAGES = ("image", "condition")


def to_rows(inputs, infos):
    """Converts inputs to arrays of one row for each row of the request.

    Args:
        inputs: dict of names to arrays, or to one value for all rows.
        infos: dict of the same names to `TensorInfo`s.

    Returns:
        dict of names to arrays `[batch, ...]` of the right dtypes.

    Raises:
        UserError: if an input has another shape, another number of rows or a
            type that cannot be converted without loss.
    """
    arrays = {
        name: _as_dtype(name, inputs[name], info)
        for name, info in infos.items()
    }
    num_rows = _count_rows(arrays, infos)
    return {
        name: _as_rows(name, array, infos[name], num_rows)
        for name, array in arrays.items()
    }


def as_array(name, value):
    """Converts a value to an array.

    Raises:
        UserError: with `name`, for a ragged list.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"{name} is not an array: {error}") from error


def row_count(num, seed, by_row):
    """Returns the number of rows that a user asks for.

    Args:
        num: int, or None to take it from the other arguments.
        seed: seed, or seeds `[num, 2]`.
        by_row: an input that may have one entry for each row.

    Raises:
        UserError: if nothing says how many.
    """
    if num is not None:
        check_count("num", num, error=UserError)
        return num
    by_row, seed = as_array("condition", by_row), as_array("seed", seed)
    if by_row.ndim:
        return len(by_row)
    if seed.ndim == 2:
        return len(seed)
    raise UserError("the number of rows is unknown: give num")


def row_seeds(seed, num_rows):
    """Returns int32 `[num_rows, 2]`, as `core.seeds.row_seeds`.

    Raises:
        UserError: for a bad seed.
    """
    try:
        return seeds.row_seeds(seed, num_rows).numpy()
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(str(error).partition("\n")[0]) from error


def _as_dtype(name, value, info):
    """Converts a value to the dtype of an input, if nothing is lost."""
    array = as_array(name, value)
    is_image = name in _IMAGES and len(info.shape) > 1
    if is_image and info.dtype.kind == "f" and array.dtype.kind in "iu":
        if array.dtype != np.uint8:
            raise UserError(
                f"{name} must be uint8, which is read as value / 255, or "
                f"floating, got {array.dtype}"
            )
        return as_float(array, info.dtype)
    if array.dtype == info.dtype:
        return array
    if not np.can_cast(array.dtype, info.dtype, "same_kind"):
        raise UserError(
            f"{name} must be of dtype {info.dtype}, got {array.dtype}"
        )
    with np.errstate(over="ignore"):
        cast = array.astype(info.dtype)
    if info.dtype.kind == "i" and not np.array_equal(cast, array):
        raise UserError(f"{name} has numbers beyond the range of {info.dtype}")
    return cast


def _count_rows(arrays, infos):
    """Returns the number of rows of the inputs that have rows."""
    counts = {
        name: len(array)
        for name, array in arrays.items()
        if array.ndim == len(infos[name].shape)
    }
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{name} has {n} rows" for name, n in counts.items())
        raise UserError(f"the inputs have unequal numbers of rows: {listed}")
    num_rows = next(iter(counts.values()), 1)
    if not num_rows:
        raise UserError(
            f"the request has no rows: {next(iter(counts))} is empty"
        )
    return num_rows


def _as_rows(name, array, info, num_rows):
    """Checks the shape of an input; repeats one value for all rows."""
    shape = info.shape[1:]
    if array.ndim == 0 and not shape:
        array = np.repeat(array, num_rows)
    fits = array.ndim == len(info.shape) and all(
        size in (None, given)
        for size, given in zip(shape, array.shape[1:], strict=True)
    )
    if not fits:
        axes = ", ".join(["batch", *(str(size or "any") for size in shape)])
        raise UserError(f"{name} must be [{axes}], got {list(array.shape)}")
    return array
