"""The export app as a user runs it."""

import json
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest
from google.protobuf import text_format
from support.app_runs import (
    ROOT,
    Refused,
    assert_refused,
    check_refusal,
    contents,
    run,
    run_each_without_tensorflow,
    run_without_tensorflow,
    succeed,
    unfinished,
)
from support.exported_models import DATA, make
from tensorflow_serving.config import model_server_config_pb2

import keras_genmodels as kgm
from keras_genmodels.export import export
from keras_genmodels.export.serving_config import read_batching
from keras_genmodels.runs.workdir import Workdir

METRICS = {"dataset": "digits", "label_names": ["a"], "test": {"elbo": -1.0}}


@pytest.fixture(scope="module")
def trained(folder):
    """Finished runs by kind, of models that were not trained."""
    runs = {}
    for kind in ("vae", "rank"):
        runs[kind] = Workdir(folder / kind)
        runs[kind].path.mkdir()
        make(kind).save(runs[kind].model)
        # Clients do not get the evaluations.
        seconds = {"seconds": 1}
        content = {**METRICS, "evaluation": seconds, "pictures": seconds}
        runs[kind].metrics.write_text(json.dumps(content))
    return runs


@pytest.fixture(scope="module")
def start_export(trained, launch):
    """Starts an export to a folder."""

    def start(target, *more):
        flags = (f"--workdir={trained['vae']}", f"--export_dir={target}")
        more = ("--name=digits", "--num_samples=20", *more)
        return launch("export", *flags, *more)

    return start


@pytest.fixture(scope="module")
def exported(folder, start_export):
    """The folder of an export, and what it printed."""
    target = folder / "models"
    return target, succeed(start_export(target).result())


def command(said, program):
    """Returns the words of the printed command."""
    (start,) = (i for i in range(len(said)) if said.startswith(program, i))
    text = said[start:].replace("\\\n", "")
    return shlex.split(text.partition("\n")[0])


def assert_commands(said, target, root):
    """Checks the commands that serve a folder, seen by the server as root."""
    options = [
        f"--model_config_file={root}/models.config",
        "--enable_batching",
        f"--batching_parameters_file={root}/batching.config",
        "--enable_per_model_batching_parameters",
    ]
    assert command(said, "docker run") == [
        *("docker", "run", "--rm"),
        *("-p", "127.0.0.1:8500:8500", "-p", "127.0.0.1:8501:8501"),
        "--mount",
        f"type=bind,source={target},target={root},readonly",
        "tensorflow/serving",
        *options,
    ]
    assert command(said, "tensorflow_model_server") == [
        "tensorflow_model_server",
        "--port=8500",
        "--rest_api_port=8501",
        *options,
    ]


@pytest.mark.slow
def test_two_exports_of_one_name_at_once(start_export, tmp_path):
    target = tmp_path / "models"
    started = [
        start_export(target, *more)
        for more in ((), ("--serving_root=/models",))
    ]
    said = [succeed(process.result()) for process in started]
    for text, root in zip(said, (target, "/models"), strict=True):
        assert_commands(text, target, root)
    assert f"binary where /models is {target}:" in said[1]
    versions = {path.name for path in (target / "digits").iterdir()}
    assert versions == {"1", "2"}
    paths = [text.splitlines()[0].rpartition(" ")[2] for text in said]
    assert {*paths} == {str(target / "digits" / n) for n in ("1", "2")}
    assert not unfinished(target)
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((target / "models.config").read_text(), config)
    (entry,) = config.model_config_list.config
    assert entry.name == "digits"
    assert entry.base_path in (f"{target}/digits", "/models/digits")


@pytest.mark.slow
def test_the_signatures_are_printed(exported):
    said = exported[1]
    for words in (
        "reconstruct        image float32 [batch, 8, 8, 1]",
        "(serving_default)",
        "seed int32 [batch, 2]",
        "log_likelihood float32 [batch]",
    ):
        assert words in said


def test_the_printed_commands_start_a_server(exported):
    target, said = exported
    assert_commands(said, target, target)
    assert (target / "batching.config").is_file()


def test_model_json_holds_the_metrics_of_the_run(exported):
    path = exported[0] / "digits" / "1" / "assets.extra" / "model.json"
    description = json.loads(path.read_text())
    assert description["metrics"] == METRICS
    assert description["dataset"] == "digits"
    assert description["label_names"] == ["a"]
    assert description["settings"]["num_samples"] == 20


@pytest.mark.slow
def test_the_check_prints_a_table(exported, trained):
    said = succeed(
        run(
            "export",
            f"--check={exported[0] / 'digits' / '1'}",
            f"--workdir={trained['vae']}",
        )
    )
    assert "18 warm-up records" in said
    assert said.count("\n") == 10
    assert said.endswith("No problems found.\n")


# A user's mistake ends in one line.


def a_full_disk(place, trained):
    flags = [f"--workdir={trained['rank']}", "--name=linear"]
    (place / "linear" / "1").mkdir(parents=True)
    # This file would fit.
    read_batching(place)
    return Refused(
        "export",
        [*flags, f"--export_dir={place}"],
        (
            "File too large",
            "older versions are as they were",
            place / "linear",
            "free disk space",
        ),
        file_limit=20_000,
    )


def flags_of_another_kind(place, trained):
    flags = [f"--workdir={trained['rank']}", "--name=linear"]
    return Refused(
        "export",
        [*flags, f"--export_dir={place}", "--num_samples=3"],
        ("num_samples is not a setting of a LinearDenoiser",),
    )


def another_model(place, trained):
    version = export(make("rank"), place, "linear", max_steps=5, num_steps=5)
    other = Workdir(place.with_name("other"))
    other.path.mkdir()
    model = kgm.LinearDenoiser(rank=5)
    model.adapt(DATA**2)
    model.save(other.model)
    return Refused(
        "export",
        [f"--check={version}", f"--workdir={other}"],
        ("differs by", "to eager", "more; export it again"),
    )


REFUSED = [a_full_disk, flags_of_another_kind, another_model]


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_ends_in_one_line(case, refusals):
    check_refusal(*refusals[case])


WRONG = [
    (["--name=a"], "--workdir is needed, or --check"),
    (["--workdir=a"], "--name is needed, or --check"),
    (
        ["--workdir=a", "--name=a", "--serving_root=models"],
        "--serving_root=models must be an absolute path",
    ),
    (
        ["--workdir=a", "--name=a", "--step_size=2"],
        "--step_size must be in (0, 2), got 2",
    ),
    (["--check=a", "--name=b"], "--name requires an export"),
    (["--check=a", "--nowarmup"], "--warmup requires an export"),
    (["--workdir=a", "--name=a", "--max_rows=0"], "max_rows"),
    (["--workdir=a", "--name=a", "--max_rows=3000000000"], "max_rows"),
    (["--workdir=a", "--name=a", "--num_steps=10000000000"], "num_steps"),
]


def test_wrong_flags_are_refused_without_tensorflow():
    runs = run_each_without_tensorflow("export", [flags for flags, _ in WRONG])
    for process, (_, message) in zip(runs, WRONG, strict=True):
        assert_refused(process, "export", message)


def test_help_needs_no_tensorflow():
    said = succeed(run_without_tensorflow("export", "--help"))
    for name in ("workdir", "name", "serving_root", "jit_compile", "check"):
        assert f"--{name}" in said or f"--[no]{name}" in said


@pytest.mark.slow
def test_a_killed_export_leaves_a_complete_version_or_none(trained, tmp_path):
    delay = random.Random(0)
    command = [
        *(sys.executable, "-m", "apps.export", "--name=vae"),
        *(f"--workdir={trained['vae']}", f"--export_dir={tmp_path}"),
    ]
    found = []
    for _ in range(8):
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            deadline = time.monotonic() + 60
            while process.poll() is None and not unfinished(tmp_path):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(delay.uniform(0, 3))
            process.kill()
        found.append(process.returncode)
        for version in (tmp_path / "vae").glob("[0-9]*"):
            assert {*map(str, contents(version))} >= {
                "saved_model.pb",
                "variables/variables.index",
                "assets.extra/model.json",
                "assets.extra/tf_serving_warmup_requests",
            }
    assert -signal.SIGKILL in found
    succeed(run("export", *command[3:]))
    assert not unfinished(tmp_path)
