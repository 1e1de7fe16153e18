"""The apps of denoisers as a user runs them, each in a process of its own."""

import numpy as np
import pytest
import sklearn.datasets
from support.app_runs import (
    NUM_TEST,
    SIDE,
    Refused,
    Trained,
    assert_refused,
    assert_same_weights,
    check_refusal,
    contents,
    kill,
    last_step,
    metrics,
    picture,
    run,
    run_without_tensorflow,
    save_noise,
    succeed,
    tiles_of,
)
from support.small_vaes import make_vae

import keras_genmodels as kgm
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
    """Finished runs by kind. Not to be written to."""
    flags = {"learned": TINY, "linear": (), "exact": ()}
    started = {
        kind: launch(
            "train_dae",
            f"--workdir={folder / kind}",
            f"--data_dir={data_dir}",
            f"--denoiser={kind}",
            *flags[kind],
        )
        for kind in flags
    }
    return {
        kind: Trained(folder / kind, process.result())
        for kind, process in started.items()
    }


# Training.


@pytest.mark.parametrize("kind", ["learned", "linear", "exact"])
def test_a_run_tells_its_results_and_leaves_them(trained, kind):
    workdir, process = trained[kind]
    said = succeed(process)
    found = metrics(workdir)["test"]
    assert found["num_examples"] == NUM_TEST
    assert (*found["noise_levels"],) == ("0.1", "0.25", "0.5", "1")
    for sigma, values in found["noise_levels"].items():
        noisy = -20 * np.log10(float(sigma))
        assert values["noisy_psnr"] == pytest.approx(noisy, abs=0.2)
        assert f"{values['psnr']:.2f} dB" in said
    assert f"Results in {workdir}" in said
    assert ("tensorboard --logdir" in said) == (kind == "learned")
    for name in ("denoising", "samples"):
        assert np.ptp(picture(workdir / "figures" / f"{name}.png")) > 100


@pytest.mark.parametrize(("kind", "psnr"), [("linear", 17.31), ("exact", 17.1)])
def test_what_needs_no_training_is_as_good_as_it_can_be(trained, kind, psnr):
    """Was measured apart, with the validation images among the data."""
    found = metrics(trained[kind].workdir)["test"]["noise_levels"]["0.25"]
    assert found["psnr"] == pytest.approx(psnr, abs=0.1)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    trained, tmp_path
):
    whole, cut = trained["learned"].workdir, tmp_path / "cut"
    flags = f"--flagfile={whole}/flags.txt"
    kill("train_dae", cut, flags, least_step=12)
    assert last_step(cut) > STEPS_PER_EPOCH
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_dae", flags, f"--workdir={cut}"))
    assert "Epoch 1/" not in resumed
    assert_same_weights(cut, whole)
    for name in ("test", "steps", "best_epoch", "validation_loss"):
        assert metrics(cut)[name] == metrics(whole)[name]


@pytest.mark.slow
def test_runs_are_repeated_from_their_flags(trained, launch, tmp_path):
    """Where they lie they are finished; a changed flag is another run."""
    learned, linear = trained["learned"].workdir, trained["linear"].workdir
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
    assert "This run is finished; a larger --epochs" in succeed(again.result())
    assert contents(learned) == before
    succeed(repeated.result())
    kept = (tmp_path / "linear" / "flags.txt").read_text().splitlines()
    assert {"--rank=5", "--center=false", "--denoiser=linear"} < {*kept}
    model = load_model(tmp_path / "linear" / "model.keras")
    assert (model.rank, model.center) == (5, False)


# Restoring.


def test_images_of_a_split_are_restored(trained, launch, tmp_path):
    process = launch(
        "restore",
        f"--workdir={trained['learned'].workdir}",
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


def test_pictures_and_arrays_of_the_user_are_restored(
    trained, launch, tmp_path
):
    pictures = tmp_path / "pictures"
    for name in ("a.png", "a.bmp", "sub/b.png"):
        save_noise(pictures / name, (20, 10, 3))
    rng = np.random.default_rng(0)
    noisy = rng.normal(0.5, 1, (3, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "noisy.npz", image=noisy)

    def restore(kind, given, *flags):
        return launch(
            "restore",
            f"--workdir={trained[kind].workdir}",
            f"--input={tmp_path / given}",
            f"--output={tmp_path / given}-restored",
            "--sigma=1",
            *flags,
        )

    of_pictures = restore("exact", "pictures")
    once = ("--step_size=1", "--max_steps=1")
    of_arrays = restore("linear", "noisy.npz", *once)
    assert "PSNR" not in succeed(of_pictures.result())
    images = tmp_path / "pictures-restored" / "images"
    for name in ("a.png.png", "a.bmp.png", "sub/b.png.png"):
        assert picture(images / name).shape == (SIDE, SIDE, 3)
    assert "PSNR" not in succeed(of_arrays.result())
    restored = np.load(tmp_path / "noisy.npz-restored" / "restored.npz")
    model = load_model(trained["linear"].workdir / "model.keras")
    expected = model.denoise(noisy[..., np.newaxis], 1.0)
    np.testing.assert_allclose(restored["image"], expected, atol=1e-5)
    assert not (tmp_path / "noisy.npz-restored" / "images").exists()


# Generating.


def test_images_are_generated_from_noise(trained, launch, tmp_path):
    def draw(kind, name, *flags):
        return launch(
            "generate",
            f"--workdir={trained[kind].workdir}",
            f"--output={tmp_path / name}",
            *flags,
        )

    started = [
        draw("exact", "exact.npz", "--num_images=5", "--seed=1"),
        draw(
            "learned",
            "learned.npz",
            "--num_images=5",
            "--stochasticity=0.5",
            "--sigma=0.1,2",
            "--num_steps=20",
        ),
        draw("linear", "linear.png", "--num_images=5", "--num_steps=10"),
    ]
    for process in started:
        succeed(process.result())
    images = np.load(tmp_path / "exact.npz")["image"]
    assert images.dtype == np.float32
    # The exact posterior mean ends at images that it was adapted to.
    stored = sklearn.datasets.load_digits().data[:-NUM_TEST] / 16
    for image in images.reshape(5, 1, -1):
        assert np.abs(stored - image).max(1).min() < 0.05
    model = load_model(trained["learned"].workdir / "model.keras")
    expected = kgm.generate(
        model,
        (SIDE, SIDE, 1),
        5,
        seed=0,
        sigma_max=2.0,
        sigma_min=0.1,
        num_steps=20,
        stochasticity=0.5,
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "learned.npz")["image"],
        np.clip(expected, 0, 1),
        atol=1e-4,
    )
    tiles = tiles_of(picture(tmp_path / "linear.png"), rows=2, columns=3)
    assert np.all(tiles[5] == 255)
    assert np.ptp(tiles[:5]) > 100


# What is answered at once.


@pytest.mark.parametrize(
    ("app", "flags", "told"),
    [
        ("train_dae", ["--sigma=0"], "> 0"),
        ("train_dae", ["--sigma=2,1"], "LOWEST,HIGHEST"),
        ("train_dae", ["--sigma=nan"], "finite"),
        ("train_dae", ["--blind", "--sigma=0.1"], "LOWEST,HIGHEST"),
        ("train_dae", ["--rank=3"], "--denoiser=linear"),
        ("train_dae", ["--denoiser=exact", "--epochs=3"], "--denoiser=learned"),
        ("train_dae", ["--denoiser=exact", "--nocenter"], "--denoiser=linear"),
        ("train_dae", ["--network=bias_free_unet"], "--blind"),
        ("train_dae", ["--network=mlp", "--filters=8"], "--network=unet"),
        ("train_dae", ["--hidden_sizes=8"], "--network=mlp"),
        ("train_dae", ["--copies=0"], "--copies"),
        ("restore", ["--sigma=-1"], "> 0"),
        ("restore", ["--step_size=2"], "(0, 2)"),
        ("restore", ["--step_size=0"], "(0, 2)"),
        ("restore", ["--add_noise=-1"], "non-negative"),
        ("restore", ["--max_steps=0"], "positive"),
        ("generate", ["--sigma=0.5"], "LOWEST,HIGHEST"),
        ("generate", ["--stochasticity=1"], "--stochasticity"),
    ],
    ids=str,
)
def test_an_impossible_flag_is_told_at_once(tmp_path, app, flags, told):
    workdir = tmp_path / "workdir"
    process = run_without_tensorflow(app, f"--workdir={workdir}", *flags)
    assert_refused(process, app, flags[0].partition("=")[0], told)
    assert not workdir.exists()


# What the apps refuse once they have looked at it.


def of_learned(app, trained, flags, *told):
    workdir = trained["learned"].workdir
    return Refused(app, [f"--workdir={workdir}", *flags], told)


def nan_pixels(folder, trained):
    image = np.zeros((3, SIDE, SIDE), np.float32)
    image[1, 2, 3] = np.nan
    path = folder / "given.npz"
    np.savez(path, image=image)
    flags = [f"--input={path}", "--sigma=0.3"]
    return of_learned("restore", trained, flags, path, "NaN")


def no_sigma(folder, trained):
    return of_learned("restore", trained, [], "--sigma")


def encode(folder, trained):
    return of_learned(
        "encode", trained, [], "DenoisingAutoencoder", "train_vae"
    )


def restore_by_a_vae(folder, trained):
    make_vae().save(folder / "model.keras")
    told = [folder, "VAE", "train_dae"]
    return Refused("restore", [f"--workdir={folder}"], told)


def walk_at_one_level(folder, trained):
    network = kgm.mlp_denoiser((SIDE, SIDE, 1), False, (4,))
    model = kgm.DenoisingAutoencoder(network, 0.1)
    model.adapt(np.eye(SIDE)[np.newaxis, ..., np.newaxis] * [[[[1]]], [[[2]]]])
    model.save(folder / "model.keras")
    flags = [f"--workdir={folder}", "--sigma=0.1,1"]
    return Refused("generate", flags, ["--sigma", "0.1"])


def other_sigma_than_before(folder, trained):
    workdir = trained["learned"].workdir
    flags = [f"--flagfile={workdir}/flags.txt", "--blind"]
    told = ["--blind=true (was false)", workdir]
    return of_learned("train_dae", trained, flags, *told)


REFUSED = [
    nan_pixels,
    no_sigma,
    encode,
    restore_by_a_vae,
    walk_at_one_level,
    other_sigma_than_before,
]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_refused_with_one_line_that_tells_what_and_where(refusals, make):
    check_refusal(*refusals[make])
