"""Version folders, <name>/<integer>/, written atomically."""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile

from keras_genmodels.core import files

# Not `.lock`, which training in the same folder holds.
_LOCK = ".exporting"
_LOCK_OF_WRITING = "lock"
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def versions_in(folder):
    """Lists the versions that a server would find.

    Args:
        folder: pathlib.Path of all versions of a model; it need not exist.

    Returns:
        ascending list of (number, path).
    """
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name), path)
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit()
    )


def locked(export_dir):
    """Returns a context manager that locks a folder for one export at a time.

    Entering it waits until no other process holds the lock.

    Args:
        export_dir: pathlib.Path of all exports.
    """
    return files.locked(export_dir / _LOCK)


@contextlib.contextmanager
def writing_version(folder):
    """Yields a folder to write to, which then becomes the next version.

    It has a name that no server reads, and is flushed to the disk and renamed
    at the end. If the block fails, it is removed, as are the folders that
    killed processes left.

    Args:
        folder: pathlib.Path of all versions of a model.

    Yields:
        `Writing`, whose `path` is to be filled; its `version` is known after
        the block.

    Raises:
        OSError: if the disk is full or the folder cannot be written to, with
            the folder's name.
    """
    note = ": nothing was exported, older versions are as they were"
    with files.disk_errors(folder, note):
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(folder) as temporary:
            writing = Writing(temporary / "version")
            writing.path.mkdir()
            yield writing
            _sync_below(writing.path)
            writing.version = _take_next(writing.path, folder)
            _sync(folder)


@contextlib.contextmanager
def _temporary_folder(folder):
    """Yields a new folder, locked while it is being written to.

    The lock marks it as in use for other exports. A process id would not, in
    another container that exports to the same disk.
    """
    with contextlib.ExitStack() as stack:
        with locked(folder.parent):
            _remove_unfinished(folder)
            temporary = stack.enter_context(
                tempfile.TemporaryDirectory(dir=folder, prefix=files.WRITING)
            )
            path = pathlib.Path(temporary)
            stack.enter_context(files.locked(path / _LOCK_OF_WRITING))
        yield path


def _remove_unfinished(folder):
    """Removes the folders of killed exports; all others hold their lock."""
    for left in folder.glob(f"{files.WRITING}*"):
        # Locked, just finished, or owned by another user.
        with (
            contextlib.suppress(OSError),
            files.locked(left / _LOCK_OF_WRITING, wait=False),
        ):
            shutil.rmtree(left, ignore_errors=True)


class Writing:
    """A version that is being written.

    Args:
        path: temporary folder.

    Attributes:
        version: pathlib.Path of the finished version; None until then.
    """

    def __init__(self, path):
        self.path = path
        self.version = None


def _take_next(path, folder):
    """Renames to the next free number; returns the path of the version."""
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
