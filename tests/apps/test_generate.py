"""The app generate as a user runs it, on runs that a script made."""

import keras
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from support.app_runs import (
    NUM_TEST,
    SIDE,
    Refused,
    check_refusal,
    each_refused,
    picture,
    save_noise,
    succeed,
    tiles_of,
)
from support.evaluated_runs import KNOWN
from support.small_cvaes import assemble
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels.core import seeds


@pytest.fixture(scope="module")
def trained(finished):
    return finished


@pytest.fixture
def generate(launch, finished, tmp_path):
    """Starts the app on the run of a kind."""

    def start(kind, name, *flags):
        return launch(
            "generate",
            f"--workdir={finished(kind)}",
            f"--output={tmp_path / name}",
            *flags,
        )

    return start


def test_images_of_a_vae_depend_on_the_seed_and_their_number(
    generate, finished, tmp_path
):
    started = [
        generate("vae", "sixteen.npz", "--num_images=16", "--seed=1"),
        generate("vae", "five.png", "--num_images=5", "--seed=2"),
    ]
    said = [succeed(process.result()) for process in started]
    assert f"16 images in {tmp_path}/sixteen.npz" in said[0]
    images = np.load(tmp_path / "sixteen.npz")["image"]
    assert images.shape == (16, SIDE, SIDE, 1)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    model = finished("vae").load_model()
    np.testing.assert_allclose(images[:4], model.sample(4, seed=1), atol=1e-5)
    tiles = tiles_of(picture(tmp_path / "five.png"), rows=2, columns=3)
    assert np.all(tiles[5] == 255)
    others = 255 * np.broadcast_to(model.sample(5, seed=2), tiles[:5].shape)
    # A picture holds whole grey levels.
    np.testing.assert_allclose(tiles[:5], others, rtol=0, atol=0.51)
    assert np.abs(255 * images[:5] - tiles[:5]).max() > 1


def assert_drawn(path, expected):
    np.testing.assert_allclose(
        np.load(path)["image"], expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_images_are_drawn_by_label(generate, finished, tmp_path):
    flags = ("--label=3", "--num_images=5", "--guidance=0.5", "--seed=1")
    succeed(generate("labels", "three.npz", *flags).result())
    assert (np.load(tmp_path / "three.npz")["label"] == 3).all()
    model = finished("labels").load_model()
    expected = model.sample(condition=[3] * 5, seed=1, guidance=0.5)
    assert_drawn(tmp_path / "three.npz", expected)


@pytest.mark.slow
def test_images_are_drawn_of_no_label_or_each(generate, finished, tmp_path):
    started = [
        generate(
            "labels", "none.npz", "--label=none", "--num_images=4", "--seed=1"
        ),
        generate("labels", "each.npz", "--num_images=3", "--seed=1"),
    ]
    said = [succeed(process.result()) for process in started]
    model = finished("labels").load_model()
    assert "label" not in np.load(tmp_path / "none.npz")
    assert_drawn(tmp_path / "none.npz", model.sample(num=4, seed=1))
    labels = np.load(tmp_path / "each.npz")["label"]
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 3))
    assert "3 images of each of 10 labels" in said[1]
    same_latents = np.tile(seeds.row_seeds(1, 3), (10, 1))
    expected = model.sample(condition=labels, seed=same_latents)
    assert_drawn(tmp_path / "each.npz", expected)


@pytest.mark.slow
def test_a_denoiser_draws_images_by_label(generate, finished, tmp_path):
    flags = ("--num_steps=3", "--guidance=1", "--seed=1")
    three = generate(
        "labelled", "three.npz", "--label=3", "--num_images=5", *flags
    )
    walk = f"--trajectory={tmp_path}/walk.gif"
    each = generate("labelled", "each.png", "--num_images=2", walk, *flags)
    succeed(three.result())
    assert "2 images of each of 10 labels" in succeed(each.result())
    assert np.ptp(picture(tmp_path / "each.png")) > 100
    with Image.open(tmp_path / "walk.gif") as steps:
        assert steps.n_frames == 4
    found = np.load(tmp_path / "three.npz")
    assert (found["label"] == 3).all()
    expected = (
        finished("labelled")
        .load_model()
        .sample(condition=[3] * 5, seed=1, guidance=1.0, num_steps=3)
    )
    np.testing.assert_allclose(
        found["image"], np.clip(expected, 0, 1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_labels_and_completions_are_drawn_as_sheets(generate, tmp_path):
    started = [
        generate("labels", "each.png", "--num_images=3"),
        generate("quadrants", "sheet.png", "--input=validation"),
    ]
    for process in started:
        succeed(process.result())
    for name in ("each", "sheet"):
        assert np.ptp(picture(tmp_path / f"{name}.png")) > 100


@pytest.mark.slow
def test_images_are_completed(generate, tmp_path):
    first = save_noise(tmp_path / "pictures" / "a.png", (20, 10, 3))
    started = [
        generate(
            "quadrants", "test.npz", "--num_images=5", "--num_completions=3"
        ),
        generate("quadrants", "own.npz", f"--input={first.parent}"),
    ]
    said = [succeed(process.result()) for process in started]
    assert "3 completions of each of 5 images" in said[0]
    for name, count, draws in (("test", 5, 3), ("own", 1, 6)):
        found = np.load(tmp_path / f"{name}.npz")
        image, truth = found["image"], found["truth"]
        assert image.shape == (count, draws, SIDE, SIDE, 1)
        assert truth.shape == (count, SIDE, SIDE, 1)
        assert set(np.unique(truth)) == {0, 1}
        kept = np.where(KNOWN, image, truth[:, np.newaxis])
        np.testing.assert_array_equal(
            kept, np.repeat(truth[:, np.newaxis], draws, 1)
        )
        unseen = image[..., ~KNOWN]
        assert 0 < unseen.min() < unseen.max() < 1
        assert np.abs(unseen[:, 0] - unseen[:, 1]).max() > 1e-4


@pytest.mark.slow
def test_denoisers_generate_images_from_noise(generate, finished, tmp_path):
    started = [
        generate("exact", "exact.npz", "--num_images=5", "--seed=1"),
        generate(
            "learned",
            "learned.npz",
            "--num_images=5",
            "--solver=heun",
            "--stochasticity=0.5",
            "--sigma=0.1,2",
            "--num_steps=21",
        ),
        generate(
            "linear",
            "linear.png",
            "--num_images=5",
            "--num_steps=10",
            "--schedule=karras",
            f"--trajectory={tmp_path}/new/walk.gif",
        ),
    ]
    for process in started:
        succeed(process.result())
    images = np.load(tmp_path / "exact.npz")["image"]
    assert images.dtype == np.float32
    # The exact posterior mean ends at images that it was adapted to.
    stored = sklearn.datasets.load_digits().data[:-NUM_TEST] / 16
    for image in images.reshape(5, 1, -1):
        assert np.abs(stored - image).max(1).min() < 0.05
    expected = kgm.generate(
        finished("learned").load_model(),
        (SIDE, SIDE, 1),
        5,
        seed=0,
        sigma_max=2.0,
        sigma_min=0.1,
        solver="heun",
        num_steps=21,
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
    with Image.open(tmp_path / "new" / "walk.gif") as walk:
        assert walk.n_frames == 11
        assert min(walk.size) >= 96


# Errors, each of one line.


def of_run(finished, kind, flags, *named):
    return Refused("generate", [f"--workdir={finished(kind)}", *flags], named)


def unknown_label(folder, finished):
    return of_run(finished, "labels", ["--label=10"], "--label=10", "0 to 9")


def label_that_is_no_number(folder, finished):
    return of_run(finished, "labels", ["--label=three"], "--label=three")


def guidance_without_a_label(folder, finished):
    flags = ["--label=none", "--guidance=1"]
    return of_run(finished, "labels", flags, "--guidance")


def pixels_out_of_range(folder, finished):
    path = folder / "given.npz"
    np.savez(path, image=np.full((2, SIDE, SIDE), 1.5))
    return of_run(finished, "quadrants", [f"--input={path}"], path, "[0, 1]")


def custom_condition(folder, finished):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    assemble(network, 5).save(folder / "model.keras")
    flags = [f"--workdir={folder}"]
    return Refused("generate", flags, ["neither labels nor", "script"])


def label_for_a_model_of_quadrants(folder, finished):
    return of_run(finished, "quadrants", ["--label=3"], "--label", "labels")


def input_for_a_model_of_labels(folder, finished):
    flags = ["--input=train"]
    return of_run(finished, "labels", flags, "--input", "quadrants")


def no_such_pictures(folder, finished):
    flags = [f"--input={folder / 'nowhere'}"]
    return of_run(finished, "quadrants", flags, folder / "nowhere", "picture")


def label_of_a_vae(folder, finished):
    make_vae().save(folder / "model.keras")
    flags = [f"--workdir={folder}", "--label=3"]
    return Refused("generate", flags, ["--label", "conditioned"])


def sigma_range_of_a_single_level(folder, finished):
    network = kgm.mlp_denoiser(
        (SIDE, SIDE, 1), noise_conditional=False, hidden_sizes=(4,)
    )
    model = kgm.DenoisingAutoencoder(network, sigma=0.1)
    model.adapt(np.eye(SIDE)[np.newaxis, ..., np.newaxis] * [[[[1]]], [[[2]]]])
    model.save(folder / "model.keras")
    flags = [f"--workdir={folder}", "--sigma=0.1,1"]
    return Refused("generate", flags, ["--sigma", "0.1"])


def solver_of_a_blind_denoiser(folder, finished):
    network = kgm.mlp_denoiser(
        (SIDE, SIDE, 1), noise_conditional=False, hidden_sizes=(4,)
    )
    model = kgm.DenoisingAutoencoder(network, blind=True)
    model.adapt(np.eye(SIDE)[np.newaxis, ..., np.newaxis] * [[[[1]]], [[[2]]]])
    model.save(folder / "model.keras")
    flags = [f"--workdir={folder}", "--solver=euler"]
    return Refused("generate", flags, ["--solver", "receives sigma"])


def stochasticity_without_its_solver(folder, finished):
    flags = ["--stochasticity=0.5"]
    return of_run(finished, "linear", flags, "heun or euler", "dpmpp_2m")


def even_number_of_steps_of_heun(folder, finished):
    flags = ["--solver=heun", "--num_steps=10"]
    return of_run(finished, "linear", flags, "num_steps", "odd")


def truncated_model(folder, finished):
    path = folder / "model.keras"
    whole = finished("vae").model.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return Refused("generate", [f"--workdir={folder}"], [path])


def foreign_model(folder, finished):
    path = folder / "model.keras"
    layers = [keras.layers.Input((3,)), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path)
    return Refused("generate", [f"--workdir={folder}"], [path, "Sequential"])


def full_disk(folder, finished):
    output = folder / "earlier.npz"
    output.write_text("kept")
    flags = [f"--output={output}", "--num_images=500"]
    flags.append(f"--workdir={finished('vae')}")
    named = [output, "File too large"]
    return Refused("generate", flags, named, file_limit=2000)


QUICK = [truncated_model, label_of_a_vae]
SLOW = [
    foreign_model,
    custom_condition,
    full_disk,
    unknown_label,
    label_for_a_model_of_quadrants,
    label_that_is_no_number,
    guidance_without_a_label,
    pixels_out_of_range,
    input_for_a_model_of_labels,
    no_such_pictures,
    sigma_range_of_a_single_level,
    solver_of_a_blind_denoiser,
    stochasticity_without_its_solver,
    even_number_of_steps_of_heun,
]


@each_refused(QUICK, SLOW)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])
