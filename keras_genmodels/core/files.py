"""Files that appear whole or not at all, arrays, and the lock of a folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
import zipfile
import zlib

import numpy as np
import psutil

from keras_genmodels.core.errors import UserError

# Of what is being written; the number of the process follows.
WRITING = ".writing-"
# What NumPy says of a file that is no .npz file, or a spoilt one.
_UNREADABLE_ARCHIVE = (
    EOFError,
    OSError,
    # A password, or a compression that Python does not know.
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def replacing(path):
    """Yields a path to write to, and moves it to `path` once all is written.

    If the block fails, `path` is left as it was and nothing else remains.

    Args:
        path: where the file will appear; its folder is made if needed.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    try:
        # In a folder of its own, so that the file keeps its name meanwhile.
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f"{WRITING}{os.getpid()}-"
        ) as folder:
            beside = pathlib.Path(folder, path.name)
            yield beside
            with open(beside, "rb") as written:
                os.fsync(written.fileno())
            os.replace(beside, path)
    except OSError as error:
        if error.errno is None:
            raise
        # Of the file that was asked for: few errors name any.
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_unfinished(folder):
    """Removes what processes that were killed left half written."""
    for unfinished in folder.glob(f"{WRITING}*"):
        process = unfinished.name.removeprefix(WRITING).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(unfinished, ignore_errors=True)


def as_json(content):
    """Gives content as a JSON file holds it.

    A number that is not finite becomes None, as JSON knows none.

    Raises:
        TypeError, ValueError, RecursionError: for what JSON does not hold.
    """
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


def write_json(path, content):
    """Writes a JSON file of `as_json`, whole or not at all."""
    text = json.dumps(as_json(content), indent=2)
    with replacing(path) as beside:
        beside.write_text(text + "\n")


def read_json(path):
    """Reads a JSON file, or gives None if there is none.

    Raises:
        UserError: if it is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): delete it") from error


def write_arrays(path, **arrays):
    """Writes an `.npz` file of arrays, whole or not at all."""
    with replacing(path) as beside:
        np.savez_compressed(beside, **arrays)


def read_arrays(path, *names):
    """Reads arrays of an `.npz` file.

    Args:
        path: of the file.
        *names: of the arrays.

    Returns:
        `(arrays, found)`: a dict of those of `names` that are there, and the
        list of the names of all arrays there.

    Raises:
        UserError: if the file is missing or no such archive, or one of the
            arrays is of Python objects.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: name another .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            # A member that is no array comes as bytes.
            there = [name for name in names if name in found]
            return {n: np.asarray(archive[n]) for n in there}, found
    except _UNREADABLE_ARCHIVE as error:
        raise UserError(
            f"{path} cannot be read ({error}): save plain number arrays with "
            "np.savez"
        ) from error


@contextlib.contextmanager
def locked(folder):
    """Keeps other processes from working in `folder` at the same time.

    The lock ends with the process, however that ends.

    Raises:
        UserError: if another process holds it.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {folder}: wait for it, or "
                "give another --workdir"
            ) from None
        yield
