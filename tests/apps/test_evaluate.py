"""The evaluation as a user runs it, in a process of its own."""

import ctypes
import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.app_runs import (
    ROOT,
    Refused,
    assert_refused,
    check_refusal,
    contents,
    each_refused,
    run,
    succeed,
    unfinished,
)
from support.browser import look
from support.evaluated_runs import MAKE, adapted, digits, finish
from support.html_page import Page

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.metrics.estimates import as_text
from keras_genmodels.runs.workdir import Workdir

BOUNDED = ("--num_images=30", "--num_samples=4")
KINDS = ("vae", "exact")


def own(folder):
    """Loads images of a file, without labels: a classifier takes a while."""
    data = digits()
    images = np.concatenate([data.train.images, data.test.images])
    path = folder / "images.npz"
    np.savez(path, image=images)
    return datasets.load(f"{path}", validation_split=0.05)


@pytest.fixture(scope="module")
def trained(folder):
    """Runs that are finished but for the evaluation."""
    data = own(folder)
    return {
        kind: finish(MAKE[kind](), Workdir(folder / kind), data=data)
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def evaluated(trained):
    workdir = trained["vae"]
    return run("evaluate", f"--workdir={workdir}", *BOUNDED)


def page(path):
    return Page(path.read_text(encoding="utf-8"))


def test_a_run_is_measured_and_shown(trained, evaluated):
    workdir, said = trained["vae"], succeed(evaluated)
    found = json.loads(workdir.metrics.read_text())["evaluation"]
    elbo = found["sections"]["likelihood"]["measures"]["elbo"]
    assert found["settings"]["num_images"] == 30
    assert found["settings"]["num_samples"] == 4
    shown = page(workdir.path / "report.html")
    for text in (said, shown.text):
        assert as_text(elbo["value"], elbo["standard_error"]) in text
        assert "Importance-weighted bound, 4 draws" in text
    assert "VAE on images.npz" in shown.text
    # The sheet that the evaluation itself adds.
    assert len(shown.named("img")) == 1
    assert f"1 run in {workdir.path / 'report.html'}" in said
    assert not unfinished(workdir.path)


def test_a_browser_shows_the_page(browser, trained, evaluated):
    succeed(evaluated)
    found = look(browser, trained["vae"].path / "report.html", 1200)
    assert len(found["images"]) == 1
    assert len(found["cells"]) > 40


@pytest.mark.slow
def test_runs_are_shown_side_by_side(trained, evaluated, folder):
    succeed(evaluated)
    output = folder / "compare.html"
    before = trained["vae"].metrics.read_bytes()
    both = [f"--workdir={trained[kind]}" for kind in KINDS]
    said = succeed(run("evaluate", *both, f"--output={output}", *BOUNDED))
    assert f"{trained['vae']} was evaluated before" in said
    assert trained["vae"].metrics.read_bytes() == before
    assert not (trained["exact"].path / "report.html").exists()
    shown = page(output)
    assert "2 runs side by side" in shown.text
    for text in (said, shown.text):
        for words in ("Likelihood", "Denoising", "Attractors", "Samples"):
            assert words in text


@pytest.mark.slow
def test_a_run_goes_on_after_its_evaluation(trained, folder):
    """Trained, evaluated, started again, extended and evaluated again."""
    workdir = Workdir(folder / "real")
    flags = [
        f"--workdir={workdir}",
        f"--dataset={folder / 'images.npz'}",
        "--network=mlp",
        "--hidden_sizes=8",
        "--latent_size=2",
        "--batch_size=64",
    ]
    evaluate = ("evaluate", f"--workdir={workdir}", *BOUNDED)
    succeed(run("train_vae", *flags, "--epochs=1"))
    before = json.loads(workdir.metrics.read_text())
    said = succeed(run(*evaluate))
    after = json.loads(workdir.metrics.read_text())
    elbo = after.pop("evaluation")["sections"]["likelihood"]["measures"]["elbo"]
    assert after == before
    shown = page(workdir.path / "report.html")
    for text in (said, shown.text):
        assert as_text(elbo["value"], elbo["standard_error"]) in text
    assert "1 epoch, " in shown.text and "hidden_sizes" in shown.text
    sheets = len([*workdir.figures.glob("*.png")])
    assert sheets > 3
    drawn = [tag["alt"] for tag in shown.named("img")]
    curves = ("loss", "elbo", "rate", "distortion")
    assert {f"Curves of {name} over the epochs" for name in curves} < {*drawn}
    assert len(drawn) == sheets + len(curves)
    again = succeed(run("train_vae", *flags, "--epochs=1"))
    assert "finished" in again
    assert "evaluation" in json.loads(workdir.metrics.read_text())
    succeed(run("train_vae", *flags, "--epochs=2"))
    assert "evaluation" not in json.loads(workdir.metrics.read_text())
    assert "was evaluated before" not in succeed(run(*evaluate))
    assert "2 epochs, " in page(workdir.path / "report.html").text


def as_ordinary_user():
    """Drops root's capability to write to read-only folders."""
    drop_from_bounding_set, override_permissions = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions)


@pytest.mark.slow
def test_a_read_only_run_is_evaluated_elsewhere(tmp_path):
    data = own(tmp_path)
    workdir = finish(MAKE["vae"](), Workdir(tmp_path / "run"), data=data)
    workdir.path.chmod(0o555)
    before = contents(workdir.path)
    command = [sys.executable, "-m", "apps.evaluate", *BOUNDED]
    command.append(f"--workdir={workdir}")
    refused, done = (
        subprocess.run(
            [*command, *more],
            cwd=ROOT,
            preexec_fn=as_ordinary_user,
            capture_output=True,
            text=True,
        )
        for more in ([], [f"--output={tmp_path}/a.html"])
    )
    workdir.path.chmod(0o755)
    assert_refused(refused, "evaluate", workdir, "--output")
    assert "cannot be written to" in succeed(done)
    assert str(workdir) in page(tmp_path / "a.html").text
    assert contents(workdir.path) == before


@pytest.mark.slow
def test_joined_shards_are_the_evaluation_of_one_run(
    trained, evaluated, tmp_path
):
    succeed(evaluated)
    workdir = tmp_path / "vae"
    finish(MAKE["vae"](), Workdir(workdir), data=own(tmp_path))
    shutil.copyfile(trained["vae"].model, workdir / "model.keras")
    flags = [f"--workdir={workdir}", *BOUNDED]
    before = (workdir / "metrics.json").read_bytes()
    for k in range(2):
        said = succeed(run("evaluate", *flags, f"--shard={k}/2"))
        assert "likelihood of test images" in said
    assert (workdir / "metrics.json").read_bytes() == before
    parts = [f"{workdir}/evaluation_00{k}_of_002.npz" for k in range(2)]
    for files, more in ((parts[:1], []), (parts, ["--seed=5"])):
        merge = f"--merge={','.join(files)}"
        refused = run("evaluate", *flags, merge, *more)
        assert_refused(refused, "evaluate", "--merge", parts[0])
    succeed(run("evaluate", *flags, f"--merge={','.join(parts)}"))
    found, expected = (
        json.loads(path.read_text())["evaluation"]["sections"]
        for path in (workdir / "metrics.json", trained["vae"].metrics)
    )
    assert found["samples"] == expected["samples"]
    for name, measure in expected["likelihood"]["measures"].items():
        joined = found["likelihood"]["measures"][name]
        assert joined["value"] == pytest.approx(measure["value"], rel=1e-5)
        error = measure["standard_error"]
        assert joined["standard_error"] == (
            error and pytest.approx(error, rel=1e-5)
        )


# Refusals, each of one line.


def of_no_run(place, trained):
    return Refused("evaluate", [f"--workdir={place}/none"], ["no directory"])


def of_an_unfinished_run(place, trained):
    workdir = finish(MAKE["vae"](), Workdir(place / "run"))
    workdir.model.unlink()
    return Refused("evaluate", [f"--workdir={workdir}"], ["no model.keras"])


def of_a_training_that_was_cut_short(place, trained):
    workdir = finish(MAKE["vae"](), Workdir(place / "run"))
    workdir.metrics.unlink()
    return Refused(
        "evaluate", [f"--workdir={workdir}"], ["no results in metrics.json"]
    )


def of_other_images(place, trained):
    np.savez(place / "large.npz", image=np.zeros((20, 9, 9), np.uint8))
    source = datasets.Source(f"{place}/large.npz")
    data = dataclasses.replace(digits(), source=source)
    workdir = finish(MAKE["vae"](), Workdir(place / "run"), data=data)
    words = ["other data", "data_dir"]
    return Refused("evaluate", [f"--workdir={workdir}"], words)


def of_draws_of_a_denoiser(place, trained):
    flags = [f"--workdir={trained['exact']}", "--num_samples=9"]
    named = [f"--num_samples has no effect on {trained['exact']}: its model"]
    return Refused("evaluate", [*flags, f"--output={place}/a.html"], named)


def of_densities_of_a_blind_denoiser(place, trained):
    workdir = finish(
        adapted(kgm.LinearDenoiser(rank=2)), Workdir(place / "run")
    )
    flags = [f"--workdir={workdir}", "--num_density_images=9"]
    named = [f"--num_density_images has no effect on {workdir}", "take sigma"]
    return Refused("evaluate", flags, named)


def of_a_missing_second_run(place, trained):
    """Refused before the first is measured."""
    finish(MAKE["exact"](), Workdir(place / "run"))
    flags = [f"--workdir={place}/run", f"--workdir={place}/none"]
    words = ["no directory", f"{place}/none"]
    return Refused("evaluate", [*flags, f"--output={place}/a.html"], words)


QUICK = [of_a_missing_second_run, of_other_images]
LONG = [
    of_no_run,
    of_an_unfinished_run,
    of_a_training_that_was_cut_short,
    of_draws_of_a_denoiser,
    of_densities_of_a_blind_denoiser,
]


@each_refused(QUICK, LONG)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])
