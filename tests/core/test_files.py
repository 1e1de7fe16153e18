"""Files appear whole or not at all; a folder has one worker."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "x.txt"
    with files.replacing(path) as beside:
        assert beside.name == "x.txt"
        beside.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as beside:
        beside.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    with files.replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"


def test_json_comes_back(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
    assert files.read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"x\.json is not JSON .*delete it"):
        files.read_json(tmp_path / "x.json")


def test_json_has_no_number_that_is_not_finite(tmp_path):
    found = {"a": [np.float64("nan"), (1, -np.inf)], "b": {"c": np.inf}}
    files.write_json(tmp_path / "x.json", found)
    assert files.read_json(tmp_path / "x.json") == {
        "a": [None, [1, None]],
        "b": {"c": None},
    }


def test_arrays_come_back(tmp_path):
    files.write_arrays(tmp_path / "x.npz", a=np.arange(3), b=np.eye(2))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["a"], np.arange(3))
        np.testing.assert_array_equal(arrays["b"], np.eye(2))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("text", "no array")
    arrays, found = files.read_arrays(tmp_path / "x.npz", "b", "c", "text")
    assert {*arrays} == {"b", "text"}
    np.testing.assert_array_equal(arrays["b"], np.eye(2))
    assert arrays["text"].ndim == 0
    assert found == ["a", "b", "text"]


def test_what_is_no_archive_is_told(tmp_path):
    np.savez(tmp_path / "plain.npz", a=np.arange(9))
    plain = (tmp_path / "plain.npz").read_bytes()
    # Its two headers tell how it is compressed: not at all, by number 0.
    at = [plain.index(b"PK\1\2") + 10, plain.index(b"PK\3\4") + 8]
    unknown = bytearray(plain)
    unknown[at[0]] = unknown[at[1]] = 99
    for name, content in (
        ("cut", plain[:9]),
        ("empty", b""),
        ("unknown", unknown),
    ):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.npz cannot be read"):
            files.read_arrays(path, "a")
    np.savez(tmp_path / "objects.npz", a=np.array([{}]), b=np.eye(2))
    assert {*files.read_arrays(tmp_path / "objects.npz", "b")[0]} == {"b"}
    with pytest.raises(UserError, match=r"cannot be read .*allow_pickle"):
        files.read_arrays(tmp_path / "objects.npz", "a")
    with pytest.raises(UserError, match=r"there is no file .*none\.npz"):
        files.read_arrays(tmp_path / "none.npz", "a")


_HOLD = """
import sys
from keras_genmodels.core import files
with files.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(UserError, match="another process is at work"),
        files.locked(tmp_path),
    ):
        pytest.fail("two processes held the lock")
    holder.kill()
    holder.communicate()
    with files.locked(tmp_path):
        pass


_LEAVE = """
import os, sys
from keras_genmodels.core import files
with files.replacing(sys.argv[1]) as beside:
    beside.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_kill_left_half_written_goes_with_the_next_write(tmp_path):
    path = tmp_path / "x.txt"
    subprocess.run([sys.executable, "-c", _LEAVE, path], stderr=-3)
    assert len(list(tmp_path.iterdir())) == 1
    with files.replacing(tmp_path / "other.txt") as others:
        others.write_text("of a living process")
        with files.replacing(path) as beside:
            beside.write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.txt", "x.txt"]
