"""The apps on a run of a denoiser of images of any size."""

import numpy as np
import PIL.Image
import pytest
from support.app_runs import assert_refused, run, succeed
from support.evaluated_runs import digits

import keras_genmodels as kgm
from keras_genmodels import datasets, runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that a script made."""
    folder = tmp_path_factory.mktemp("any_size")
    np.savez(folder / "x.npz", image=digits().train.images)
    data = datasets.load(f"{folder}/x.npz")
    folder = runs.Workdir(folder / "run")
    network = kgm.unet((None, None, 1), filters=(4, 8), blocks=1)
    denoiser = kgm.DenoisingAutoencoder(network)
    runs.train(denoiser, data, folder, epochs=1, jit_compile=False, verbose=0)
    return folder


def test_a_picture_is_restored_at_its_own_size(workdir, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "picture.png")
    output = tmp_path / "restored"
    succeed(
        run(
            "restore",
            f"--workdir={workdir}",
            f"--input={tmp_path / 'picture.png'}",
            "--sigma=0.1",
            "--step_size=1",
            "--max_steps=1",
            f"--output={output}",
        )
    )
    with PIL.Image.open(output / "images" / "picture.png") as picture:
        assert picture.size == (34, 21)
    with np.load(output / "restored.npz") as arrays:
        expected = kgm.denoise_in_tiles(
            workdir.load_model(),
            (pixels[np.newaxis, ..., np.newaxis] / 255).astype("float32"),
            0.1,
        )
        np.testing.assert_allclose(arrays["image"], expected, atol=1e-5)


def test_it_is_evaluated_and_generates_images_of_the_training(workdir):
    succeed(run("evaluate", f"--workdir={workdir}", "--num_images=20"))
    output = workdir.path / "samples.npz"
    succeed(
        run(
            "generate",
            f"--workdir={workdir}",
            "--num_images=3",
            f"--output={output}",
        )
    )
    with np.load(output) as arrays:
        assert arrays["image"].shape == (3, 8, 8, 1)


def test_pictures_of_several_sizes_are_refused(workdir, tmp_path):
    for i, size in enumerate([(9, 9), (9, 10)]):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        PIL.Image.new("L", size).save(tmp_path / "pictures" / f"{i}.png")
    pictures = tmp_path / "pictures"
    flags = [f"--workdir={workdir}", f"--input={pictures}", "--sigma=0.1"]
    flags.append(f"--output={tmp_path / 'restored'}")
    process = run("restore", *flags)
    assert_refused(process, "restore", "9x9", "9x10", "one at a time")


def test_an_export_needs_one_size(workdir, tmp_path):
    flags = [f"--workdir={workdir}", "--name=model"]
    flags.append(f"--export_dir={tmp_path}")
    assert_refused(run("export", *flags), "export", "images of one size")
