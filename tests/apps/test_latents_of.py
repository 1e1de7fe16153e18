"""A denoiser of the latents of a VAE's run, from training to serving."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from support.app_runs import (
    Refused,
    assert_same_results,
    assert_same_weights,
    check_refusal,
    each_refused,
    kill,
    measures,
    metrics,
    picture,
    run,
    succeed,
)

from keras_genmodels.runs import Workdir

TINY = (
    "--hidden_sizes=16",
    "--epochs=2",
    "--jit_compile=false",
    "--checkpoint_every=5",
)


@pytest.fixture(scope="module")
def trained(finished):
    """Finished runs of other kinds."""
    return finished


@pytest.fixture(scope="module")
def vae(finished, folder):
    """A run of a VAE whose pixels are thresholded, which may be changed."""
    place = folder / "vae"
    shutil.copytree(finished("vae"), place)
    workdir = Workdir(place)
    description = workdir.read_run()
    dataclasses.replace(description, binarization="threshold").write(
        workdir.run
    )
    return place


@pytest.fixture(scope="module")
def prior(vae, folder):
    """The workdir of a finished run. The VAE's run is removed after it."""
    flags = (f"--latents_of={vae}", *TINY)
    resumed = folder / "resumed"
    kill("train_dae", resumed, *flags, least_step=5)
    for workdir in (folder / "prior", resumed):
        succeed(run("train_dae", f"--workdir={workdir}", *flags))
    again = run(
        "train_dae",
        f"--workdir={folder}/prior",
        f"--flagfile={folder}/prior/flags.txt",
    )
    assert "This run is finished" in succeed(again)
    shutil.rmtree(vae)
    return folder / "prior"


@pytest.mark.slow
def test_a_run_is_of_the_data_of_the_vae_and_resumes_exactly(prior, folder):
    description = json.loads((prior / "run.json").read_text())
    assert description["kind"] == "LatentDiffusion"
    assert description["preprocessing"]["binarization"] == "threshold"
    assert description["data"]["source"]["name"] == "digits"
    found = measures(prior, "likelihood")
    assert {"log_likelihood", "gain", "elbo"} <= found.keys()
    assert metrics(prior)["test"]["num_images"] == 50
    for name in ("samples", "reconstructions"):
        assert np.ptp(picture(prior / "figures" / f"{name}.png")) > 100
    assert_same_weights(prior, folder / "resumed")
    assert_same_results(prior, folder / "resumed")


@pytest.mark.exhaustive
def test_every_app_works_on_it_without_the_run_of_the_vae(
    prior, launch, tmp_path
):
    workdir = f"--workdir={prior}"
    walk = ("--solver=heun", "--num_steps=4", "--sigma=0.05,5")
    commands = {
        "generate": (
            *(f"--output={tmp_path}/drawn.npz", "--num_images=5"),
            *(*walk, f"--trajectory={tmp_path}/walk.gif"),
        ),
        "encode": (f"--output={tmp_path}/z.npz",),
        "evaluate": ("--num_images=20", "--num_samples=2"),
        "export": (f"--export_dir={tmp_path}/models", "--name=prior"),
    }
    said = {
        app: succeed(process.result())
        for app, process in {
            app: launch(app, workdir, *flags) for app, flags in commands.items()
        }.items()
    }
    assert np.load(tmp_path / "drawn.npz")["image"].shape == (5, 8, 8, 1)
    assert (tmp_path / "walk.gif").stat().st_size > 0
    assert "loc" in np.load(tmp_path / "z.npz")
    assert "Gain by the learned prior" in said["evaluate"]
    assert "20 test images" in (prior / "report.html").read_text()
    assert "generate_with" in said["export"]
    version = tmp_path / "models/prior/1"
    succeed(run("export", f"--check={version}", workdir))
    restored = run("restore", workdir, "--input=test", "--sigma=0.1")
    assert "not a Denoiser" in restored.stderr
    assert restored.stderr.count("\n") == 1


def a_run_of_a_denoiser(place, trained):
    flags = [f"--latents_of={trained('linear')}"]
    return Refused("train_dae", flags, ["LinearDenoiser", "another run"])


def a_run_by_label(place, trained):
    flags = [f"--latents_of={trained('labels')}"]
    return Refused("train_dae", flags, ["ConditionalVAE", "train_vae"])


def a_missing_run(place, trained):
    flags = [f"--latents_of={place}/none"]
    return Refused("train_dae", flags, ["--latents_of", "no directory"])


def an_unfinished_run(place, trained):
    (place / "begun").mkdir()
    flags = [f"--latents_of={place}/begun"]
    return Refused("train_dae", flags, ["--latents_of", "finish"])


def other_data(place, trained):
    flags = [f"--latents_of={trained('vae')}", "--dataset=mnist"]
    return Refused("train_dae", flags, ["--dataset=mnist", "--dataset=digits"])


def another_binarization(place, trained):
    flags = [f"--latents_of={trained('vae')}", "--binarization=none"]
    return Refused("train_dae", flags, ["--binarization=none", "dynamic"])


def a_binarization_of_images(place, trained):
    return Refused(
        "train_dae", ["--binarization=dynamic"], ["requires --latents_of"]
    )


def a_network_of_images(place, trained):
    flags = [f"--latents_of={trained('vae')}", "--network=unet"]
    return Refused("train_dae", flags, ["--network=unet", "mlp"])


def a_flag_of_images(place, trained):
    flags = [f"--latents_of={trained('vae')}", "--blind"]
    return Refused("train_dae", flags, ["--blind", "no --latents_of"])


def one_noise_level(place, trained):
    flags = [f"--latents_of={trained('vae')}", "--sigma=0.1"]
    return Refused("train_dae", flags, ["--sigma=LOWEST,HIGHEST"])


@each_refused(
    quick=[
        a_run_of_a_denoiser,
        other_data,
        a_flag_of_images,
    ],
    slow=[
        a_run_by_label,
        a_missing_run,
        an_unfinished_run,
        another_binarization,
        a_binarization_of_images,
        a_network_of_images,
        one_noise_level,
    ],
)
def test_an_error_is_one_line(refusals, make):
    check_refusal(*refusals[make])
