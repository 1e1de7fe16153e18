"""Denoisers and VAEs of patches of pictures at their own size, by the apps."""

import json

import numpy as np
import PIL.Image
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
    save_noise,
    succeed,
)

import keras_genmodels as kgm
from keras_genmodels.runs import Workdir

TINY = (
    "--patch_size=8",
    "--patches_per_epoch=64",
    "--smallest_scale=0.89",
    "--batch_size=8",
    "--filters=4,8",
    "--blocks=1",
    "--stem_stride=2",
    "--epochs=3",
    "--checkpoint_every=5",
    "--jit_compile=false",
)

OF_UNETS = ("--filters", "--blocks", "--stem_stride")


@pytest.fixture(scope="module")
def photos(folder):
    for i, shape in enumerate([(20, 31), (9, 9), (12, 9), (25, 10), (7, 90)]):
        save_noise(folder / "photos" / f"{i}.png", (*shape, 3), seed=i)
    return folder / "photos"


@pytest.fixture(scope="module")
def trained():
    """No run, as none is refused for what it holds."""


@pytest.fixture(scope="module")
def run_on_patches(folder, photos):
    """A finished run, and what it printed. Not to be written to."""
    workdir = folder / "run"
    flags = (f"--data_dir={photos}", f"--workdir={workdir}", *TINY)
    return workdir, succeed(run("train_dae", *flags))


@pytest.mark.slow
def test_a_run_on_patches_restores_pictures_at_their_own_size(
    run_on_patches, photos, tmp_path
):
    workdir, said = run_on_patches
    for line in (
        "holds pictures: --dataset=image_folder",
        "64 training, 6 validation, 6 test images of 8x8x3; 3 epochs of 8 step",
        "left out, as smaller than 8x8: 4.png (7x90)",
        "an epoch is 64 random ones of 2 pictures, at 1, 0.89 of their size",
        "PSNR at sigma 0.1",
    ):
        assert line in said
    recorded = json.loads((workdir / "run.json").read_text())
    source = recorded["data"]["source"]
    assert source["patch_size"] == 8 and source["patches_per_epoch"] == 64
    assert source["smallest_scale"] == 0.89
    assert (
        source["color"] == "auto" and "patch_size" not in (recorded["settings"])
    )
    kept = (workdir / "flags.txt").read_text().splitlines()
    assert {"--patch_size=8", "--patches_per_epoch=64"} < {*kept}
    model = Workdir(workdir).load_model()
    assert model.event_shape == (None, None, 3)
    network = kgm.unet((None, None, 3), filters=(4, 8), blocks=1, stem_stride=2)
    assert model.least_side == 4
    assert model.network.count_params() == network.count_params()
    assert model.sigma_range == pytest.approx((0.01, 0.25))
    assert metrics(workdir)["training"]["validation_loss"] > 0
    # Nothing to generate from: noise of 0.25 hides no image.
    names = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert names == {"denoising"}
    flags = ("--num_images=1", f"--output={tmp_path}/texture.png")
    said = succeed(run("generate", f"--workdir={workdir}", *flags))
    assert "0.25, which hides no image" in said
    command = ("restore", f"--workdir={workdir}", "--sigma=0.1")
    output = tmp_path / "out"
    succeed(run(*command, f"--input={photos}", f"--output={output}"))
    assert picture(output / "images" / "4.png").shape == (7, 90, 3)
    # The test split are patches.
    flags = ("--input=test", "--add_noise=0.1", "--max_steps=1")
    assert "PSNR" in succeed(run(*command, *flags, f"--output={output}"))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_disk_with_the_same_patches(
    run_on_patches, photos, tmp_path
):
    whole, cut = run_on_patches[0], tmp_path / "cut"
    flags = (f"--data_dir={photos}", *TINY)
    kill("train_dae", cut, *flags, least_step=10)
    assert not (cut / "model.keras").exists()
    flags = (f"--workdir={cut}", *flags)
    said = succeed(run("train_dae", *flags, "--in_memory=false"))
    assert "epoch 1/" not in said and "pictures are read from disk" in said
    assert_same_weights(cut, whole)
    assert_same_results(cut, whole)
    assert "finished" in succeed(run("train_dae", *flags))
    said = succeed(run("evaluate", f"--workdir={cut}"))
    assert "--input=skimage" in said and "Density" not in said
    # Other patches are another run.
    process = run("train_dae", *flags, "--patches_per_epoch=72")
    assert "patches_per_epoch=72 (was 64)" in process.stderr


def flags_of(folder, *flags):
    PIL.Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "a.png")
    return [f"--data_dir={folder}", *flags]


@pytest.mark.slow
def test_a_vae_of_patches_has_colours_that_depend_on_each_other(
    photos, tmp_path
):
    workdir = tmp_path / "run"
    flags = (
        f"--workdir={workdir}",
        f"--data_dir={photos}",
        *(flag for flag in TINY if flag.split("=")[0] not in OF_UNETS),
        "--likelihood=logistic_mixture",
        "--num_logistics=2",
        "--prior=vamp",
        "--num_pseudo_inputs=10",
        "--latent_size=2",
        "--filters=4",
    )
    said = succeed(run("train_vae", *flags))
    assert "64 training" in said and "images of 8x8x3" in said
    assert measures(workdir, "likelihood")["bits_per_dimension"]["value"] < 20
    evaluate = ("--num_images=20", "--num_samples=3")
    succeed(run("evaluate", f"--workdir={workdir}", *evaluate))
    other = run("train_vae", *flags, "--num_logistics=3")
    assert "num_logistics=3 (was 2)" in other.stderr


def an_mlp_of_patches(folder, trained):
    flags = flags_of(folder, "--patch_size=8", "--network=mlp")
    return Refused("train_dae", flags, ["--patch_size requires --network=unet"])


def patches_with_an_image_size(folder, trained):
    flags = flags_of(folder, "--patch_size=8", "--image_size=8")
    return Refused("train_dae", flags, ["--image_size requires", "patch_size"])


def patches_smaller_than_the_network_takes(folder, trained):
    flags = flags_of(folder, "--patch_size=3")
    return Refused("train_dae", flags, ["--patch_size=3 must be at least 4"])


def patches_without_training(folder, trained):
    flags = flags_of(folder, "--patch_size=8", "--denoiser=linear")
    return Refused("train_dae", flags, ["--patch_size requires --denoiser"])


def patches_of_digits(folder, trained):
    flags = ["--patch_size=8"]
    return Refused("train_dae", flags, ["patch_size=8 requires pictures"])


def patches_of_too_few_pictures(folder, trained):
    flags = flags_of(folder, "--patch_size=8")
    return Refused("train_dae", flags, ["too few pictures"])


def patches_of_a_conditional_vae(folder, trained):
    flags = flags_of(folder, "--patch_size=8")
    return Refused("train_cvae", flags, ["patch_size"])


def a_scale_without_patches(folder, trained):
    flags = ["--smallest_scale=0.5"]
    return Refused("train_dae", flags, ["requires --patch_size"])


def a_number_of_patches_without_a_size(folder, trained):
    flags = ["--patches_per_epoch=50"]
    return Refused("train_vae", flags, ["requires --patch_size"])


@each_refused(
    [patches_with_an_image_size],
    [
        an_mlp_of_patches,
        patches_smaller_than_the_network_takes,
        patches_without_training,
        patches_of_digits,
        patches_of_too_few_pictures,
        patches_of_a_conditional_vae,
        a_scale_without_patches,
        a_number_of_patches_without_a_size,
    ],
)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])
