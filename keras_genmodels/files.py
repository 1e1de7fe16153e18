"""Files that appear whole or not at all, and the lock of a folder."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import psutil

from keras_genmodels.errors import UserError

# Of what is being written; the number of the process follows.
WRITING = ".writing-"


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


def write_json(path, content):
    """Writes a JSON file, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n")


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


@contextlib.contextmanager
def locked(folder):
    """Keeps other processes from training in `folder` at the same time.

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
                f"another process is training in {folder}: wait for it, or "
                "give another --workdir"
            ) from None
        yield
