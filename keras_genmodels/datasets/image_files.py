"""The user's own images, in the shape that a model takes."""

from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import is_any_size
from keras_genmodels.datasets import array_files, file_kinds, pictures

__all__ = ["read_labels", "read_pictures"]


def read_pictures(path, *, image_shape, white_level=None):
    """Reads the user's own images in the shape that a model takes.

    Args:
        path: a picture file; or a folder of pictures, which is read with all
            its sub-folders in sorted order; or an `.npz` or `.npy` file with
            an array `image` of the shape that the model takes, uint8, uint16
            or finite floats, such as noisy images.
        image_shape: `(height, width, channels)`. Pictures are squeezed to it
            and converted to grey or RGB, for one or three channels. With
            (None, None, channels) they keep their size, which must be the
            same for all.
        white_level: int in [1, 65535], the value of white in 16-bit images;
            by default 65535, or what the chunk sBIT of a PNG says.

    Returns:
        array `[n, height, width, channels]`, uint8 (value / 255) or float32.

    Raises:
        UserError: if the path does not exist, holds no picture or one that
            cannot be read, or an array of another shape.
    """
    path = file_kinds.local_path(path)
    if file_kinds.is_arrays(path):
        return array_files.read_model_inputs(path, image_shape, white_level)
    if image_shape[2] not in (1, 3):
        raise UserError(
            f"pictures have 1 or 3 channels, the model takes {image_shape[2]}: "
            "give an .npz file"
        )
    paths = file_kinds.list_pictures(path)
    if is_any_size(image_shape):
        image_shape = (*_common_size(paths), image_shape[2])
    return pictures.read_all(paths, image_shape, white_level)


def _common_size(paths):
    """Returns the `(height, width)` of all pictures.

    Raises:
        UserError: if they have several sizes.
    """
    sizes = {}
    for path, header in zip(paths, pictures.read_headers(paths), strict=True):
        sizes.setdefault(header.size, path)
    if len(sizes) > 1:
        (first, path), (second, other), *_ = sizes.items()
        raise UserError(
            f"{path} has {first[1]}x{first[0]} pixels and {other} "
            f"{second[1]}x{second[0]}: give pictures of one size, or one at a "
            "time"
        )
    return next(iter(sizes))


def read_labels(path):
    """Reads the labels of the images that `read_pictures` reads.

    Returns:
        int32 array `[n]`, the labels of an array file; None if there are
        none, and for pictures.

    Raises:
        UserError: if they are not one integer for each image.
    """
    path = file_kinds.local_path(path)
    return array_files.read_labels(path) if file_kinds.is_arrays(path) else None
