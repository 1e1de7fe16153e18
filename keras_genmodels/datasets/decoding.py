"""Decodes a picture file to the pixels that a viewer shows."""

import importlib.util

import numpy as np
import PIL.Image
import tensorflow as tf
import tifffile

from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets.picture_headers import picture_errors, read_header

# TensorFlow decodes these, as in earlier versions: JPEG decoders differ. Those
# of PNG do not, and TensorFlow's keeps the memory of a second copy.
_FORMATS_OF_TENSORFLOW = ("GIF", "JPEG", "MPO")
# Rows that are converted at once, whose temporary arrays are larger; of more
# rows the memory is not returned at once.
_ROWS = 64


def decode(path, white_level=None, channels=3):
    """Decodes a picture as a viewer shows it.

    Its EXIF orientation is applied, and transparent pixels are composed over
    white. Of several pages or frames the first is decoded.

    Args:
        path: of the file.
        white_level: int in [1, 65535], the value of white in 16-bit pictures;
            by default 65535, or what the chunk sBIT of a PNG says.
        channels: 1 for grey or 3 for RGB.

    Returns:
        array `[height, width, channels]`, not to be written to: uint8, or
        float32 in [0, 1] for 16 bits.

    Raises:
        UserError: if the file cannot be decoded.
    """
    header = read_header(path)
    with picture_errors(path):
        values = _decoder_of(header)(path, header)
        values = _oriented(values, header.orientation)
        if header.bits == 16:
            dtype = np.float32
            convert = _conversion_of_16_bits(values, header, white_level, path)
        elif values.shape[2] == channels == 3:
            return np.ascontiguousarray(values)
        else:
            dtype, convert = np.uint8, _over_white
        # Grey stays one channel: this is the largest array of a restoration.
        is_grey = channels == 1 or values.shape[2] <= 2
        shown = np.empty((*values.shape[:2], 1 if is_grey else 3), dtype)
        for rows in _row_parts(values):
            part = convert(values[rows])
            shown[rows] = to_grey(part) if channels == 1 else part
    return np.broadcast_to(shown, (*values.shape[:2], channels))


def to_grey(image):
    """Converts an image to luminance.

    Args:
        image: array `[height, width, channels]` of 1 or 3 channels, uint8 or
            float32 in [0, 1].

    Returns:
        array `[height, width, 1]` of the same dtype.
    """
    grey = np.empty((*image.shape[:2], 1), image.dtype)
    # In parts, as TensorFlow computes with floats.
    for rows in _row_parts(image):
        part = np.broadcast_to(image[rows], (*image[rows].shape[:2], 3))
        # A copy, as TensorFlow releases arrays late: not the whole image.
        luminance = tf.image.rgb_to_grayscale(np.array(part)).numpy()
        if image.dtype != np.uint8:
            # The weights of the colours sum to 0.9999.
            luminance = np.clip(luminance / 0.9999, 0, 1)
        grey[rows] = luminance
    return grey


def scale_16_bits(values, white_level, name):
    """Scales 16-bit integers to [0, 1].

    Args:
        values: uint16 array.
        white_level: int, the value that becomes 1; 65535 if None.
        name: str, what holds the values, for the message.

    Returns:
        float32 array.

    Raises:
        UserError: if a value is above the white level.
    """
    white = white_level or 65535
    _check_white(values, white, name)
    return _divided(values, white)


def _check_white(values, white, name):
    highest = values.max(initial=0)
    if highest > white:
        raise UserError(
            f"{name} holds 16-bit values up to {highest}, above "
            f"white_level={white}: give a higher one"
        )


def _divided(values, white):
    """Divides integers by that of white; the quotients alone are stored."""
    quotients = values.astype(np.float32)
    quotients /= np.asarray(white, np.float32)
    return quotients


def _decoder_of(header):
    if header.bits == 16:
        return _decode_png_16 if header.format == "PNG" else _decode_tiff_16
    if header.format in _FORMATS_OF_TENSORFLOW and not header.has_alpha:
        return _decode_by_tensorflow
    return _decode_by_pillow


def _decode_by_tensorflow(path, header):
    return tf.io.decode_image(
        tf.io.read_file(str(path)), channels=3, expand_animations=False
    ).numpy()


def _decode_by_pillow(path, header):
    with PIL.Image.open(path) as picture:
        return np.asarray(
            picture.convert("RGBA" if header.has_alpha else "RGB")
        )


def _decode_png_16(path, header):
    return tf.io.decode_png(tf.io.read_file(str(path)), dtype=tf.uint16).numpy()


def _decode_tiff_16(path, header):
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        try:
            values = page.asarray()
        except (KeyError, ValueError):
            if importlib.util.find_spec("imagecodecs") is not None:
                raise
            values = _grey_16_by_pillow(path, header, page)
        if page.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
        return values.reshape(*values.shape[:2], -1)


def _grey_16_by_pillow(path, header, page):
    """Decodes a compressed grey picture, which Pillow keeps at 16 bits."""
    if not header.is_grey or header.has_alpha:
        raise UserError(
            f"{path} is a 16-bit colour TIFF with {page.compression.name} "
            "compression: save it without, or install the package imagecodecs"
        )
    with PIL.Image.open(path) as picture:
        return np.asarray(picture).astype(np.uint16, copy=False)


def _conversion_of_16_bits(values, header, white_level, name):
    """Returns the function that converts rows of a 16-bit picture.

    It takes uint16 rows, and returns float32 rows of 1 or 3 channels in [0, 1].

    Raises:
        UserError: if a value is above the white level.
    """
    white = white_level or 65535
    if header.significant_bits and white_level is None:
        divide = _division_by_sbit(values, header.significant_bits)
    else:
        divide = _division_by_white(values, header, white, name)

    def convert(rows):
        if header.zero_is_white:
            rows = _inverted(rows, white, header.is_premultiplied)
        scaled = divide(rows)
        if header.transparent:
            alpha = (rows != header.transparent).any(axis=-1, keepdims=True)
            scaled = np.concatenate([scaled, alpha], axis=-1, dtype=np.float32)
        if header.is_premultiplied:
            scaled = _unmultiplied(scaled)
        return _over_white(scaled)

    return convert


def _division_by_white(values, header, white, name):
    """Returns the function that divides rows by the value of white.

    Alpha may have 16 bits where the colours have fewer.
    """
    whites = np.full(values.shape[2], white, np.float32)
    has_alpha = values.shape[2] in (2, 4) and not header.is_premultiplied
    if has_alpha and values[..., -1].max(initial=0) > white:
        whites[-1] = 65535
    _check_white(values[..., :-1] if has_alpha else values, white, name)
    return lambda rows: _divided(rows, whites)


def _division_by_sbit(values, bits):
    """Returns the function that scales rows as the chunk sBIT says.

    The PNG specification has writers scale samples of n significant bits up
    to 16. Many leave them as they are, in the lowest n bits.
    """
    bits = np.asarray(bits)
    levels = 2.0**bits - 1
    parts = _row_parts(values)
    is_scaled = all(_are_scaled(values[part], bits) for part in parts)
    is_scaled = is_scaled or any(
        (values[part] > levels).any() for part in parts
    )
    shift = 16 - bits if is_scaled else np.zeros_like(bits)
    return lambda rows: ((rows >> shift) / levels).astype(np.float32)


def _are_scaled(values, bits):
    """Returns whether samples of some bits were scaled up to 16.

    By the equation of the PNG specification, by repeating bits, or by zeros.
    """
    samples = values >> (16 - bits)
    repeated = (samples << (16 - bits)) | (
        samples >> np.maximum(2 * bits - 16, 0)
    )
    return (
        (values == np.round(samples * (65535 / (2.0**bits - 1))))
        | (values == repeated)
        | (values == samples << (16 - bits))
    ).all()


def _row_parts(image):
    """Lists slices of the rows of an image."""
    return [slice(i, i + _ROWS) for i in range(0, len(image), _ROWS)]


def _inverted(rows, white, is_premultiplied):
    """Inverts grey rows in which 0 is white; alpha stays."""
    grey, alpha = rows[..., :1], rows[..., 1:]
    # Of grey that is multiplied by alpha, alpha is the largest value.
    highest = alpha if is_premultiplied else white
    return np.concatenate([highest - np.minimum(grey, highest), alpha], axis=-1)


def _unmultiplied(image):
    """Divides colours by the alpha that they were multiplied with."""
    colours, alpha = image[..., :-1], image[..., -1:]
    colours = np.minimum(colours / np.maximum(alpha, 1e-6), 1)
    return np.concatenate([colours, alpha], axis=-1)


def _over_white(image):
    """Composes an image of 2 or 4 channels, the last alpha, over white."""
    if image.shape[2] in (1, 3):
        return image
    colours, alpha = image[..., :-1], image[..., -1:]
    if image.dtype == np.uint8:
        alpha = alpha.astype(np.uint32)
        colours = colours * alpha + 255 * (255 - alpha)
        return ((colours + 127) // 255).astype(np.uint8)
    return colours * alpha + (1 - alpha)


def _oriented(image, orientation):
    """Applies an EXIF orientation to an image `[height, width, channels]`."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image
