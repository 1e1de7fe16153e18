"""Folders of pictures: one reader, whether to train on them or to encode."""

import keras
import numpy as np
import PIL.Image
import pytest

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError


def save_picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


def grey_picture(value, height=5, width=7):
    return np.full((height, width), value, np.uint8)


def test_flat_folder_of_grey_pictures(tmp_path):
    for i in range(20):
        save_picture(tmp_path / f"{i:02}.png", grey_picture(10 * i))
    dataset = datasets.load(
        "image_folder", data_dir=tmp_path, image_size=(5, 7)
    )
    assert dataset.image_shape == (5, 7, 1)
    assert dataset.train.labels is None and dataset.label_names is None
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split.images) for split in splits] == [17, 1, 2]
    values = np.concatenate([s.images.reshape(-1, 35) for s in splits])
    assert np.all(np.ptp(values, axis=1) == 0)
    assert sorted(values[:, 0]) == list(range(0, 200, 10))
    default = datasets.load("image_folder", data_dir=tmp_path)
    assert default.image_shape == (64, 64, 1)


def test_labelled_folder_of_colour_pictures(tmp_path):
    for i in range(10):
        save_picture(tmp_path / "b" / f"{i}.png", grey_picture(200, 4 + i, 9))
    red = np.zeros((6, 5, 3), np.uint8)
    red[..., 0] = 250
    for i in range(8):
        save_picture(tmp_path / "a" / "deeper" / f"{i}.bmp", red)
    save_picture(tmp_path / ".hidden" / "x.png", red)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not a picture")
    dataset = datasets.load("image_folder", data_dir=tmp_path, image_size=4)
    assert dataset.image_shape == (4, 4, 3)
    assert dataset.label_names == ("a", "b")
    splits = (dataset.train, dataset.validation, dataset.test)
    labels = np.concatenate([split.labels for split in splits])
    images = np.concatenate([split.images for split in splits])
    assert np.bincount(labels).tolist() == [8, 10]
    assert labels.dtype == np.int32
    assert np.all(images[labels == 0] == [250, 0, 0])
    assert np.all(images[labels == 1] == 200)


def photograph(height, width, seed):
    """Returns RGB noise, in which any smoothing shows."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


# Sizes that shrink, grow, keep their size, and do both, to 16x12.
SIZES = [(256, 192), (40, 31), (16, 12), (9, 7), (5, 60), (64, 12)] * 2


def load_all(folder, size):
    """Returns the images of an image_folder in the order of their values."""
    data = datasets.load(
        "image_folder", data_dir=folder, image_size=size, validation_split=0
    )
    return in_order(np.concatenate([data.train.images, data.test.images]))


def in_order(images):
    return images[np.lexsort(images.reshape(len(images), -1).T)]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_has_the_same_pixels_for_training_and_for_encoding(
    tmp_path, channels
):
    for i, (height, width) in enumerate(SIZES):
        picture = photograph(height, width, i)
        picture = picture[..., 0] if channels == 1 else picture
        save_picture(tmp_path / f"{i}.{'jpg' if i % 2 else 'png'}", picture)
    trained_on = load_all(tmp_path, (16, 12))
    encoded = datasets.read_pictures(tmp_path, image_shape=(16, 12, channels))
    np.testing.assert_array_equal(trained_on, in_order(encoded))


def test_a_picture_is_read_alike_whatever_lies_next_to_it(tmp_path):
    for i in range(10):
        save_picture(tmp_path / f"{i}.png", photograph(64, 64, i))
    alone = load_all(tmp_path, 8)
    save_picture(tmp_path / "small.png", photograph(4, 4, 10))
    together = load_all(tmp_path, 8)
    assert {*map(np.ndarray.tobytes, alone)} < {
        *map(np.ndarray.tobytes, together)
    }
    # 74 / 8 is the deviation of the mean of 64 pixels, 74 that of one pixel.
    assert np.std(alone) < 15


@pytest.mark.parametrize(
    ("side", "interpolation"), [(50, "area"), (16, "area"), (9, "bilinear")]
)
def test_folders_of_version_0_2_keep_their_pixels(
    tmp_path, side, interpolation
):
    """It read folders with Keras, with one interpolation for all pictures."""
    for i in range(10):
        save_picture(tmp_path / f"{i}.png", photograph(side, side + 3, i))
    by_keras = keras.utils.image_dataset_from_directory(
        tmp_path,
        labels=None,
        batch_size=10,
        shuffle=False,
        image_size=(16, 12),
        interpolation=interpolation,
        verbose=False,
    )
    expected = np.rint(next(by_keras.as_numpy_iterator()))
    read = datasets.read_pictures(tmp_path, image_shape=(16, 12, 3))
    np.testing.assert_array_equal(read, expected)


def test_folders_without_enough_pictures_are_refused(tmp_path):
    with pytest.raises(UserError, match="image_folder needs the folder"):
        datasets.load("image_folder")
    with pytest.raises(UserError, match=r"holds no picture .*png"):
        datasets.load("image_folder", data_dir=tmp_path)
    for i in range(9):
        save_picture(tmp_path / f"{i}.png", grey_picture(i))
    with pytest.raises(UserError, match="holds 9 images: give at least 10"):
        datasets.load("image_folder", data_dir=tmp_path)
    save_picture(tmp_path / "a" / "9.png", grey_picture(9))
    with pytest.raises(UserError, match=r"0\.png.*sub-folders"):
        datasets.load("image_folder", data_dir=tmp_path)


@pytest.mark.parametrize("kept_bytes", [0, 20, 80])
def test_the_error_names_a_damaged_picture(tmp_path, kept_bytes):
    # Cut in the header, which Pillow reads, or after it.
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    for i, picture in enumerate(noise):
        save_picture(tmp_path / f"{i}.png", picture)
    broken = tmp_path / "7.png"
    broken.write_bytes(broken.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=f"{broken} cannot be read"):
        datasets.load("image_folder", data_dir=tmp_path)
    with pytest.raises(UserError, match=f"{broken} cannot be read"):
        datasets.read_pictures(tmp_path, image_shape=(8, 8, 1))


def test_pictures_are_read_in_sorted_order_as_grey_or_rgb(tmp_path):
    save_picture(tmp_path / "b.png", grey_picture(3))
    save_picture(tmp_path / "a" / "z.png", grey_picture(2, 9, 11))
    red = np.zeros((6, 5, 3), np.uint8)
    red[..., 0] = 100
    save_picture(tmp_path / "a.png", red)
    colours = datasets.read_pictures(tmp_path, image_shape=(5, 7, 3))
    assert colours.shape == (3, 5, 7, 3) and colours.dtype == np.uint8
    # Files of a folder before those of its sub-folders.
    expected = [[100, 0, 0], [3, 3, 3], [2, 2, 2]]
    np.testing.assert_array_equal(colours[:, 2, 3], expected)
    grey = datasets.read_pictures(tmp_path, image_shape=(5, 7, 1))
    # 0.2989 is red's part in luma.
    np.testing.assert_array_equal(grey[:, 2, 3, 0], [29, 3, 2])
    one = datasets.read_pictures(tmp_path / "b.png", image_shape=(5, 7, 1))
    np.testing.assert_array_equal(one[0, ..., 0], grey_picture(3))


def test_missing_pictures_and_other_channels_are_refused(tmp_path):
    with pytest.raises(UserError, match="none: no such picture"):
        datasets.read_pictures(tmp_path / "none", image_shape=(8, 8, 1))
    with pytest.raises(UserError, match="holds no picture"):
        datasets.read_pictures(tmp_path, image_shape=(8, 8, 1))
    with pytest.raises(UserError, match="1 or 3 channels"):
        datasets.read_pictures(tmp_path, image_shape=(8, 8, 4))


def test_pictures_are_read_by_file_urls_and_other_urls_are_refused(tmp_path):
    save_picture(tmp_path / "a.png", grey_picture(7))
    url = tmp_path.as_uri()
    read = datasets.read_pictures(url, image_shape=(5, 7, 1))
    np.testing.assert_array_equal(read[0, ..., 0], grey_picture(7))
    assert datasets.skipped_in(url) is None
    with pytest.raises(UserError, match="give image_folder"):
        datasets.load(url)
    for call in (
        lambda path: datasets.read_pictures(path, image_shape=(5, 7, 1)),
        datasets.read_labels,
        datasets.list_pictures,
        datasets.skipped_in,
        datasets.load,
    ):
        with pytest.raises(UserError, match="s3 address"):
            call("s3://b/x")
