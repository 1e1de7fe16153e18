"""Inputs of an exported model's signatures, right and wrong ones.

They are made from model.json alone, so that an export can be warmed up and
checked without the model.
"""

import math
import zlib
from typing import NamedTuple

import numpy as np

# Of a request with too many rows; a larger one is not tried.
_MOST_BYTES = 2**26


class Wrong(NamedTuple):
    """A request that has to be refused.

    Args:
        signature: its name.
        field: the input that is wrong, which the refusal has to name.
        what: what is wrong with it, in words.
        inputs: dict of names to arrays.
    """

    signature: str
    field: str
    what: str
    inputs: dict


def right_inputs(description, signature, rows):
    """Makes inputs that a signature takes.

    Args:
        description: dict, the content of model.json.
        signature: name of a signature.
        rows: int, how many.

    Returns:
        dict of names to arrays `[rows, ...]`; row i is the same whatever
        `rows` is.
    """
    fields = description["signatures"][signature]["inputs"]
    return {
        name: _values(description, name, [rows, *_sides(spec)]).astype(
            spec["dtype"]
        )
        for name, spec in fields.items()
    }


def wrong_inputs(description):
    """Makes requests that have to be refused, of every signature and input.

    Args:
        description: dict, the content of model.json.

    Returns:
        list of `Wrong`.
    """
    rows = min(2, description["settings"]["max_rows"])
    return [
        Wrong(signature, name, what, {**right, name: value})
        for signature in description["signatures"]
        for right in [right_inputs(description, signature, rows)]
        for name in right
        for what, value in _wrong_values(description, signature, name, right)
    ]


def _sides(spec):
    """Gives the shape of a row; a side of any length is 4."""
    return [4 if side is None else side for side in spec["shape"][1:]]


def _values(description, name, shape):
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    settings = description["settings"]
    if name == "z":
        return generator.standard_normal(shape)
    if name == "seed":
        return generator.integers(0, 2**31, shape)
    uniform = generator.random(shape)
    if name == "sigma":
        lowest, highest = map(math.log, description["sigma_range"])
        return np.exp(lowest + uniform * (highest - lowest))
    if name == "step_size":
        return 0.05 + 0.95 * uniform
    if name == "max_steps":
        return np.floor(uniform * (min(settings["max_steps"], 20) + 1))
    if name == "tolerance":
        return np.full(shape, 1e-3)
    if name == "condition" and description["num_labels"] is not None:
        count = description["num_labels"]
        count += description["no_label"] is not None
        return np.floor(uniform * count)
    return _pixels(description, name, uniform)


def _pixels(description, name, uniform):
    """Makes an image, or a condition of any other kind."""
    if name == "condition" and not description["known"]:
        # The one integer that every network of integers takes is 0.
        return np.zeros_like(uniform) + uniform / 2
    if description["pixels"].startswith("0 or 1"):
        return np.round(uniform)
    if description["pixels"].startswith("k / 255"):
        return np.round(uniform * 255) / 255
    return uniform


def _wrong_values(description, signature, name, right):
    """Yields what is wrong, and the array, of one input."""
    value = right[name]
    yield "another rank", value[..., None]
    if value.ndim > 1:
        side = description["signatures"][signature]["inputs"][name]["shape"][-1]
        # None of no length is right, whatever others are.
        yield "another size", np.repeat(value, 2 if side else 0, axis=-1)
    if name != next(iter(right)):
        yield "too few rows", value[:-1]
    else:
        yield "no rows", value[:0]
        count = description["settings"]["max_rows"] + 1
        if value[:1].nbytes * count < _MOST_BYTES:
            yield "too many rows", np.repeat(value[:1], count, axis=0)
    for wrong in _wrong_numbers(description, signature, name, value):
        spoilt = value.copy()
        spoilt.reshape(-1)[-1] = wrong
        yield f"{wrong:g}", spoilt


def _wrong_numbers(description, signature, name, value):
    settings = description["settings"]
    if value.dtype.kind == "f":
        yield np.nan
    known = {
        "sigma": (0.0, -1.0, np.inf),
        "step_size": (0.0, 2.0),
        "tolerance": (-1.0,),
        "image": (np.inf,),
        "z": (-np.inf,),
        "max_steps": (-1, settings.get("max_steps", 0) + 1),
    }
    yield from known.get(name, ())
    if name == "image" and signature == "log_likelihood":
        if description["pixels"] != "finite":
            yield 1.5
        if description["pixels"] == "0 or 1":
            yield 0.5
    if name == "condition" and value.dtype.kind == "i":
        yield -1
    if name == "condition" and description["num_labels"] is not None:
        yield description["num_labels"] + (description["no_label"] is not None)
