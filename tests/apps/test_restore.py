"""The app restore as a user runs it, on runs that a script made."""

import numpy as np
import pytest
from support.app_runs import (
    SIDE,
    Refused,
    check_refusal,
    each_refused,
    picture,
    save_noise,
    succeed,
)


@pytest.fixture(scope="module")
def trained(finished):
    return finished


@pytest.mark.slow
def test_images_of_a_split_are_restored(finished, launch, tmp_path):
    process = launch(
        "restore",
        f"--workdir={finished('learned')}",
        f"--output={tmp_path}",
        "--add_noise=0.4",
        "--sigma=0.4",
        "--step_size=0.2",
        "--max_steps=50",
        "--num_images=100",
    )
    said = succeed(process.result()).splitlines()
    psnr = next(line for line in said if line.startswith("PSNR"))
    before, after = (
        float(psnr.partition(word)[2].split()[0])
        for word in ("before", "after")
    )
    assert before == pytest.approx(-20 * np.log10(0.4), abs=0.2)
    # More is not asked of a network that was trained for a second.
    assert after > before + 2
    assert any(line.startswith("SSIM before 0.") for line in said)
    assert f"100 images in {tmp_path}" in said[-1]
    arrays = np.load(tmp_path / "restored.npz")
    assert arrays["image"].shape == (100, SIDE, SIDE, 1)
    assert arrays["num_steps"].max() <= 50
    assert np.isfinite(arrays["residual"]).all()
    for name in ("before_after", "steps"):
        pixels = picture(tmp_path / f"{name}.png")
        assert 300 < min(pixels.shape[:2]) < 1200
        assert np.ptp(pixels) > 100


@pytest.fixture
def restore(finished, launch, tmp_path):
    """Starts the app on a file or folder of the user."""

    def start(kind, given, *flags):
        return launch(
            "restore",
            f"--workdir={finished(kind)}",
            f"--input={tmp_path / given}",
            f"--output={tmp_path / given}-restored",
            "--sigma=1",
            *flags,
        )

    return start


@pytest.mark.slow
def test_pictures_of_the_user_are_restored(restore, tmp_path):
    pictures = tmp_path / "pictures"
    for name in ("a.png", "a.bmp", "sub/b.png"):
        save_noise(pictures / name, (20, 10, 3))
    assert "PSNR" not in succeed(restore("exact", "pictures").result())
    images = tmp_path / "pictures-restored" / "images"
    for name in ("a.png.png", "a.bmp.png", "sub/b.png"):
        assert picture(images / name).shape == (SIDE, SIDE, 3)


@pytest.mark.slow
def test_arrays_of_the_user_are_restored(restore, finished, tmp_path):
    rng = np.random.default_rng(0)
    noisy = rng.normal(0.5, 1, (3, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "noisy.npz", image=noisy)
    once = ("--step_size=1", "--max_steps=1")
    process = restore("linear", "noisy.npz", *once)
    assert "PSNR" not in succeed(process.result())
    restored = np.load(tmp_path / "noisy.npz-restored" / "restored.npz")
    model = finished("linear").load_model()
    expected = model.denoise(noisy[..., np.newaxis], 1.0)
    np.testing.assert_allclose(restored["image"], expected, atol=1e-5)
    assert not (tmp_path / "noisy.npz-restored" / "images").exists()


@pytest.mark.slow
def test_images_are_restored_with_their_labels_or_the_label_given(
    finished, launch, tmp_path
):
    once = ("--step_size=1", "--max_steps=1", "--sigma=1", "--num_images=9")
    np.savez(tmp_path / "noisy.npz", image=np.full((3, SIDE, SIDE), 0.5, "f4"))
    inputs = {
        "own": ("test",),
        "given": ("test", "--label=3"),
        "none": (tmp_path / "noisy.npz",),
    }
    started = {
        name: launch(
            "restore",
            f"--workdir={finished('labelled')}",
            f"--output={tmp_path / name}",
            f"--input={given[0]}",
            *given[1:],
            *once,
        )
        for name, given in inputs.items()
    }
    for process in started.values():
        succeed(process.result())
    model = finished("labelled").load_model()
    test = finished("labelled").read_run().load_data().test.take(9)
    clean = np.float32(test.images / 255)
    half = np.full((3, SIDE, SIDE, 1), 0.5, "f4")
    for name, expected in (
        ("own", model.denoise(clean, 1.0, test.labels)),
        ("given", model.denoise(clean, 1.0, 3)),
        ("none", model.denoise(half, 1.0)),
    ):
        restored = np.load(tmp_path / name / "restored.npz")["image"]
        np.testing.assert_allclose(restored, expected, atol=1e-5)


# Errors, each of one line.


def label_without_conditions(folder, finished):
    flags = [f"--workdir={finished('learned')}", "--label=3", "--sigma=1"]
    return Refused("restore", flags, ["--label", "conditioned on labels"])


def nan_pixels(folder, finished):
    image = np.zeros((3, SIDE, SIDE), np.float32)
    image[1, 2, 3] = np.nan
    path = folder / "given.npz"
    np.savez(path, image=image)
    flags = [f"--workdir={finished('learned')}", f"--input={path}"]
    return Refused("restore", [*flags, "--sigma=0.3"], [path, "NaN"])


def missing_sigma(folder, finished):
    flags = [f"--workdir={finished('learned')}"]
    return Refused("restore", flags, ["--sigma"])


def too_much_noise(folder, finished):
    flags = [f"--workdir={finished('learned')}", "--sigma=2/255"]
    return Refused("restore", [*flags, "--add_noise=25"], ["--add_noise=25"])


def latent_variable_model(folder, finished):
    flags = [f"--workdir={finished('vae')}"]
    return Refused("restore", flags, ["VAE", "Denoiser"])


@each_refused(
    [latent_variable_model],
    [nan_pixels, missing_sigma, too_much_noise, label_without_conditions],
)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])
