"""What `export` refuses, and what it tells."""

import sys

import keras
import numpy as np
import pytest
from support.app_runs import unfinished
from support.exported_models import learned, make

import keras_genmodels as kgm
from keras_genmodels.export import (
    export,
    read_description,
    signatures,
    versions,
    warmup,
)


@pytest.mark.parametrize(
    "name",
    ["", "3", "a/b", "../a", ".a", "-a", "a b", "a\n", "ä", "a" * 101, 3],
)
def test_bad_names_are_refused(name, tmp_path):
    with pytest.raises(kgm.UserError, match="name must be"):
        export(make("rank"), tmp_path, name)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("vae", {"max_steps": 3}, "max_steps does not go with a VAE"),
        ("rank", {"num_samples": 3}, "num_samples does not go with a Linear"),
        ("vae", {"num_samples": 0}, "num_samples must be an int >= 1"),
        ("vae", {"max_rows": 0}, "max_rows must be an int >= 1"),
        ("rank", {"step_size": 2.0}, r"step_size must be in \(0, 2\)"),
        ("rank", {"tolerance": -1.0}, "tolerance must be >= 0"),
        ("rank", {"tolerance": np.inf}, "tolerance must be finite"),
        ("rank", {"stochasticity": "much"}, "stochasticity must be in"),
        ("rank", {"max_steps": 0}, "max_steps must be an int >= 1"),
        ("rank", {"stochasticity": 1.0}, r"stochasticity must be in \[0, 1\)"),
        ("one_level", {"stochasticity": 0.5}, "a single noise level"),
        ("vae", {"max_rows": 2**31}, "max_rows must be at most 2147483647"),
        ("vae", {"num_samples": 10**7}, "num_samples must be at most"),
        ("rank", {"num_steps": 10**10}, "num_steps must be at most 100000"),
        ("rank", {"max_steps": 10**10}, "max_steps must be at most"),
        ("vae", {"jit_compile": "no"}, "jit_compile must be a bool, got 'no'"),
        ("rank", {"tolerance": [1e-3]}, "tolerance must be a number"),
        ("vae", {"metrics": {"a": np.float32(1)}}, "must be what JSON holds"),
        ("vae", {"metrics": [1]}, "metrics must be a dict"),
        ("vae", {"serving_root": "models"}, "must be an absolute path"),
        ("vae", {"serving_root": "/"}, "must be an absolute path below /"),
    ],
)
def test_bad_settings_are_refused(kind, given, told, tmp_path):
    with pytest.raises(kgm.UserError, match=told):
        export(make(kind), tmp_path, "name", **given)
    assert [*tmp_path.iterdir()] == []


def test_a_batch_of_the_server_is_never_too_large(tmp_path):
    with pytest.raises(kgm.UserError, match="max_rows must be at least 32"):
        export(make("rank"), tmp_path, "name", max_rows=31)
    assert versions.versions_in(tmp_path / "name") == []


def test_models_that_are_none_are_refused(tmp_path):
    with pytest.raises(kgm.UserError, match="export takes a VAE"):
        export(keras.Sequential(), tmp_path, "name")
    with pytest.raises(kgm.UserError, match=r"adapt\(data\)"):
        export(learned(), tmp_path, "name")
    with pytest.raises(kgm.UserError, match=r"adapt\(data\) first"):
        export(kgm.EmpiricalDenoiser(), tmp_path, "name")
    broken = make("vae")
    broken.trainable_weights[0].assign(broken.trainable_weights[0] * np.nan)
    with pytest.raises(kgm.UserError, match="is not finite: train again"):
        export(broken, tmp_path, "name")


def test_without_the_extra_it_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(
        kgm.UserError,
        match=r"install the extra `serving` \(pip install .*--nowarmup",
    ):
        export(make("rank"), tmp_path, "name")
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    assert export(make("rank"), tmp_path, "name", warmup=False)
    (tmp_path / "records").write_text("")
    with pytest.raises(kgm.UserError, match=r"install [^,]*$"):
        warmup.read(tmp_path / "records")


def test_a_version_that_no_config_lists_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    # As on a full disk, it can't be replaced.
    (tmp_path / "models.config").mkdir()
    with pytest.raises(kgm.UserError) as told:
        export(make("rank"), tmp_path, "linear", warmup=False)
    version = tmp_path / "linear" / "1"
    assert str(told.value).startswith(
        f"exported to {version}, but {tmp_path}/models.config could not be "
        "written (Is a directory); if it does not list linear"
    )
    assert read_description(version)["name"] == "linear"
    assert not unfinished(tmp_path)
