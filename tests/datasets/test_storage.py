"""Data sets on disk are those in memory, and are prepared once and whole."""

import errno
import json
import os
import signal
import threading

import numpy as np
import PIL.Image
import pytest

from keras_genmodels import datasets
from keras_genmodels.core import disk_arrays, memory
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.core.errors import UserError
from keras_genmodels.datasets import cache, storage

LABELS = np.arange(40) % 3


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    """The folder in which data sets are prepared."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def bytes_of(count=40, side=5, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, side, side, 1), np.uint8)


def save_npy(folder, images=None):
    np.save(folder / "x.npy", bytes_of() if images is None else images)
    return {"name": str(folder / "x.npy")}


def entries(prepared):
    """Returns the folders that are prepared, by ending."""
    return sorted(p.name for p in prepared.iterdir() if p.suffix != ".lock")


def as_npz(save, **arrays):
    def make(folder):
        save(folder / "x.npz", **arrays)
        return {"name": str(folder / "x.npz")}

    return make


def as_npy(images):
    return lambda folder: save_npy(folder, images)


def as_folder(dtype):
    def make(folder):
        for row, image in enumerate(bytes_of(24)[..., 0]):
            path = folder / "pictures" / f"{row % 2}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image.astype(dtype)).save(path)
        return {
            "name": "image_folder",
            "data_dir": folder / "pictures",
            "image_size": 4,
        }

    return make


# Functions of a folder, to which they write a source, that return the
# arguments of `datasets.load`.
SOURCES = {
    "compressed": as_npz(
        np.savez_compressed, image=bytes_of(), label=LABELS.astype(np.uint8)
    ),
    "float64, with splits": as_npz(
        np.savez,
        x_train=bytes_of() / 255,
        y_train=LABELS,
        x_val=bytes_of(9, seed=1) / 255,
        y_val=LABELS[:9],
        x_test=bytes_of(11, seed=2) / 255,
        y_test=LABELS[:11],
    ),
    "16 bits, resized": lambda folder: {
        **as_npz(np.savez, image=bytes_of().astype(np.uint16))(folder),
        "white_level": 300,
        "image_size": (3, 4),
    },
    "Fortran order": as_npz(np.savez, image=np.asfortranarray(bytes_of())),
    "npy": as_npy(bytes_of()),
    "npy without channels": as_npy(bytes_of()[..., 0] / np.float32(255)),
    "npy of float64": as_npy(bytes_of() / 255),
    "binary npy": as_npy(bytes_of() // 128),
    "pictures": as_folder(np.uint8),
    "16-bit pictures": as_folder(np.uint16),
    "digits": lambda folder: {"name": "digits"},
}

# The tests below have "compressed" and "npy".
_QUICK = ("binary npy", "16-bit pictures")


def batches_of(data):
    options = dict(batch_size=7, seed=3, binarization="dynamic")
    return [
        *datasets.training_batches(data.train, start_step=5, **options).take(8),
        *datasets.evaluation_batches(data.test, **options),
    ]


def assert_same(mine, theirs):
    """Checks that a data set on disk is one in memory, to the last bit."""
    for name in ("train", "validation", "test"):
        split, other = getattr(mine, name), getattr(theirs, name)
        assert isinstance(split.images, DiskArray)
        assert split.images.dtype == other.images.dtype
        np.testing.assert_array_equal(np.asarray(split.images), other.images)
        np.testing.assert_array_equal(split.labels, other.labels)
    assert mine.fingerprint() == theirs.fingerprint()
    assert mine.image_shape == theirs.image_shape
    assert mine.label_names == theirs.label_names
    for batch, other in zip(batches_of(mine), batches_of(theirs), strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(value, other[key])
    assert [n for n in mine.notes if "from disk" not in n] == [*theirs.notes]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind not in _QUICK))
        for kind in SOURCES
    ],
)
def test_images_on_disk_are_those_in_memory(tmp_path, kind, prepared, capsys):
    arguments = SOURCES[kind](tmp_path)
    in_memory = datasets.load(**arguments, in_memory=True)
    assert not prepared.exists()
    assert_same(datasets.load(**arguments, in_memory=False), in_memory)
    assert "once" in capsys.readouterr().out
    again = datasets.load(**arguments, in_memory=False)
    assert again.fingerprint() == in_memory.fingerprint()
    assert capsys.readouterr().out == ""
    (folder,) = entries(prepared)
    has_copy = (prepared / folder / "images.npy").exists()
    assert has_copy == (kind not in ("npy", "npy without channels"))
    assert again.source == datasets.Source(
        **{**vars(in_memory.source), "in_memory": False}
    )


def test_a_start_reads_no_images(tmp_path, monkeypatch):
    arguments = save_npy(tmp_path, bytes_of() / np.float32(300))
    data = datasets.load(**arguments, in_memory=False)
    expected = data.fingerprint()

    def fail(*args):
        raise AssertionError("images were read")

    monkeypatch.setattr(DiskArray, "__getitem__", fail)
    monkeypatch.setattr(storage, "_read", fail)
    data = datasets.load(**arguments, in_memory=False)
    assert data.fingerprint() == expected
    assert len(data.validation.images) == 2


def test_the_free_memory_decides_where_images_are(tmp_path, monkeypatch):
    arguments = save_npy(tmp_path)
    assert isinstance(datasets.load(**arguments).train.images, np.ndarray)
    size = bytes_of().nbytes
    monkeypatch.setattr(memory, "available", lambda: 2 * size - 1)
    data = datasets.load(**arguments)
    assert isinstance(data.train.images, DiskArray)
    with pytest.raises(UserError, match=r"40 images of 5x5x1 .*in_memory=auto"):
        datasets.load(**arguments, in_memory=True)
    monkeypatch.setattr(memory, "available", lambda: 2 * size)
    # Also of what was prepared.
    again = datasets.load(**arguments)
    assert isinstance(again.train.images, np.ndarray)
    assert again.fingerprint() == data.fingerprint()
    assert data.source == again.source
    with pytest.raises(UserError, match="in_memory must be"):
        datasets.load(**arguments, in_memory="never")


@pytest.mark.parametrize(
    "kind",
    [
        "npy",
        pytest.param("compressed", marks=pytest.mark.slow),
        pytest.param("pictures", marks=pytest.mark.slow),
    ],
)
def test_a_changed_source_is_prepared_again(tmp_path, prepared, kind):
    arguments = SOURCES[kind](tmp_path)
    before = datasets.load(**arguments, in_memory=False)
    (path, *_) = (
        p
        for p in tmp_path.rglob("*")
        if p.suffix in (".npy", ".npz", ".png") and prepared not in p.parents
    )
    if kind == "pictures":
        PIL.Image.fromarray(bytes_of(1, seed=9)[0, ..., 0]).save(path)
    elif kind == "npy":
        save_npy(tmp_path, bytes_of(seed=9))
    else:
        np.savez(path, image=bytes_of(seed=9))
    data = datasets.load(**arguments, in_memory=False)
    assert data.fingerprint() != before.fingerprint()
    assert_same(data, datasets.load(**arguments, in_memory=True))
    assert len(entries(prepared)) == 1


def prepare_and_die(arguments, when):
    """Prepares a data set in a process that kills itself meanwhile."""
    child = os.fork()
    if not child:

        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            owner, name = when
            setattr(owner, name, die)
            datasets.load(**arguments, in_memory=False)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    "when",
    [
        (disk_arrays, "statistics_of"),
        pytest.param((storage.files, "write_json"), marks=pytest.mark.slow),
        pytest.param((cache, "_flush"), marks=pytest.mark.slow),
        (cache.os, "replace"),
    ],
    ids=lambda when: when[1],
)
def test_a_killed_preparation_is_not_taken_for_whole(tmp_path, when, prepared):
    arguments = SOURCES["compressed"](tmp_path)
    prepare_and_die(arguments, when)
    assert [p.rpartition(".")[2] for p in entries(prepared)] == ["new"]
    data = datasets.load(**arguments, in_memory=False)
    assert_same(data, datasets.load(**arguments, in_memory=True))
    (folder,) = entries(prepared)
    assert not folder.endswith(".new")


def test_only_one_of_two_prepares(tmp_path, monkeypatch, capsys):
    arguments = SOURCES["compressed"](tmp_path)
    write, is_waiting, found = storage._write, threading.Event(), []
    say = print

    def wait_for_the_other(*args):
        thread.start()
        assert is_waiting.wait(60)
        write(*args)

    def listen(text, **options):
        if "waiting" in text:
            is_waiting.set()
        say(text, **options)

    def load():
        found.append(datasets.load(**arguments, in_memory=False))

    thread = threading.Thread(target=load)
    monkeypatch.setattr(storage, "_write", wait_for_the_other)
    monkeypatch.setattr(storage, "print", listen, raising=False)
    load()
    thread.join()
    assert capsys.readouterr().out.count("Preparing") == 1
    assert found[0].fingerprint() == found[1].fingerprint()


def test_a_full_disk_is_named_in_one_line(tmp_path, monkeypatch, prepared):
    arguments = SOURCES["compressed"](tmp_path)

    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(disk_arrays, "statistics_of", fail)
        with pytest.raises(UserError, match=f"No space .*{cache.VARIABLE}"):
            datasets.load(**arguments, in_memory=False)
    usage = cache.shutil.disk_usage(tmp_path)._replace(free=999)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=f"free disk space.*{cache.VARIABLE}"):
        datasets.load(**arguments, in_memory=False)
    assert entries(prepared) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, prepared):
    prepared.write_text("in the way")
    with pytest.raises(UserError, match=cache.VARIABLE) as info:
        datasets.load(**save_npy(tmp_path), in_memory=False)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.full((20, 4, 4), 2.5)}, "got values from 2.5"),
        ({"image": np.full((20, 4, 4), 99, np.uint16)}, "white_level=98"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_left(
    tmp_path, prepared, arrays, message
):
    np.savez(tmp_path / "x.npz", **arrays)
    level = 98 if arrays["image"].dtype == np.uint16 else None
    with pytest.raises(UserError, match=message):
        datasets.load(
            str(tmp_path / "x.npz"), in_memory=False, white_level=level
        )
    assert entries(prepared) == []


def test_pixels_between_the_levels_are_found(tmp_path):
    levels = bytes_of() / np.float32(255)
    arguments = save_npy(tmp_path, levels)
    datasets.load(**arguments, in_memory=False).check_levels()
    levels[7, 2, 2] = 0.5
    data = datasets.load(**save_npy(tmp_path, levels), in_memory=False)
    with pytest.raises(UserError, match=r"pixels such as 0\.5, not"):
        data.check_levels()


def test_the_place_is_that_of_the_environment_or_the_home(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(cache.folder()) == "/x/keras_genmodels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == cache.pathlib.Path.home().joinpath(
        ".cache", "keras_genmodels"
    )


def test_an_unreadable_state_is_prepared_again(tmp_path, prepared):
    arguments = save_npy(tmp_path)
    datasets.load(**arguments, in_memory=False)
    (folder,) = entries(prepared)
    state = prepared / folder / "state.json"
    assert json.loads(state.read_text())["source"]["image_size"] is None
    state.write_text("{")
    assert_same(
        datasets.load(**arguments, in_memory=False),
        datasets.load(**arguments, in_memory=True),
    )


# What happens to files of a prepared folder: a function of the content, or
# None for a file that is missing.
DAMAGES = [
    ("images.npy", lambda content: content[:-5]),
    ("images.npy", lambda content: content.replace(b"(40, ", b"(39, ")),
    ("statistics.npy", lambda content: b""),
    ("labels.npy", None),
    ("splits.json", lambda content: content[:-5]),
]


def damage(path, change):
    content = path.read_bytes()
    path.unlink()
    if change:
        assert change(content) != content
        path.write_bytes(change(content))


def test_what_is_damaged_is_prepared_anew(tmp_path, prepared, capsys):
    arguments = SOURCES["compressed"](tmp_path)
    before = datasets.load(**arguments, in_memory=False).fingerprint()
    (folder,) = entries(prepared)
    for name, change in DAMAGES:
        damage(prepared / folder / name, change)
        capsys.readouterr()
        data = datasets.load(**arguments, in_memory=False)
        damaged, anew = capsys.readouterr().out.splitlines()
        assert f"{folder} is damaged" in damaged and "once" in anew
        assert data.fingerprint() == before
    datasets.load(**arguments, in_memory=False)
    assert capsys.readouterr().out == ""
