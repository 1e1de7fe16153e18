"""Versions appear as a whole or not at all, whoever else exports."""

import os
import signal
import threading
import time

import psutil
import pytest
import tensorflow as tf
from google.protobuf import text_format
from support.app_runs import unfinished
from support.exported_models import make
from tensorflow_serving.config import model_server_config_pb2

from keras_genmodels.core import files
from keras_genmodels.export import export, serving_config, signatures, versions


def test_two_exports_at_once_get_two_versions(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "x").write_text("")
    (tmp_path / "08").write_text("")
    barrier = threading.Barrier(8)
    taken = []

    def write(number):
        with versions.writing_version(tmp_path) as writing:
            (writing.path / "saved_model.pb").write_text(str(number))
            # All rename at the same time.
            barrier.wait()
        taken.append((number, writing.version))

    threads = [threading.Thread(target=write, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {version.name for _, version in taken} == {*map(str, range(9, 17))}
    for number, version in taken:
        assert (version / "saved_model.pb").read_text() == str(number)
    assert not unfinished(tmp_path)


def test_exports_at_once_list_all_names(tmp_path):
    def add(name):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "saved_model.pb").write_text("")
        serving_config.write_models_config(tmp_path, "/models")

    threads = [
        threading.Thread(target=add, args=[f"model{i}"]) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((tmp_path / "models.config").read_text(), config)
    names = [entry.name for entry in config.model_config_list.config]
    assert sorted(names) == sorted(f"model{i}" for i in range(20))


def test_an_export_in_another_container_is_left_alone(tmp_path, monkeypatch):
    # The process ids of a container mean nothing in another one.
    monkeypatch.setattr(psutil, "pid_exists", lambda number: False)
    folder = tmp_path / "vae"
    with versions.writing_version(folder) as first:
        with versions.writing_version(folder) as second:
            pass
        (first.path / "saved_model.pb").write_text("")
    assert (first.version, second.version) == (folder / "2", folder / "1")
    assert not unfinished(tmp_path)


def test_training_in_the_same_folder_does_not_block_an_export(tmp_path):
    with files.locked(tmp_path / ".lock"):
        writing = threading.Thread(
            target=serving_config.write_models_config,
            args=(tmp_path, "/models"),
            daemon=True,
        )
        writing.start()
        writing.join(30)
        assert not writing.is_alive()


def write_and_stall(folder, pipe):
    def stall(path):
        os.write(pipe, b"w")
        time.sleep(600)

    versions._sync_below = stall
    with versions.writing_version(folder) as writing:
        (writing.path / "saved_model.pb").write_text("complete")


def test_a_killed_export_leaves_nothing_to_serve(tmp_path, monkeypatch):
    folder = tmp_path / "vae"
    written, pipe = os.pipe()
    process = os.fork()
    if not process:
        try:
            write_and_stall(folder, pipe)
        finally:
            os._exit(1)
    os.close(pipe)
    assert os.read(written, 1) == b"w"
    os.kill(process, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
    os.close(written)
    assert versions.versions_in(folder) == []
    assert unfinished(tmp_path)
    # The next export removes it.
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    version = export(make("rank"), tmp_path, "vae", warmup=False)
    assert version == folder / "1"
    assert not unfinished(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "some/file"),
        tf.errors.ResourceExhaustedError(
            None, None, "some/file; No space left on device"
        ),
    ],
)
def test_a_full_disk_leaves_the_old_version(tmp_path, error):
    with versions.writing_version(tmp_path / "vae") as writing:
        (writing.path / "saved_model.pb").write_text("old")
    with (
        pytest.raises(OSError, match="older versions are as they were") as full,
        versions.writing_version(tmp_path / "vae") as writing,
    ):
        (writing.path / "saved_model.pb").write_text("ne")
        raise error
    assert full.value.errno == 28
    assert full.value.filename == str(tmp_path / "vae")
    ((number, path),) = versions.versions_in(tmp_path / "vae")
    assert number == 1
    assert (path / "saved_model.pb").read_text() == "old"
    assert not unfinished(tmp_path)


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="shapes"),
        versions.writing_version(tmp_path / "vae"),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")
    assert not unfinished(tmp_path)
