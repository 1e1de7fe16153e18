"""Files are written atomically; a lock has one holder."""

import errno
import os
import signal
import threading
import time
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "x.txt"
    with files.replacing(path) as temporary:
        assert temporary.name == "x.txt"
        temporary.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_json_comes_back(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
    assert files.read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"x\.json is not JSON .*delete it"):
        files.read_json(tmp_path / "x.json")


def test_json_holds_none_for_numbers_that_are_not_finite(tmp_path):
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


def test_damaged_archives_are_refused(tmp_path):
    np.savez(tmp_path / "plain.npz", a=np.arange(9))
    plain = (tmp_path / "plain.npz").read_bytes()
    # Both headers have the compression method, 0 for none.
    at = [plain.index(b"PK\1\2") + 10, plain.index(b"PK\3\4") + 8]
    unknown = bytearray(plain)
    unknown[at[0]] = unknown[at[1]] = 99
    for name, content in (
        ("cut", plain[:9]),
        ("empty", b""),
        ("text", b"1,2,3\n"),
        ("unknown", unknown),
    ):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name}\.npz cannot be read"
        ) as raised:
            files.read_arrays(path, "a")
        assert "pickle" not in str(raised.value)
    np.savez(tmp_path / "objects.npz", a=np.array([{}]), b=np.eye(2))
    assert {*files.read_arrays(tmp_path / "objects.npz", "b")[0]} == {"b"}
    with pytest.raises(ValueError, match=r"cannot be read .*allow_pickle"):
        files.read_arrays(tmp_path / "objects.npz", "a")
    with pytest.raises(ValueError, match=r"there is no file .*none\.npz"):
        files.read_arrays(tmp_path / "none.npz", "a")


def in_a_child(function):
    """Starts a process of this one's memory, which ends without its exit code.

    Much faster than a new Python, which imports TensorFlow.
    """
    child = os.fork()
    if not child:
        try:
            function()
        finally:
            os._exit(1)
    return child


def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path):
    path = tmp_path / ".lock"
    is_held, held = os.pipe()

    def hold():
        with files.locked(path):
            os.write(held, b"1")
            time.sleep(600)

    child = in_a_child(hold)
    os.read(is_held, 1)
    with (
        pytest.raises(BlockingIOError, match="another process"),
        files.locked(path, wait=False),
    ):
        pytest.fail("two processes held the lock")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with files.locked(path, wait=False):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_a_lock_is_waited_for(tmp_path):
    path, order = tmp_path / ".lock", []

    def wait():
        with files.locked(path):
            order.append("waited")

    waiting = threading.Thread(target=wait)
    with files.locked(path):
        waiting.start()
        time.sleep(0.2)
        order.append("released")
    waiting.join(60)
    assert order == ["released", "waited"]


def test_files_of_a_killed_process_go_with_the_next_write(tmp_path):
    path = tmp_path / "x.txt"

    def leave():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_a_child(leave), 0)
    assert len(list(tmp_path.iterdir())) == 1
    with files.replacing(tmp_path / "other.txt") as others:
        others.write_text("of a running process")
        with files.replacing(path) as temporary:
            temporary.write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.txt", "x.txt"]


def test_a_write_leaves_those_of_other_machines_alone(tmp_path):
    theirs = tmp_path / f"{files.WRITING}999999999.00000000-x"
    theirs.mkdir()
    files.write_json(tmp_path / "own.json", {})
    assert theirs.exists()


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EDQUOT, "quota exceeded", "other"), errno.EDQUOT),
        (tf.errors.ResourceExhaustedError(None, None, ""), errno.ENOSPC),
        (tf.errors.OutOfRangeError(None, None, ""), errno.EFBIG),
        (tf.errors.PermissionDeniedError(None, None, ""), errno.EACCES),
    ],
)
def test_errors_of_the_disk_name_the_file_and_the_reason(
    tmp_path, error, number
):
    path = tmp_path / "x.txt"
    with pytest.raises(OSError) as info, files.replacing(path):
        raise error
    assert info.value.errno == number
    assert info.value.filename == str(path)
    assert os.strerror(number) in str(info.value)


def test_other_errors_are_not_taken_for_the_disk():
    error = tf.errors.InvalidArgumentError(None, None, "No space left")
    with (
        pytest.raises(tf.errors.InvalidArgumentError),
        files.disk_errors("x.txt"),
    ):
        raise error
