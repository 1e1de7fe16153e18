"""The arrays of an `.npz` file, read in blocks."""

import contextlib
import math
import zipfile

import numpy as np

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import blocks


class Member:
    """An array of an `.npz` file, of which only the header has been read.

    Args:
        path: of the file.
        name: str, of the array.

    Raises:
        UserError: if it cannot be read, or is of Python objects.
    """

    def __init__(self, path, name):
        self._path, self._name = path, name
        with self._opened() as (_, header):
            self.shape, self._is_transposed, self.dtype = header
        self.ndim = len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        arrays, _ = files.read_arrays(self._path, self._name)
        return np.asarray(arrays[self._name], dtype)

    def parts(self):
        """Yields the array in blocks of rows.

        Raises:
            UserError: if the file is damaged.
        """
        if self._is_transposed:
            yield from blocks.parts(np.asarray(self))
            return
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = blocks.rows_of(self.shape, self.dtype)
        with self._opened() as (file, _):
            for start in range(0, len(self), rows):
                count = min(rows, len(self) - start)
                content = file.read(count * size)
                if len(content) < count * size:
                    raise EOFError("it ends early")
                block = np.frombuffer(content, self.dtype)
                yield block.reshape(count, *self.shape[1:])

    @contextlib.contextmanager
    def _opened(self):
        """Yields the file behind its header, and the header."""
        try:
            with (
                zipfile.ZipFile(self._path) as archive,
                archive.open(f"{self._name}.npy") as file,
            ):
                yield file, _read_header(file)
        except UserError:
            raise
        except (KeyError, *files.UNREADABLE_ARCHIVE) as error:
            raise UserError(
                f"{self._path} cannot be read ({error}): save plain number "
                "arrays with np.savez"
            ) from error


def _read_header(file):
    """Returns shape, whether in Fortran's order, and dtype of an array."""
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    header = read(file)
    if header[2].hasobject:
        raise ValueError(
            "Object arrays cannot be loaded when allow_pickle=False"
        )
    return header
