"""The files that an export writes for servers and clients."""

import csv
import json
import re
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
    server_messages,
    serving_config,
    signatures,
    summary,
    versions,
    warmup,
)
from keras_genmodels.export.values import Interval


def add_version(folder, number="1"):
    (folder / number).mkdir(parents=True)
    (folder / number / "saved_model.pb").write_text("")


def test_models_config_lists_all_models(tmp_path):
    for name in ("rank", "vae", 'a "b"'):
        add_version(tmp_path / name)
    add_version(tmp_path / "rank", "7")
    # Neither a model without versions nor a version without a model.
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "1").mkdir(parents=True)
    (tmp_path / "vae" / "notes").mkdir()
    serving_config.write_models_config(tmp_path, "/models")
    text = (tmp_path / "models.config").read_text()
    assert text.startswith("# Each export rewrites this file")
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(text, config)
    found = {c.name: c for c in config.model_config_list.config}
    assert found.keys() == {"rank", "vae", 'a "b"'}
    assert len(config.model_config_list.config) == 3
    for name, entry in found.items():
        assert entry.base_path == f"/models/{name}"
        assert entry.model_platform == "tensorflow"


def test_an_export_adds_the_next_version(tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    add_version(tmp_path / "rank")
    version = export(
        make("rank"), tmp_path, "rank", warmup=False, serving_root="/models/"
    )
    assert version == tmp_path / "rank" / "2"
    assert not (version / "assets.extra" / warmup.FILE).exists()
    assert '"/models/rank"' in (tmp_path / "models.config").read_text()


OPTION = re.compile(r"(\w+)(?:\s*\{\s*value:\s*(\w+)\s*\}|:\s*(\w+))\s*")


def parsed_batching(path):
    """Parses the fields of BatchingParameters; nothing may be left over."""
    text = path.read_text()
    found = {"allowed_batch_sizes": []}
    for name, wrapped, plain in OPTION.findall(text):
        if name == "allowed_batch_sizes":
            found[name].append(int(plain))
        else:
            assert name not in found
            found[name] = int(wrapped)
    assert OPTION.sub("", text) == ""
    return found


def test_the_default_batching_options(exports):
    version = exports["wiener"][1]
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
    """A version exported with the user's own batching.config."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "batching.config").write_text(TUNED)
    return export(
        make("wiener"), folder, "wiener", metrics=METRICS, tolerance=0.5, **WALK
    )


@pytest.mark.slow
def test_the_batching_file_of_the_user_is_kept(tuned):
    assert (tuned.parents[1] / "batching.config").read_text() == TUNED
    # All options but those that all models share.
    assert parsed_batching(tuned / "batching_params.pbtxt") == {
        "max_batch_size": 5,
        "batch_timeout_micros": 7,
        "allowed_batch_sizes": [2, 5],
    }
    records = warmup.read(tuned / "assets.extra" / warmup.FILE)
    assert {len(x["image"]) for _, x in records if "image" in x} == {2, 5}
    assert len(records) == 2 * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must list allowed_batch_sizes"),
        ("max_batch_size { value: 5 }", "must list allowed_batch_sizes"),
        (
            "max_batch_size { value: 5 }\nallowed_batch_sizes: 4",
            "must list allowed_batch_sizes",
        ),
        (
            "max_batch_size { value: 5 }\n"
            "allowed_batch_sizes: 5\nallowed_batch_sizes: 4",
            "must list allowed_batch_sizes",
        ),
        ("max_batch_size { value: 5 }\nmax_size: 4", "2:1.*max_size"),
        ("allowed_batch_sizes: many", "1:22.*many"),
    ],
)
def test_a_bad_batching_file_is_refused(text, message, tmp_path):
    (tmp_path / "batching.config").write_text(text)
    with pytest.raises(kgm.UserError, match=message):
        export(make("rank"), tmp_path, "linear", **WALK)
    assert versions.versions_in(tmp_path / "linear") == []
    assert not unfinished(tmp_path)


def test_the_batching_fields_are_those_of_the_server():
    """Every option of a batching file in TensorFlow Serving's documents."""
    text = (
        "max_batch_size { value: 4 } batch_timeout_micros { value: 1 } "
        "max_enqueued_batches { value: 9 } num_batch_threads { value: 2 } "
        'thread_pool_name { value: "a" } allowed_batch_sizes: 4 '
        "pad_variable_length_inputs: true "
        "enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 2 }"
    )
    parsed = text_format.Parse(text, server_messages.BatchingParameters())
    words = text_format.MessageToString(parsed, as_one_line=True)
    assert sorted(words.split()) == sorted(text.split())


def test_the_content_of_model_json(tuned):
    content = json.loads(
        (tuned / "assets.extra" / "model.json").read_text(),
        parse_constant=pytest.fail,
    )
    described = content.pop("signatures")
    low, high = content.pop("sigma_range")
    assert 0 < low < high
    finite = {"code": "interval", "low": None, "high": None, "bounds": "[]"}
    assert content == {
        "format": 2,
        "name": "wiener",
        "kind": "LinearDenoiser",
        "package_version": kgm.__version__,
        "warmup": True,
        "image_shape": [8, 8, 1],
        "dataset": "digits",
        "label_names": ["a", "b"],
        "num_classes": None,
        "no_label": None,
        "has_observed_mask": False,
        "pixels": finite,
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
            "solver": "dpmpp_2m",
            "schedule": "geometric",
        },
    }
    image = {"dtype": "float32", "shape": [None, 8, 8, 1]}
    row = {"dtype": "float32", "shape": [None]}
    noisy = {"code": "noisy_pixels", "highest": high, "has_sigma": True}
    up_to = {**finite, "low": 0, "high": 10 * high, "bounds": "(]"}
    levels = {**finite, "code": "log_interval", "low": low, "high": high}
    assert described["restore"] == {
        "inputs": {
            "image": {**image, "values": noisy, "example": noisy},
            "sigma": {**row, "values": up_to, "example": levels},
        },
        "outputs": {
            "image": image,
            "num_steps": {"dtype": "int32", "shape": [None]},
            "residual": row,
        },
    }


def test_more_records_than_a_server_takes_are_refused(exports, tmp_path):
    description = read_description(exports["wiener"][1])
    with pytest.raises(kgm.UserError, match="list fewer allowed_batch_sizes"):
        warmup.write(tmp_path / "x", description, range(1, 168))
    assert [*tmp_path.iterdir()] == []


def test_labels_and_observed_pixels_in_model_json(tmp_path, monkeypatch):
    # The model describes them, not its signatures.
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    of_labels, of_completion = (
        read_description(export(make(kind), tmp_path, kind, warmup=False))
        for kind in ("labels", "completion")
    )
    assert (of_labels["num_classes"], of_labels["no_label"]) == (3, 3)
    assert of_labels["pixels"] == Interval(0, 1).to_json()
    assert of_completion["has_observed_mask"] is True


def test_models_with_xla_need_a_flag_of_the_server():
    for compiled in (True, False):
        lines = serving_config.start_commands("/here", "/there", compiled)
        for line in lines.values():
            assert ("--xla_cpu_compilation_enabled" in line) == compiled


def mount_of(line):
    words = shlex.split(line)
    (mount,) = csv.reader([words[words.index("--mount") + 1]])
    return mount


def test_paths_are_quoted(tmp_path):
    here = '/a, "b"/c'
    for root in ("/models", here):
        lines = serving_config.start_commands(here, root)
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


def test_the_commands_suit_all_models_of_the_folder(exports, tmp_path):
    description = read_description(exports["wiener"][1])
    folder = tmp_path / "my models"
    version = add_description(folder / "plain" / "1", description)
    # A model without model.json.
    (folder / "other" / "1").mkdir(parents=True)
    add_description(folder / "fast" / "9", description, jit_compile=True)
    text = summary.summary(version)
    assert text.count("--xla_cpu_compilation_enabled") == 2
    command = text.partition("Check it: ")[2]
    assert shlex.split(command)[-1] == f"--check={version}"
    add_description(folder / "fast" / "10", description)
    assert "--xla" not in summary.summary(version)
