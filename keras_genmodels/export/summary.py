"""What `apps.export` prints after an export."""

import itertools
import os
import shlex

from keras_genmodels.core import files
from keras_genmodels.export import serving_config
from keras_genmodels.export.description import (
    DESCRIPTION,
    EXTRA,
    read_description,
)
from keras_genmodels.export.versions import versions_in


def summary(version, serving_root=None):
    """Describes an exported version, and how to serve it.

    Args:
        version: absolute pathlib.Path of the version.
        serving_root: as for `export`.

    Returns:
        str of several lines.
    """
    export_dir = version.parents[1]
    description = read_description(version)
    root = os.fspath(serving_root or export_dir).rstrip("/")
    commands = serving_config.start_commands(
        export_dir, root, _needs_xla(export_dir)
    )
    where = "" if root == str(export_dir) else f" where {root} is {export_dir}"
    return "\n".join(
        [
            f"Exported {description['kind']} to {version}",
            "",
            *signature_lines(description),
            *_size_lines(description),
            "",
            "Serve it on ports 8500 (gRPC) and 8501 (REST), in a container:",
            f"  {commands['container']}",
            f"or with the binary{where}:",
            f"  {commands['binary']}",
            f"models.config expects all models below {root}.",
            "",
            "Check it: python -m apps.export "
            + shlex.quote(f"--check={version}"),
        ]
    )


def signature_lines(description):
    """Returns a table of the signatures with their inputs and outputs."""
    rows = [("signature", "input", "output")]
    described = dict(description["signatures"])
    default = described.pop("serving_default")
    for name, signature in described.items():
        is_default = signature == default
        rows += itertools.zip_longest(
            [name, *(["(serving_default)"] if is_default else [])],
            _tensors(signature["inputs"]),
            _tensors(signature["outputs"]),
            fillvalue="",
        )
    return columns(rows)


def _size_lines(description):
    """Returns the lines on images of any size; empty for those of one size."""
    image = description["signatures"]["serving_default"]["inputs"].get("image")
    sides = (image or {}).get("sides")
    if sides is None:
        return []
    return [
        "",
        f"Images may have any size from {sides['least']}x{sides['least']} to "
        f"{sides['max_pixels']} pixels (--max_pixels),",
        f"and a request {description['settings']['max_rows']} of them "
        "(--max_rows); no more pixels than that are denoised at a time.",
        "The server does not batch their requests: this version has no "
        f"{serving_config.OF_VERSION}.",
        "If all clients send images of one size, copy "
        f"{serving_config.BATCHING} there under that name.",
    ]


def columns(rows, right=()):
    """Aligns texts in columns.

    Args:
        rows: list of tuples of str.
        right: indices of the columns that are aligned to the right.

    Returns:
        list of str, one line each.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _needs_xla(export_dir):
    """Returns whether the newest version of any model there needs XLA."""
    newest = [
        versions_in(folder)[-1][1]
        for folder in export_dir.iterdir()
        if versions_in(folder)
    ]
    return any(_is_compiled(path / EXTRA / DESCRIPTION) for path in newest)


def _is_compiled(path):
    """Returns that setting of a model.json, False for a foreign model."""
    try:
        return bool(files.read_json(path)["settings"]["jit_compile"])
    except (ValueError, TypeError, KeyError):
        return False


def _tensors(specs):
    return [f"{name} {_type(spec)}" for name, spec in specs.items()]


def _type(spec):
    axes = ["batch", *("any" if n is None else n for n in spec["shape"][1:])]
    return f"{spec['dtype']} [{', '.join(map(str, axes))}]"
