"""What a person is told of an export."""

import itertools
import os
import shlex

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError
from keras_genmodels.export import serving_config
from keras_genmodels.export.description import (
    DESCRIPTION,
    EXTRA,
    read_description,
)
from keras_genmodels.export.versions import versions_in


def summary(version, serving_root=None):
    """Tells what was exported and how to serve it.

    Args:
        version: absolute pathlib.Path of the version.
        serving_root: as of `export`.

    Returns:
        str, lines.
    """
    export_dir = version.parents[1]
    description = read_description(version)
    root = os.fspath(serving_root or export_dir).rstrip("/")
    lines = serving_config.start_lines(export_dir, root, _needs_xla(export_dir))
    where = "" if root == str(export_dir) else f" where {root} is {export_dir}"
    return "\n".join(
        [
            f"Exported {description['kind']} to {version}",
            "",
            *signature_lines(description),
            "",
            "Serve it on ports 8500 (gRPC) and 8501 (REST), by container:",
            f"  {lines['container']}",
            f"or by binary{where}:",
            f"  {lines['binary']}",
            f"models.config says that all models lie below {root}.",
            "",
            "Check it: python -m apps.export "
            + shlex.quote(f"--check={version}"),
        ]
    )


def _needs_xla(export_dir):
    """Tells whether any model there, of its highest version, needs XLA."""
    served = [
        versions_in(folder)[-1][1]
        for folder in export_dir.iterdir()
        if versions_in(folder)
    ]
    return any(_is_compiled(path / EXTRA / DESCRIPTION) for path in served)


def _is_compiled(path):
    """Reads it of a model.json; that of a model from elsewhere says nothing."""
    try:
        told = files.read_json(path)
        return bool(told["settings"]["jit_compile"])
    except (UserError, TypeError, KeyError):
        return False


def signature_lines(description):
    """Lists the signatures of a model, with what they take and give."""
    rows = [("signature", "input", "output")]
    described = dict(description["signatures"])
    default = described.pop("serving_default")
    for name, told in described.items():
        rows += itertools.zip_longest(
            [name, *(["(serving_default)"] if told == default else [])],
            _tensors(told["inputs"]),
            _tensors(told["outputs"]),
            fillvalue="",
        )
    return columns(rows)


def columns(rows, right=()):
    """Sets texts in columns.

    Args:
        rows: list of tuples of str.
        right: which columns are flush right.

    Returns:
        list of str, a line each.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _tensors(specs):
    return [f"{name} {_shape(spec)}" for name, spec in specs.items()]


def _shape(spec):
    sides = ["batch", *("any" if n is None else n for n in spec["shape"][1:])]
    return f"{spec['dtype']} [{', '.join(map(str, sides))}]"
