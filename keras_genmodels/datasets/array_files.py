"""Images and labels in `.npz` and `.npy` files."""

import numpy as np

from keras_genmodels.core import files
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.events import has_shape
from keras_genmodels.datasets import blocks, decoding, limits, pictures, storage
from keras_genmodels.datasets.archive_members import Member
from keras_genmodels.datasets.blocks import Blocks
from keras_genmodels.datasets.splits import Split, Splits

# Names of arrays of images and of their labels, without splits.
_WHOLE = (("image", "label"), ("images", "labels"), ("imgs", "label"))
# Names by split: as of Keras, of MedMNIST, and usual variants of these.
_SPLITS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "validation": (
        ("x_val", "y_val"),
        ("x_valid", "y_valid"),
        ("val_images", "val_labels"),
    ),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
_PAIRS = (*_WHOLE, *(pair for pairs in _SPLITS.values() for pair in pairs))


def read(path, size, white_level=None):
    """Reads images, labels and splits of an `.npz` or `.npy` file.

    Args:
        path: pathlib.Path of the file.
        size: `(height, width)` to resize to, or None.
        white_level: int, the value of white of uint16 images; 65535 if None.

    Returns:
        `Splits` of `Blocks` of uint8 or float32.

    Raises:
        UserError: if the file or its images are missing or not as
            `datasets.load` describes; for their values, as they are read.
    """
    arrays, found, notes = _open(path), {}, []
    for split, (name, label_name) in _names_of_splits(path, arrays).items():
        images = _blocks(path, name, arrays[name], size, white_level)
        labels = arrays.get(label_name)
        if labels is not None:
            labels = _check_labels(
                path, label_name, np.asarray(labels), len(images)
            )
            if labels is None:
                notes.append(
                    f"{label_name} is not used: "
                    f"{list(arrays[label_name].shape)} is not one label for "
                    "each image"
                )
        found[split] = Split(images, labels)
    if any(split.labels is None for split in found.values()):
        if any(split.labels is not None for split in found.values()):
            notes.append("labels are not used, as not all splits have them")
        found = {k: Split(split.images, None) for k, split in found.items()}
    _check_together(path, found, white_level, arrays)
    if len(found) > 1:
        notes.append(f"splits of {path}: {', '.join(found)}")
    if "test" not in found:
        limits.check_count(path, len(found["train"].images))
    return Splits(**found, notes=tuple(notes))


def read_labels(path):
    """Reads the labels of the images of a file without splits.

    Returns:
        int32 array `[n]`, or None if the file has none.

    Raises:
        UserError: if it is not one integer for each image.
    """
    arrays = _load(path)
    name, label_name = _whole_names(path, arrays)
    if label_name not in arrays:
        return None
    return _check_labels(
        path, label_name, arrays[label_name], len(arrays[name])
    )


def read_model_inputs(path, image_shape, white_level=None):
    """Reads an array of images of the shape that a model takes.

    Args:
        path: pathlib.Path of the file.
        image_shape: `(height, width, channels)`; (None, None, channels) for
            images of any size.
        white_level: as in `read`.

    Returns:
        uint8 or float32 array `[n, height, width, channels]`, not limited to
        [0, 1].

    Raises:
        UserError: if the array is missing or of another shape or type.
    """
    arrays = _load(path)
    name, _ = _whole_names(path, arrays)
    images = arrays[name]
    if images.ndim == 3 and image_shape[-1] == 1:
        images = images[..., np.newaxis]
    if not has_shape(images.shape[1:], image_shape) or not len(images):
        height, width, channels = image_shape
        sides = ["any" if side is None else side for side in image_shape]
        raise UserError(
            f"{path}: {name!r} must be {['n', *sides]} for this model, "
            f"got {list(images.shape)}"
            + _transposition(
                name, images.shape[1:] == (channels, height, width)
            )
        )
    images = _scale(path, name, images, white_level, "floating")
    if not np.isfinite(images).all():
        raise UserError(f"{path}: {name!r} holds NaN or infinite pixels")
    return images


def _load(path):
    """Returns a dict of the arrays of a file, in memory."""
    with user_errors():
        return {name: np.array(it) for name, it in _open(path).items()}


def _open(path):
    """Returns a dict of the arrays of a file that are known by their names.

    Returns:
        dict of names to a mapped array, or to `Member`s.
    """
    if path.suffix.lower() == ".npy":
        return {"image": _open_npy(path)}
    with user_errors():
        _, found = files.read_arrays(path)
    names = {name for pair in _PAIRS for name in pair}
    if len(found) == 1:
        names.update(found)
    arrays = {name: Member(path, name) for name in found if name in names}
    if not any(_is_name_of_images(name) for name in arrays) and len(found) != 1:
        raise UserError(
            f"{path} has no array 'image' (found: {', '.join(found) or 'none'}"
            "): save it under that name, or the splits as x_train and x_test"
        )
    return arrays


def _open_npy(path):
    if not path.is_file():
        raise UserError(f"there is no file {path}: name another .npy file")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): save a plain number array with "
            "np.save"
        ) from error


def _is_name_of_images(name):
    return name in {images for images, _ in _PAIRS}


def _names_of_splits(path, arrays):
    """Returns a dict of splits to the names of their images and labels."""
    found = {
        split: pair
        for split, pairs in _SPLITS.items()
        for pair in pairs
        if pair[0] in arrays
    }
    whole = [pair for pair in _WHOLE if pair[0] in arrays]
    if not found:
        return {"train": _whole_names(path, arrays)}
    if whole or "train" not in found:
        names = ", ".join(n for n in arrays if _is_name_of_images(n))
        raise UserError(
            f"{path} has the images {names}: save either one array 'image', "
            "or the splits x_train, x_val and x_test"
        )
    return found


def _whole_names(path, arrays):
    """Returns the names of the images and labels of a file without splits."""
    for pair in _WHOLE:
        if pair[0] in arrays:
            return pair
    if len(arrays) == 1 and not _is_name_of_images(next(iter(arrays))):
        return next(iter(arrays)), "label"
    raise UserError(
        f"{path} has splits ({', '.join(arrays)}): save the images of one as "
        "the array 'image' of another file"
    )


def _blocks(path, name, array, size, white_level):
    """Checks an array of images, and returns it as `Blocks`."""
    shape = _image_shape(path, name, array.shape)
    expected = "floating in [0, 1]"
    dtype = _dtype(path, name, array.dtype, expected)

    def read():
        is_mapped = isinstance(array, np.ndarray)
        for part in blocks.parts(array) if is_mapped else array.parts():
            part = part.reshape(len(part), *shape[1:])
            if part.dtype.kind == "f":
                _check_range(path, name, part)
            part = _scale(path, name, part, white_level, expected)
            yield _resize(part, size) if size else part

    return Blocks(
        (len(array), *(size or shape[1:3]), shape[3]),
        dtype,
        read,
        None if size or not storage.is_usable(array) else path,
    )


def _image_shape(path, name, shape):
    """Returns the shape of an array of images, with a channel axis."""
    given, shape = shape, (*shape, 1) if len(shape) == 3 else shape
    if len(shape) != 4 or shape[3] not in (1, 2, 3, 4):
        channels_first = len(shape) == 4 and shape[1] in (1, 2, 3, 4)
        raise UserError(
            f"{path}: {name!r} must be [n, height, width] or [n, height, "
            f"width, 1 to 4 channels], got {list(given)}"
            + _transposition(name, channels_first)
        )
    if 0 in shape[1:]:
        raise UserError(f"{path}: the images are empty, {shape[1:]}")
    if not shape[0]:
        raise UserError(f"{path}: {name!r} holds no image")
    return shape


def _check_range(path, name, images):
    low, high = images.min(), images.max()
    if np.isinf((low, high)).any():
        raise UserError(
            f"{path}: {name!r} has infinite values: remove the images that "
            "hold them, or replace them"
        )
    # As they are stored, so that a rounding error of float64 passes.
    low, high = np.float32(low), np.float32(high)
    if np.isnan(low):
        raise UserError(
            f"{path}: {name!r} has {np.isnan(images).sum()} values that are "
            "NaN: remove the images that hold them, or replace them"
        )
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"{path}: floating {name!r} must be in [0, 1], got values from "
            f"{_shortest(low)} to {_shortest(high)}: divide by 255 "
            "if they are grey levels, or clip them"
        )


def _shortest(value):
    """Formats a float32 with as few digits as identify it."""
    return str(value).removesuffix(".0")


def _transposition(name, channels_first):
    """Returns advice for images whose channels come before the height."""
    if not channels_first:
        return ""
    return (
        ", with the channels first: save "
        f"np.transpose({name}, (0, 2, 3, 1)) instead"
    )


def _dtype(path, name, dtype, expected):
    """Returns the type of images as they are read, uint8 or float32."""
    if dtype == np.uint8:
        return np.dtype(np.uint8)
    if dtype != np.uint16 and dtype.kind != "f":
        raise UserError(
            f"{path}: {name!r} must be uint8, uint16 or {expected}, got "
            f"{dtype}: convert it"
        )
    return np.dtype(np.float32)


def _scale(path, name, images, white_level, expected):
    """Returns images as uint8 or float32; uint16 ones are divided by white."""
    dtype = _dtype(path, name, images.dtype, expected)
    if images.dtype == np.uint16:
        return decoding.scale_16_bits(images, white_level, f"{path}: {name!r}")
    return images.astype(dtype, copy=False)


def _resize(images, size):
    return map_batches(
        lambda part: pictures.resize(part, size), images, batch_size=256
    )


def _check_together(path, splits, white_level, arrays):
    """Checks that the splits have one shape and type."""
    kinds = {
        (split.images.shape[1:], split.images.dtype)
        for split in splits.values()
    }
    if len(kinds) > 1:
        shapes = ", ".join(f"{s} of {d}" for s, d in kinds)
        raise UserError(
            f"{path}: the splits have images of different kinds ({shapes}): "
            "give them one size and type"
        )
    if white_level is not None and not any(
        array.dtype == np.uint16 for array in arrays.values()
    ):
        raise UserError(
            f"white_level={white_level} requires 16-bit images, {path} holds "
            "none"
        )


def _check_labels(path, name, labels, count):
    """Returns labels as int32 `[count]`; None if there are several for each."""
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == count and name != "label":
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: {name!r} must be integers [{count}], one for each image, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise UserError(
            f"{path}: {name!r} must be in [0, 2**31), got values from "
            f"{labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)
