"""Checks an exported version the way a server would use it."""

import itertools
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core.errors import UserError
from keras_genmodels.export import example_requests, signatures, warmup
from keras_genmodels.export.description import EXTRA, read_description
from keras_genmodels.export.loader import INVALID_ARGUMENT, LoadError, RunError
from keras_genmodels.export.replay import replay
from keras_genmodels.export.summary import columns

_SIZES = (1, 3, 257)
# Relative to the value, or absolute below 1: of float32, after many steps.
_TOLERANCE = 1e-4
# To the eager model, where its layers compute in 16 bits: a graph rounds less
# often than single operations do.
_TOLERANCE_OF_HALF = 3e-2
# What an export promises of a row, whatever stands beside it.
_TOLERANCE_OF_ROWS = 1e-5
_HEADER = ("signature", "to Python", "to eager", "rows alone", "refused")


class Report(NamedTuple):
    """What `check_version` found.

    Args:
        table: str, lines for a person.
        problems: list of str; empty if all is well.
    """

    table: str
    problems: list


def check_version(version, model=None):
    """Checks an exported version.

    TensorFlow's own C++ loader, in a process that imports neither TensorFlow
    nor Keras nor this package, XLA disabled as in a stock server, answers all
    warm-up records, and every signature at batch sizes 1, 3 and 257. That is
    compared with what TensorFlow's Python loader gives and with the model
    itself, and rows of the large batch with those of the small ones. Wrong
    inputs have to be refused as INVALID_ARGUMENT, by the name of the input,
    and the request after each answered as before.

    A version that was exported with `jit_compile`, which that loader refuses,
    is loaded by Python alone, and wrong inputs are not tried.

    Args:
        version: folder of the version.
        model: the model that it was made from; None leaves out what needs it.

    Returns:
        `Report`.

    Raises:
        UserError: if it is no version that `export` wrote, can't be loaded,
            or was not made from such a model.
    """
    version = pathlib.Path(version)
    description = read_description(version)
    loaded = _load(version)
    references = {"to Python": lambda *request: _run(loaded, *request)}
    if model is not None:
        verbs = _verbs(description, model)
        references["to eager"] = lambda *request: _run_eagerly(verbs, *request)
    warmups = warmup.read(version / EXTRA / warmup.FILE)
    asked = [*warmups, *_sized_requests(description)]
    tolerances = dict.fromkeys(references, _TOLERANCE)
    tolerances["rows alone"] = _TOLERANCE_OF_ROWS
    if model is not None and _computes_in_half(model):
        tolerances["to eager"] = _TOLERANCE_OF_HALF
    table = _Table(description, references, tolerances)
    if description["settings"]["jit_compile"]:
        answers = [references["to Python"](*request) for request in asked]
    else:
        wrong = example_requests.wrong_inputs(description)
        in_turn = _in_turn(description, wrong)
        answers = _replay(version, [*asked, *in_turn])
        refusals = answers[len(asked) :]
        table.compare_refusals(wrong, refusals[::2])
        table.compare(in_turn[1::2], refusals[1::2])
    table.compare(asked, answers[: len(asked)])
    table.compare_rows(asked[len(warmups) :], answers[len(warmups) :])
    return table.report(len(warmups))


def _computes_in_half(model):
    return any(
        layer.compute_dtype in ("bfloat16", "float16")
        for layer in model._flatten_layers(include_self=False)
    )


def _load(version):
    try:
        return tf.saved_model.load(str(version)).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(
            f"can't load {version}: {told}; export it again"
        ) from error


def _replay(version, requests):
    try:
        return replay(version, requests)
    except LoadError as error:
        raise UserError(f"can't load {version}: {error}") from error


def _run(loaded, signature, inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    outputs = loaded[signature](**tensors)
    return {name: value.numpy() for name, value in outputs.items()}


def _verbs(description, model):
    """Gives the signatures of the model without their checks.

    They run eagerly; where XLA was asked for, by it, as it draws otherwise.
    """
    kind, shape = type(model).__name__, list(model.event_shape)
    given = {**description["settings"], "max_batch_size": None}
    if (kind, shape) != (description["kind"], description["image_shape"]):
        raise UserError(
            f"the version was made from a {description['kind']} of images "
            f"{description['image_shape']}, the model is a {kind} of {shape}: "
            "give the --workdir that it was exported from"
        )
    verbs = signatures.signatures_of(
        model, signatures.settings_of(model, given)
    )
    return {"serving_default": next(iter(verbs.values())), **verbs}


def _run_eagerly(verbs, signature, inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    outputs = verbs[signature].compute(**tensors)
    return {name: np.asarray(value) for name, value in outputs.items()}


def _sized_requests(description):
    most = description["settings"]["max_rows"]
    return [
        (
            name,
            example_requests.right_inputs(description, name, min(size, most)),
        )
        for name in description["signatures"]
        for size in _SIZES
    ]


def _in_turn(description, wrong):
    """Follows each wrong request by a right one."""
    return [
        request
        for case in wrong
        for request in (
            (case.signature, case.inputs),
            (
                case.signature,
                example_requests.right_inputs(description, case.signature, 1),
            ),
        )
    ]


class _Table:
    """What is found of each signature, and the problems.

    Args:
        description: dict, the content of model.json.
        references: dict of columns to functions of a signature's name and
            inputs, which give what it should.
        tolerances: dict of columns to the largest difference there may be.
    """

    def __init__(self, description, references, tolerances):
        self.description = description
        self.references = references
        self.tolerances = tolerances
        self.problems = []
        self.cells = {name: {} for name in description["signatures"]}

    def compare(self, requests, answers):
        """Compares answers with all references."""
        for (name, inputs), answer in zip(requests, answers, strict=True):
            for column, reference in self.references.items():
                if isinstance(answer, RunError):
                    self.problems.append(
                        f"{name} refuses what is right: {answer}"
                    )
                    break
                self._put(name, column, answer, reference(name, inputs))

    def compare_rows(self, requests, answers):
        """Compares the first rows of large batches with small ones."""
        pairs = zip(requests, answers, strict=False)
        for name, group in itertools.groupby(pairs, lambda pair: pair[0][0]):
            *small, large = [answer for _, answer in group]
            if any(isinstance(a, RunError) for a in (*small, large)):
                continue
            for answer in small:
                first = {k: large[k][: len(v)] for k, v in answer.items()}
                self._put(name, "rows alone", answer, first)

    def compare_refusals(self, wrong, answers):
        """Checks that wrong requests are refused, and how."""
        for case, answer in zip(wrong, answers, strict=True):
            told = f"{case.signature} with {case.field} of {case.what}"
            if not isinstance(answer, RunError):
                self.problems.append(f"{told} is not refused")
            elif (
                answer.code != INVALID_ARGUMENT
                or case.field not in answer.message
            ):
                self.problems.append(
                    f"{told} is refused as code {answer.code}: {answer}"
                )
            cells = self.cells[case.signature]
            cells["refused"] = cells.get("refused", 0) + 1

    def report(self, num_warmups):
        """Gives the `Report`."""
        told = self.description
        if not num_warmups and told.get("warmup", True):
            self.problems.insert(0, "there are no warm-up records")
        shape = "x".join(map(str, told["image_shape"]))
        by_python = told["settings"]["jit_compile"]
        loader = "Python" if by_python else "C++"
        lines = [
            f"{told['kind']} {told['name']} of images {shape}, exported by "
            f"keras_genmodels {told['package_version']}",
            f"{num_warmups} warm-up records, and batches of "
            f"{', '.join(map(str, _SIZES))} rows, by TensorFlow's {loader} "
            "loader; largest differences:",
            *self._lines(),
        ]
        if by_python:
            lines.append(
                "Exported with jit_compile: loaded by Python alone, wrong "
                "inputs not tried."
            )
        return Report("\n".join(lines), self.problems)

    def _put(self, name, column, answer, expected):
        difference = 0.0
        if answer.keys() != expected.keys():
            difference = np.inf
        for key in answer.keys() & expected.keys():
            difference = max(
                difference, _difference(answer[key], expected[key])
            )
        cells = self.cells[name]
        cells[column] = max(cells.get(column, 0.0), difference)
        if not difference <= self.tolerances[column]:
            self.problems.append(
                f"{name} differs by {difference:.2g} ({column})"
            )

    def _lines(self):
        rows = [_HEADER]
        for name, cells in self.cells.items():
            rows.append(
                (name, *(_cell(cells.get(column)) for column in _HEADER[1:]))
            )
        return columns(rows, right=range(1, len(_HEADER)))


def _cell(value):
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1e}"


def _difference(value, expected):
    """Gives the largest difference, relative where values are above 1."""
    if value.shape != expected.shape:
        return np.inf
    value, expected = (np.asarray(v, np.float64) for v in (value, expected))
    scale = np.maximum(1, np.abs(expected))
    return float(np.max(np.abs(value - expected) / scale))
