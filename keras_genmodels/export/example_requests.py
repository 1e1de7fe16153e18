"""Valid and invalid requests to an exported model, made from its model.json.

The model itself is not needed to warm up or to check a version.
"""

import math
import zlib
from typing import NamedTuple

import numpy as np

from keras_genmodels.export import values

# Size of a request with too many rows; a larger one is not sent.
_MAX_BYTES = 2**26
# Size of an axis of any size, but for those of images.
_SIDE = 4


class InvalidRequest(NamedTuple):
    """A request that the model must refuse.

    Args:
        signature: its name.
        field: the input that is wrong, which the refusal must name.
        problem: what is wrong with it, in words.
        inputs: dict of names to arrays.
    """

    signature: str
    field: str
    problem: str
    inputs: dict


def valid_inputs(description, signature, rows):
    """Draws inputs that a signature accepts.

    Args:
        description: dict, the content of model.json.
        signature: name of a signature.
        rows: int, number of rows; fewer are drawn for a signature that
            limits them.

    Returns:
        dict of names to arrays `[rows, ...]`; row i does not depend on `rows`.
    """
    limit = description["signatures"][signature].get("max_example_rows")
    rows = rows if limit is None else min(rows, limit)
    return {
        name: _draw(name, spec, rows)
        for name, spec in _inputs(description, signature).items()
    }


def invalid_requests(description):
    """Makes requests that must be refused, for each input of each signature.

    Args:
        description: dict, the content of model.json.

    Returns:
        list of `InvalidRequest`s.
    """
    max_rows = description["settings"]["max_rows"]
    return [
        InvalidRequest(signature, name, problem, {**valid, name: value})
        for signature in description["signatures"]
        for valid in [valid_inputs(description, signature, min(2, max_rows))]
        for name, spec in _inputs(description, signature).items()
        for problem, value in (
            *_wrong_shapes(valid[name], spec),
            *_wrong_rows(valid[name], name == next(iter(valid)), max_rows),
            *_wrong_numbers(valid[name], values.from_json(spec["values"])),
        )
    ]


def _inputs(description, signature):
    return description["signatures"][signature]["inputs"]


def _draw(name, spec, rows):
    _, *shape = spec["shape"]
    if "sides" in spec:
        shape[:2] = spec["sides"]["example"]
    shape = [_SIDE if side is None else side for side in shape]
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    uniform = generator.random([rows, *shape])
    drawn = values.from_json(spec["example"]).draw(uniform)
    return drawn.astype(spec["dtype"])


def _wrong_shapes(value, spec):
    yield "another rank", value[..., None]
    if value.ndim > 1:
        # An axis that may have any size must at least not be empty.
        copies = 0 if spec["shape"][-1] is None else 2
        yield "another size", np.repeat(value, copies, axis=-1)
    if sides := spec.get("sides"):
        least, most = sides["least"], sides["max_pixels"]
        yield "too small a side", value[:, : least - 1]
        shape = (len(value), least, most // least + 1, value.shape[3])
        if value.itemsize * math.prod(shape) < _MAX_BYTES:
            yield "too many pixels", np.zeros(shape, value.dtype)


def _wrong_rows(value, is_first, max_rows):
    """Yields wrong numbers of rows; the first input decides the number."""
    if not is_first:
        yield "too few rows", value[:-1]
        return
    yield "no rows", value[:0]
    if value[:1].nbytes * (max_rows + 1) < _MAX_BYTES:
        yield "too many rows", np.repeat(value[:1], max_rows + 1, axis=0)


def _wrong_numbers(value, accepted):
    for number in accepted.outside():
        spoilt = value.copy()
        spoilt.reshape(-1)[-1] = number
        yield f"{number:g}", spoilt
