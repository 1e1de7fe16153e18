"""Folders <name>/<integer>/ as TensorFlow Serving reads them: whole or not."""

import contextlib
import errno
import os
import pathlib
import tempfile

import tensorflow as tf

from keras_genmodels import files

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
        files.remove_unfinished(folder)
        with tempfile.TemporaryDirectory(
            dir=folder, prefix=f"{files.WRITING}{os.getpid()}-"
        ) as beside:
            writing = Writing(pathlib.Path(beside, "version"))
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
