"""Backends of Keras other than TensorFlow are refused in one line."""

import os
import subprocess
import sys

import keras
import pytest
from support.app_runs import ROOT

from keras_genmodels import _backend


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ImportError, match="names jax: set KERAS_BACKEND"):
        _backend._check()


def last_lines(backend, *command):
    """Returns the standard error of a command under a backend, as lines."""
    completed = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert completed.returncode
    return completed.stderr.splitlines()


@pytest.mark.parametrize("backend", ["torch", "unknown"])
def test_importing_the_package_names_the_backend(backend):
    *_, last = last_lines(backend, "-c", "import keras_genmodels")
    assert last.startswith("ImportError: keras_genmodels requires the Tensor")
    assert backend in last


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "unknown"])
@pytest.mark.parametrize("app", ["train_vae", "train_dae", "restore"])
def test_an_app_names_the_backend_in_one_line(app, backend, tmp_path):
    arguments = [f"--workdir={tmp_path}/run"]
    if app == "restore":
        arguments += ["--input=test", "--sigma=0.1"]
    (line,) = last_lines(backend, "-m", f"apps.{app}", *arguments)
    assert line.startswith(f"{app}: keras_genmodels requires the TensorFlow")
    assert not (tmp_path / "run").exists()
