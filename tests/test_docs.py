"""Scripts, commands and links of README.md and docs/ work as written."""

import ast
import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import warnings

import numpy as np
import pytest

from keras_genmodels import serving
from keras_genmodels.core import xla
from keras_genmodels.export.replay import replay

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "BUILD.md", *ROOT.glob("docs/*.md"))
}
SERVING_PAGE = "docs/serving.md"
# A variable and its shape, as in `samples = f()  # [16, 8, 8, 1]`.
SHAPE = re.compile(r"^(\w+) = .*  # (\[[\d, ]+\])", re.M)
PROGRAM = re.compile(
    r"python (?:-m )?(apps.|benchmarks.)(\w+)(?:\.py)?([^#`\n]*)"
)


def scripts(page):
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.S)


def run(page, script, names):
    """Runs a script with the variables `names`, and checks stated shapes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(script, page, "exec"), names)
    assert not [
        w.message
        for w in caught
        if w.filename == page and issubclass(w.category, DeprecationWarning)
    ]
    for name, shape in SHAPE.findall(script):
        assert list(names[name].shape) == ast.literal_eval(shape), name


def run_all(page):
    names = {}
    for script in scripts(page):
        run(page, script, names)
    return names


@pytest.fixture(
    params=["plain", pytest.param("compiled", marks=pytest.mark.exhaustive)]
)
def in_folder(tmp_path, monkeypatch, request):
    """Runs a test in a new folder; XLA takes long to compile."""
    monkeypatch.chdir(tmp_path)
    if request.param == "plain":
        monkeypatch.setattr(xla, "should_compile", lambda model: False)


@pytest.mark.usefixtures("in_folder")
def test_scripts_of_the_readme_run():
    names = run_all("README.md")
    for samples in (names["samples"], names["generated"]):
        assert samples.numpy().min() >= 0
        assert samples.numpy().max() <= 1
    clean = names["test"][:16]
    before, after = (
        np.square(x - clean).mean() for x in (names["noisy"], names["restored"])
    )
    assert after < before


# Quick tests of runs train from a script, too.
@pytest.mark.slow
@pytest.mark.usefixtures("in_folder")
def test_scripts_of_runs_run():
    run_all("docs/runs.md")
    assert "model.keras" in os.listdir("runs/own")


@pytest.mark.slow
@pytest.mark.usefixtures("in_folder")
def test_scripts_of_training_run():
    names = run_all("docs/training.md")
    assert names["model"].latent_sizes == (8, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("in_folder")
def test_scripts_of_the_conditional_vae_run():
    names = run_all("docs/conditional_vae.md")
    assert names["threes"].shape == names["any_digit"].shape == (16, 8, 8, 1)
    # The elbo is a lower bound of what importance sampling estimates.
    assert names["nats"].numpy().mean() > names["elbo"].numpy().mean()


@pytest.mark.slow
@pytest.mark.usefixtures("in_folder")
def test_scripts_of_the_denoisers_run():
    names = run_all("docs/denoisers.md")
    assert names["probabilities"].shape == names["indices"].shape == (16, 5)
    # The exact denoiser generates training images.
    assert names["copies"].rate > 0.9
    assert names["basin"].smallest[0] > 0
    # The exact denoiser is a posterior mean.
    error = names["integral"].standard_error.numpy()
    assert np.abs(names["gap"]).max() < 5 * error.max()
    # D is nearly constant around a training image.
    assert abs(names["spectrum"].spectral_radius[0]) < 1
    np.testing.assert_allclose(
        names["in_tiles"], names["restored_picture"], atol=1e-5
    )
    assert names["texture"].shape == (1, 12, 40, 1)
    for picture in ("steps.png", "field.png"):
        assert pathlib.Path(picture).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("in_folder")
def test_scripts_of_several_devices_run():
    names = run_all("docs/distributed.md")
    samples = names["samples"].numpy().reshape(16, -1)
    train = names["train"].reshape(len(names["train"]), -1) / 255
    # The exact denoiser generates training images.
    nearest = [np.abs(train - sample).max(1).min() for sample in samples]
    assert np.median(nearest) < 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("in_folder")
def test_examples_of_the_recipes_run():
    names = run_all("docs/extending.md")
    clean, error = names["clean"], names["mean_absolute_error"]
    assert (
        error(names["denoised"], clean).mean()
        < error(names["noisy"], clean).mean()
    )
    changed = (np.abs(np.asarray(names["corrupted"]) - clean) > 1e-3).mean()
    assert 0.01 < changed < 0.12


TESTED = {"README.md", SERVING_PAGE}
TESTED |= {"docs/runs.md", "docs/conditional_vae.md", "docs/denoisers.md"}
TESTED |= {"docs/extending.md", "docs/distributed.md", "docs/training.md"}


def test_every_page_with_scripts_is_tested():
    assert {page for page in PAGES if scripts(page)} == TESTED


# Serving.


@pytest.fixture(scope="module")
def served(tmp_path_factory, in_process):
    """Runs the first script; returns its folder and a server's address."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(SERVING_PAGE, scripts(SERVING_PAGE)[0], {})
    with serving.Server(folder / "saved_models", port=0) as server:
        yield folder, server.address


@pytest.mark.slow
def test_scripts_of_serving_run(served, monkeypatch):
    folder, address = served
    monkeypatch.chdir(folder)
    names = {}
    for script in scripts(SERVING_PAGE)[1:]:
        run(SERVING_PAGE, script.replace("127.0.0.1:8500", address), names)
    assert (names["nats"] < 0).all()
    assert not np.array_equal(*names["samples"].numpy())


def columns_of(body, signature):
    """Returns the inputs of a REST body, as TensorFlow Serving reads it."""
    assert body.keys() in (
        {"signature_name", "inputs"},
        {"signature_name", "instances"},
    )
    columns = body.get("inputs")
    if columns is None:
        rows = body["instances"]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: np.array(values, signature.inputs[name].dtype)
        for name, values in columns.items()
    }


@pytest.mark.slow
def test_rest_bodies_match_the_signatures(served):
    folder, address = served
    bodies = re.findall(
        r"curl \S+/models/vae:predict -d '(.*)'\n", PAGES[SERVING_PAGE]
    )
    requests = []
    with serving.Client(address, "vae") as client:
        for text in bodies:
            body = json.loads(text)
            name = body["signature_name"]
            columns = columns_of(body, client.signature(name))
            requests.append((name, columns))
    drawn, decoded = replay(folder / "saved_models" / "vae" / "1", requests)
    assert drawn["image"].shape == (2, 8, 8, 1)
    assert not np.array_equal(*drawn["image"])
    assert decoded["image"].shape == (1, 8, 8, 1)


# Commands and links.

_PARSE = """
import importlib, json, sys
from absl import flags

# Benchmarks find each other, as they do where they are run by their path.
sys.path.append("benchmarks")
module = importlib.import_module(sys.argv[1])
# Of a program that runs where there is no absl.
parser = getattr(module, "PARSER", None)
names = set()
for line in json.load(sys.stdin):
    if parser:
        names |= {*vars(parser.parse_args(line))}
        continue
    flags.FLAGS.unparse_flags()
    rest = flags.FLAGS(["program", *line])
    assert rest == ["program"], line
    names |= {*flags.FLAGS}
print(json.dumps([*names]))
"""


@functools.cache
def commands():
    """Returns a dict of modules to the arguments of each documented command."""
    found = {}
    for text in PAGES.values():
        # Inline code may continue on the next line.
        text = re.sub(r"(?<!`)`([^`]+)`(?!`)", one_line, text)
        for folder, name, arguments in PROGRAM.findall(text):
            module = f"{folder[:-1]}.{name}"
            arguments = [a for a in shlex.split(arguments) if a != "--help"]
            found.setdefault(module, []).append(arguments)
    return found


def one_line(code):
    return f"`{' '.join(code[1].split())}`"


@pytest.fixture(scope="module")
def flags_of_programs():
    """Parses all documented commands; returns the names of all flags."""
    names = set()
    for module, lines in commands().items():
        parsed = subprocess.run(
            [sys.executable, "-c", _PARSE, module],
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert parsed.returncode == 0, (module, parsed.stderr)
        names |= {*json.loads(parsed.stdout)}
    return names


def test_documented_commands_have_valid_flags(flags_of_programs):
    apps = {f"apps.{path.stem}" for path in ROOT.glob("apps/[!_]*.py")}
    assert apps <= commands().keys()
    # Flags of absl, Docker and TensorBoard.
    others = {"flagfile", "help", "entrypoint", "gpus", "rm", "logdir"}
    text = "\n".join(PAGES.values())
    documented = {*re.findall(r"(?<![\w-])--(\w+)(?![\w-])", text)}
    assert documented - others <= flags_of_programs


def test_links_lead_to_files():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 200
