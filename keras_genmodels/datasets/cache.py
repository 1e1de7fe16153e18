"""A folder of what was prepared from data sets, safe under interruption.

Each entry is a folder with what a function wrote, and the state of the source
at that time. It is written under another name and renamed at the end: what has
the right name is whole.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError

# Environment variable with the path of the folder.
VARIABLE = "KERAS_GENMODELS_CACHE"
_STATE = "state.json"
_ADVICE = (
    f"free disk space, or set the environment variable {VARIABLE} to another "
    "folder"
)
_LONGEST_NAME = 40
# What reading raises of files that are missing, cut short or of other content.
_DAMAGES = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
)


def folder():
    """Returns the path of the folder, which need not exist.

    It is that of the environment variable `KERAS_GENMODELS_CACHE`, by default
    `keras_genmodels` below `XDG_CACHE_HOME` or `~/.cache`.
    """
    if given := os.environ.get(VARIABLE):
        return pathlib.Path(os.path.expanduser(given)).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(os.path.expanduser(base), "keras_genmodels").absolute()


class Entry:
    """What is prepared from one source in one way.

    Args:
        name: str, for the name of the folder.
        identity: what tells this entry from others, as JSON holds it: the
            source and how it is read.
        state: function that returns a text, which changes with the source.
        read: function of the folder that reads what was prepared, and raises
            an exception such as ValueError or OSError if that is damaged.
    """

    def __init__(self, name, identity, state, read):
        text = json.dumps(identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        plain = re.sub("[^A-Za-z0-9_.]+", "-", name)[-_LONGEST_NAME:].strip(
            "-."
        )
        self.path = folder() / f"{plain}-{digest}"
        self._identity, self._state, self._read = identity, state, read
        self._is_damaged = False

    def find(self):
        """Reads what was prepared from the source as it is now.

        Returns:
            what `read` returns; None if there is no such folder, or, after a
            printed line, if it is damaged.
        """
        if not self._is_current():
            return None
        try:
            return self._read(self.path)
        except _DAMAGES as error:
            if not self._is_damaged:
                self._is_damaged = True
                print(
                    f"{self.path} is damaged ({error}): its source is read "
                    "again",
                    flush=True,
                )
        return None

    def prepare(self, write, size, waiting=lambda: None):
        """Prepares the folder unless it is there, whole and up to date.

        Only one process prepares it; others wait.

        Args:
            write: function of the path of an empty folder, which it fills.
            size: int, about the bytes that it writes.
            waiting: function that is called before a wait for another process.

        Returns:
            what `read` returns.

        Raises:
            UserError: if the disk is full, or cannot be written to.
        """
        if "~" in self.path.parts:
            raise UserError(
                f"this user has no home folder to prepare images in: {_ADVICE}"
            )
        with _disk_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(waiting):
                found = self.find()
                if found is None:
                    found = self._read(self._write(write, size))
                return found

    def _is_current(self):
        """Returns whether it was prepared from the source as it is now."""
        # A home folder may be missing, or closed to this process.
        with contextlib.suppress(ValueError, OSError):
            if (self.path / _STATE).exists():
                return files.read_json(self.path / _STATE) == self._content()
        return False

    @contextlib.contextmanager
    def _locked(self, waiting):
        """Holds the lock of this entry."""
        path = self._beside(".lock")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.locked(path, wait=False))
            except BlockingIOError:
                waiting()
                stack.enter_context(files.locked(path))
            yield

    def _write(self, write, size):
        """Prepares the folder; what is left of a killed process is removed."""
        new, old = self._beside(".new"), self._beside(".old")
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        # Before it is read, so that a later change is noticed.
        content = self._content()
        new.mkdir()
        try:
            check_room(new, size)
            write(new)
            files.write_json(new / _STATE, content)
            _flush(new)
            if self.path.exists():
                os.replace(self.path, old)
            os.replace(new, self.path)
        finally:
            for left in (new, old):
                shutil.rmtree(left, ignore_errors=True)
        return self.path

    def _beside(self, ending):
        return self.path.with_name(self.path.name + ending)

    def _content(self):
        return files.as_json({"source": self._identity, "state": self._state()})


def require(is_whole, path):
    """Raises ValueError if the content of a prepared file is not as written."""
    if not is_whole:
        raise ValueError(f"{path.name} does not fit the other files")


def stamp(path):
    """Returns a text that changes with a file: its size and time."""
    found = os.stat(path)
    return f"{found.st_size} bytes, {found.st_mtime_ns} ns"


def check_room(path, size):
    """Raises a `UserError` if `size` bytes are not free where a folder is."""
    free = shutil.disk_usage(path).free
    if size > free:
        raise UserError(
            f"{path.parent} has {free / 2**30:.1f} GiB of free disk space, and "
            f"the prepared images take {size / 2**30:.1f} GiB: {_ADVICE}"
        )


@contextlib.contextmanager
def _disk_errors(path):
    """Raises an `OSError` of writing to a folder as a `UserError`."""
    try:
        yield
    except OSError as error:
        # Errors of reading name a file of the source.
        named = error.filename and pathlib.Path(error.filename)
        if named and not named.is_relative_to(path) and path.exists():
            raise
        raise UserError(
            f"images cannot be prepared in {path} ({error.strerror}): {_ADVICE}"
        ) from error


def _flush(path):
    """Writes the files of a folder to the disk."""
    for file in path.iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
