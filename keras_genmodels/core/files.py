"""Files that are written atomically, arrays, and locks between processes."""

import contextlib
import errno
import json
import os
import pathlib
import platform
import re
import shutil
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib

import filelock
import numpy as np
import psutil
import tensorflow as tf

# Prefix of temporary folders; the id of the process follows.
WRITING = ".writing-"
# In the names of temporary folders, which tell machines apart.
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
# A scheme has two letters or more: C:/ is a drive. A Path has lost one slash.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# The classes by which TensorFlow reports errors of the operating system.
_ERRNOS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.OutOfRangeError: errno.EFBIG,
    tf.errors.PermissionDeniedError: errno.EACCES,
}
# What NumPy raises for a file that is not an .npz file, or is damaged.
UNREADABLE_ARCHIVE = (
    EOFError,
    OSError,
    # A password, or an unknown compression.
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def local_path(path):
    """Converts a path, or a file:// URL, to a `pathlib.Path`.

    `pathlib` takes s3://bucket/run for the folder `s3:` on this machine.

    Raises:
        ValueError: for any other URL.
    """
    text = os.fspath(path)
    if not (found := _URL.match(text)):
        return pathlib.Path(path)
    url = urllib.parse.urlsplit(text)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return pathlib.Path(urllib.request.url2pathname(url.path))
    raise ValueError(
        f"{text}: only local paths can be used, not {found[1]} addresses: "
        "mount it, or copy to or from a local folder"
    )


@contextlib.contextmanager
def replacing(path):
    """Yields a temporary path, whose file replaces `path` after the block.

    If the block fails, `path` is left unchanged and nothing else remains.

    Args:
        path: of the file; its folder is created if needed.

    Raises:
        ValueError: for a URL, except a file:// URL.
        OSError: if the file cannot be written, with its name.
    """
    path = local_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    prefix = f"{WRITING}{os.getpid()}.{_HOST}-"
    with (
        disk_errors(path),
        # In a folder of its own, so that the temporary file has its name.
        tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder,
    ):
        temporary = pathlib.Path(folder, path.name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)


@contextlib.contextmanager
def disk_errors(path, note=""):
    """Raises errors of the disk in the block as `OSError`s about `path`.

    Args:
        path: of the file or folder that is being written.
        note: str, added to the description of the error.

    Raises:
        OSError: with an `errno`, for an `OSError` or an error of TensorFlow
            that stands for one.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        number = errno_of(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number) + note, str(path)) from error


def errno_of(error):
    """Returns the `errno` of an error of writing to disk, None for others."""
    if isinstance(error, OSError):
        return error.errno
    return next(
        (code for kind, code in _ERRNOS.items() if isinstance(error, kind)),
        None,
    )


def remove_unfinished(folder):
    """Removes the temporary folders of killed processes of this machine."""
    for unfinished in folder.glob(f"{WRITING}*"):
        owner = unfinished.name.removeprefix(WRITING).partition("-")[0]
        process, _, host = owner.partition(".")
        # Other machines may write to the same folder.
        if host == _HOST and not psutil.pid_exists(int(process)):
            shutil.rmtree(unfinished, ignore_errors=True)


def as_json(content):
    """Returns content as it is read back from a JSON file.

    Numbers that are not finite become None: JSON has none.

    Raises:
        TypeError, ValueError, RecursionError: for content that JSON cannot
            hold.
    """
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


def write_json(path, content):
    """Writes `as_json(content)` to a JSON file, atomically."""
    text = json.dumps(as_json(content), indent=2)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def read_json(path):
    """Reads a JSON file; returns None if it does not exist.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return json.loads(local_path(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it") from error


def write_arrays(path, **arrays):
    """Writes an `.npz` file of arrays, atomically."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_arrays(path, *names):
    """Reads arrays of an `.npz` file.

    Args:
        path: of the file.
        *names: of the arrays.

    Returns:
        `(arrays, found)`: a dict of the arrays of `names` that the file has,
        and the list of the names of all its arrays.

    Raises:
        ValueError: if the file is missing or not such an archive, or one of the
            arrays is of Python objects.
    """
    path = local_path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}: name another .npz file")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be read (no .npz file, or cut short): save plain "
            "number arrays with np.savez"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            # `asarray`, as a member that is not an array is read as bytes.
            return {
                name: np.asarray(archive[name])
                for name in names
                if name in found
            }, found
    except UNREADABLE_ARCHIVE as error:
        raise ValueError(
            f"{path} cannot be read ({error}): save plain number arrays with "
            "np.savez"
        ) from error


@contextlib.contextmanager
def locked(path, wait=True):
    """Holds a lock between processes, and between threads, in the block.

    The lock ends with the process, however that ends; its file remains.

    Args:
        path: of the lock file; its folder must exist.
        wait: whether to wait while another holds the lock.

    Raises:
        BlockingIOError: if another holds the lock and `wait` is False.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout as error:
        raise BlockingIOError(
            errno.EWOULDBLOCK, "locked by another process", str(path)
        ) from error
    try:
        yield
    finally:
        lock.release()
