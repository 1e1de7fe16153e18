"""Checks an exported version as a server would use it."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.wording import kind_of, with_article
from keras_genmodels.export import example_requests, signatures, warmup
from keras_genmodels.export.check_table import Table
from keras_genmodels.export.description import EXTRA, read_description
from keras_genmodels.export.loader import LoadError
from keras_genmodels.export.replay import replay

# Differences are relative to the value, or absolute below 1. Two loaders of
# the same graph differ by float32 rounding, accumulated over many steps.
_TOLERANCE = 1e-4
# With layers in 16 bits, the eager model rounds after each operation and a
# graph less often.
_TOLERANCE_16_BITS = 3e-2
# A row must not depend on the other rows of its batch.
_ROW_TOLERANCE = 1e-5


class Report(NamedTuple):
    """What `check_version` found.

    Args:
        table: str, lines to print.
        problems: list of str; empty if everything is right.
    """

    table: str
    problems: list


def check_version(version, model=None, sizes=(1, 3, 257)):
    """Checks an exported version.

    All warm-up records, and requests to every signature at several batch
    sizes, are answered by TensorFlow's C++ loader with XLA disabled, as in a
    stock server, in a process that imports neither TensorFlow's Python, Keras
    nor this package. The answers are compared with those of TensorFlow's
    Python loader and of the model itself, and rows of the largest batch with
    those of smaller ones. Invalid requests must be refused as INVALID_ARGUMENT
    with the name of the input, and not affect the request that follows.

    A version that was exported with `jit_compile`, which that loader refuses,
    is only loaded by Python, and no invalid requests are sent.

    Args:
        version: folder of the version.
        model: the model that it was exported from; None skips the comparison
            with it.
        sizes: ascending ints, batch sizes; the largest is limited to the
            version's `max_rows`.

    Returns:
        `Report`.

    Raises:
        UserError: if the folder was not written by `export`, cannot be loaded,
            or was exported from another kind of model.
    """
    with user_errors():
        version = files.local_path(version)
    description = read_description(version)
    references, tolerances = _references(version, description, model)
    warmups = warmup.read(version / EXTRA / warmup.FILE)
    requests = [*warmups, *_sized_requests(description, sizes)]
    table = Table(description, references, tolerances)
    if description["settings"]["jit_compile"]:
        answers = [references["to Python"](*request) for request in requests]
    else:
        invalid = example_requests.invalid_requests(description)
        alternating = _alternating(description, invalid)
        answers = _replay(version, [*requests, *alternating])
        refusals = answers[len(requests) :]
        table.compare_refusals(invalid, refusals[::2])
        table.compare(alternating[1::2], refusals[1::2])
    table.compare(requests, answers[: len(requests)])
    count = len(warmups)
    table.compare_rows(requests[count:], answers[count : len(requests)])
    if not warmups and description["warmup"]:
        table.problems.insert(0, "there are no warm-up records")
    return Report(table.text(count, sizes), table.problems)


def _references(version, description, model):
    """Returns the functions that answers are compared with, and tolerances.

    Both are dicts by the name of a column; the functions take the name of a
    signature and its inputs.
    """
    loaded = _load(version)
    references = {"to Python": lambda *request: _run(loaded, *request)}
    tolerances = {"to Python": _TOLERANCE, "rows alone": _ROW_TOLERANCE}
    if model is not None:
        eager = _eager_signatures(description, model)
        references["to eager"] = lambda *request: _run_eagerly(eager, *request)
        tolerances["to eager"] = (
            _TOLERANCE_16_BITS if _computes_in_16_bits(model) else _TOLERANCE
        )
    return references, tolerances


def _computes_in_16_bits(model):
    return any(
        layer.compute_dtype in ("bfloat16", "float16")
        or (isinstance(layer, keras.Model) and _computes_in_16_bits(layer))
        for layer in model.layers
    )


def _load(version):
    try:
        return tf.saved_model.load(str(version)).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot load {version}: {reason}; export it again"
        ) from error


def _replay(version, requests):
    try:
        return replay(version, requests)
    except LoadError as error:
        raise UserError(f"cannot load {version}: {error}") from error


def _run(loaded, signature, inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    outputs = loaded[signature](**tensors)
    return {name: value.numpy() for name, value in outputs.items()}


def _eager_signatures(description, model):
    """Returns the signatures of the model, to run eagerly without checks.

    With XLA if the version was exported with it, which rounds differently.
    """
    kind, shape = type(model).__name__, list(model.event_shape)
    if (kind, shape) != (description["kind"], description["image_shape"]):
        raise UserError(
            f"the version was made from {with_article(description['kind'])} of "
            f"images {description['image_shape']}, the model is "
            f"{kind_of(model)} of {shape}: give the run that it was "
            "exported from"
        )
    settings = {**description["settings"], "max_batch_size": None}
    eager = signatures.signatures_of(
        model, signatures.settings_of(model, settings)
    )
    return {"serving_default": next(iter(eager.values())), **eager}


def _run_eagerly(eager, signature, inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    outputs = eager[signature].compute(**tensors)
    return {name: np.asarray(value) for name, value in outputs.items()}


def _sized_requests(description, sizes):
    max_rows = description["settings"]["max_rows"]
    return [
        (
            name,
            example_requests.valid_inputs(
                description, name, min(size, max_rows)
            ),
        )
        for name in description["signatures"]
        for size in sizes
    ]


def _alternating(description, invalid):
    """Lists each invalid request, followed by a valid one."""
    requests = []
    for signature, _, _, inputs in invalid:
        valid = example_requests.valid_inputs(description, signature, 1)
        requests += [(signature, inputs), (signature, valid)]
    return requests
