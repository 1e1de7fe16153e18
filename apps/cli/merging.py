"""Joins the archives of the shards of a job, without TensorFlow."""

import os
import pathlib
import platform
import tempfile
import zipfile
import zlib

from . import guard
from .shard_flag import JOB, ROWS

# What NumPy raises for a file that is not an .npz file, or is damaged.
_UNREADABLE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def run(config):
    """Joins the files of --merge to --output, and prints what it holds.

    Args:
        config: `Config`.

    Raises:
        WrongFlags: if other flags are given, and as `merge`.
    """
    others = sorted(config.present - {"merge", "output"})
    if others:
        raise guard.WrongFlags(
            f"--merge takes only --output, not --{others[0]}"
        )
    if not (config.output or "").endswith(".npz"):
        raise guard.WrongFlags("--merge requires an --output that ends in .npz")
    arrays = merge(config.merge, pathlib.Path(config.output))
    shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in arrays.items())
    print(f"{shapes} in {config.output}")


def merge(paths, output):
    """Joins .npz files of one job, in the order given, and writes the result.

    Args:
        paths: of the files, at least one.
        output: pathlib.Path of the .npz file to write.

    Returns:
        dict of the arrays that were written.

    Raises:
        WrongFlags: if the files cannot be read, do not belong together, or
            are shards of which one is missing or not in its place.
    """
    if output in map(pathlib.Path, paths):
        raise guard.WrongFlags(
            f"--output={output} is one of the files of --merge: give another"
        )
    if len({*paths}) < len(paths):
        raise guard.WrongFlags("--merge names a file twice: name each once")
    joined = join([(path, read(path)) for path in paths])
    _write(output, joined)
    return joined


def read(path):
    """Reads all arrays of an .npz file.

    Raises:
        WrongFlags: if it cannot be read.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    # An .npy file has no names.
    except (*_UNREADABLE, AttributeError, TypeError) as error:
        raise guard.WrongFlags(
            f"--merge: {path} cannot be read as an .npz file ({error})"
        ) from error


def join(archives):
    """Joins archives of one job.

    Arrays with a row for each row of the archive are concatenated; others
    must be equal in all archives.

    Args:
        archives: list of `(path, arrays)`, in order. They are shards, with
            the arrays of `shard_flag.arrays_of`, or have no such arrays.

    Returns:
        dict of arrays. Of shards it is the archive of the whole job.

    Raises:
        WrongFlags: as `merge`.
    """
    import numpy as np

    check_shards(archives)
    first_path, first = archives[0]
    counts = []
    for path, arrays in archives:
        if arrays.keys() != first.keys():
            raise guard.WrongFlags(
                f"--merge: {path} holds {_names(arrays)}, {first_path} "
                f"{_names(first)}: they are not parts of one job"
            )
        counts.append(_num_rows(arrays))
    joined = {}
    for name in first:
        if name in (ROWS, JOB):
            continue
        parts = [arrays[name] for _, arrays in archives]
        is_by_row = all(
            part.ndim and len(part) == count
            for part, count in zip(parts, counts, strict=True)
        )
        for (path, _), part in zip(archives, parts, strict=True):
            _check_alike(name, path, part, first_path, parts[0], is_by_row)
        joined[name] = np.concatenate(parts) if is_by_row else parts[0]
    return joined


def check_shards(archives):
    """Checks that shards are complete, in order, and of one job.

    Args:
        archives: as in `join`.

    Raises:
        WrongFlags: if they are not. Other archives pass.
    """
    expected, (first_path, first) = 0, archives[0]
    for path, arrays in archives:
        if (ROWS in arrays) != (ROWS in first):
            raise guard.WrongFlags(
                f"--merge: only one of {first_path} and {path} is a shard"
            )
        if ROWS not in arrays:
            continue
        if arrays[ROWS].shape != (3,):
            raise guard.WrongFlags(f"--merge: {path} is damaged (`{ROWS}`)")
        begin, end, total = arrays[ROWS].tolist()
        if total != first[ROWS][2] or arrays.get(JOB) != first.get(JOB):
            raise guard.WrongFlags(
                f"--merge: {path} is of another job than {first_path}: of "
                "another model, seed, input or number of images"
            )
        if begin != expected:
            raise guard.WrongFlags(
                f"--merge: {path} begins with row {begin}, not {expected}: "
                "give every shard once, in order"
            )
        expected = end
    if ROWS in first and expected != total:
        raise guard.WrongFlags(
            f"--merge: {path} ends with row {expected - 1} of {total}: give "
            "every shard, in order"
        )


def _check_alike(name, path, part, first_path, first, is_by_row):
    """Checks that an array may be joined with that of the first archive."""
    import numpy as np

    start = 1 if is_by_row else 0
    if part.dtype != first.dtype or part.shape[start:] != first.shape[start:]:
        raise guard.WrongFlags(
            f"--merge: `{name}` is {part.dtype} {list(part.shape)} in {path}, "
            f"{first.dtype} {list(first.shape)} in {first_path}"
        )
    if not is_by_row and not np.array_equal(part, first):
        raise guard.WrongFlags(
            f"--merge: `{name}` has no row for each image and differs in "
            f"{path} and {first_path}"
        )


def _num_rows(arrays):
    """Returns the number of rows of an archive."""
    if ROWS in arrays:
        begin, end, _ = arrays[ROWS].tolist()
        return end - begin
    # Archives begin with what was computed.
    return next((len(array) for array in arrays.values() if array.ndim), 0)


def _names(arrays):
    return ", ".join(f"`{name}`" for name in arrays) or "nothing"


def _write(path, arrays):
    """Writes an .npz file, which appears when it is complete."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    # Named as in `core.files`, which would import TensorFlow.
    host = zlib.crc32(platform.node().encode())
    prefix = f".writing-{os.getpid()}.{host:08x}-"
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
        temporary = pathlib.Path(folder, path.name)
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
