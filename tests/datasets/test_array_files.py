"""Data sets in `.npz` files."""

import numpy as np
import pytest

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError


def save_arrays(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return str(folder / "x.npz")


def test_arrays_of_bytes(tmp_path):
    images = np.arange(40 * 6, dtype=np.uint8).reshape(40, 2, 3)
    labels = np.arange(40, dtype=np.uint8)
    path = save_arrays(tmp_path, image=images, label=labels)
    dataset = datasets.load(path, validation_split=0.25)
    assert dataset.image_shape == (2, 3, 1)
    assert dataset.label_names is None
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split.images) for split in splits] == [27, 9, 4]
    assert all(split.labels.dtype == np.int32 for split in splits)
    rows = np.concatenate([split.labels for split in splits])
    assert sorted(rows) == list(range(40))
    loaded = np.concatenate([split.images for split in splits])
    np.testing.assert_array_equal(loaded[..., 0], images[rows])


def test_arrays_of_floats(tmp_path):
    images = np.random.default_rng(0).random((20, 8, 6, 3))
    save_arrays(tmp_path, image=images)
    dataset = datasets.load("x.npz", data_dir=tmp_path)
    assert dataset.train.images.dtype == np.float32
    assert dataset.train.labels is None
    small = datasets.load("x.npz", data_dir=tmp_path, image_size=(4, 3))
    assert small.image_shape == (4, 3, 3)
    # Antialiased: the mean survives, up to the borders' weights.
    mean = small.train.images.mean()
    assert mean == pytest.approx(dataset.train.images.mean(), abs=0.02)


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(x=np.zeros(3), y=np.zeros(2)), "no array 'image' .found: x, y"),
        (dict(image=np.zeros((20, 4))), r"must be .*, got \[20, 4\]"),
        (dict(image=np.zeros((20, 3, 8, 8))), r"got \[20, 3, 8, 8\]"),
        (dict(image=np.zeros((20, 0, 8))), "the images are empty"),
        (dict(image=np.zeros((20, 2, 2), int)), "got int64"),
        (dict(image=np.zeros((20, 2, 2), bool)), "got bool"),
        (dict(image=np.full((20, 2, 2), 2.5)), "got values from 2.5 to 2.5"),
        (dict(image=np.full((20, 2, 2), -1.0)), "got values from -1 to -1"),
        (dict(image=np.full((20, 2, 2), np.nan)), "80 values that are NaN"),
        (dict(image=np.full((20, 2, 2), 1.0000001)), r"to 1\.0000001: "),
        (dict(image=np.full((20, 2, 2), np.inf)), "got values from inf"),
        (dict(image=np.zeros((9, 2, 2))), "holds 9 images"),
        (dict(image=np.array([{}] * 20)), "cannot be read .*allow_pickle"),
        (
            dict(image=np.zeros((20, 2, 2)), label=np.zeros(19, int)),
            r"'label' must be integers \[20\].*, got int64 \[19\]",
        ),
        (
            dict(image=np.zeros((20, 2, 2)), label=np.zeros(20)),
            "'label' must be integers .*, got float64",
        ),
        (
            dict(image=np.zeros((20, 2, 2)), label=np.full(20, -1)),
            "'label' must be in .* from -1 to -1",
        ),
    ],
)
def test_invalid_arrays_are_refused(tmp_path, arrays, message):
    path = save_arrays(tmp_path, **arrays)
    with pytest.raises(UserError, match=message) as info:
        datasets.load(path)
    assert path in str(info.value) and "\n" not in str(info.value)


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*none.npz"):
        datasets.load(str(tmp_path / "none.npz"))
    for content in (b"", b"PK\x03\x04 cut short", b"text"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"x.npz cannot be read"):
            datasets.load("x.npz", data_dir=tmp_path)


SHAPE = (8, 8, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.full((2, 8, 8), 255, np.uint8), np.uint8),
        (np.linspace(-3, 4, 128).reshape(2, *SHAPE), np.float32),
    ],
)
def test_images_for_a_model_keep_their_values(tmp_path, given, expected):
    np.savez(tmp_path / "x.npz", image=given)
    images = datasets.read_pictures(tmp_path / "x.npz", image_shape=SHAPE)
    assert images.dtype == expected
    np.testing.assert_allclose(images, given.reshape(2, *SHAPE), rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 9, 1)), r"\[3, 8, 9, 1\]"),
        (np.zeros((3, 8, 8, 3)), r"\[3, 8, 8, 3\]"),
        (np.zeros((0, *SHAPE)), r"\[0, 8, 8, 1\]"),
        (np.zeros((3, *SHAPE), np.int64), "got int64"),
        (np.full((3, *SHAPE), np.inf), "infinite"),
    ],
)
def test_images_that_a_model_does_not_take_are_refused(
    tmp_path, image, message
):
    np.savez(tmp_path / "x.npz", image=image)
    with pytest.raises(UserError, match=message):
        datasets.read_pictures(tmp_path / "x.npz", image_shape=SHAPE)
