"""Picture files: decoded, resized and written in one way, whoever does it."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import files
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.validation import check
from keras_genmodels.datasets import blocks, decoding, picture_headers


def read_headers(paths):
    """Reads the `picture_headers.Header` of each picture file.

    Raises:
        UserError: if a file is not a picture.
    """
    return [picture_headers.read_header(path) for path in paths]


def read_all(paths, image_shape, white_level=None, dtype=None):
    """Decodes and resizes picture files.

    Args:
        paths: list of n picture files.
        image_shape: `(height, width, channels)` that each picture is squeezed
            to, with 1 channel for grey or 3 for RGB.
        white_level: int, the value of white in 16-bit pictures, as in
            `decoding.decode`.
        dtype: "uint8", or "float32" for values in [0, 1]; by default float32
            if a picture has 16 bits.

    Returns:
        array `[n, height, width, channels]`. An image depends on its file
        alone, but for the dtype.

    Raises:
        UserError: if a file cannot be read.
    """
    if dtype is None:
        is_deep = any(header.bits == 16 for header in read_headers(paths))
        dtype = "float32" if is_deep else "uint8"
    images = np.empty((len(paths), *image_shape), dtype)
    # One by one: eager operations of several threads crashed TensorFlow once.
    for row, path in enumerate(paths):
        image = _read(path, image_shape, white_level)
        if image.dtype != dtype:
            image = as_float(image, dtype)
        images[row] = image
    return images


def read_own_size(path, channels, white_level=None):
    """Decodes a picture file at its own size.

    Args:
        path: of the file.
        channels: 1 for grey or 3 for RGB.
        white_level: as of `read_all`.

    Returns:
        array `[height, width, channels]`, uint8, or float32 in [0, 1] for 16
        bits.

    Raises:
        UserError: if the file cannot be read.
    """
    return _in_range(decoding.decode(path, white_level, channels))


def as_blocks(paths, image_shape, white_level, dtype):
    """Returns the pictures of `read_all` as `Blocks`, not decoded yet."""
    shape = (len(paths), *image_shape)
    rows = blocks.rows_of(shape, dtype)

    def read():
        for start in range(0, len(paths), rows):
            part = paths[start : start + rows]
            yield read_all(part, image_shape, white_level, dtype)

    return blocks.Blocks(shape, np.dtype(dtype), read)


def resize(images, size, method="bilinear", antialias=True):
    """Resizes images; uint8 values are rounded.

    Args:
        images: uint8 or float tensor `[..., height, width, channels]`.
        size: `(height, width)`.
        method, antialias: as in `tf.image.resize`. Images that do not come
            from picture files are resized by the defaults, as in earlier
            versions: the checksum of a run's data depends on it.

    Returns:
        tensor of the same dtype.
    """
    resized = tf.image.resize(images, size, method, antialias=antialias)
    if images.dtype == "uint8":
        resized = tf.clip_by_value(tf.round(resized), 0, 255)
    return tf.cast(resized, images.dtype)


def write(path, image, bits=8):
    """Writes a picture as a PNG file, atomically.

    Args:
        path: of the file.
        image: float array `[height, width, channels]`, clipped to [0, 1]; NaN
            becomes 0. 1 channel for grey or 3 for RGB. A float32 array is
            overwritten.
        bits: 8 or 16, of each value.

    Raises:
        ValueError: for another number of channels or bits.
    """
    check(image.shape[-1] in (1, 3), "a picture has 1 or 3 channels")
    check(bits in (8, 16), f"bits must be 8 or 16, got {bits!r}")
    dtype = {8: np.uint8, 16: np.uint16}[bits]
    image = np.asarray(image, np.float32)
    # Unlike `np.clip`, these ignore NaN; in place, as pictures are large.
    np.fmax(image, 0, out=image)
    np.fmin(image, 1, out=image)
    image *= np.iinfo(dtype).max
    np.rint(image, out=image)
    encoded = tf.io.encode_png(image.astype(dtype)).numpy()
    with files.replacing(path) as temporary:
        temporary.write_bytes(encoded)


def shrink(image, scale):
    """Shrinks a picture of `read_own_size`, keeping as much detail as fits.

    Args:
        image: array `[height, width, channels]`, uint8 or float32 in [0, 1].
        scale: float in (0, 1], of both sides.

    Returns:
        array of the same dtype and range, by Lanczos' filter.
    """
    if scale == 1:
        return image
    size = shrunken_size(image.shape[:2], scale)
    smaller = resize(image, size, "lanczos3").numpy()
    # The filter exceeds the range at edges.
    return smaller if smaller.dtype == np.uint8 else np.clip(smaller, 0, 1)


def shrunken_size(size, scale):
    """Returns the size `(height, width)` that `shrink` gives."""
    return tuple(max(1, round(side * scale)) for side in size)


def _read(path, image_shape, white_level):
    """Reads one picture; each axis that shrinks is smoothed."""
    image = decoding.decode(path, white_level)
    height, width, channels = image_shape
    enlarges = image.shape[0] < height or image.shape[1] < width
    shrinks = image.shape[0] > height or image.shape[1] > width
    method = "bilinear" if enlarges else "area"
    image = resize(image, (height, width), method, antialias=shrinks)
    image = image.numpy()
    return decoding.to_grey(image) if channels == 1 else _in_range(image)


def _in_range(image):
    """Returns an image as one block of memory, clipped to [0, 1] if floats."""
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    # Weights of pixels, or of colours and white, sum to about 1.
    return np.clip(image, 0, 1, out=np.empty(image.shape, image.dtype))
