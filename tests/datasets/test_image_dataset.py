"""A data set: its splits, its labels and the checks on its images."""

import numpy as np
import pytest

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError


def some_split(count=10):
    """Returns a split whose image i is grey value i, with label i."""
    values = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, 2, 3, 1))
    return datasets.Split(images.copy(), values.astype(np.int32))


@pytest.fixture
def path(tmp_path):
    """An `.npz` file of 200 different images and their labels."""
    split = some_split(200)
    np.savez(tmp_path / "x.npz", image=split.images, label=split.labels)
    return str(tmp_path / "x.npz")


def test_a_part_of_a_split_keeps_images_and_labels_together():
    split = some_split()
    for part, expected in (
        (split[[3, 1]], [3, 1]),
        (split[7:], [7, 8, 9]),
        (split[split.labels > 8], [9]),
        (split.take(2), [0, 1]),
        (split.take(None), range(10)),
        (split.take(99), range(10)),
        (split.subsample(4), [0, 3, 6, 9]),
        (split.subsample(10), range(10)),
    ):
        np.testing.assert_array_equal(part.labels, expected)
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], expected)
    assert datasets.Split(split.images, None).take(3).labels is None


def test_validation_is_a_seeded_part_of_the_training_images(path):
    whole = datasets.load(path, validation_split=0)
    dataset = datasets.load(path, validation_split=0.1)
    assert len(dataset.validation.images) == 18
    assert len(dataset.train.images) == 180 - 18
    parts = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert sorted(parts) == sorted(whole.train.labels)
    np.testing.assert_array_equal(dataset.test.labels, whole.test.labels)
    same = datasets.load(path, validation_split=0.1)
    other = datasets.load(path, validation_split=0.1, seed=1)
    labels = dataset.validation.labels
    np.testing.assert_array_equal(labels, same.validation.labels)
    assert np.any(labels != other.validation.labels)


@pytest.mark.parametrize("validation_split", [-0.1, 1, 1e-6, 1 - 1e-6])
def test_impossible_validation_splits_are_refused(path, validation_split):
    with pytest.raises(UserError, match="validation_split"):
        datasets.load(path, validation_split=validation_split)


def test_the_fingerprint_depends_on_every_image(path):
    data = datasets.load(path)
    assert data.fingerprint() == datasets.load(path).fingerprint()
    assert data.fingerprint() != datasets.load(path, seed=1).fingerprint()
    data.test.images[-1, -1, -1] += 1
    assert data.fingerprint() != datasets.load(path).fingerprint()


@pytest.mark.parametrize("image_size", [0, (8, -1), (1, 2, 3), 8.5, "8"])
def test_invalid_image_sizes_are_refused(image_size):
    with pytest.raises(UserError, match="image_size must be"):
        datasets.load("digits", image_size=image_size)


@pytest.mark.parametrize("name", ["digits", "image_folder", "x.npz"])
def test_a_missing_data_dir_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="/none is not a folder"):
        datasets.load(name, data_dir=tmp_path / "none")


def test_pixels_between_the_256_levels_are_refused(path, tmp_path):
    datasets.load(path).check_levels()
    levels = np.tile(np.arange(256) / 255, (12, 1)).reshape(12, 16, 16, 1)
    np.savez(tmp_path / "x.npz", image=levels.astype(np.float32))
    datasets.load(str(tmp_path / "x.npz"), validation_split=0.2).check_levels()
    np.savez(tmp_path / "x.npz", image=levels.astype(np.float32) * 0.999)
    between = datasets.load(str(tmp_path / "x.npz"), validation_split=0.2)
    with pytest.raises(UserError, match="not k/255"):
        between.check_levels()


def labelled(train, test, names=None):
    splits = (
        datasets.Split(
            np.zeros((8, 2, 2, 1), np.uint8),
            None if labels is None else np.int32(labels),
        )
        for labels in (train, test)
    )
    first, last = splits
    return datasets.ImageDataset("made", first, None, last, names)


def test_the_old_name_of_num_classes_warns():
    few = [0, 1] * 4
    with pytest.warns(DeprecationWarning, match="num_classes"):
        assert labelled(few, few).num_labels() == 2


def test_labels_are_counted():
    few, more = [0, 1] * 4, [2] * 8
    assert labelled(few, few).num_classes() == 2
    assert labelled(few, more).num_classes() == 3
    assert labelled(few, few, ("a", "b", "c", "d")).num_classes() == 4


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (None, None, "no labels"),
        ([0, 1] * 4, None, "no labels"),
        ([0, 1] * 4, [-1] * 8, "from -1 to 1"),
        ([0, 1] * 4, [99] * 8, "from 0 to 99"),
    ],
)
def test_missing_or_impossible_labels_are_refused(train, test, message):
    with pytest.raises(UserError, match=message):
        labelled(train, test).num_classes()


def test_labels_without_training_images_are_named(tmp_path):
    images = np.zeros((40, 2, 2), np.uint8)
    labels = np.tile([1, 2, 4, 5], 10)
    np.savez(tmp_path / "x.npz", image=images, label=labels)
    data = datasets.load(str(tmp_path / "x.npz"))
    assert data.training_labels() == (1, 2, 4, 5)
    assert data.num_classes() == 6
    assert "4 labels: 1, 2, 4, 5" in data.notes
    assert "labels without training images: 0, 3 (not drawn)" in data.notes


def test_loading_prints_nothing(path, capsys):
    assert datasets.load(path).notes
    assert capsys.readouterr() == ("", "")
