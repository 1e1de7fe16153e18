"""A picture is read as a viewer shows it: rotation, transparency, 16 bits."""

import struct
import tracemalloc
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
import tifffile

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import decoding, pictures
from keras_genmodels.datasets.picture_headers import read_header


def colours(height=5, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def deep_values(*shape, highest=65535):
    rng = np.random.default_rng(1)
    return rng.integers(0, highest + 1, shape).astype(np.uint16)


def save_png_16(path, values, significant_bits=None, transparent=None):
    """Writes a 16-bit PNG, with the chunks sBIT and tRNS if given."""
    png = tf.io.encode_png(values).numpy()
    chunks = b""
    for name, data in (
        (b"sBIT", significant_bits and bytes(significant_bits)),
        (b"tRNS", transparent and struct.pack(">H", transparent)),
    ):
        if data:
            check = zlib.crc32(name + data)
            chunks += struct.pack(">I", len(data)) + name + data
            chunks += struct.pack(">I", check)
    # After the header.
    path.write_bytes(png[:33] + chunks + png[33:])
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_the_orientation_of_exif_is_applied(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    options = {"webp": {"lossless": True}, "jpg": {"subsampling": 0}}
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[274] = orientation
        picture = PIL.Image.fromarray(colours(16, 24))
        picture.save(path, exif=exif, **options.get(ending, {}))
        with PIL.Image.open(path) as opened:
            shown = PIL.ImageOps.exif_transpose(opened).convert("RGB")
        decoded = decoding.decode(path)
        # JPEG decoders round differently.
        tolerance = 6 if ending == "jpg" else 0
        np.testing.assert_allclose(
            decoded.astype(int), np.asarray(shown, int), atol=tolerance
        )
        assert read_header(path).size == decoded.shape[:2]


def test_a_photograph_on_its_side_is_trained_on_upright(tmp_path):
    left_is_black = np.full((8, 8), 255, np.uint8)
    left_is_black[:, :4] = 0
    exif = PIL.Image.Exif()
    exif[274] = 6
    for i in range(12):
        picture = PIL.Image.fromarray(left_is_black)
        picture.save(tmp_path / f"{i}.png", exif=exif)
    data = datasets.load("image_folder", data_dir=tmp_path, image_size=8)
    assert np.all(data.train.images[:, :4] == 0)
    assert np.all(data.train.images[:, 4:] == 255)
    assert any("rotated" in note for note in data.notes)
    read = datasets.read_pictures(tmp_path, image_shape=(8, 8, 1))
    np.testing.assert_array_equal(read[0], data.train.images[0])


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_transparent_pixels_are_composed_over_white(tmp_path, ending):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255
    pixels[6:, :, 3] = 51
    path = tmp_path / f"x.{ending}"
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    PIL.Image.fromarray(pixels).save(path, **options)
    decoded = decoding.decode(path)
    assert np.all(decoded[:4] == 0)
    assert np.all(decoded[4:6] == 255)
    assert np.all(decoded[6:] == 204)


def test_a_transparent_palette_or_colour_is_white(tmp_path):
    indices = np.zeros((4, 4), np.uint8)
    indices[:2] = 1
    picture = PIL.Image.fromarray(indices, "L").convert("P")
    for ending in ("png", "gif"):
        picture.save(tmp_path / f"x.{ending}", transparency=0)
        decoded = decoding.decode(tmp_path / f"x.{ending}")
        assert np.all(decoded[2:] == 255) and np.all(decoded[:2] == 1)
    values = np.full((4, 4, 1), 1000, np.uint16)
    values[0] = 7
    path = save_png_16(tmp_path / "y.png", values, transparent=7)
    decoded = decoding.decode(path)
    assert np.all(decoded[0] == 1)
    np.testing.assert_allclose(decoded[1:], 1000 / 65535)


def test_opaque_pixels_keep_their_values(tmp_path):
    pixels = np.concatenate(
        [colours(), np.full((5, 4, 1), 255, np.uint8)], axis=-1
    )
    PIL.Image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        decoding.decode(tmp_path / "x.png"), pixels[..., :3]
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_of_a_png_are_kept(tmp_path, channels):
    values = deep_values(5, 4, channels)
    decoded = decoding.decode(save_png_16(tmp_path / "x.png", values))
    expected = values / 65535
    if channels in (2, 4):
        alpha = expected[..., -1:]
        expected = expected[..., :-1] * alpha + 1 - alpha
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(
        decoded, np.broadcast_to(expected, decoded.shape), atol=1e-6
    )
    header = read_header(tmp_path / "x.png")
    assert header.is_grey == (channels < 3)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_16_bits_of_a_tiff_are_kept(tmp_path, photometric):
    values = deep_values(5, 4, 3) if photometric == "rgb" else deep_values(5, 4)
    path = tmp_path / "x.tiff"
    tifffile.imwrite(path, values, photometric=photometric, compression="zlib")
    expected = values / 65535
    if photometric == "miniswhite":
        expected = 1 - expected
    if expected.ndim == 2:
        expected = expected[..., np.newaxis]
    decoded = decoding.decode(path)
    np.testing.assert_allclose(
        decoded, np.broadcast_to(expected, (5, 4, 3)), atol=1e-6
    )


def test_tiffs_as_others_write_them_are_read(tmp_path):
    values = deep_values(5, 4)
    # LZW, which tifffile alone does not decode.
    picture = PIL.Image.fromarray(values)
    picture.save(tmp_path / "lzw.tif", compression="tiff_lzw")
    decoded = decoding.decode(tmp_path / "lzw.tif")
    np.testing.assert_allclose(decoded[..., 0], values / 65535, atol=1e-6)
    planes = deep_values(3, 5, 4)
    tifffile.imwrite(
        tmp_path / "planes.tif",
        planes,
        photometric="rgb",
        planarconfig="separate",
    )
    decoded = decoding.decode(tmp_path / "planes.tif")
    expected = np.moveaxis(planes, 0, -1) / 65535
    np.testing.assert_allclose(decoded, expected, atol=1e-6)
    stack = np.stack([values, values + 1])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    assert read_header(tmp_path / "stack.tif").has_pages
    decoded = decoding.decode(tmp_path / "stack.tif")
    np.testing.assert_allclose(decoded[..., 0], values / 65535, atol=1e-6)


def test_the_white_level_is_black_where_zero_is_white(tmp_path):
    values = deep_values(5, 4, 2, highest=4095)
    path = tmp_path / "x.tif"
    options = {"photometric": "miniswhite", "planarconfig": "contig"}
    tifffile.imwrite(path, values[..., 0], **options)
    decoded = decoding.decode(path, white_level=4095)
    grey = 1 - values[..., :1] / 4095
    np.testing.assert_allclose(
        decoded, np.broadcast_to(grey, (5, 4, 3)), atol=1e-6
    )
    with pytest.raises(UserError, match="above white_level=99"):
        decoding.decode(path, white_level=99)
    alpha = values[..., 1:] / 4095
    multiplied = values.copy()
    multiplied[..., :1] = np.rint((1 - grey) * alpha * 4095)
    for stored, kind in ((values, "unassalpha"), (multiplied, "assocalpha")):
        tifffile.imwrite(path, stored, extrasamples=[kind], **options)
        decoded = decoding.decode(path, white_level=4095)
        expected = np.broadcast_to(grey * alpha + 1 - alpha, (5, 4, 3))
        np.testing.assert_allclose(decoded, expected, atol=0.51 / 4095)


def test_alpha_may_have_16_bits_where_colours_have_12(tmp_path):
    path, rng = tmp_path / "a.tif", np.random.default_rng(0)
    colours = rng.integers(0, 4096, (5, 4, 1), np.uint16)
    alpha = rng.integers(0, 65536, (5, 4, 1), np.uint16)
    alpha[0, 0] = 65535
    tifffile.imwrite(
        path,
        np.concatenate([colours, alpha], axis=-1),
        photometric="minisblack",
        extrasamples=["unassalpha"],
    )
    decoded = decoding.decode(path, white_level=4095)
    opaque = alpha / 65535
    expected = colours / 4095 * opaque + 1 - opaque
    np.testing.assert_allclose(decoded[..., :1], expected, atol=1e-6)


def test_12_bits_are_scaled_by_sbit_or_the_white_level(tmp_path):
    raw = deep_values(20, 20, 1, highest=4095)
    path = save_png_16(tmp_path / "raw.png", raw)
    np.testing.assert_allclose(
        decoding.decode(path)[..., :1], raw / 65535, rtol=1e-6
    )
    np.testing.assert_allclose(
        decoding.decode(path, 4095)[..., :1], raw / 4095, rtol=1e-6
    )
    path = save_png_16(tmp_path / "sbit.png", raw, significant_bits=[12])
    np.testing.assert_allclose(
        decoding.decode(path)[..., :1], raw / 4095, rtol=1e-6
    )
    with pytest.raises(UserError, match="above white_level=99"):
        decoding.decode(path, 99)


@pytest.mark.parametrize("darkness", [1, 20])
def test_samples_that_are_scaled_up_as_png_asks_are_not_scaled_again(
    tmp_path, darkness
):
    raw = deep_values(20, 20, 1, highest=4095 // darkness)
    for scaled in (
        raw << 4,
        (raw << 4) | (raw >> 8),
        np.round(raw / 4095 * 65535).astype(np.uint16),
    ):
        path = save_png_16(tmp_path / "x.png", scaled, significant_bits=[12])
        np.testing.assert_allclose(
            decoding.decode(path)[..., :1], raw / 4095, rtol=1e-6
        )


@pytest.mark.parametrize("read", [decoding.decode, pictures.read_own_size])
@pytest.mark.parametrize(
    ("ending", "stored", "bits", "channels"),
    [
        ("png", 4, 8, 3),
        ("png", 3, 16, 3),
        ("png", 4, 16, 3),
        ("png", 3, (12, 12, 12), 3),
        ("tif", 1, 16, 3),
        ("tif", 3, 16, 3),
        ("tif", 4, 16, 3),
        ("tif", 1, 16, 1),
        ("tif", 3, 16, 1),
    ],
)
def test_decoding_takes_little_memory_beside_the_picture(
    tmp_path, ending, stored, bits, channels, read
):
    """At most 12 bytes for each value that is returned, itself included.

    Measured is what Python and NumPy allocate: all for a TIFF. For a PNG the
    decoder's own copy of the stored values is added, as if it were kept.
    """
    values = deep_values(1500, 400, stored)
    path = tmp_path / f"x.{ending}"
    if ending == "tif":
        photometric = "rgb" if stored > 2 else "minisblack"
        options = {"extrasamples": ["unassalpha"]} if stored == 4 else {}
        tifffile.imwrite(path, values, photometric=photometric, **options)
        unseen = 0
    elif bits == 8:
        PIL.Image.fromarray((values >> 8).astype(np.uint8)).save(path)
        unseen = values.size
    else:
        save_png_16(path, values, None if bits == 16 else bits)
        unseen = values.nbytes
    read(path, channels=channels)  # What TensorFlow loads once.
    tracemalloc.start()
    try:
        decoded = read(path, channels=channels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak + unseen < 12 * decoded.size


def test_pictures_of_many_pixels_are_no_damaged_files(tmp_path):
    """Pillow warns above 89 million pixels, and refuses twice as many."""
    path = tmp_path / "panorama.jpg"
    PIL.Image.fromarray(colours(8, 8)).save(path)
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0") + 5  # Height and width.
    limit = PIL.Image.MAX_IMAGE_PIXELS
    for height, width in ((10_000, 20_000), (20_000, 30_000), (60_000,) * 2):
        data[frame : frame + 4] = struct.pack(">HH", height, width)
        path.write_bytes(data)
        if height == 10_000:
            assert read_header(path).size == (height, width)
        else:
            with pytest.raises(UserError, match="has 536870912 pixels or more"):
                read_header(path)
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


def test_the_scale_does_not_depend_on_the_largest_value(tmp_path):
    dim = deep_values(8, 8, 1, highest=300)
    decoded = decoding.decode(save_png_16(tmp_path / "x.png", dim))
    np.testing.assert_allclose(decoded[..., :1], dim / 65535, rtol=1e-6)


def test_a_white_level_is_part_of_the_data_set(tmp_path):
    for i in range(12):
        values = np.full((8, 8, 1), 100 + i, np.uint16)
        save_png_16(tmp_path / f"{i}.png", values)
    dark = datasets.load("image_folder", data_dir=tmp_path, image_size=8)
    assert any("dark images" in note for note in dark.notes)
    data = datasets.load(
        "image_folder", data_dir=tmp_path, image_size=8, white_level=200
    )
    assert not any("dark images" in note for note in data.notes)
    assert any("16 bits" in note for note in data.notes)
    assert data.train.images.dtype == np.float32
    assert 0.5 <= data.train.images.min() <= data.train.images.max() < 0.6
    again = data.source.load()
    assert again.fingerprint() == data.fingerprint() != dark.fingerprint()
    read = datasets.read_pictures(
        tmp_path, image_shape=(8, 8, 1), white_level=200
    )
    np.testing.assert_allclose(read[0], 0.5, rtol=1e-6)


def test_8_bit_pictures_among_16_bit_ones_keep_their_values(tmp_path):
    pixels = colours(30, 20)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    alone = datasets.read_pictures(tmp_path, image_shape=(9, 8, 3))
    save_png_16(tmp_path / "b.png", deep_values(8, 8, 1))
    both = datasets.read_pictures(tmp_path, image_shape=(9, 8, 3))
    np.testing.assert_array_equal(both[0], np.divide(alone[0], 255, dtype="f"))
    assert 0 <= both.min() <= both.max() <= 1


def test_a_white_level_needs_16_bits(tmp_path):
    for i in range(12):
        PIL.Image.fromarray(colours(seed=i)).save(tmp_path / f"{i}.png")
    for options in (dict(name="image_folder", data_dir=tmp_path), {}):
        with pytest.raises(UserError, match="requires 16-bit images"):
            datasets.load(**options, white_level=4095)
    with pytest.raises(UserError, match="white_level must be in"):
        datasets.load(white_level=0)


def test_a_picture_with_the_ending_of_another_format_is_read(tmp_path):
    for format in ("WEBP", "TIFF", "BMP"):
        path = tmp_path / f"{format}.png"
        options = {"lossless": True} if format == "WEBP" else {}
        PIL.Image.fromarray(colours()).save(path, format=format, **options)
        np.testing.assert_array_equal(decoding.decode(path), colours())
