"""Loads image data sets by name: in memory, or on disk."""

import dataclasses
import numbers
import pathlib

import numpy as np

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.validation import check_count
from keras_genmodels.datasets import (
    batches,
    file_kinds,
    notes,
    patch_dataset,
    sources,
    storage,
)
from keras_genmodels.datasets.image_dataset import ImageDataset
from keras_genmodels.datasets.splits import TEST_FRACTION

COLORS = ("auto", "grey", "rgb")
# Default number of patches of an epoch.
PATCHES_PER_EPOCH = 10_000


@dataclasses.dataclass(frozen=True)
class Source:
    """The arguments of `load` that load a data set again.

    Args:
        name: str.
        data_dir: str or None.
        image_size: `(height, width)` or None.
        validation_split: float.
        seed: int.
        white_level: int or None.
        in_memory: False or "auto". `load` records True as "auto", as another
            machine may have less memory.
        color: "auto", "grey" or "rgb".
        patch_size: int or None.
        patches_per_epoch, smallest_scale: used with `patch_size`.
    """

    name: str
    data_dir: str | None = None
    image_size: tuple[int, int] | None = None
    validation_split: float = 0.05
    seed: int = 0
    white_level: int | None = None
    in_memory: str | bool = "auto"
    color: str = "auto"
    patch_size: int | None = None
    patches_per_epoch: int = PATCHES_PER_EPOCH
    smallest_scale: float = 1.0

    def load(self):
        """Loads the data set, as `load` does."""
        return load(**dataclasses.asdict(self))

    def moved_to(self, data_dir):
        """Returns the `Source` of the same data in another folder.

        Raises:
            UserError: for a folder of pictures, if the data are the digits.
        """
        if self.name == "digits" and file_kinds.holds_pictures(data_dir):
            raise UserError(
                f"data_dir {data_dir} holds pictures, but the data set is "
                "digits, which needs no folder: give pictures as input"
            )
        name = self.name
        if sources.is_file(name):
            name = pathlib.Path(name).name
        return dataclasses.replace(self, name=name, data_dir=data_dir)


def load(
    name="digits",
    *,
    data_dir=None,
    image_size=None,
    validation_split=0.05,
    seed=0,
    white_level=None,
    in_memory="auto",
    color="auto",
    patch_size=None,
    patches_per_epoch=PATCHES_PER_EPOCH,
    smallest_scale=1.0,
):
    """Loads a data set into memory, or makes it readable from disk.

    8-bit images whose values are all 0 or 1, as some binary data sets are
    stored, become 0 or 255 (but patches do not). 16-bit images become floats.

    Args:
        name: "digits" (scikit-learn's 8x8 images), the name of a TFDS image
            data set (prepared on first use), "image_folder" (a folder of
            pictures, see `folders.read`), or the path of an array file: an
            `.npz` with the arrays `image` (`[n, height, width]` or `[n,
            height, width, channels]`, uint8, uint16 or floating in [0, 1])
            and, optionally, `label` (integer `[n]`), or with splits: x_train,
            y_train, x_test, ... or train_images, train_labels, ...; or an
            `.npy` of images.
        data_dir: str: the folder of TFDS' data sets (TFDS' default if None),
            the folder of the pictures, or the folder that a relative path of
            an array file refers to.
        image_size: int or `(height, width)` that images are squeezed to. None
            keeps their size, but means 64 for "image_folder".
        validation_split: float in [0, 1), fraction of the training images to
            hold out, drawn by `seed`, if files have no validation split.
        seed: int in [0, 2**31). It also draws 10 % test images if the data set
            has no split for test.
        white_level: int in [1, 65535], the value of white in 16-bit images,
            such as 4095 for 12 bits; by default 65535, or what the chunk sBIT
            of a PNG says.
        in_memory: True; False, on disk: the images are prepared once, see
            `cache.folder`, and read as needed; or "auto", in memory if they
            take at most half of the free memory. Images and batches are the
            same.
        color: of "image_folder": "grey", "rgb", or "auto", grey if all
            pictures are.
        patch_size: int >= 1: pictures of "image_folder" keep their own size,
            and the images are patches of this height and width, without
            labels. Those for training are random ones, flipped and turned, a
            `patches.PatchArray`; those for validation and test are of other
            pictures, and fixed. Pictures smaller than a patch are left out.
        patches_per_epoch: int >= 1, number of training patches; requires
            `patch_size`.
        smallest_scale: float in [0.01, 1]: patches are also of shrunken
            pictures, as often of each scale, from 1 down to this in steps of at
            most a factor of the square root of 2. Details are then finer. A
            picture is left out at scales where it is smaller than a patch.
            Requires `patch_size`.

    Returns:
        ImageDataset.

    Raises:
        UserError: if the data set does not exist, has no images, or does not
            fit in memory as `in_memory` asks; if it cannot be prepared on
            disk; if an argument is out of range.
    """
    if ":/" in name:
        name = str(file_kinds.local_path(name))
    size = _as_size(image_size)
    _check_common(validation_split, white_level, in_memory, color)
    if patch_size is None:
        _check_no_patches(patches_per_epoch, smallest_scale)
        reader = sources.reader(name, data_dir, size, white_level, color)
        found = _load_images(name, reader, in_memory, validation_split, seed)
    else:
        _check_patches(
            name, size, patch_size, patches_per_epoch, smallest_scale
        )
        # run.json holds no numbers of NumPy.
        patch_size, patches_per_epoch = int(patch_size), int(patches_per_epoch)
        smallest_scale = float(smallest_scale)
        drawn = patch_dataset.Patches(
            patch_size,
            patches_per_epoch,
            validation_split,
            seed,
            smallest_scale,
        )
        reader = sources.own_size_reader(
            data_dir, white_level, color, drawn.scales
        )
        found = patch_dataset.load(reader, in_memory, drawn)
    return ImageDataset(
        name,
        **found,
        source=Source(
            *_absolute(name, data_dir),
            size,
            validation_split,
            seed,
            white_level,
            False if in_memory is False else "auto",
            color,
            patch_size,
            patches_per_epoch,
            smallest_scale,
        ),
    )


def _check_common(validation_split, white_level, in_memory, color):
    """Checks the arguments of `load` on images and on patches."""
    if not 0 <= validation_split < 1:
        raise UserError(
            f"validation_split must be in [0, 1), got {validation_split}"
        )
    if white_level is not None and not 1 <= white_level <= 65535:
        raise UserError(f"white_level must be in [1, 65535], got {white_level}")
    if in_memory not in ("auto", True, False):
        raise UserError(
            f"in_memory must be 'auto', True or False, got {in_memory!r}"
        )
    if color not in COLORS:
        raise UserError(f"color must be one of {COLORS}, got {color!r}")


def _load_images(name, reader, in_memory, validation_split, seed):
    """Returns arguments of the `ImageDataset`, of images of one size."""
    found = storage.load(reader, in_memory)
    train, validation, test = _completed(found, validation_split, seed)
    return {
        "train": train,
        "validation": validation,
        "test": test,
        "label_names": found.label_names,
        "notes": notes.of(found, train, name),
    }


def _check_no_patches(per_epoch, smallest_scale):
    """Checks that the arguments of `load` on patches have their defaults."""
    if per_epoch != PATCHES_PER_EPOCH:
        raise UserError(f"patches_per_epoch={per_epoch} requires patch_size")
    if smallest_scale != 1:
        raise UserError(f"smallest_scale={smallest_scale} requires patch_size")


def _check_patches(name, image_size, size, per_epoch, smallest_scale):
    """Checks the arguments of `load` on patches."""
    if name != "image_folder":
        raise UserError(
            f"patch_size={size} requires pictures, in the folder data_dir: "
            f"give image_folder, not {name}, as the data set"
        )
    if image_size is not None:
        raise UserError(
            "image_size cannot be given with patch_size: pictures keep their "
            "own size"
        )
    with user_errors():
        check_count("patch_size", size)
        check_count("patches_per_epoch", per_epoch)
    is_number = isinstance(smallest_scale, numbers.Real)
    if not is_number or isinstance(smallest_scale, bool):
        raise UserError(
            f"smallest_scale must be a number, got {smallest_scale!r}"
        )
    if not 0.01 <= smallest_scale <= 1:
        raise UserError(
            f"smallest_scale must be in [0.01, 1], got {smallest_scale}"
        )


def _absolute(name, data_dir):
    """Returns paths that hold from any working directory."""
    if data_dir is not None and not sources.is_remote(data_dir):
        data_dir = str(files.local_path(data_dir).expanduser().absolute())
    if sources.is_file(name) and data_dir is None:
        name = str(files.local_path(name).expanduser().absolute())
    return name, data_dir


def _as_size(image_size):
    """Converts an int or a pair to `(height, width)`; None stays None."""
    if image_size is None:
        return None
    size = np.atleast_1d(image_size)
    if size.dtype.kind not in "iu" or size.shape not in ((1,), (2,)):
        raise UserError(
            f"image_size must be an int or (height, width), got {image_size!r}"
        )
    if size.min() < 1:
        raise UserError(f"image_size must be at least 1, got {image_size!r}")
    return int(size[0]), int(size[-1])


def _completed(found, validation_split, seed):
    """Returns the splits `(train, validation, test)`, held out if missing."""
    train, validation, test = found.train, found.validation, found.test
    if test is None:
        train, test = _hold_out(train, TEST_FRACTION, seed, batches.TEST)
    if validation is None and validation_split:
        train, validation = _hold_out(
            train, validation_split, seed, batches.VALIDATION
        )
    return train, validation, test


def _hold_out(split, fraction, seed, stream):
    """Divides a split into `(rest, held out)`; the rest keeps its order."""
    count = len(split.images)
    held = round(count * fraction)
    if not 0 < held < count:
        what = "test images" if stream == batches.TEST else "validation_split"
        raise UserError(
            f"{what}: {fraction:g} of {count} images would be {held}, which "
            "leaves one side empty: use more images or another "
            "validation_split, 0 for none"
        )
    rest, rows = batches.hold_out(count, held, seed, stream)
    return split[rest], split[rows]
