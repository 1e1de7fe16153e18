"""What `export` refuses."""

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
    ("kind", "given", "message"),
    [
        ("vae", {"max_steps": 3}, "max_steps is not a setting of a VAE"),
        (
            "rank",
            {"num_samples": 3},
            "num_samples is not a setting of a Linear",
        ),
        ("vae", {"steps": 3}, "steps is not a setting of a VAE"),
        ("vae", {"num_samples": 0}, "num_samples must be an int in"),
        ("vae", {"num_samples": True}, "num_samples must be an int in"),
        ("vae", {"num_samples": 10**7}, "num_samples must be .*1000000"),
        ("vae", {"max_rows": 0}, "max_rows must be an int in"),
        ("vae", {"max_rows": 2**31}, "max_rows must be .*2147483647"),
        ("rank", {"step_size": 2.0}, r"step_size must be in \(0, 2\)"),
        ("rank", {"tolerance": -1.0}, "tolerance must be >= 0"),
        ("rank", {"tolerance": np.inf}, "tolerance must be .*finite"),
        ("rank", {"tolerance": [1e-3]}, "tolerance must be"),
        ("rank", {"stochasticity": "much"}, "stochasticity must be in"),
        ("rank", {"stochasticity": 1.0}, r"stochasticity must be in \[0, 1\)"),
        ("one_level", {"stochasticity": 0.5}, "a single noise level"),
        ("one_level", {"solver": "euler"}, "a single noise level.*no solver"),
        ("wiener", {"solver": "rk4"}, "solver must be one of dpmpp_2m, heun"),
        ("wiener", {"stochasticity": 0.5}, "requires solver heun or euler"),
        ("wiener", {"solver": "heun", "num_steps": 6}, "must be odd for heun"),
        ("rank", {"max_steps": 0}, "max_steps must be an int in"),
        ("rank", {"max_steps": 10**10}, "max_steps must be .*1000000"),
        ("rank", {"num_steps": 10**10}, "num_steps must be .*100000"),
        ("vae", {"jit_compile": "no"}, "jit_compile must be True .*got 'no'"),
        ("vae", {"metrics": {"a": np.float32(1)}}, "must be valid JSON"),
        ("vae", {"metrics": [1]}, "metrics must be a dict"),
        ("vae", {"serving_root": "models"}, "must be an absolute path"),
        ("vae", {"serving_root": "/"}, "must be an absolute path other than /"),
    ],
)
def test_bad_settings_are_refused(kind, given, message, tmp_path):
    with pytest.raises(kgm.UserError, match=message):
        export(make(kind), tmp_path, "name", **given)
    assert [*tmp_path.iterdir()] == []


def test_max_rows_below_the_batch_size_is_refused(tmp_path):
    with pytest.raises(kgm.UserError, match="max_rows must be at least 32"):
        export(make("rank"), tmp_path, "name", max_rows=31)
    assert versions.versions_in(tmp_path / "name") == []


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(kgm.UserError, match="export needs a latent"):
        export(keras.Sequential(), tmp_path, "name")
    with pytest.raises(kgm.UserError, match=r"adapt\(data\)"):
        export(learned(), tmp_path, "name")
    with pytest.raises(kgm.UserError, match=r"adapt\(data\) first"):
        export(kgm.EmpiricalDenoiser(), tmp_path, "name")
    broken = make("vae")
    broken.trainable_weights[0].assign(broken.trainable_weights[0] * np.nan)
    with pytest.raises(kgm.UserError, match="is not finite: train again"):
        export(broken, tmp_path, "name")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(
        kgm.UserError,
        match=r"install the extra `serving` \(pip install .*warmup=False",
    ):
        export(make("rank"), tmp_path, "name")
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    assert export(make("rank"), tmp_path, "name", warmup=False)
    (tmp_path / "records").write_text("")
    with pytest.raises(kgm.UserError, match=r"install [^,]*$"):
        warmup.read(tmp_path / "records")


def test_a_version_without_an_entry_in_models_config_is_named(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    # It cannot be replaced, as on a full disk.
    (tmp_path / "models.config").mkdir()
    with pytest.raises(kgm.UserError) as error:
        export(make("rank"), tmp_path, "linear", warmup=False)
    version = tmp_path / "linear" / "1"
    assert str(error.value).startswith(
        f"exported to {version}, but {tmp_path}/models.config could not be "
        "written (Is a directory); if it does not list linear"
    )
    assert read_description(version)["name"] == "linear"
    assert not unfinished(tmp_path)
