"""Folders <name>/<integer>/ as TensorFlow Serving reads them: whole or not."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

from keras_genmodels.core import files

# Not `.lock`, which a training in the same folder holds.
_LOCK = ".exporting"
_LOCK_OF_WRITING = "lock"
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def versions_in(folder):
    """Lists the versions that a server would find, `[(number, path)]`, rising.

    Args:
        folder: pathlib.Path; it need not exist.
    """
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name), path)
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit()
    )


@contextlib.contextmanager
def locked(export_dir):
    """Waits for its turn among exports to the same folder.

    Args:
        export_dir: pathlib.Path of all exports.
    """
    with open(export_dir / _LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def writing_version(folder):
    """Yields a folder to write to, which then becomes the next version.

    What is written lies beside the versions under a name that no server
    reads, and is on disk before it is renamed. If the block fails, nothing
    remains of it; what a killed process left is removed.

    Args:
        folder: pathlib.Path of all versions of a model.

    Yields:
        `Writing`, whose `path` is to be filled; its `version` is known after
        the block.

    Raises:
        OSError: if the disk is full or the folder can't be written to, with
            the folder's name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _writing_beside(folder) as beside:
            writing = Writing(beside / "version")
            writing.path.mkdir()
            yield writing
            _sync_below(writing.path)
            writing.version = _take_next(writing.path, folder)
            _sync(folder)
    except (OSError, tf.errors.OpError) as error:
        number = _number_of(error)
        if number is None:
            raise
        raise OSError(
            number,
            f"{os.strerror(number)}: nothing was exported, older versions are "
            "as they were",
            str(folder),
        ) from error


@contextlib.contextmanager
def _writing_beside(folder):
    """Yields a new folder, locked as long as it is being written to.

    A lock, as the number of a process says nothing in another container that
    exports to the same disk.
    """
    with contextlib.ExitStack() as stack:
        with locked(folder.parent):
            _remove_unfinished(folder)
            beside = stack.enter_context(
                tempfile.TemporaryDirectory(dir=folder, prefix=files.WRITING)
            )
            path = pathlib.Path(beside)
            lock = stack.enter_context(open(path / _LOCK_OF_WRITING, "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def _remove_unfinished(folder):
    """Removes what killed exports left; all others hold their lock."""
    for left in folder.glob(f"{files.WRITING}*"):
        try:
            with open(left / _LOCK_OF_WRITING, "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            # It is being written, has just ended, or is another user's.
            continue


def _number_of(error):
    """Gives the `errno` of an error, None if it is none of the system's."""
    if isinstance(error, OSError):
        return error.errno
    # TensorFlow tells of the disk in words alone.
    for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS):
        if os.strerror(number) in str(error):
            return number
    return None


class Writing:
    """A version being written.

    Args:
        path: where.
    """

    def __init__(self, path):
        self.path = path
        self.version = None


def _take_next(path, folder):
    """Renames to the next free number; gives the path of the version."""
    while True:
        number = max([0, *(number for number, _ in versions_in(folder))]) + 1
        version = folder / str(number)
        try:
            os.rename(path, version)
        except OSError as error:
            # Another export was faster.
            if error.errno not in _TAKEN:
                raise
        else:
            return version


def _sync_below(folder):
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path):
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
