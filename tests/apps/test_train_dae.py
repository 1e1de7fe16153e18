"""The app train_dae as a user runs it, in a process of its own."""

import functools

import numpy as np
import pytest
from support.app_runs import (
    NUM_TEST,
    Refused,
    Trained,
    assert_same_results,
    assert_same_weights,
    check_refusal,
    contents,
    each_refused,
    kill,
    last_step,
    measures,
    metrics,
    picture,
    run,
    succeed,
)

from keras_genmodels.metrics.estimates import as_text
from keras_genmodels.runs.workdir import load_model

STEPS_PER_EPOCH = 11
TINY = (
    "--network=mlp",
    "--hidden_sizes=16",
    "--epochs=3",
    "--jit_compile=false",
    "--checkpoint_every=5",
)


@pytest.fixture(scope="module")
def trained(folder, data_dir, launch):
    """Returns a kind's finished run. Not to be written to."""

    @functools.cache
    def train(kind):
        process = launch(
            "train_dae",
            f"--workdir={folder / kind}",
            f"--data_dir={data_dir}",
            f"--denoiser={kind}",
            *(TINY if kind == "learned" else ()),
        )
        return Trained(folder / kind, process.result())

    return train


EXACT = pytest.param("exact", marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", ["learned", "linear", EXACT])
def test_a_run_prints_and_writes_its_results(trained, kind):
    workdir, process = trained(kind)
    said = succeed(process)
    assert metrics(workdir)["test"]["num_images"] == NUM_TEST
    found = measures(workdir, "denoising")
    levels = ("0.1", "0.25", "0.5", "1")
    assert [*found] == [f"psnr/{sigma}" for sigma in levels]
    for name, measure in found.items():
        noisy = -20 * np.log10(float(name.partition("/")[2]))
        reference = measure["references"]["noisy"]["value"]
        assert reference == pytest.approx(noisy, abs=0.2)
        number = as_text(measure["value"], measure["standard_error"], "dB")
        assert number in said
    assert f"Results in {workdir}" in said
    assert ("tensorboard --logdir" in said) == (kind == "learned")
    for name in ("denoising", "samples"):
        assert np.ptp(picture(workdir / "figures" / f"{name}.png")) > 100


@pytest.mark.parametrize(
    ("kind", "psnr"),
    [
        ("linear", 17.31),
        pytest.param("exact", 17.1, marks=pytest.mark.slow),
    ],
)
def test_denoisers_without_training_reach_their_known_psnr(trained, kind, psnr):
    """Measured separately, with the validation images among the data."""
    found = measures(trained(kind).workdir, "denoising")["psnr/0.25"]
    assert found["value"] == pytest.approx(psnr, abs=0.1)


@pytest.mark.slow
def test_a_classifier_recognises_the_labels_of_samples(
    data_dir, launch, tmp_path
):
    """Most labels after 20 s of training; 0.79 were measured, real ones 0.94.

    A killed run draws the same labels to drop as one that was not.
    """
    flags = (
        f"--data_dir={data_dir}",
        "--condition=label",
        "--label_dropout=0.1",
        "--network=mlp",
        "--hidden_sizes=128,128",
        "--epochs=30",
        "--checkpoint_every=50",
        "--jit_compile=false",
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    said = succeed(launch("train_dae", f"--workdir={whole}", *flags).result())
    assert "Label accuracy" in said
    found = measures(whole, "labels")["label_accuracy"]["value"]
    assert found > 0.65
    kill("train_dae", cut, *flags, least_step=60)
    succeed(run("train_dae", f"--workdir={cut}", *flags))
    assert_same_weights(cut, whole)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    trained, tmp_path
):
    whole, cut = trained("learned").workdir, tmp_path / "cut"
    flags = f"--flagfile={whole}/flags.txt"
    kill("train_dae", cut, flags, least_step=12)
    assert last_step(cut) > STEPS_PER_EPOCH
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_dae", flags, f"--workdir={cut}"))
    assert "epoch 1/" not in resumed
    assert_same_weights(cut, whole)
    assert_same_results(cut, whole)


@pytest.mark.slow
def test_a_run_for_restoring_is_one_of_its_noise_levels(data_dir, tmp_path):
    flags = (f"--data_dir={data_dir}", f"--workdir={tmp_path}", *TINY)
    succeed(run("train_dae", "--for=restoring", *flags))
    model = load_model(tmp_path / "model.keras")
    assert model.sigma_range == (0.05, 1.5)
    for same in ("--for=restoring", "--sigma=0.05,1.5"):
        said = succeed(run("train_dae", same, *flags))
        assert "This run is finished" in said
    said = succeed(
        run("train_dae", f"--flagfile={tmp_path}/flags.txt", flags[1])
    )
    assert "This run is finished" in said


@pytest.mark.slow
def test_runs_are_repeated_from_flags_txt(trained, launch, tmp_path):
    """In their workdir they are finished; other flags make another run."""
    learned, linear = (trained(kind).workdir for kind in ("learned", "linear"))
    before = contents(learned)
    again = launch(
        "train_dae", f"--flagfile={learned}/flags.txt", f"--workdir={learned}"
    )
    repeated = launch(
        "train_dae",
        f"--flagfile={linear}/flags.txt",
        f"--workdir={tmp_path / 'linear'}",
        "--rank=5",
        "--nocenter",
    )
    assert "This run is finished" in succeed(again.result())
    assert contents(learned) == before
    succeed(repeated.result())
    kept = (tmp_path / "linear" / "flags.txt").read_text().splitlines()
    assert {"--rank=5", "--center=false", "--denoiser=linear"} < {*kept}
    model = load_model(tmp_path / "linear" / "model.keras")
    assert (model.rank, model.center) == (5, False)


# Errors, each of one line.


def other_sigma_than_before(folder, trained):
    workdir = trained("learned").workdir
    flags = [f"--flagfile={workdir}/flags.txt", "--blind"]
    flags.append(f"--workdir={workdir}")
    named = [": blind=true (was false)", workdir]
    return Refused("train_dae", flags, named)


def label_dropout_without_labels(folder, trained):
    flags = ["--label_dropout=0.1", f"--workdir={folder / 'new'}"]
    return Refused("train_dae", flags, ["--condition=label"])


def attention_in_an_mlp(folder, trained):
    flags = ["--attention_levels=1", "--network=mlp"]
    flags.append(f"--workdir={folder / 'new'}")
    return Refused("train_dae", flags, ["--network=unet"])


def blocks_in_an_mlp(folder, trained):
    flags = ["--blocks=1", "--network=mlp", f"--workdir={folder / 'new'}"]
    return Refused("train_dae", flags, ["--network=unet or bias_free_unet"])


def stem_of_an_mlp(folder, trained):
    flags = ["--stem_stride=2", "--network=mlp", f"--workdir={folder / 'new'}"]
    return Refused("train_dae", flags, ["--network=unet or bias_free_unet"])


@each_refused(
    [other_sigma_than_before],
    [
        label_dropout_without_labels,
        attention_in_an_mlp,
        blocks_in_an_mlp,
        stem_of_an_mlp,
    ],
)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])
