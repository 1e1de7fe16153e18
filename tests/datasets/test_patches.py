"""Patches of a folder of pictures, in memory and on disk."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from support.patch_places import places_of

from keras_genmodels import datasets
from keras_genmodels.core import memory
from keras_genmodels.core.batch_parts import Part
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import (
    cache,
    loading,
    patch_dataset,
    pictures,
)

SIZE = 4


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)


def save_all(folder, sizes, channels=3, dtype=np.uint8, first=0):
    """Writes random pictures, and returns their pixels by name."""
    generator = np.random.default_rng(first)
    found = {}
    for i, size in enumerate(sizes, first):
        shape = (*size, 3) if channels == 3 else size
        high = np.iinfo(dtype).max + 1
        found[f"{i}.png"] = generator.integers(0, high, shape, dtype)
        save(folder / f"{i}.png", found[f"{i}.png"])
    return found


SIZES = [(5, 9), (4, 4), (12, 7), (6, 6), (8, 5)]


def load(folder, **options):
    return datasets.load(
        "image_folder",
        **{
            "data_dir": folder,
            "patch_size": SIZE,
            "patches_per_epoch": 40,
            "in_memory": True,
            **options,
        },
    )


def batches_of(data):
    return datasets.training_batches(data.train, batch_size=9, seed=0).take(3)


def test_training_batches_go_on_where_they_ended(tmp_path):
    save_all(tmp_path / "in", SIZES)
    split = load(tmp_path / "in").train
    options = {"seed": 5}
    whole = datasets.training_batches(split, batch_size=8, **options)
    assert whole.element_spec == {
        "image": tf.TensorSpec((8, SIZE, SIZE, 3), tf.float32)
    }
    whole = np.concatenate([it["image"] for it in whole.take(9)])
    assert len(np.unique(whole, axis=0)) > 60
    later = datasets.training_batches(
        split, batch_size=8, start_step=6, **options
    )
    np.testing.assert_array_equal(
        np.concatenate([it["image"] for it in later.take(3)]), whole[48:]
    )


def test_a_worker_draws_only_its_own_patches(tmp_path, monkeypatch):
    save_all(tmp_path / "in", SIZES)
    split = load(tmp_path / "in").train
    options = {"batch_size": 6, "seed": 5, "start_step": 2}
    whole = next(iter(datasets.training_batches(split, **options)))
    drawn, draw = [], split.images.draw

    def counted(first, num, seed):
        drawn.append(num)
        return draw(first, num, seed)

    monkeypatch.setattr(split.images, "draw", counted)
    parts = [
        next(iter(datasets.training_batches(split, part=part, **options)))
        for part in (Part(0, 2), Part(1, 2))
    ]
    assert drawn == [3, 3]
    np.testing.assert_array_equal(
        np.concatenate([part["image"] for part in parts]), whole["image"]
    )


@pytest.mark.parametrize(
    "dtype", [np.uint8, pytest.param(np.uint16, marks=pytest.mark.slow)]
)
def test_patches_from_disk_are_those_in_memory(
    tmp_path, prepared, dtype, capsys, monkeypatch
):
    save_all(tmp_path / "in", SIZES, channels=1, dtype=dtype)
    in_memory = load(tmp_path / "in")
    assert not prepared.exists()
    data = load(tmp_path / "in", in_memory=False)
    assert "once" in capsys.readouterr().out
    assert data.train.images.pictures.path is not None
    assert any("from disk" in note for note in data.notes)
    # Nothing is decoded again, for patches of any size.
    monkeypatch.setattr("keras_genmodels.datasets.pictures.read_own_size", None)
    load(tmp_path / "in", in_memory=False, patch_size=2)
    monkeypatch.setattr(memory, "available", lambda: 0)
    automatic = load(tmp_path / "in", in_memory="auto")
    monkeypatch.setattr(memory, "available", lambda: 2**40)
    moved = load(tmp_path / "in", in_memory="auto")
    assert moved.train.images.pictures.path is None
    for other in (data, automatic, moved):
        assert other.fingerprint() == in_memory.fingerprint()
        assert other.train.images.max() == in_memory.train.images.max()
        for name in ("train", "validation", "test"):
            mine, theirs = (getattr(it, name) for it in (other, in_memory))
            np.testing.assert_array_equal(mine.images[:], theirs.images[:])
    for mine, theirs in zip(*map(batches_of, (data, in_memory)), strict=True):
        np.testing.assert_array_equal(mine["image"], theirs["image"])


@pytest.mark.slow
def test_patches_are_also_of_shrunken_pictures(tmp_path, prepared):
    """At 1, 0.71 and 0.5 of their size, where those are large enough."""
    sizes = [(9, 12)] * 20 + [(7, 7), (6, 5), (5, 5)]
    drawn = {"smallest_scale": 0.5, "patches_per_epoch": 300}
    for channels, dtype in ((3, np.uint8), (1, np.uint16)):
        folder = tmp_path / str(channels)
        names = save_all(folder, sizes, channels, dtype)
        data = load(folder, **drawn)
        assert any("at 1, 0.71, 0.5 of their size" in it for it in data.notes)
        on_disk = load(folder, in_memory=False, **drawn)
        for split in ("train", "validation", "test"):
            mine, theirs = (
                getattr(it, split).images[:] for it in (data, on_disk)
            )
            np.testing.assert_array_equal(mine, theirs)
        assert on_disk.fingerprint() == data.fingerprint()
        assert load(folder).fingerprint() != data.fingerprint()
        levels = np.iinfo(dtype).max

        def as_ints(image, levels=levels, dtype=dtype):
            is_float = image.dtype == np.float32
            return np.rint(image * levels).astype(dtype) if is_float else image

        whole = [
            pictures.read_own_size(folder / name, channels) for name in names
        ]
        shrunken = [
            as_ints(pictures.shrink(it, scale))
            for scale in (1, 0.5**0.5, 0.5)
            for it in whole
        ]
        places = places_of(as_ints(data.train.images[:]), shrunken, 8)
        counts = np.bincount([place[0] // len(sizes) for place in places])
        assert len(counts) == 3 and counts.min() > 70


def test_pictures_prepared_by_earlier_versions_are_read(tmp_path, prepared):
    save_all(tmp_path / "in", SIZES, channels=1)
    before = load(tmp_path / "in", in_memory=False)
    (path,) = prepared.rglob("about.json")
    about = json.loads(path.read_text())
    assert about.pop("scales") == [1.0]
    path.write_text(json.dumps(about))
    again = load(tmp_path / "in", in_memory=False)
    assert again.fingerprint() == before.fingerprint()
    assert json.loads(path.read_text()) == about


@pytest.mark.parametrize(
    ("smallest", "expected"),
    [(1, [1]), (0.5, [1, 0.5**0.5, 0.5]), (0.36, [1, 0.71, 0.51, 0.36])],
)
def test_scales_are_even_steps(smallest, expected):
    drawn = patch_dataset.Patches(8, 5, 0, seed=0, smallest_scale=smallest)
    np.testing.assert_allclose(drawn.scales, expected, rtol=0.01)


DAMAGES = [
    ("pixels.npy", lambda content: content[:-9]),
    ("pixels.npy", lambda content: content.replace(b"(221, ", b"(220, ")),
    ("table.npy", lambda content: content.replace(b"(5,", b"(4,")),
    ("about.json", lambda content: b""),
]


def test_damaged_pictures_are_prepared_anew(tmp_path, prepared, capsys):
    save_all(tmp_path / "in", SIZES, channels=1)
    before = load(tmp_path / "in", in_memory=False).fingerprint()
    for name, damage in DAMAGES:
        (path,) = prepared.rglob(name)
        whole = path.read_bytes()
        assert damage(whole) != whole
        path.unlink()
        path.write_bytes(damage(whole))
        capsys.readouterr()
        data = load(tmp_path / "in", in_memory=False)
        damaged, anew = capsys.readouterr().out.splitlines()
        assert "is damaged" in damaged and "once" in anew
        assert data.fingerprint() == before
        assert path.read_bytes() == whole


def test_pictures_keep_their_size_rotation_and_bits(tmp_path):
    """Grey pictures of 8 and of 16 bits, one of them on its side."""
    pixels = save_all(tmp_path / "in" / "train", [(4, 4)], channels=1)["0.png"]
    deep = save_all(
        tmp_path / "in" / "test", [(5, 4)], 1, dtype=np.uint16, first=1
    )["1.png"]
    exif = PIL.Image.Exif()
    exif[274] = 6
    turned = np.random.default_rng(9).integers(0, 256, (4, 7), np.uint8)
    save(tmp_path / "in" / "val" / "2.png", turned, exif=exif)
    data = load(tmp_path / "in")
    assert data.train.images.dtype == np.float32
    first = data.train.images[:1][0, ..., 0]
    (place,) = places_of([np.rint(first * 255).astype(np.uint8)], [pixels], 8)
    assert place[:3] == (0, 0, 0)
    for split, expected, levels in (
        (data.test, deep, 65535),
        (data.validation, np.rot90(turned, -1), 255),
    ):
        images = np.rint(split.images * levels).astype(expected.dtype)[..., 0]
        assert {place[3] for place in places_of(images, [expected])} == {0}
    assert any("rotated as their EXIF" in note for note in data.notes)


def test_colours_are_those_of_the_flag(tmp_path):
    pixels = save_all(tmp_path / "in", [(4, 4)] * 4)
    save(tmp_path / "in" / "grey.png", np.full((4, 4), 7, np.uint8))
    assert load(tmp_path / "in").image_shape == (SIZE, SIZE, 3)
    grey = load(tmp_path / "in", color="grey")
    assert grey.image_shape == (SIZE, SIZE, 1)
    expected = tf.image.rgb_to_grayscale(np.stack([*pixels.values()]))
    expected = {tuple(np.sort(it, None)) for it in expected.numpy()}
    found = {tuple(np.sort(it, None)) for it in grey.train.images[:]}
    assert found <= expected | {(7,) * 16}
    # Without patches, too.
    save_all(tmp_path / "many", [(4, 4)] * 10)
    resized = {"patch_size": None, "image_size": 2, "validation_split": 0}
    resized["patches_per_epoch"] = loading.PATCHES_PER_EPOCH
    for color, channels in (("grey", 1), ("auto", 3)):
        data = load(tmp_path / "many", color=color, **resized)
        assert data.image_shape == (2, 2, channels)
    only_grey = tmp_path / "only_grey"
    save_all(only_grey, [(4, 4)] * 3, channels=1)
    assert load(only_grey).image_shape == (SIZE, SIZE, 1)
    assert load(only_grey, color="rgb").image_shape == (SIZE, SIZE, 3)


def test_whole_pictures_are_held_out_and_their_patches_are_fixed(tmp_path):
    pixels = save_all(tmp_path / "in", [(6, 6)] * 22, channels=1)
    data = load(tmp_path / "in", patches_per_epoch=60)
    assert len(data.train.images) == 60
    assert len(data.train.images.pictures) == 19
    assert len(data.validation.images) == len(data.test.images) == 6
    everything = [*pixels.values()]
    of_split = {
        name: {
            place[0]
            for place in places_of(
                getattr(data, name).images[:][..., 0], everything, symmetries
            )
        }
        for name, symmetries in (("train", 8), ("validation", 1), ("test", 1))
    }
    assert len(of_split["validation"]) == 1 and len(of_split["test"]) <= 2
    assert not of_split["train"] & (of_split["validation"] | of_split["test"])
    assert not of_split["validation"] & of_split["test"]
    again = load(tmp_path / "in", patches_per_epoch=60)
    np.testing.assert_array_equal(again.test.images, data.test.images)
    assert again.fingerprint() == data.fingerprint()
    for other in (
        load(tmp_path / "in", patches_per_epoch=60, seed=1),
        load(tmp_path / "in", patches_per_epoch=60, patch_size=5),
    ):
        assert other.fingerprint() != data.fingerprint()
    assert load(tmp_path / "in", validation_split=0).validation is None
    # The same whether they lie in folders or not.
    (tmp_path / "in" / "a").mkdir()
    for path in (tmp_path / "in").glob("*.png"):
        path.rename(tmp_path / "in" / "a" / path.name)
    assert load(tmp_path / "in").train.labels is None


def test_small_pictures_are_left_out_and_named(tmp_path, monkeypatch):
    save_all(tmp_path / "in", [(3, 9), (5, 5), (9, 3), (4, 4), (6, 6)])
    data = load(tmp_path / "in")
    (note,) = [note for note in data.notes if "left out" in note]
    assert note.endswith("smaller than 4x4: 0.png (3x9), 2.png (9x3)")
    assert len(data.train.images.pictures) == 1
    # By whatever path of the folder, and of integers of NumPy.
    monkeypatch.chdir(tmp_path / "in")
    again = load("", patch_size=np.int64(SIZE))
    assert again.fingerprint() == data.fingerprint()
    assert json.dumps(dataclasses.asdict(again.source))


def test_fixed_patches_of_any_size_fit_in_memory():
    for size, expected in ((48, 1000), (512, 85), (9000, 1)):
        drawn = patch_dataset.Patches(size, 10**6, 0.05, seed=0)
        assert drawn.num_fixed(channels=3) == expected
    assert patch_dataset.Patches(8, 5, 0.05, seed=0).num_fixed(1) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"patch_size": 10},
            r"no picture for train .* 0.png \(5x5\), .*patch_size",
        ),
        ({"patch_size": 8}, "too few pictures"),
        ({"validation_split": 0.9}, "too large a validation_split"),
        ({"patch_size": None}, "patches_per_epoch=40 requires patch_size"),
        ({"patch_size": 0}, "patch_size must be"),
        ({"patches_per_epoch": 0}, "patches_per_epoch must be"),
        ({"image_size": 4}, "image_size cannot be"),
        ({"color": "green"}, "color must be"),
        ({"white_level": 9}, "white_level=9 requires 16-bit"),
        ({"smallest_scale": 0}, "smallest_scale must be in"),
        ({"smallest_scale": 2}, "smallest_scale must be in"),
        ({"smallest_scale": "0.5"}, "smallest_scale must be a number"),
        (
            {"smallest_scale": 0.3},
            r"smallest_scale=0.3: no picture for \w+, shrunk to 0.\d+ of its "
            r"size, is as large as a patch of 4x4: \d.png \(\dx\d\) before",
        ),
        (
            {
                "smallest_scale": 0.5,
                "patch_size": None,
                "patches_per_epoch": loading.PATCHES_PER_EPOCH,
            },
            "smallest_scale=0.5 requires patch_size",
        ),
        ({"data_dir": None}, "name it as data_dir"),
    ],
)
def test_what_has_no_patches_is_refused(tmp_path, options, message):
    save_all(tmp_path / "in", [(5, 5), (9, 9), (4, 4)])
    with pytest.raises(UserError, match=message):
        load(tmp_path / "in", **options)


def test_patches_and_colours_require_pictures():
    with pytest.raises(UserError, match="patch_size=4 requires pictures"):
        datasets.load("digits", patch_size=4)
    with pytest.raises(UserError, match="color=grey requires pictures"):
        datasets.load("digits", color="grey")
