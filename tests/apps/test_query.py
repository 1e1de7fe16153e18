"""`python -m apps.query`, against the local server of real exports.

One process serves and runs all commands, as starting TensorFlow for each would
take most of the time.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.app_runs import (
    ROOT,
    TIMEOUT,
    assert_refused,
    contents,
    picture,
    run_each_without_tensorflow,
    save_noise,
)
from support.exported_models import KNOWN, SHAPE
from support.query_commands import COMMAND_LINES, COMMANDS, REFUSED

from keras_genmodels.export import warmup

# Real exports on a real server: minutes. `tests/serving` tests the parts.
pytestmark = pytest.mark.exhaustive


class Vectors(tf.Module):
    """A model of rows of five numbers, with a signature of its own."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32, "seed")])
    def generate(self, seed):
        return {"image": tf.zeros((tf.shape(seed)[0], 5))}

    @tf.function(input_signature=[tf.TensorSpec([None, 5], name="image")])
    def encode(self, image):
        return {"loc": image}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="z")])
    def double(self, z):
        return {"twice": 2 * z}


# Names on the server, of exported models by kind.
KINDS = {
    "vae": "vae",
    "cvae": "labels",
    "completion": "completion",
    "denoiser": "wiener",
    "by_label": "labelled",
}


@pytest.fixture(scope="module")
def served(folder, exports):
    """The folder of a server with a model of each kind, not warmed up."""
    for name, kind in KINDS.items():
        shutil.copytree(
            exports[kind][1],
            folder / "models" / name / "1",
            ignore=shutil.ignore_patterns(warmup.FILE),
        )
    vectors = Vectors()
    tf.saved_model.save(
        vectors,
        str(folder / "models" / "vectors" / "1"),
        {
            "generate": vectors.generate,
            "encode": vectors.encode,
            "double": vectors.double,
        },
    )
    return folder / "models"


@pytest.fixture(scope="module")
def models(exports):
    """The models by their names on the server."""
    return {name: exports[kind][0] for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def pictures(folder):
    path = folder / "pictures"
    for i, name in enumerate(("a.png", "b/c.png", "b/c.jpg")):
        save_noise(path / name, SHAPE[:2], seed=i)
    return path


@pytest.fixture(scope="module")
def spoilt(folder):
    """Bad files with the suffix .npz."""
    path = folder / "spoilt"
    path.mkdir()
    np.savez(path / "z.npz", z=np.zeros((3, 3)))
    whole = (path / "z.npz").read_bytes()
    (path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (path / "empty.npz").write_bytes(b"")
    with open(path / "npy.npz", "wb") as file:
        np.save(file, np.zeros((3, 2)))
    np.savez(path / "number.npz", z=np.float32(1))
    return path


@pytest.fixture(scope="module")
def results(folder, served, pictures, spoilt):
    """The output and the error, if any, of each command."""
    arrays, latents = folder / "arrays.npz", folder / "latents.npz"
    np.savez(latents, z=np.array([[1, 2]], np.float32))
    image = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    np.savez(arrays, image=image, label=np.array([0, 2, 1]))
    np.savez(folder / "grey_levels.npz", image=255 * image)
    lines = {**COMMAND_LINES, **{k: v[0] for k, v in REFUSED.items()}}
    out = folder / "out"
    filled = [
        line.format(
            folder=out,
            pictures=pictures,
            arrays=arrays,
            latents=latents,
            spoilt=spoilt,
            grey_levels=folder / "grey_levels.npz",
        ).split()
        for line in lines.values()
    ]
    before = contents(pictures), arrays.read_bytes()
    process = subprocess.run(
        [sys.executable, "-c", COMMANDS, served],
        input=json.dumps(filled),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert process.stderr == ""
    assert (contents(pictures), arrays.read_bytes()) == before
    answers = map(json.loads, process.stdout.splitlines())
    return dict(zip(lines, answers, strict=True))


@pytest.fixture
def output(results, folder):
    """Returns what a command printed or wrote, if it succeeded."""

    def read(name, file=None):
        printed, error = results[name]
        assert error is None
        if file is None:
            return printed
        with np.load(folder / "out" / file) as arrays:
            return dict(arrays)

    return read


def test_generates_a_sheet_of_pictures(output, folder):
    assert "image [5, 8, 8, 1] in" in output("generate")
    # Enlarged fourfold, with a line between: 2 rows of 3.
    assert picture(folder / "out" / "generate.png").shape == (65, 98, 3)


def test_generated_images_are_those_of_the_model(output, models):
    image = output("arrays", "generate.npz")["image"]
    expected = models["vae"].sample(num=40, seed=1)
    np.testing.assert_allclose(image, expected, atol=1e-5)
    image = output("label", "label.npz")["image"]
    expected = models["cvae"].sample(condition=[2, 2], seed=0)
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_a_denoiser_by_label_takes_the_label(output, models, folder):
    image = output("guided", "guided.npz")["image"]
    expected = models["by_label"].sample(
        condition=[2] * 3, seed=0, num_steps=4, guidance=1.0
    )
    np.testing.assert_allclose(image, expected, atol=1e-5)
    found = output("denoise by label", "by_label.npz")["denoised"]
    assert found.shape == (3, *SHAPE)


def test_completes_pictures(output, pictures):
    image = output("complete", "complete.npz")["image"]
    given = picture(pictures / "a.png")[..., :1] / 255
    np.testing.assert_allclose(image[0][KNOWN], given[KNOWN], atol=1e-6)
    assert np.abs(image[0] - given)[~KNOWN].max() > 0.1


def test_restores_each_picture(output, folder):
    assert "steps, residuals up to" in output("restore")
    restored = contents(folder / "out" / "restored")
    assert {str(path) for path in restored} == {
        *("a.png", "b/c.png.png", "b/c.jpg.png")
    }
    shown = picture(folder / "out" / "restored" / "a.png")
    assert shown.shape == (8, 8, 3)


def test_restores_with_settings(output, folder):
    assert output("sheet").startswith("2 to 2 steps")
    assert picture(folder / "out" / "sheet.png").shape == (32, 65, 3)


def test_denoised_and_noise_make_the_image(output, folder):
    denoised = output("denoise", "denoised.npz")["denoised"]
    noise = output("noise", "noise.npz")["noise"]
    with np.load(folder / "arrays.npz") as given:
        np.testing.assert_allclose(denoised + noise, given["image"], atol=1e-5)


def test_encodes_decodes_and_reconstructs(output, folder, models):
    encoded = output("encode", "z.npz")
    assert encoded["loc"].shape == encoded["stddev"].shape == (3, 3)
    decoded = output("decode", "decoded.npz")["image"]
    reconstructed = output("reconstruct", "reconstructed.npz")["image"]
    np.testing.assert_allclose(decoded, reconstructed, atol=1e-5)
    expected = models["vae"].decode(encoded["loc"]).mean()
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


def test_any_signature_of_a_server_can_be_run(output):
    twice = output("another signature", "twice.npz")["twice"]
    np.testing.assert_array_equal(twice, [[2, 4]])


def test_labels_are_read_from_the_arrays(output, folder, models):
    loc = output("labels", "labels.npz")["loc"]
    with np.load(folder / "arrays.npz") as given:
        binary = np.float32(given["image"] >= 0.5)
        expected = models["cvae"].encode(binary, given["label"]).mean()
    np.testing.assert_allclose(loc, expected, atol=1e-5)


def test_the_log_likelihood_of_each_picture_is_printed(output):
    nats = output("log_likelihood", "nats.npz")
    lines = output("log_likelihood").splitlines()
    for line, name, value in zip(
        lines, ("a.png", "b/c.jpg", "b/c.png"), nats["elbo"], strict=False
    ):
        assert line.startswith(f"{name}: ")
        assert f"elbo {value:.2f}" in line
    mean = nats["log_likelihood"].mean()
    assert f"log_likelihood {mean:.2f} nats, mean of 3" in lines


def test_the_log_density_of_each_picture_is_printed(output):
    nats = output("log_density", "density.npz")["log_density"]
    lines = output("log_density").splitlines()
    for line, value in zip(lines, nats, strict=False):
        assert f"log_density {value:.2f}" in line
    assert f"log_density {nats.mean():.2f} nats, mean of 3" in lines


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_ends_in_one_line(results, folder, name):
    printed, error = results[name]
    assert printed == ""
    assert error.startswith("query: ")
    assert "\n" not in error
    for words in REFUSED[name][1:]:
        assert words in error
    assert not list(folder.glob("out/no.*"))
    # It is suggested only where it helps.
    assert ("(--binarize" in error) == (name == "grey")


WRONG = [
    ("--signature=dream", "signature"),
    ("--num_images=3", "give --output"),
    ("--output=x.jpg", "must end in .png or .npz"),
    ("--sigma=1 --output=x.png", "--sigma requires --signature=restore"),
    ("--signature=encode --output=x.npz", "encode needs --input"),
    (
        "--signature=encode --input=y --output=x.png",
        "x.png must end in .npz",
    ),
    (
        "--signature=restore --input=y --output=x --max_steps=3",
        "--step_size is missing",
    ),
    ("--signature=decode --input=y --output=x.png", "an .npz file"),
    (
        "--signature=restore --input=y.npz --output=folder",
        "must end in .png or .npz",
    ),
    (
        "--signature=denoise --input=y --seed=1 --output=x",
        "--seed requires",
    ),
    (
        "--signature=log_density --input=y --sigma=0.3 --seed=1",
        "--seed requires",
    ),
    ("--guidance=1 --output=x.png", "--guidance requires --num_steps"),
]


def test_wrong_flags_are_refused_without_tensorflow():
    commands = [flags.split() for flags, _ in WRONG]
    runs = run_each_without_tensorflow("query", commands)
    for process, (_, message) in zip(runs, WRONG, strict=True):
        assert_refused(process, "query", message)
