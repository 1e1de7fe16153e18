"""What is refused before pixels are decoded, and what damage is not."""

import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import decoding
from keras_genmodels.datasets.picture_headers import read_header


def assert_refused(path, match):
    with pytest.raises(UserError, match=match) as info:
        datasets.read_pictures(path, image_shape=(2, 2, 1))
    assert str(info.value).startswith(f"{path} is a ")
    assert "\n" not in str(info.value)


def netpbm(magic, white, count):
    """Returns a file of 2x2 pixels, of white alone."""
    start = f"{magic} 2 2 {white}\n".encode()
    if magic in ("P2", "P3"):
        return start + f"{white} ".encode() * count
    return start + struct.pack(
        f">{count}{'H' if white > 255 else 'B'}", *([white] * count)
    )


@pytest.mark.parametrize(
    ("magic", "count"), [("P5", 4), ("P6", 12), ("P2", 4), ("P3", 12)]
)
def test_netpbm_files_of_more_than_8_bits_are_refused(tmp_path, magic, count):
    path = tmp_path / "x.ppm"
    for white in (1023, 65535):
        path.write_bytes(netpbm(magic, white, count))
        assert_refused(path, "PPM picture of more than 8 bits: save it .*PNG")
    for white in (15, 255):
        path.write_bytes(netpbm(magic, white, count))
        read = datasets.read_pictures(path, image_shape=(2, 2, 1))
        assert np.all(read == 255)


def test_formats_whose_depth_pillow_may_reduce_are_refused(tmp_path):
    picture = PIL.Image.fromarray(np.zeros((2, 2, 3), np.uint8))
    for name, format in (("x.jp2", "JPEG2000"), ("x.png", "SGI")):
        picture.save(tmp_path / name, format=format)
        assert_refused(tmp_path / name, f"a {format} picture: save it")
    deep = PIL.Image.fromarray(np.zeros((2, 2), np.uint16))
    deep.save(tmp_path / "deep.jp2")
    assert_refused(tmp_path / "deep.jp2", "a JPEG2000 picture: save it")
    floats = PIL.Image.fromarray(np.zeros((2, 2), np.float32))
    floats.save(tmp_path / "x.pfm")
    assert_refused(tmp_path / "x.pfm", "PPM picture of more than 8 bits")


@pytest.mark.parametrize(
    ("values", "photometric", "match"),
    [
        (np.zeros((2, 2), np.float32), 1, r"32-bit floats.*\.npy"),
        (np.zeros((2, 2), np.int8), 1, "8-bit signed integers, with 1 channel"),
        (np.zeros((2, 2, 3), np.uint16), 8, r"with 3 channels \(CIELAB\)"),
        (np.zeros((2, 2, 3), np.uint16), 6, r"with 3 channels \(YCBCR\)"),
        (np.zeros((2, 2), np.uint16), 3, r"with 1 channel \(PALETTE\)"),
        (np.zeros((2, 2), np.uint16), 32803, r"with 1 channel \(CFA\)"),
        (np.zeros((2, 2), np.uint16), 999, r"with 1 channel \(999\)"),
    ],
)
def test_tiffs_of_other_numbers_or_colours_are_refused(
    tmp_path, values, photometric, match
):
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path, values, photometric="rgb" if values.ndim == 3 else "minisblack"
    )
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(photometric)
    assert_refused(path, match)


def test_a_damaged_tiff_is_named(tmp_path):
    deflated = tmp_path / "deflated.tif"
    values = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    tifffile.imwrite(deflated, values, compression="zlib")
    with tifffile.TiffFile(deflated) as file:
        start = file.pages[0].dataoffsets[0]
    data = bytearray(deflated.read_bytes())
    data[start : start + 8] = bytes(8)
    deflated.write_bytes(data)
    mixed = tmp_path / "mixed.tif"
    colours = np.zeros((2, 2, 3), np.uint8)
    tifffile.imwrite(mixed, colours, photometric="rgb")
    with tifffile.TiffFile(mixed, mode="r+") as file:
        file.pages[0].tags["BitsPerSample"].overwrite((5, 6, 5))
    for path in (deflated, mixed):
        with pytest.raises(UserError, match=f"{path} cannot be read"):
            decoding.decode(path)


def exif_of(kind):
    """Returns damaged EXIF data."""
    exif = PIL.Image.Exif()
    exif[274] = 6
    exif[271] = "the maker of a camera"
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    return {
        "cut": data[:20],
        "text": b"no EXIF at all",
        "end": data[:4] + struct.pack("<I", 10**6),
        "empty": b"",
    }[kind]


@pytest.mark.parametrize("kind", ["cut", "text", "end", "empty"])
def test_exif_that_cannot_be_read_is_no_rotation(tmp_path, kind):
    pixels = np.zeros((16, 8, 3), np.uint8)
    exif = exif_of(kind)
    for ending in ("png", "jpg", "webp"):
        path = tmp_path / f"x.{ending}"
        picture = PIL.Image.fromarray(pixels)
        if ending == "png":
            picture.save(path)
            start, end = path.read_bytes()[:33], path.read_bytes()[33:]
            name = b"eXIf"
            check = struct.pack(">I", zlib.crc32(name + exif))
            chunk = struct.pack(">I", len(exif)) + name + exif + check
            path.write_bytes(start + chunk + end)
        else:
            picture.save(path, exif=b"Exif\0\0" + exif)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_header(path).size == (16, 8)
            assert decoding.decode(path).shape == (16, 8, 3)


def test_a_file_that_may_not_be_read_is_no_damaged_one(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    PIL.Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(
        UserError, match=r"x\.png cannot be opened: .*permission"
    ):
        read_header(path)
