"""The digits of scikit-learn."""

import numpy as np
import PIL.Image
import pytest
import scipy.special
import sklearn.datasets

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", validation_split=0)


def test_digits_are_scikit_learns(digits):
    values, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = np.rint(values * 255 / 16).reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(digits.train.images, images[:1437])
    np.testing.assert_array_equal(digits.test.images, images[1437:])
    np.testing.assert_array_equal(digits.train.labels, labels[:1437])
    np.testing.assert_array_equal(digits.test.labels, labels[1437:])
    assert digits.validation is None
    assert digits.image_shape == (8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int32
    assert digits.label_names == tuple("0123456789")
    assert digits.notes == ("10 labels: 0 to 9",)


@pytest.mark.parametrize(
    ("size", "checksum"), [(None, "5ec60aff"), (11, "9a72cf6d")]
)
def test_runs_of_earlier_versions_find_the_same_digits(size, checksum):
    """They read them through TFDS."""
    data = datasets.load("digits", image_size=size)
    expected = f"1365+72+360 images, checksum {checksum}"
    assert data.fingerprint() == expected


def test_digits_write_nothing_into_a_folder(tmp_path):
    datasets.load("digits", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_digits_entropy_floor(digits):
    def floor(probability):
        entropy = scipy.special.entr(probability)
        entropy += scipy.special.entr(1 - probability)
        return entropy.sum(axis=(1, 2, 3)).mean()

    grey = digits.test.images / 255
    # 13.30 nats for the values v / 16; rounding them to bytes adds 0.02.
    assert round(floor(np.rint(grey * 16) / 16), 2) == 13.30
    assert floor(grey) == pytest.approx(13.3246, abs=1e-4)


def test_digits_are_not_moved_to_a_folder_of_pictures(digits, tmp_path):
    assert digits.source.moved_to(str(tmp_path)).load()
    PIL.Image.new("L", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="give pictures as input"):
        digits.source.moved_to(str(tmp_path))
