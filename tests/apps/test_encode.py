"""The app encode as a user runs it, on runs that a script made."""

import numpy as np
import pytest
import sklearn.datasets
from support.app_runs import (
    NUM_TEST,
    SIDE,
    Refused,
    check_refusal,
    each_refused,
    save_noise,
    succeed,
)

LABELS = sklearn.datasets.load_digits().target[-NUM_TEST:]


@pytest.fixture(scope="module")
def trained(finished):
    return finished


@pytest.fixture
def encode(launch, finished, tmp_path):
    """Starts the app on the run of a kind."""

    def start(kind, name, *flags):
        return launch(
            "encode",
            f"--workdir={finished(kind)}",
            f"--output={tmp_path / name}",
            *flags,
        )

    return start


def test_a_vae_encodes_its_test_split_and_pictures(encode, finished, tmp_path):
    pictures = tmp_path / "pictures"
    save_noise(pictures / "a.png", (20, 10, 3))
    save_noise(pictures / "b.png", (5, 30), seed=1)
    started = [
        encode("vae", "test.npz"),
        encode("vae", "both.npz", f"--input={pictures}"),
    ]
    for process in started:
        succeed(process.result())
    test, both = (
        np.load(tmp_path / f"{name}.npz") for name in ("test", "both")
    )
    assert {*test} == {"loc", "stddev", "label"}
    assert test["loc"].shape == test["stddev"].shape == (NUM_TEST, 2)
    assert np.all(test["stddev"] > 0)
    np.testing.assert_array_equal(test["label"], LABELS)
    latents = finished("vae").tensorboard / "test" / "latents.tsv"
    # The text has six digits.
    np.testing.assert_allclose(
        test["loc"], np.loadtxt(latents), rtol=1e-5, atol=1e-6
    )
    assert {*both} == {"loc", "stddev"}
    assert both["loc"].shape == both["stddev"].shape == (2, 2)
    assert not np.array_equal(*both["loc"])


@pytest.mark.slow
def test_conditional_models_encode_with_their_condition(
    encode, finished, tmp_path
):
    save_noise(tmp_path / "pictures" / "a.png", (20, 10, 3))
    given = np.zeros((2, SIDE, SIDE), np.uint8)
    np.savez(tmp_path / "images.npz", image=given, label=[4, 0])
    pictures = f"--input={tmp_path / 'pictures'}"
    started = [
        encode("labels", "test.npz"),
        encode("labels", "own.npz", pictures, "--label=7"),
        encode("quadrants", "half.npz", pictures),
        encode("labels", "given.npz", f"--input={tmp_path / 'images.npz'}"),
    ]
    for process in started:
        succeed(process.result())
    test, own, half, given = (
        np.load(tmp_path / f"{name}.npz")
        for name in ("test", "own", "half", "given")
    )
    np.testing.assert_array_equal(test["label"], LABELS)
    latents = finished("labels").tensorboard / "test" / "latents.tsv"
    np.testing.assert_allclose(
        test["loc"], np.loadtxt(latents), rtol=1e-5, atol=1e-6
    )
    assert own["label"].tolist() == [7]
    assert half["scale_tril"].shape == (1, 3, 3)
    assert half["scale_tril"][0, 0, 1] == 0 < half["scale_tril"][0, 0, 0]
    assert given["label"].tolist() == [4, 0]


# Errors, each of one line.


def of_run(finished, kind, flags, *named):
    return Refused("encode", [f"--workdir={finished(kind)}", *flags], named)


def no_model(folder, finished):
    return Refused("encode", [f"--workdir={folder}"], [folder, "model.keras"])


def no_description(folder, finished):
    (folder / "model.keras").write_bytes(finished("vae").model.read_bytes())
    return Refused("encode", [f"--workdir={folder}"], [folder, "run.json"])


def changed_data(folder, finished):
    (folder / "model.keras").write_bytes(finished("vae").model.read_bytes())
    text = finished("vae").run.read_text()
    (folder / "run.json").write_text(text.replace("checksum", "checksum 1"))
    named = ["other data", "data_dir"]
    return Refused("encode", [f"--workdir={folder}"], named)


def denoiser(folder, finished):
    return of_run(
        finished, "learned", [], "DenoisingAutoencoder", "LatentVariable"
    )


def labels_that_the_model_does_not_have(folder, finished):
    path = folder / "given.npz"
    np.savez(path, image=np.zeros((2, SIDE, SIDE), np.uint8), label=[3, 10])
    return of_run(finished, "labels", [f"--input={path}"], path, "0 to 9")


def grey_levels_that_binarisation_would_hide(folder, finished):
    path = folder / "given.npz"
    np.savez(path, image=np.full((2, SIDE, SIDE), 255, np.float32))
    return of_run(finished, "vae", [f"--input={path}"], path, "divide", "255")


def pictures_without_a_label(folder, finished):
    save_noise(folder / "pictures" / "a.png", (SIDE, SIDE))
    flags = [f"--input={folder / 'pictures'}"]
    return of_run(finished, "labels", flags, "--label")


def full_disk(folder, finished):
    output = folder / "earlier.npz"
    output.write_text("kept")
    flags = [f"--workdir={finished('vae')}", f"--output={output}"]
    named = [output, "File too large"]
    return Refused("encode", flags, named, file_limit=2000)


QUICK = [no_model, changed_data]
SLOW = [
    no_description,
    grey_levels_that_binarisation_would_hide,
    denoiser,
    labels_that_the_model_does_not_have,
    pictures_without_a_label,
    full_disk,
]


@each_refused(QUICK, SLOW)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])
