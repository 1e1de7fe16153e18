"""Reads what is known of a picture file before its pixels are decoded."""

import contextlib
import dataclasses
import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import tensorflow as tf
import tifffile

from keras_genmodels.core import wording
from keras_genmodels.core.errors import UserError

_ORIENTATION = 274
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"sBIT", b"tRNS", b"eXIf", b"acTL")
# Of others, such as JPEG 2000, Pillow may reduce the depth; and that of AVIF to
# 8 bits, as viewers show it.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PPM", "TIFF", "WEBP")
_GREY_MODES = ("1", "L", "LA", "La")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# The number of colours of each kind of 16-bit TIFF.
_TIFF_COLOURS = {
    tifffile.PHOTOMETRIC.MINISWHITE: 1,
    tifffile.PHOTOMETRIC.MINISBLACK: 1,
    tifffile.PHOTOMETRIC.RGB: 3,
}
# TensorFlow decodes fewer pixels than this.
_MOST_PIXELS = 2**29
_INSTEAD = (
    "save it as an 8- or 16-bit grey or RGB picture, such as PNG, or as an "
    "array (.npy)"
)
# What the decoders raise for a file that is not a picture.
_UNREADABLE = (
    EOFError,
    IndexError,
    KeyError,
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
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
        is_premultiplied: whether colours are multiplied by alpha, of a 16-bit
            TIFF.
        zero_is_white: whether 0 is white, of a 16-bit TIFF.
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
    is_premultiplied: bool = False
    zero_is_white: bool = False
    orientation: int = 1
    has_pages: bool = False
    significant_bits: tuple[int, ...] = ()
    transparent: tuple[int, ...] = ()


def read_header(path):
    """Reads the `Header` of a picture file.

    Raises:
        UserError: if it is not a picture, or of a kind that is not read.
    """
    path = pathlib.Path(path)
    with picture_errors(path):
        with path.open("rb") as file:
            start = file.read(8)
        if start == _PNG_START:
            header = _png_header(path)
        elif start[:4] in _TIFF_STARTS:
            header = _tiff_header(path)
        else:
            with PIL.Image.open(path) as picture:
                _check_depth(path, picture)
                header = _other_header(picture, _orientation(picture.getexif))
        if header.size[0] * header.size[1] >= _MOST_PIXELS:
            raise UserError(
                f"{path} has {_MOST_PIXELS} pixels or more, or is damaged: cut "
                "it into parts"
            )
        return header


@contextlib.contextmanager
def picture_errors(path):
    """Raises what a decoder raises for a picture file as a `UserError`."""
    usual = PIL.Image.MAX_IMAGE_PIXELS
    # Pillow's own limit is below a panorama; `read_header` has another.
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            # On EXIF, of which only the orientation is read.
            warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
            yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(
            f"{path} cannot be opened: give yourself the permission to read it"
        ) from error
    except _UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a picture: repair or remove it, or save "
            "it again as PNG or JPEG"
        ) from error
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = usual


def _header(format, size, orientation, **fields):
    """Builds a `Header` of the `(width, height)` before rotation."""
    if orientation not in range(1, 9):
        orientation = 1
    width, height = size
    size = (width, height) if orientation > 4 else (height, width)
    return Header(format, size, orientation=orientation, **fields)


def _check_depth(path, picture):
    """Raises a `UserError` if Pillow may reduce the depth of a picture."""
    if picture.format not in _FORMATS:
        raise UserError(f"{path} is a {picture.format} picture: {_INSTEAD}")
    is_deep = picture.mode[0] in "IF"
    if picture.format == "PPM" and picture.mode == "RGB":
        arguments = picture.tile[0][3]
        # ("RGB", value of white), or "RGB" where that is 255.
        is_deep = arguments != "RGB" and arguments[1] > 255
    if is_deep:
        raise UserError(
            f"{path} is a {picture.format} picture of more than 8 bits: "
            f"{_INSTEAD}"
        )


def _orientation(read_exif):
    """Returns the orientation of EXIF data, or 1 if they cannot be read."""
    try:
        return read_exif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1


def _other_header(picture, orientation):
    mode = picture.mode
    return _header(
        picture.format,
        picture.size,
        orientation,
        is_grey=mode in _GREY_MODES,
        has_alpha=mode in _ALPHA_MODES or "transparency" in picture.info,
        has_pages=picture.format != "MPO"
        and getattr(picture, "is_animated", False),
    )


def _png_header(path):
    chunks = _png_chunks(path)
    width, height, bits, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    is_16 = bits == 16
    significant, transparent = (
        chunks.get(b"sBIT", b""),
        chunks.get(b"tRNS", b""),
    )
    return _header(
        "PNG",
        (width, height),
        _orientation(lambda: _parsed_exif(chunks.get(b"eXIf", b""))),
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


def _parsed_exif(data):
    exif = PIL.Image.Exif()
    exif.load(data)
    return exif


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
    # 2 is for signed integers, which Pillow takes for others.
    if np.max(bits) <= 8 and kind != 2:
        # Pillow rotates a TIFF itself, when it decodes.
        with PIL.Image.open(path) as picture:
            return dataclasses.replace(
                _other_header(picture, orientation=1), has_pages=has_pages
            )
    is_read = bits == 16 and kind == 1 and len(extra) <= 1
    if not is_read or colours != _TIFF_COLOURS.get(photometric):
        channels = wording.count_of(colours + len(extra), "channel")
        raise UserError(
            f"{path} is a TIFF of {bits}-bit {_sample_kind(kind)}, with "
            f"{channels}{_in_colours(photometric)}: {_INSTEAD}"
        )
    return _header(
        "TIFF",
        size,
        1 if tag is None else tag.value,
        is_grey=colours == 1,
        bits=16,
        has_alpha=bool(extra),
        is_premultiplied=extra == (tifffile.EXTRASAMPLE.ASSOCALPHA,),
        zero_is_white=photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        has_pages=has_pages,
    )


def _sample_kind(kind):
    return {1: "integers", 2: "signed integers", 3: "floats"}.get(
        kind, "samples"
    )


def _in_colours(photometric):
    """Returns the part of a message on colours other than grey and RGB."""
    if photometric in _TIFF_COLOURS:
        return ""
    names = {int(kind): kind.name for kind in tifffile.PHOTOMETRIC}
    return f" ({names.get(photometric, photometric)})"
