"""Data sets in `.npz` files."""

import zipfile

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
        (dict(image=np.full((20, 2, 2), np.inf)), "has infinite values"),
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
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("picture.png", b"pixels")
    with pytest.raises(UserError, match=r"y.npz cannot be read"):
        datasets.load(str(tmp_path / "y.npz"))
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


def test_the_splits_of_keras_files_are_kept(tmp_path):
    """As in mnist.npz and cifar10."""
    arrays = {
        "x_train": np.full((30, 4, 4), 100, np.uint8),
        "y_train": np.arange(30, dtype=np.uint8)[:, np.newaxis] % 3,
        "x_test": np.full((5, 4, 4), 200, np.uint8),
        "y_test": np.full((5, 1), 2, np.uint8),
    }
    data = datasets.load(save_arrays(tmp_path, **arrays), validation_split=0.1)
    assert [len(s.images) for s in (data.train, data.validation)] == [27, 3]
    assert np.all(data.test.images == 200) and np.all(data.test.labels == 2)
    np.testing.assert_array_equal(np.unique(data.train.labels), [0, 1, 2])
    assert any(note.startswith("splits of") for note in data.notes)


def test_the_splits_of_medmnist_are_kept(tmp_path):
    arrays = {}
    for split, count in (("train", 12), ("val", 2), ("test", 3)):
        images = np.full((count, 4, 4, 3), 10 * count, np.uint8)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = np.full((count, 1), count, np.uint8)
    data = datasets.load(save_arrays(tmp_path, **arrays))
    for split, count in (
        (data.train, 12),
        (data.validation, 2),
        (data.test, 3),
    ):
        assert np.all(split.images == 10 * count)
        assert split.labels.tolist() == [count] * count
    for split, count in (("train", 12), ("val", 2), ("test", 3)):
        arrays[f"{split}_labels"] = np.zeros((count, 14), np.uint8)
    several = datasets.load(save_arrays(tmp_path, **arrays))
    assert several.train.labels is None
    assert any("not one label" in note for note in several.notes)


def test_files_of_one_array_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "X.NPZ", images)
    (tmp_path / "X.NPZ.npz").rename(tmp_path / "X.NPZ")
    # As of dSprites, whose metadata are Python objects.
    save_arrays(
        tmp_path,
        imgs=images,
        latents_classes=np.zeros((20, 6), int),
        metadata=np.array({"title": "shapes"}, object),
    )
    prints = {
        datasets.load(name, data_dir=tmp_path).fingerprint()
        for name in ("x.npy", "X.NPZ", "x.npz")
    }
    assert len(prints) == 1
    for name in ("x.npy", "X.NPZ"):
        read = datasets.read_pictures(tmp_path / name, image_shape=(4, 4, 1))
        np.testing.assert_array_equal(read[..., 0], images)
        assert datasets.read_labels(tmp_path / name) is None


def test_16_bit_arrays_are_scaled(tmp_path):
    images = np.arange(320, dtype=np.uint16).reshape(20, 4, 4)
    path = save_arrays(tmp_path, image=images)
    data = datasets.load(path, white_level=400, validation_split=0)
    assert data.train.images.max() == np.float32(319 / 400)
    for level in (None, 319):
        read = datasets.read_pictures(
            tmp_path / "x.npz", image_shape=(4, 4, 1), white_level=level
        )
        expected = images / (level or 65535)
        np.testing.assert_allclose(read[..., 0], expected, rtol=1e-6)
    with pytest.raises(UserError, match="above white_level=99"):
        datasets.load(path, white_level=99)
    path = save_arrays(tmp_path, image=np.zeros((20, 4, 4), np.uint8))
    with pytest.raises(UserError, match="requires 16-bit images"):
        datasets.load(path, white_level=99)


def test_channels_first_is_refused_with_the_transposition(tmp_path):
    advice = r"channels first.*np\.transpose\(x_train, \(0, 2, 3, 1\)\)"
    path = save_arrays(tmp_path, x_train=np.zeros((20, 3, 8, 8), np.uint8))
    with pytest.raises(UserError, match=advice):
        datasets.load(path)
    advice = r"channels first.*np\.transpose\(image, \(0, 2, 3, 1\)\)"
    np.savez(tmp_path / "x.npz", image=np.zeros((20, 1, 8, 8), np.uint8))
    with pytest.raises(UserError, match=advice):
        datasets.read_pictures(tmp_path / "x.npz", image_shape=SHAPE)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": (20, 4, 4)}, "either one array 'image'"),
        ({"image": (20, 4, 4), "x_train": (20, 4, 4)}, "either one array"),
        ({"x_train": (20, 4, 4), "x_test": (9, 5, 4)}, "different kinds"),
        ({"x_train": (20, 4, 4), "x_test": (0, 4, 4)}, "holds no image"),
    ],
)
def test_splits_that_do_not_fit_together_are_refused(tmp_path, arrays, message):
    arrays = {k: np.zeros(v, np.uint8) for k, v in arrays.items()}
    with pytest.raises(UserError, match=message):
        datasets.load(save_arrays(tmp_path, **arrays))


def test_splits_are_not_one_set_of_images_for_a_model(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.zeros((9, 8, 8), np.uint8), y=[1])
    with pytest.raises(UserError, match="has splits"):
        datasets.read_pictures(tmp_path / "x.npz", image_shape=SHAPE)


@pytest.mark.parametrize(
    ("highest", "advice"),
    [
        (1.0000001, r"to 1\.0000001: .* clip"),
        (255, "to 255: divide"),
        (np.nan, "1 values that are NaN: remove"),
    ],
)
def test_values_out_of_range_are_refused_with_what_helps(
    tmp_path, highest, advice
):
    images = np.zeros((20, 4, 4), np.float32)
    images[3, 2, 1] = highest
    with pytest.raises(UserError, match=advice):
        datasets.load(save_arrays(tmp_path, image=images))


def test_rounding_errors_of_float64_pass_and_infinity_is_named(tmp_path):
    image = np.full((12, 4, 4), 1 + 1e-12)
    np.savez(tmp_path / "x.npz", image=image)
    data = datasets.load(str(tmp_path / "x.npz"), validation_split=0)
    assert data.train.images.max() == 1
    image[0] = np.inf
    np.savez(tmp_path / "x.npz", image=image)
    with pytest.raises(UserError, match="has infinite values: remove"):
        datasets.load(str(tmp_path / "x.npz"))
