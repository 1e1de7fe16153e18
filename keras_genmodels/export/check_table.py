"""The table of `check_version`: largest differences of each signature."""

import itertools

import numpy as np

from keras_genmodels.export.loader import INVALID_ARGUMENT, RunError
from keras_genmodels.export.refusals import parse_refusal
from keras_genmodels.export.summary import columns

_COLUMNS = ("to Python", "to eager", "rows alone", "refused")


class Table:
    """Collects differences and problems.

    Args:
        description: dict, the content of model.json.
        references: dict of column names to functions of a signature's name
            and inputs that return the expected outputs.
        tolerances: dict of column names to the largest accepted difference.
    """

    def __init__(self, description, references, tolerances):
        self.description = description
        self.references = references
        self.tolerances = tolerances
        self.problems = []
        self.cells = {name: {} for name in description["signatures"]}

    def compare(self, requests, answers):
        """Compares answers to valid requests with all references."""
        for (name, inputs), answer in zip(requests, answers, strict=True):
            if isinstance(answer, RunError):
                self.problems.append(f"{name} refuses valid inputs: {answer}")
                continue
            for column, reference in self.references.items():
                self._put(name, column, answer, reference(name, inputs))

    def compare_rows(self, requests, answers):
        """Compares the first rows of the largest batches with smaller ones."""
        pairs = zip(requests, answers, strict=True)
        for name, group in itertools.groupby(pairs, lambda pair: pair[0][0]):
            *smaller, largest = [answer for _, answer in group]
            if any(isinstance(a, RunError) for a in (*smaller, largest)):
                continue
            for answer in smaller:
                rows = {k: largest[k][: len(v)] for k, v in answer.items()}
                self._put(name, "rows alone", answer, rows)

    def compare_refusals(self, invalid, answers):
        """Checks that invalid requests are refused, and how."""
        for request, answer in zip(invalid, answers, strict=True):
            what = f"{request.signature} with {request.field}: "
            what += request.problem
            if not isinstance(answer, RunError):
                self.problems.append(f"{what} is not refused")
            elif not _refuses(answer, request.field):
                self.problems.append(
                    f"{what} is refused with code {answer.code}: {answer}"
                )
            cells = self.cells[request.signature]
            cells["refused"] = cells.get("refused", 0) + 1

    def text(self, num_warmups, sizes):
        """Returns the table with a heading, as str of several lines.

        Args:
            num_warmups: number of warm-up records.
            sizes: batch sizes of the other requests.
        """
        of = self.description
        shape = "x".join(map(str, of["image_shape"]))
        if None in of["image_shape"]:
            count = of["image_shape"][-1]
            shape = f"of any size, {count} channel{'s' * (count > 1)}"
        by_python = of["settings"]["jit_compile"]
        lines = [
            f"{of['kind']} {of['name']} of images {shape}, exported by "
            f"keras_genmodels {of['package_version']}",
            f"{num_warmups} warm-up records, and batches of "
            f"{', '.join(map(str, sizes))} rows, by TensorFlow's "
            f"{'Python' if by_python else 'C++'} loader; largest differences:",
            *self._lines(),
        ]
        if by_python:
            lines.append(
                "Exported with jit_compile: loaded by Python alone, no invalid "
                "requests sent."
            )
        return "\n".join(lines)

    def _put(self, name, column, answer, expected):
        difference = 0.0 if answer.keys() == expected.keys() else np.inf
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
        rows = [("signature", *_COLUMNS)]
        for name, cells in self.cells.items():
            rows.append((name, *(_cell(cells.get(key)) for key in _COLUMNS)))
        return columns(rows, right=range(1, len(rows[0])))


def _cell(value):
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1e}"


def _difference(value, expected):
    """Returns the largest difference, relative where values exceed 1."""
    if value.shape != expected.shape:
        return np.inf
    value, expected = (np.asarray(v, np.float64) for v in (value, expected))
    scale = np.maximum(1, np.abs(expected))
    return float(np.max(np.abs(value - expected) / scale))


def _refuses(error, name):
    """Returns whether a `RunError` refuses the input of that name."""
    refused = parse_refusal(error.message).input
    # Versions exported by keras_genmodels 0.2 name it in the sentence alone.
    named = refused == name if refused else name in error.message
    return error.code == INVALID_ARGUMENT and named
