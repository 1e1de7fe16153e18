"""Folders of pictures: their splits, labels and files that are skipped."""

import numpy as np
import PIL.Image
import pytest

from keras_genmodels import datasets
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import file_kinds, folders


def save(folder, names, value=0):
    """Writes pictures of 4x4 with the grey values `value`, `value` + 1, ..."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((4, 4), value + i, np.uint8)).save(path)


def numbered(prefix, count):
    return [f"{prefix}{i}.png" for i in range(count)]


def load(folder, **options):
    options = {"image_size": 4, "validation_split": 0.2, **options}
    return datasets.load("image_folder", data_dir=folder, **options)


def values(split):
    return sorted(split.images[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_folders_of_splits_with_labels_are_splits(tmp_path, validation):
    for label, value in (("a", 0), ("b", 100)):
        save(tmp_path / "train" / label, numbered("x", 6), value)
        save(tmp_path / validation / label, numbered("x", 2), value + 40)
        save(tmp_path / "test" / label, numbered("x", 3), value + 80)
    data = load(tmp_path)
    assert values(data.train) == [*range(6), *range(100, 106)]
    assert values(data.validation) == [40, 41, 140, 141]
    assert values(data.test) == [80, 81, 82, 180, 181, 182]
    assert data.label_names == ("a", "b")
    for split in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(
            split.labels, split.images[:, 0, 0, 0] >= 100
        )
    notes = "\n".join(data.notes)
    for part in (f"validation in {validation}/", "test in test/", "a, b"):
        assert part in notes
    assert "22 pictures of 4x4, resized to 4x4" in notes


def test_folders_of_splits_without_labels_are_splits(tmp_path):
    save(tmp_path / "train", numbered("x", 10))
    save(tmp_path / "test", numbered("x", 3), 100)
    data = load(tmp_path)
    assert values(data.test) == [100, 101, 102]
    assert sorted(values(data.train) + values(data.validation)) == [*range(10)]
    assert data.train.labels is None and data.label_names is None


def test_a_missing_test_split_is_held_out_of_the_training_pictures(tmp_path):
    save(tmp_path / "train", numbered("x", 20))
    save(tmp_path / "val", numbered("x", 3), 100)
    data = load(tmp_path)
    assert values(data.validation) == [100, 101, 102]
    assert len(data.test.images) == 2
    assert sorted(values(data.train) + values(data.test)) == [*range(20)]


def test_a_single_folder_around_the_splits_is_skipped(tmp_path):
    save(tmp_path / "birds" / "train", numbered("x", 10))
    save(tmp_path / "birds" / "test", numbered("x", 2), 100)
    save(tmp_path / "__MACOSX" / "birds" / "train", ["._x0.png"])
    data = load(tmp_path)
    assert values(data.test) == [100, 101]
    assert "skipped: 1 hidden folder" in "\n".join(data.notes)


def test_labels_of_some_splits_only_are_not_used(tmp_path):
    save(tmp_path / "train" / "a", numbered("x", 10))
    save(tmp_path / "test", numbered("x", 2), 100)
    data = load(tmp_path)
    assert data.train.labels is None and data.label_names is None
    assert any("labels are not used" in note for note in data.notes)


def test_labels_of_a_test_split_only_are_named(tmp_path):
    save(tmp_path / "train" / "b", numbered("x", 10))
    save(tmp_path / "test" / "a", numbered("x", 2), 100)
    data = load(tmp_path)
    assert data.label_names == ("a", "b") and data.training_labels() == (1,)
    assert "labels without training images: a (not drawn)" in data.notes


def test_a_label_that_is_called_train_stays_a_label(tmp_path):
    for label in ("bus", "train"):
        save(tmp_path / label, numbered("x", 10))
    assert load(tmp_path).label_names == ("bus", "train")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/x.png", "test/x.png", "other/x.png"], "next to other/"),
        (["test/x.png", "val/x.png"], "no train/"),
        (["train/x.png", "val/x.png", "valid/x.png"], "of the split val"),
        (["a/train/x.png", "a/test/x.png", "b/x.png"], "below a label"),
        (["train/a/x.png", "train/x.png", "test/x.png"], "next to sub-folders"),
    ],
)
def test_ambiguous_layouts_are_refused(tmp_path, names, message):
    save(tmp_path, names)
    with pytest.raises(UserError, match=message) as info:
        load(tmp_path)
    assert "\n" not in str(info.value)


def test_patches_are_of_all_pictures_as_they_have_no_labels(tmp_path):
    names = ["x.png", "a/y.png", "a/b/z.png", *numbered("c/w", 7)]
    save(tmp_path, names)
    found = folders.find_own_size(tmp_path)
    assert sorted(
        path.relative_to(tmp_path).as_posix() for path in found.paths["train"]
    ) == sorted(names)
    for part in ("train", "test"):
        save(tmp_path / "split" / part, ["x.png", "a/y.png"])
    found = folders.find_own_size(tmp_path / "split")
    assert [len(found.paths[key]) for key in ("train", "test")] == [2, 2]
    save(tmp_path / "split", ["z.png"])
    with pytest.raises(UserError, match="next to sub-folders"):
        folders.find_own_size(tmp_path / "split")


def test_all_kinds_of_pictures_are_read_and_hidden_files_are_skipped(tmp_path):
    endings = ("png", "PNG", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "TIFF")
    save(tmp_path, [f"{i}.{end}" for i, end in enumerate(endings)])
    save(tmp_path, ["9.png"])
    for name in ("._0.png", "Thumbs.db", "notes.txt", "more.txt", "LICENSE"):
        (tmp_path / name).write_bytes(b"no picture")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        save(tmp_path / name, ["0.png"])
    data = load(tmp_path)
    count = sum(
        len(split.images) for split in (data.train, data.validation, data.test)
    )
    assert count == len(datasets.list_pictures(tmp_path)) == 10
    skipped = (
        "skipped: 2 .txt, 1 file without ending, 2 hidden files, 2 hidden "
        "folders"
    )
    assert any(note.startswith(skipped) for note in data.notes)
    assert datasets.skipped_in(tmp_path).startswith(skipped)


def test_hidden_files_inside_of_labels_are_skipped(tmp_path):
    save(tmp_path / "a", numbered("x", 10))
    (tmp_path / "a" / "._x0.png").write_bytes(b"no picture")
    save(tmp_path / "a" / ".ipynb_checkpoints", ["x0.png"])
    (tmp_path / "b").mkdir()
    data = load(tmp_path)
    notes = "\n".join(data.notes)
    assert "skipped: 1 hidden file, 1 hidden folder" in notes
    assert "folders without pictures: b" in notes
    assert data.label_names == ("a",)


def test_linked_folders_are_read_but_loops_are_not(tmp_path):
    save(tmp_path / "data" / "a", numbered("x", 10))
    save(tmp_path / "elsewhere", numbered("y", 12), 100)
    folder = tmp_path / "data"
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "loop").symlink_to(folder)
    assert len(datasets.list_pictures(folder)) == 22
    assert file_kinds.holds_pictures(folder, but=("a",))
    data = load(folder)
    assert data.label_names == ("a", "b")
    counts = [len(s.images) for s in (data.train, data.validation, data.test)]
    assert sum(counts) == 22
    with pytest.raises(UserError, match="holds pictures"):
        datasets.load("digits", data_dir=folder)


@pytest.mark.parametrize("name", ["digits", "image_folder", "x.npz"])
def test_a_remote_folder_is_refused_unless_tfds_reads_it(name):
    with pytest.raises(UserError, match="gs address"):
        datasets.load(name, data_dir="gs://bucket/x")


def test_a_folder_without_pictures_says_what_lies_there(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"")
    with pytest.raises(UserError, match=r"no picture .*webp.*1 \.heic"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["x.csv", "x.mat", "x.PKL", "x.parquet"])
def test_files_of_other_kinds_are_refused_with_the_supported_ones(
    tmp_path, name
):
    (tmp_path / name).write_bytes(b"")
    match = r"webp.*and arrays \(\.npy, \.npz.*\) are read"
    with pytest.raises(UserError, match=match):
        datasets.load(str(tmp_path / name))
    with pytest.raises(UserError, match=match):
        datasets.read_pictures(tmp_path / name, image_shape=(8, 8, 1))


def test_a_folder_as_the_name_of_a_data_set_is_refused(tmp_path):
    save(tmp_path, ["x.png"])
    with pytest.raises(UserError, match="give image_folder"):
        datasets.load(str(tmp_path))
