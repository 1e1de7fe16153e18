"""Tests `python -m apps.query`, against the local server of real exports.

One process serves and runs all commands, each as the app does: starting
TensorFlow for each would take most of the time.
"""

import json
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
    run_without_tensorflow,
    save_noise,
)

import keras_genmodels as kgm
from keras_genmodels.export import export
from keras_genmodels.export.replay import replay
from keras_genmodels.operators.masks import observed_quadrants

SHAPE = (8, 8, 1)
COMMANDS = """
import contextlib, io, json, sys
from absl.testing import flagsaver
from apps import query
from apps.cli import guard
guard.FLAGS(["query"])
guard.load_tensorflow()
from keras_genmodels import serving
with serving.Server(sys.argv[1], port=0) as server:
    for argv in json.load(sys.stdin):
        told, error = io.StringIO(), None
        with flagsaver.flagsaver(), contextlib.redirect_stdout(told):
            try:
                guard.FLAGS(["query", f"--address={server.address}", *argv])
                guard._guarded(query.main, "query")
            except SystemExit as end:
                error = str(end)
        print(json.dumps([told.getvalue(), error]))
"""


def latent_pieces(size=0):
    posterior = kgm.MultivariateNormalDiag(2)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    hidden = {"hidden_sizes": (8,), "condition_size": size}
    return (
        kgm.mlp_encoder(SHAPE, posterior.params_size, **hidden),
        kgm.mlp_decoder(2, likelihood.params_shape, **hidden),
        posterior,
        likelihood,
    )


def linear_denoiser():
    made = kgm.LinearDenoiser()
    made.adapt(np.random.default_rng(0).random((50, *SHAPE), np.float32))
    return made


class Vectors(tf.Module):
    """A model of rows of five numbers."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32, "seed")])
    def generate(self, seed):
        return {"image": tf.zeros((tf.shape(seed)[0], 5))}

    @tf.function(input_signature=[tf.TensorSpec([None, 5], name="image")])
    def encode(self, image):
        return {"loc": image}


@pytest.fixture(scope="module")
def models(folder):
    """Exports a model of each kind; gives them, and where they are."""
    made = {
        "vae": kgm.VAE(*latent_pieces()),
        "cvae": kgm.ConditionalVAE(
            *latent_pieces(3), kgm.label_embedding(10, 3), num_classes=10
        ),
        "completion": kgm.ConditionalVAE(
            *latent_pieces(3),
            kgm.image_condition(SHAPE, 3, filters=2),
            observed_mask=observed_quadrants(SHAPE, 2),
        ),
        "denoiser": linear_denoiser(),
    }
    for name, model in made.items():
        export(model, folder / "models", name, warmup=False)
    vectors = Vectors()
    tf.saved_model.save(
        vectors,
        str(folder / "models" / "vectors" / "1"),
        {"generate": vectors.generate, "encode": vectors.encode},
    )
    return made, folder / "models"


@pytest.fixture(scope="module")
def pictures(folder):
    path = folder / "pictures"
    for i, name in enumerate(("a.png", "b/c.png", "b/c.jpg")):
        save_noise(path / name, SHAPE[:2], seed=i)
    return path


@pytest.fixture(scope="module")
def spoilt(folder):
    """Files that are named as if they were .npz files."""
    path = folder / "spoilt"
    path.mkdir()
    np.savez(path / "z.npz", z=np.zeros((3, 2)))
    whole = (path / "z.npz").read_bytes()
    (path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (path / "empty.npz").write_bytes(b"")
    with open(path / "npy.npz", "wb") as file:
        np.save(file, np.zeros((3, 2)))
    np.savez(path / "number.npz", z=np.float32(1))
    return path


# Files go below {folder}; {pictures}, {arrays} and {spoilt} are inputs.
COMMAND_LINES = {
    "generate": "--num_images=5 --seed=1 --output={folder}/generate.png",
    "arrays": "--num_images=40 --seed=1 --output={folder}/generate.npz",
    "label": "--model=cvae --label=3 --num_images=2 "
    "--output={folder}/label.npz",
    "complete": "--model=completion --input={pictures} "
    "--output={folder}/complete.npz",
    "restore": "--model=denoiser --signature=restore --input={pictures} "
    "--sigma=0.3 --output={folder}/restored",
    "sheet": "--model=denoiser --signature=restore --input={pictures} "
    "--sigma=0.3 --step_size=0.5 --max_steps=2 --tolerance=0 "
    "--num_images=2 --output={folder}/sheet.png",
    "denoise": "--model=denoiser --signature=denoise --input={arrays} "
    "--sigma=0.3 --output={folder}/denoised.npz",
    "noise": "--model=denoiser --signature=noise --input={arrays} "
    "--sigma=0.3 --output={folder}/noise.npz",
    "encode": "--signature=encode --input={pictures} --binarize "
    "--output={folder}/z.npz",
    "decode": "--signature=decode --input={folder}/z.npz "
    "--output={folder}/decoded.npz",
    "reconstruct": "--signature=reconstruct --input={pictures} --binarize "
    "--output={folder}/reconstructed.npz",
    "log_likelihood": "--signature=log_likelihood --input={pictures} "
    "--binarize --seed=2 --output={folder}/nats.npz",
    "labels": "--model=cvae --signature=encode --input={arrays} --binarize "
    "--output={folder}/labels.npz",
}
REFUSED = {
    "grey": (
        "--signature=log_likelihood --input={pictures}",
        "image must be 0 or 1",
        "--binarize",
    ),
    "unknown label": (
        "--model=cvae --label=11 --output={folder}/no.png",
        "condition must be a label from 0 to 9",
    ),
    "no label": (
        "--model=cvae --output={folder}/no.png",
        "cvae is a model of labels: give --label",
    ),
    "a label too many": (
        "--label=1 --output={folder}/no.png",
        "vae is no model of labels",
    ),
    "input": (
        "--input={pictures} --output={folder}/no.png",
        "vae generates from nothing but a seed",
    ),
    "nothing to complete": (
        "--model=completion --output={folder}/no.png",
        "give --input",
    ),
    "no sigma": (
        "--model=denoiser --signature=denoise --input={arrays} "
        "--output={folder}/no.npz",
        "lacks sigma",
    ),
    "bad sigma": (
        "--model=denoiser --signature=denoise --input={arrays} --sigma=-1 "
        "--output={folder}/no.npz",
        "sigma must be",
    ),
    "another model's": (
        "--signature=denoise --input={arrays} --output={folder}/no.npz",
        "no signature denoise",
    ),
    "no likelihood": (
        "--model=denoiser --signature=log_likelihood --input={pictures}",
        "no signature log_likelihood",
    ),
    "no model": ("--model=no --output={folder}/no.png", "does not have"),
    "no server": (
        "--address=127.0.0.1:1 --output={folder}/no.png",
        "no server answers at 127.0.0.1:1",
    ),
    "no pictures": (
        "--signature=encode --input={folder}/none --output={folder}/no.npz",
        "none: no such",
    ),
    "no latents": (
        "--signature=decode --input={arrays} --output={folder}/no.npz",
        "neither an array `z` nor `loc`",
    ),
    **{
        f"{name} latents": (
            f"--signature=decode --input={{spoilt}}/{name}.npz "
            "--output={folder}/no.npz",
            f"{name}.npz{told}",
        )
        for name, told in {
            "cut": " cannot be read",
            "empty": " cannot be read",
            "npy": " cannot be read",
            "number": " has neither",
            "missing": ": name another .npz file",
        }.items()
    },
    "its own pictures": (
        "--signature=reconstruct --input={pictures} --output={pictures}",
        "would replace",
        "a.png, which --input reads",
    ),
    "one of its own pictures": (
        "--signature=reconstruct --input={pictures} "
        "--output={pictures}/b/../b/c.png",
        "would replace",
    ),
    "its own picture": (
        "--signature=reconstruct --input={pictures}/a.png --output={pictures}",
        "would replace",
    ),
    "its own arrays": (
        "--signature=encode --input={arrays} --output={arrays}",
        "would replace",
    ),
    "pictures of vectors": (
        "--model=vectors --output={folder}/no.png",
        "gives rows of shape [5], which are no pictures",
    ),
    "pictures for vectors": (
        "--model=vectors --signature=encode --input={pictures} "
        "--output={folder}/no.npz",
        "takes rows of shape [5], which are no pictures",
    ),
    "a label and labels": (
        "--model=cvae --signature=encode --label=1 --input={arrays} "
        "--output={folder}/no.npz",
        "give --label, or an --input that has labels, not both",
    ),
    "a label and pictures": (
        "--model=cvae --label=1 --input={pictures} --output={folder}/no.npz",
        "give --label, or an --input that has labels, not both",
    ),
    "too few": (
        "--signature=encode --input={pictures} --num_images=4 "
        "--output={folder}/no.npz",
        "--num_images=4, but",
        "pictures holds 3",
    ),
}


@pytest.fixture(scope="module")
def results(folder, models, pictures, spoilt):
    """Runs all commands; gives what each said, and its error if any."""
    arrays = folder / "arrays.npz"
    image = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    np.savez(arrays, image=image, label=np.array([0, 9, 4]))
    lines = {**COMMAND_LINES, **{k: v[0] for k, v in REFUSED.items()}}
    out = folder / "out"
    filled = [
        line.format(
            folder=out, pictures=pictures, arrays=arrays, spoilt=spoilt
        ).split()
        for line in lines.values()
    ]
    before = contents(pictures), arrays.read_bytes()
    process = subprocess.run(
        [sys.executable, "-c", COMMANDS, models[1]],
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
    """Gives what a command said, once it is known to have ended well."""

    def read(name, file=None):
        told, error = results[name]
        assert error is None
        if file is None:
            return told
        with np.load(folder / "out" / file) as arrays:
            return dict(arrays)

    return read


def test_generates_a_sheet_of_pictures(output, folder):
    assert "image [5, 8, 8, 1] in" in output("generate")
    # Enlarged fourfold, with a line between: 2 rows of 3.
    assert picture(folder / "out" / "generate.png").shape == (65, 98, 3)


def test_generated_images_are_the_models_own(output, models):
    image = output("arrays", "generate.npz")["image"]
    expected = models[0]["vae"].sample(num=40, seed=1)
    np.testing.assert_allclose(image, expected, atol=1e-5)
    image = output("label", "label.npz")["image"]
    expected = models[0]["cvae"].sample([3, 3], seed=0)
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_completes_pictures(output, pictures):
    image = output("complete", "complete.npz")["image"]
    known = observed_quadrants(SHAPE, 2)
    given = picture(pictures / "a.png")[..., :1] / 255
    np.testing.assert_allclose(image[0][known], given[known], atol=1e-6)
    assert np.abs(image[0] - given)[~known].max() > 0.1


def test_restores_each_picture(output, folder):
    assert "steps, residuals up to" in output("restore")
    restored = contents(folder / "out" / "restored")
    assert {str(path) for path in restored} == {
        *("a.png", "b/c.png", "b/c.jpg.png")
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
    assert encoded["loc"].shape == encoded["stddev"].shape == (3, 2)
    decoded = output("decode", "decoded.npz")["image"]
    reconstructed = output("reconstruct", "reconstructed.npz")["image"]
    np.testing.assert_allclose(decoded, reconstructed, atol=1e-5)
    expected = models[0]["vae"].decode(encoded["loc"]).mean()
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


def test_labels_come_with_the_arrays(output, folder, models):
    loc = output("labels", "labels.npz")["loc"]
    with np.load(folder / "arrays.npz") as given:
        binary = np.float32(given["image"] >= 0.5)
        expected = models[0]["cvae"].encode(binary, given["label"]).mean()
    np.testing.assert_allclose(loc, expected, atol=1e-5)


def test_log_likelihood_is_told_of_each_picture(output):
    nats = output("log_likelihood", "nats.npz")
    lines = output("log_likelihood").splitlines()
    for line, name, value in zip(
        lines, ("a.png", "b/c.jpg", "b/c.png"), nats["elbo"], strict=False
    ):
        assert line.startswith(f"{name}: ")
        assert f"elbo {value:.2f}" in line
    mean = nats["log_likelihood"].mean()
    assert f"log_likelihood {mean:.2f} nats in the mean of 3" in lines


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_model_does_not_take_is_one_line(results, folder, name):
    told, error = results[name]
    assert told == ""
    assert error.startswith("query: ")
    assert "\n" not in error
    for words in REFUSED[name][1:]:
        assert words in error
    assert not list(folder.glob("out/no.*"))
    # It helps against one refusal alone.
    assert ("--binarize" in error) == (name == "grey")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--signature=dream", "signature"),
        ("--num_images=3", "give --output"),
        ("--output=x.jpg", "must end in .png or .npz"),
        ("--sigma=1 --output=x.png", "--sigma goes with --signature=restore"),
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
        ("--signature=denoise --input=y --label=1 --output=x", "--label goes"),
    ],
)
def test_wrong_flags_are_told_at_once(flags, told):
    assert_refused(
        run_without_tensorflow("query", *flags.split()), "query", told
    )


def test_help_needs_no_tensorflow():
    process = run_without_tensorflow("query", "--help")
    assert process.returncode == 0
    assert "--signature=generate" in process.stdout


def test_an_export_answers_as_its_model(models):
    """In another process, without TensorFlow's Python."""
    seed = np.array([[0, 1], [5, 6]], np.int32)
    path = models[1] / "vae" / "1"
    (answer,) = replay(path, [("generate", {"seed": seed})])
    expected = models[0]["vae"].sample(num=2, seed=seed)
    np.testing.assert_allclose(answer["image"], expected, atol=1e-5)
