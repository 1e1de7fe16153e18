"""Pictures as arrays: shrunk, and written as PNG files."""

import numpy as np
import PIL.Image
import pytest

from keras_genmodels.datasets import pictures
from keras_genmodels.datasets.picture_headers import read_header


def test_shrinking_keeps_what_fits_and_removes_the_rest():
    columns = np.arange(240) / 240
    waves = {
        per_width: np.float32(
            0.5 + 0.4 * np.sin(2 * np.pi * per_width * columns)
        )
        for per_width in (9, 100)
    }
    for per_width, contrast in ((9, 1), (100, 0)):
        wave = np.tile(waves[per_width][:, np.newaxis], (40, 1, 1))
        small = pictures.shrink(wave, 0.5)
        assert small.shape == (20, 120, 1) and small.dtype == np.float32
        # Away from the borders, where the filter lacks neighbours.
        spread = np.ptp(small[5:-5, 8:-8])
        assert spread == pytest.approx(0.8 * contrast, abs=0.03)
    edge = np.zeros((20, 20, 3), np.uint8)
    edge[:, 10:] = 255
    small = pictures.shrink(edge, 0.3)
    assert small.shape == (6, 6, 3) and small.dtype == np.uint8
    # It swings beyond the edge, by a hundredth here, but not over the range.
    assert small[:, :2].max() <= 2 and small[:, 4:].min() >= 253
    assert pictures.shrink(edge, 1) is edge
    assert pictures.shrink(edge[:1], 0.3).shape == (1, 6, 3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_written_picture_has_its_size_channels_and_bits(
    tmp_path, channels, bits
):
    image = np.random.default_rng(0).random((5, 9, channels), np.float32)
    image[0, 0], image[0, 1], image[0, 2] = np.nan, -3, 7
    path = tmp_path / "in" / "a.png"
    pictures.write(path, image.copy(), bits)
    with PIL.Image.open(path) as found:
        assert found.size == (9, 5)
        assert len(found.getbands()) == channels
    assert read_header(path).bits == bits
    read = np.float64(pictures.read_own_size(path, channels))
    if bits == 8:
        read /= 255
    expected = np.clip(np.nan_to_num(image), 0, 1)
    np.testing.assert_allclose(read, expected, atol=0.51 / (2**bits - 1))


@pytest.mark.parametrize(
    ("channels", "bits", "message"),
    [(4, 8, "1 or 3 channels"), (1, 12, "bits must be 8 or 16, got 12")],
)
def test_what_is_no_picture_of_ours_is_not_written(
    tmp_path, channels, bits, message
):
    image = np.zeros((3, 2, channels), np.float32)
    with pytest.raises(ValueError, match=message):
        pictures.write(tmp_path / "a.png", image, bits)
    assert not [*tmp_path.iterdir()]
