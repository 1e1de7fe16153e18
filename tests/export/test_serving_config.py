"""What an export leaves beside the model for servers and clients."""

import csv
import json
import shlex

import numpy as np
import pytest
from google.protobuf import text_format
from support.app_runs import unfinished
from support.exported_models import WALK, make
from tensorflow_serving.config import model_server_config_pb2

import keras_genmodels as kgm
from keras_genmodels.export import (
    export,
    read_description,
    serving_config,
    signatures,
    summary,
    versions,
    warmup,
)


def test_a_server_finds_all_models(exports):
    model, version = exports["rank"]
    export_dir = exports.folder
    assert version == export_dir / "rank" / "1"
    # Of other exports.
    for name in ("vae", "range"):
        (export_dir / name / "7").mkdir(parents=True)
        (export_dir / name / "7" / "saved_model.pb").write_text("")
    # Neither what holds no version nor what is none.
    (export_dir / "empty").mkdir()
    (export_dir / "other" / "1").mkdir(parents=True)
    (export_dir / "vae" / "notes").mkdir()
    again = export(
        model, export_dir, "rank", warmup=False, serving_root="/models/", **WALK
    )
    assert again == export_dir / "rank" / "2"
    assert not (again / "assets.extra" / warmup.FILE).exists()
    text = (export_dir / "models.config").read_text()
    assert text.startswith("# Each export writes this anew")
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(text, config)
    found = {c.name: c for c in config.model_config_list.config}
    assert found.keys() == {"rank", "vae", "range"}
    assert len(config.model_config_list.config) == 3
    for name, entry in found.items():
        assert entry.base_path == f"/models/{name}"
        assert entry.model_platform == "tensorflow"


def parsed_batching(path):
    """Parses it as BatchingParameters, strictly: nothing may be left over."""
    wrapped = ("max_batch_size", "batch_timeout_micros",
               "max_enqueued_batches", "num_batch_threads")  # fmt: skip
    found = {"allowed_batch_sizes": []}
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "allowed_batch_sizes:":
            found["allowed_batch_sizes"].append(int(words[1]))
            assert len(words) == 2
        else:
            name, opening, value, number, closing = words
            assert (opening, value, closing) == ("{", "value:", "}")
            assert name in wrapped
            assert name not in found
            found[name] = int(number)
    return found


def test_the_batching_files(exports):
    version = exports["rank"][1]
    common = parsed_batching(exports.folder / "batching.config")
    own = parsed_batching(version / "batching_params.pbtxt")
    assert own == {k: v for k, v in common.items() if k != "num_batch_threads"}
    assert common["allowed_batch_sizes"] == [1, 8, 32]
    assert common["max_batch_size"] == 32


METRICS = {"dataset": "digits", "label_names": ["a", "b"], "best": np.inf}
TUNED = """\
max_batch_size { value: 5 }  # mine
num_batch_threads {
  value: 2
}
batch_timeout_micros { value: 7 }
thread_pool_name { value: "mine" }
allowed_batch_sizes: 2
allowed_batch_sizes: 5
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A version for a batching file of the user's."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "batching.config").write_text(TUNED)
    return export(
        make("wiener"), folder, "wiener", metrics=METRICS, tolerance=0.5, **WALK
    )


def test_the_users_batching_file_is_kept(tuned):
    assert (tuned.parents[1] / "batching.config").read_text() == TUNED
    # All but what is of all models together.
    assert parsed_batching(tuned / "batching_params.pbtxt") == {
        "max_batch_size": 5,
        "batch_timeout_micros": 7,
        "allowed_batch_sizes": [2, 5],
    }
    records = warmup.read(tuned / "assets.extra" / warmup.FILE)
    assert {len(x["image"]) for _, x in records if "image" in x} == {2, 5}
    assert len(records) == 2 * 6


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max_batch_size { value: 5 }",
        "max_batch_size { value: 5 }\nallowed_batch_sizes: 4",
        "max_batch_size { value: 5 }\n"
        "allowed_batch_sizes: 5\nallowed_batch_sizes: 4",
    ],
)
def test_a_bad_batching_file_is_refused(text, tmp_path):
    (tmp_path / "batching.config").write_text(text)
    with pytest.raises(kgm.UserError, match="allowed_batch_sizes"):
        export(make("rank"), tmp_path, "linear", **WALK)
    assert versions.versions_in(tmp_path / "linear") == []
    assert not unfinished(tmp_path)


def test_what_model_json_tells(tuned):
    told = json.loads(
        (tuned / "assets.extra" / "model.json").read_text(),
        parse_constant=pytest.fail,
    )
    described = told.pop("signatures")
    low, high = told.pop("sigma_range")
    assert 0 < low < high
    assert told == {
        "name": "wiener",
        "kind": "LinearDenoiser",
        "package_version": kgm.__version__,
        "warmup": True,
        "image_shape": [8, 8, 1],
        "dataset": "digits",
        "label_names": ["a", "b"],
        "num_labels": None,
        "no_label": None,
        "known": False,
        "pixels": "finite",
        "metrics": {**METRICS, "best": None},
        "settings": {
            "max_batch_size": 5,
            "max_rows": 1024,
            "jit_compile": False,
            "step_size": 0.1,
            "max_steps": 12,
            "tolerance": 0.5,
            "num_steps": 6,
            "stochasticity": 0.0,
        },
    }
    image = {"dtype": "float32", "shape": [None, 8, 8, 1]}
    row = {"dtype": "float32", "shape": [None]}
    assert described["restore"] == {
        "inputs": {"image": image, "sigma": row},
        "outputs": {
            "image": image,
            "num_steps": {"dtype": "int32", "shape": [None]},
            "residual": row,
        },
    }


def test_more_records_than_a_server_takes_are_refused(exports, tmp_path):
    description = read_description(exports["rank"][1])
    with pytest.raises(kgm.UserError, match="list fewer allowed_batch_sizes"):
        warmup.write(tmp_path / "x", description, range(1, 168))
    assert [*tmp_path.iterdir()] == []


def test_labels_in_model_json(tmp_path, monkeypatch):
    # They are told by the model, not by its signatures.
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    told, of_completion = (
        read_description(export(make(kind), tmp_path, kind, warmup=False))
        for kind in ("labels", "completion")
    )
    assert (told["num_labels"], told["no_label"]) == (3, 3)
    assert told["pixels"] == "in [0, 1]"
    assert of_completion["known"] is True


def test_xla_needs_a_flag_of_the_server():
    for compiled in (True, False):
        lines = serving_config.start_lines("/here", "/there", compiled)
        for line in lines.values():
            assert ("--xla_cpu_compilation_enabled" in line) == compiled


def mount_of(line):
    words = shlex.split(line)
    (mount,) = csv.reader([words[words.index("--mount") + 1]])
    return mount


def test_any_path_is_served(tmp_path):
    here = '/a, "b"/c'
    for root in ("/models", here):
        lines = serving_config.start_lines(here, root)
        assert mount_of(lines["container"]) == [
            *("type=bind", f"source={here}", f"target={root}", "readonly")
        ]
        for line in lines.values():
            assert f"--model_config_file={root}/models.config" in shlex.split(
                line
            )


def add_description(version, description, **settings):
    settings = {**description["settings"], **settings}
    path = version / "assets.extra" / "model.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**description, "settings": settings}))
    return version


def test_the_lines_are_for_all_models_that_are_served(exports, tmp_path):
    description = read_description(exports["rank"][1])
    folder = tmp_path / "my models"
    version = add_description(folder / "plain" / "1", description)
    # From elsewhere.
    (folder / "other" / "1").mkdir(parents=True)
    add_description(folder / "fast" / "9", description, jit_compile=True)
    said = summary.summary(version)
    assert said.count("--xla_cpu_compilation_enabled") == 2
    told = said.partition("Check it: ")[2]
    assert shlex.split(told)[-1] == f"--check={version}"
    add_description(folder / "fast" / "10", description)
    assert "--xla" not in summary.summary(version)
