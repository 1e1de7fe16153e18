"""Decodes a picture file to the pixels that a viewer shows."""

import contextlib
import dataclasses
import importlib.util
import pathlib
import struct

import numpy as np
import PIL.Image
import tensorflow as tf
import tifffile

from keras_genmodels.core.errors import UserError

_ORIENTATION = 274
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"sBIT", b"tRNS", b"eXIf", b"acTL")
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# TensorFlow decodes these, as in earlier versions: JPEG decoders differ. Those
# of PNG do not, and TensorFlow's keeps the memory of a second copy.
_FORMATS_OF_TENSORFLOW = ("GIF", "JPEG", "MPO")
# TensorFlow decodes fewer pixels than this.
_MOST_PIXELS = 2**29
# Rows that are converted at once, whose temporary arrays are larger.
_ROWS = 256
# What the decoders raise for a file that is not a picture.
_UNREADABLE = (
    EOFError,
    IndexError,
    KeyError,
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    tf.errors.OpError,
)


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are decoded.

    Args:
        format: str, such as "PNG".
        size: `(height, width)` after rotation.
        is_grey: whether it has no colours.
        bits: int, 8 or 16 per channel.
        has_alpha: whether pixels may be transparent.
        orientation: int in 1..8, of EXIF, that is still to be applied.
        has_pages: whether further pages or frames follow the first.
        significant_bits: tuple of ints, of the chunk sBIT of a 16-bit PNG.
        transparent: tuple of ints, the transparent value of a 16-bit PNG.
    """

    format: str
    size: tuple[int, int]
    is_grey: bool
    bits: int = 8
    has_alpha: bool = False
    orientation: int = 1
    has_pages: bool = False
    significant_bits: tuple[int, ...] = ()
    transparent: tuple[int, ...] = ()


def read_header(path):
    """Reads the `Header` of a picture file.

    Raises:
        UserError: if it is not a picture.
    """
    path = pathlib.Path(path)
    with _one_error(path):
        with path.open("rb") as file:
            start = file.read(8)
        if start == _PNG_START:
            header = _png_header(path)
        elif start[:4] in _TIFF_STARTS:
            header = _tiff_header(path)
        else:
            with PIL.Image.open(path) as picture:
                header = _other_header(picture)
        if header.size[0] * header.size[1] >= _MOST_PIXELS:
            raise UserError(
                f"{path} has {_MOST_PIXELS} pixels or more, or is damaged: cut "
                "it into parts"
            )
        return header


def decode(path, white_level=None):
    """Decodes a picture as a viewer shows it.

    Its EXIF orientation is applied, and transparent pixels are composed over
    white. Of several pages or frames the first is decoded.

    Args:
        path: of the file.
        white_level: int in [1, 65535], the value of white in 16-bit pictures;
            by default 65535, or what the chunk sBIT of a PNG says.

    Returns:
        array `[height, width, 3]`, not to be written to: uint8, or float32 in
        [0, 1] for 16 bits.

    Raises:
        UserError: if the file cannot be decoded.
    """
    header = read_header(path)
    with _one_error(path):
        image = _decoder_of(header)(path, header, white_level)
    image = _oriented(_over_white(image), header.orientation)
    if image.shape[2] == 1:
        # Without a copy, which would be the largest array of a restoration.
        return np.broadcast_to(image, (*image.shape[:2], 3))
    return np.ascontiguousarray(image)


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
    white_level = white_level or 65535
    highest = values.max(initial=0)
    if highest > white_level:
        raise UserError(
            f"{name} holds 16-bit values up to {highest}, above the white "
            f"level {white_level}: give a higher one"
        )
    return values.astype(np.float32) / np.float32(white_level)


@contextlib.contextmanager
def _one_error(path):
    """Raises what a decoder raises as a `UserError`."""
    usual = PIL.Image.MAX_IMAGE_PIXELS
    # Pillow's own limit is below a panorama; `read_header` has another.
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    except UserError:
        raise
    except _UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a picture: repair or remove it, or save "
            "it again as PNG or JPEG"
        ) from error
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = usual


def _decoder_of(header):
    if header.bits == 16:
        return _decode_png_16 if header.format == "PNG" else _decode_tiff_16
    if header.format in _FORMATS_OF_TENSORFLOW and not header.has_alpha:
        return _decode_by_tensorflow
    return _decode_by_pillow


def _decode_by_tensorflow(path, header, white_level):
    return tf.io.decode_image(
        tf.io.read_file(str(path)), channels=3, expand_animations=False
    ).numpy()


def _decode_by_pillow(path, header, white_level):
    with PIL.Image.open(path) as picture:
        return np.asarray(
            picture.convert("RGBA" if header.has_alpha else "RGB")
        )


def _decode_png_16(path, header, white_level):
    values = tf.io.decode_png(
        tf.io.read_file(str(path)), dtype=tf.uint16
    ).numpy()
    if white_level is None:
        image = _scaled_png(values, header)
    else:
        image = scale_16_bits(values, white_level, path)
    if header.transparent:
        alpha = (values != header.transparent).any(axis=-1, keepdims=True)
        image = np.concatenate([image, alpha], axis=-1, dtype=np.float32)
    return image


def _scaled_png(values, header):
    """Scales 16-bit samples to [0, 1] as the chunk sBIT says, if any.

    The PNG specification has writers scale samples of n significant bits up
    to 16. Many leave them as they are, in the lowest n bits.
    """
    if not header.significant_bits:
        return scale_16_bits(values, None, "")
    bits = np.asarray(header.significant_bits)
    levels = 2.0**bits - 1
    parts = _row_parts(values)
    is_scaled = all(_are_scaled(values[part], bits) for part in parts)
    scaled = np.empty(values.shape, np.float32)
    if is_scaled or any((values[part] > levels).any() for part in parts):
        for part in parts:
            scaled[part] = (values[part] >> (16 - bits)) / levels
    else:
        for part in parts:
            scaled[part] = values[part] / levels
    return scaled


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


def _decode_tiff_16(path, header, white_level):
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        try:
            values = page.asarray()
        except (KeyError, ValueError):
            if importlib.util.find_spec("imagecodecs") is not None:
                raise
            values = _grey_16_by_pillow(path, header, page)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            values = 65535 - values
        if page.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
        values = values.reshape(*values.shape[:2], -1)
        if page.extrasamples[:1] == (tifffile.EXTRASAMPLE.ASSOCALPHA,):
            return _unmultiplied(scale_16_bits(values, white_level, path))
    return scale_16_bits(values, white_level, path)


def _grey_16_by_pillow(path, header, page):
    """Decodes a compressed grey picture, which Pillow keeps at 16 bits."""
    if not header.is_grey or header.has_alpha:
        raise UserError(
            f"{path} is a 16-bit colour TIFF with {page.compression.name} "
            "compression: save it without, or install the package imagecodecs"
        )
    with PIL.Image.open(path) as picture:
        return np.asarray(picture).astype(np.uint16)


def _unmultiplied(image):
    """Divides colours by the alpha that they were multiplied with."""
    colours, alpha = image[..., :-1], image[..., -1:]
    colours = np.minimum(colours / np.maximum(alpha, 1e-6), 1)
    return np.concatenate([colours, alpha], axis=-1)


def _over_white(image):
    """Composes an image of 2 or 4 channels, the last alpha, over white."""
    if image.shape[2] in (1, 3):
        return image
    composed = np.empty((*image.shape[:2], image.shape[2] - 1), image.dtype)
    for part in _row_parts(image):
        colours, alpha = image[part, :, :-1], image[part, :, -1:]
        if image.dtype == np.uint8:
            alpha = alpha.astype(np.uint32)
            colours = colours * alpha + 255 * (255 - alpha)
            composed[part] = (colours + 127) // 255
        else:
            composed[part] = colours * alpha + (1 - alpha)
    return composed


def _oriented(image, orientation):
    """Applies an EXIF orientation to an image `[height, width, channels]`."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _header(format, size, orientation, **fields):
    """Builds a `Header` of the `(width, height)` before rotation."""
    if orientation not in range(1, 9):
        orientation = 1
    width, height = size
    size = (width, height) if orientation > 4 else (height, width)
    return Header(format, size, orientation=orientation, **fields)


def _other_header(picture, orientation=None):
    mode = picture.mode
    return _header(
        picture.format,
        picture.size,
        orientation or picture.getexif().get(_ORIENTATION, 1),
        is_grey=mode in _GREY_MODES,
        has_alpha=mode in _ALPHA_MODES or "transparency" in picture.info,
        has_pages=picture.format != "MPO"
        and getattr(picture, "is_animated", False),
    )


def _png_header(path):
    chunks = _png_chunks(path)
    width, height, bits, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    orientation = 1
    if b"eXIf" in chunks:
        exif = PIL.Image.Exif()
        exif.load(chunks[b"eXIf"])
        orientation = exif.get(_ORIENTATION, 1)
    is_16 = bits == 16
    significant, transparent = (
        chunks.get(b"sBIT", b""),
        chunks.get(b"tRNS", b""),
    )
    return _header(
        "PNG",
        (width, height),
        orientation,
        is_grey=colour in (0, 4),
        bits=16 if is_16 else 8,
        has_alpha=colour in (4, 6) or bool(transparent),
        has_pages=b"acTL" in chunks,
        significant_bits=tuple(significant)
        if is_16 and all(0 < n <= 16 for n in significant)
        else (),
        transparent=struct.unpack(f">{len(transparent) // 2}H", transparent)
        if is_16
        else (),
    )


def _png_chunks(path):
    """Reads the chunks of a PNG that describe its pixels, without pixels."""
    chunks = {}
    with open(path, "rb") as file:
        file.seek(len(_PNG_START))
        while len(start := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", start)
            if name in _PNG_CHUNKS:
                chunks[name] = file.read(length)
            else:
                file.seek(length, 1)
            if name == b"IEND":
                break
            file.seek(4, 1)
    return chunks


def _tiff_header(path):
    with tifffile.TiffFile(path) as file:
        page, has_pages = file.pages[0], len(file.pages) > 1
        bits, kind = page.bitspersample, page.sampleformat
        tag = page.tags.get(_ORIENTATION)
        photometric = page.photometric
        size = page.imagewidth, page.imagelength
        colours = page.samplesperpixel - len(page.extrasamples)
        extra = page.extrasamples
    if bits <= 8:
        # Pillow rotates a TIFF itself, when it decodes.
        with PIL.Image.open(path) as picture:
            return dataclasses.replace(
                _other_header(picture, orientation=1), has_pages=has_pages
            )
    if bits != 16 or kind != 1 or colours not in (1, 3) or len(extra) > 1:
        raise UserError(
            f"{path} is a TIFF of {bits}-bit {_sample_kind(kind)}, with "
            f"{colours + len(extra)} channels: save it as an 8- or 16-bit grey "
            "or RGB picture, or as an array (.npy)"
        )
    return _header(
        "TIFF",
        size,
        1 if tag is None else tag.value,
        is_grey=photometric
        in (
            tifffile.PHOTOMETRIC.MINISBLACK,
            tifffile.PHOTOMETRIC.MINISWHITE,
        ),
        bits=16,
        has_alpha=bool(extra),
        has_pages=has_pages,
    )


def _sample_kind(kind):
    return {1: "integers", 2: "signed integers", 3: "floats"}.get(
        kind, "samples"
    )
