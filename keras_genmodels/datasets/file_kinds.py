"""Which files are read, by their endings, and which count as hidden."""

import collections
import os
import pathlib

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.datasets.endings import ARRAYS, OTHER_DATA, PICTURES

# Besides names that begin with a dot, such as ._x.png and .ipynb_checkpoints.
_HIDDEN = ("__macosx", "@eadir", "desktop.ini", "thumbs.db")


def local_path(path):
    """Converts as `files.local_path`; raises a `UserError` for other URLs."""
    with user_errors():
        return files.local_path(path)


def is_hidden(name):
    """Returns whether a file or folder belongs to a system or an editor."""
    return name.startswith(".") or name.lower() in _HIDDEN


def is_picture(name):
    """Returns whether a file is read as a picture, by its name."""
    return str(name).lower().endswith(PICTURES) and not is_hidden(
        pathlib.PurePath(name).name
    )


def is_arrays(name):
    """Returns whether a file is read as arrays, by its name."""
    return str(name).lower().endswith(ARRAYS)


def is_other_data(name):
    """Returns whether a name is that of a file of data that cannot be read."""
    return str(name).lower().endswith(OTHER_DATA)


def supported(arrays=ARRAYS):
    """Returns the list of supported files, for a message.

    Args:
        arrays: endings of the supported files that are not pictures.
    """
    return (
        f"pictures ({', '.join(PICTURES)}) and arrays ({', '.join(arrays)}) "
        "are read"
    )


def find_pictures(folder):
    """Finds the pictures in a folder and its sub-folders.

    Hidden files and folders are skipped, and so are files of other endings.

    Args:
        folder: path.

    Returns:
        `(paths, skipped)`: list of pathlib.Path, the files of a folder by
        name, before those of its sub-folders; Counter of what was skipped, by
        its kind.

    Raises:
        OSError: if a folder cannot be read.
    """
    found, skipped = [], collections.Counter()
    for root, folders, names in _walk(folder, onerror=_raise):
        hidden = [name for name in folders if is_hidden(name)]
        skipped["hidden folder"] += len(hidden)
        folders[:] = [name for name in folders if name not in hidden]
        pictures = [name for name in names if is_picture(name)]
        found.append((root, sorted(pictures)))
        skipped.update(map(kind, {*names} - {*pictures}))
    return [
        pathlib.Path(root, name)
        for root, names in sorted(found)
        for name in names
    ], +skipped


def holds_pictures(folder, but=()):
    """Returns whether a folder or one of its sub-folders holds a picture.

    Args:
        folder: path.
        but: names of its sub-folders that are left out.
    """
    for root, folders, names in _walk(folder):
        if any(map(is_picture, names)):
            return True
        at_top = os.path.samefile(root, folder)
        folders[:] = [
            name
            for name in folders
            if not is_hidden(name) and not (at_top and name in but)
        ]
    return False


def is_loop(path, above=()):
    """Returns whether a path is a link to a folder that it lies in.

    Args:
        path: path.
        above: real paths of the folders through which it was reached.
    """
    if not os.path.islink(path):
        return False
    target = pathlib.Path(path).resolve()
    parents = (pathlib.Path(path).parent.resolve(), *above)
    return any(parent.is_relative_to(target) for parent in parents)


def _walk(folder, onerror=None):
    """Walks as `os.walk`, also through linked folders that are no loops."""
    above = {}
    for root, folders, names in os.walk(
        folder, onerror=onerror, followlinks=True
    ):
        parents = (*above.pop(root, ()), pathlib.Path(root).resolve())
        folders[:] = [
            name
            for name in folders
            if not is_loop(os.path.join(root, name), parents)
        ]
        above |= {os.path.join(root, name): parents for name in folders}
        yield root, folders, names


def _raise(error):
    raise error


def kind(name):
    """Returns the kind of a skipped file, for `skipped_note`."""
    if is_hidden(name):
        return "hidden file"
    return pathlib.PurePath(name).suffix.lower() or "file without ending"


def skipped_note(skipped):
    """Returns the line on skipped files, or None if there are none.

    Args:
        skipped: Counter, as of `find_pictures`.
    """
    if not skipped:
        return None
    kinds = (
        f"{count} {what}{'s' * (count > 1 and what.startswith('hidden'))}"
        for what, count in sorted(skipped.items())
    )
    return f"skipped: {', '.join(kinds)} ({', '.join(PICTURES)} are read)"


def list_pictures(path):
    """Lists a picture file, or all pictures in a folder and its sub-folders.

    Args:
        path: of a file or a folder.

    Returns:
        list of pathlib.Path: the files of a folder by name, before those of
        its sub-folders.

    Raises:
        UserError: if the path does not exist or holds no picture.
    """
    path = local_path(path)
    if path.is_file():
        if is_other_data(path):
            raise UserError(f"{path} is no picture: {supported()}")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such picture file or folder")
    paths, skipped = find_pictures(path)
    if not paths:
        raise UserError(no_pictures(path, skipped))
    return paths


def skipped_in(path):
    """Returns a line on the files that `list_pictures` skips, or None."""
    path = local_path(path)
    if not path.is_dir():
        return None
    return skipped_note(find_pictures(path)[1])


def no_pictures(folder, skipped=()):
    """Returns the message of the error for a folder without pictures."""
    note = skipped and f"; {skipped_note(skipped)}"
    return (
        f"{folder} holds no picture ({', '.join(PICTURES)}): name another"
        f"{note or ''}"
    )
