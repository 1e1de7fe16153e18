"""The apps of conditional models, each command in a process of its own."""

import shutil

import keras
import numpy as np
import pytest
import sklearn.datasets
from support.app_runs import (
    NUM_TEST,
    SIDE,
    Refused,
    Trained,
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
)
from support.small_cvaes import assemble
from support.small_vaes import make_vae

from keras_genmodels import operators
from keras_genmodels.core import seeds

LABELS = sklearn.datasets.load_digits().target[-NUM_TEST:]
TINY = (
    "--network=mlp",
    "--hidden_sizes=32",
    "--latent_size=2",
    "--checkpoint_every=5",
    "--jit_compile=false",
)
KINDS = {
    "label": (
        "--label_dropout=0.1",
        "--num_importance_samples=3",
        "--doubly_reparameterized",
        "--epochs=8",
        "--learning_rate=1e-2",
    ),
    "quadrants": (
        "--condition=quadrants",
        "--num_quadrants=2",
        "--prior=learned",
        "--posterior=full",
        "--epochs=2",
    ),
}
KNOWN = operators.known_quadrants((SIDE, SIDE, 1), 2)


@pytest.fixture(scope="module")
def trained(folder, data_dir, launch):
    """Finished runs by kind. Not to be written to."""
    started = {
        kind: launch(
            "train_cvae",
            f"--workdir={folder / kind}",
            f"--data_dir={data_dir}",
            *TINY,
            *flags,
        )
        for kind, flags in KINDS.items()
    }
    return {
        kind: Trained(folder / kind, process.result())
        for kind, process in started.items()
    }


def load(trained, kind):
    return keras.saving.load_model(trained[kind].workdir / "model.keras")


# Training.


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_tells_its_results_and_leaves_them(trained, kind):
    workdir, process = trained[kind]
    said, found = succeed(process), metrics(workdir)
    test = found["test"]
    assert found["kind"] == "ConditionalVAE"
    weighted = test["importance_weighted"]
    assert weighted["num_samples"] == 100
    assert weighted["log_likelihood"] >= test["elbo"]
    assert f"Test elbo {test['elbo']:.2f}" in said
    drawn = test["monte_carlo"]["log_likelihood"]
    assert f"(Monte Carlo): {drawn:.2f}" in said
    assert f"100 samples: {weighted['log_likelihood']:.2f}" in said
    figures = {path.stem for path in (workdir / "figures").glob("*.png")}
    drawn = "samples" if kind == "label" else "completions"
    assert figures == {"reconstructions", drawn}
    for name in figures:
        assert np.ptp(picture(workdir / "figures" / f"{name}.png")) > 100


def test_generated_images_show_their_labels(trained):
    workdir, process = trained["label"]
    labels = metrics(workdir)["labels"]
    drawn, real = labels["generated"], labels["real"]
    assert real["accuracy"] > 0.9
    # A tiny model; one that does not look at the label gets 0.1.
    assert 0.5 < drawn["accuracy"] <= 1
    assert drawn["num_examples"] == real["num_examples"] == NUM_TEST
    assert 0 < labels["diversity"] < 1
    for value in (drawn["accuracy"], real["accuracy"]):
        assert f"{value:.1%}" in process.stdout


def test_completion_counts_the_unseen_half(trained):
    test = metrics(trained["quadrants"].workdir)["test"]
    # After two epochs hardly better than a coin for each of 32 pixels.
    assert 0.3 * 32 < test["distortion"] < 1.2 * 32 * np.log(2)


def test_the_test_loss_is_that_of_three_samples(trained):
    test = metrics(trained["label"].workdir)["test"]
    weighted = test["importance_weighted"]["log_likelihood"]
    assert -weighted < test["loss"] < -test["elbo"]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    trained, tmp_path
):
    """With dropped labels, which are drawn anew in each step."""
    whole, cut = trained["label"].workdir, tmp_path / "cut"
    flags = f"--flagfile={whole}/flags.txt"
    kill("train_cvae", cut, flags, least_step=15)
    assert last_step(cut) > 11
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_cvae", flags, f"--workdir={cut}"))
    assert "Epoch 1/" not in resumed
    assert_same_weights(cut, whole)
    for name in ("test", "labels", "steps", "best_epoch", "validation_loss"):
        assert metrics(cut)[name] == metrics(whole)[name]


@pytest.mark.slow
def test_where_a_run_lies_it_is_finished(trained):
    workdir = trained["quadrants"].workdir
    before = contents(workdir)
    again = run(
        "train_cvae", f"--flagfile={workdir}/flags.txt", f"--workdir={workdir}"
    )
    assert "This run is finished" in succeed(again)
    assert contents(workdir) == before


# What a model is used for.


def test_images_are_generated_by_label(trained, launch, tmp_path):
    def draw(name, *flags):
        return launch(
            "generate",
            f"--workdir={trained['label'].workdir}",
            f"--output={tmp_path / name}",
            "--seed=1",
            *flags,
        )

    started = [
        draw("three.npz", "--label=3", "--num_images=5", "--guidance=0.5"),
        draw("none.npz", "--label=none", "--num_images=4"),
        draw("each.npz", "--num_images=3"),
        draw("each.png", "--num_images=3"),
    ]
    said = [succeed(process.result()) for process in started]
    model = load(trained, "label")
    three, none, each = (
        np.load(tmp_path / f"{name}.npz") for name in ("three", "none", "each")
    )
    assert (three["label"] == 3).all()
    assert "label" not in none
    np.testing.assert_array_equal(each["label"], np.repeat(np.arange(10), 3))
    assert "3 images of each of 10 labels" in said[2]
    for found, expected in (
        (three, model.sample([3] * 5, seed=1, guidance=0.5)),
        (none, model.sample(num=4, seed=1)),
        # The same three latents for each label.
        (
            each,
            model.sample(
                each["label"], seed=np.tile(seeds.row_seeds(1, 3), (10, 1))
            ),
        ),
    ):
        np.testing.assert_allclose(
            found["image"], expected, rtol=1e-4, atol=1e-5
        )
    assert np.ptp(picture(tmp_path / "each.png")) > 100


def test_images_are_completed(trained, launch, tmp_path):
    first = save_noise(tmp_path / "pictures" / "a.png", (20, 10, 3))

    def complete(name, *flags):
        return launch(
            "generate",
            f"--workdir={trained['quadrants'].workdir}",
            f"--output={tmp_path / name}",
            *flags,
        )

    started = [
        complete("test.npz", "--num_images=5", "--num_completions=3"),
        complete("own.npz", f"--input={first.parent}"),
        complete("sheet.png", "--input=validation"),
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
    assert np.ptp(picture(tmp_path / "sheet.png")) > 100


def test_encode(trained, launch, tmp_path):
    save_noise(tmp_path / "pictures" / "a.png", (20, 10, 3))
    given = np.zeros((2, SIDE, SIDE), np.uint8)
    np.savez(tmp_path / "images.npz", image=given, label=[4, 0])

    def encode(kind, name, *flags):
        return launch(
            "encode",
            f"--workdir={trained[kind].workdir}",
            f"--output={tmp_path / name}",
            *flags,
        )

    started = [
        encode("label", "test.npz"),
        encode(
            "label", "own.npz", f"--input={tmp_path / 'pictures'}", "--label=7"
        ),
        encode("quadrants", "half.npz", f"--input={tmp_path / 'pictures'}"),
        encode("label", "given.npz", f"--input={tmp_path / 'images.npz'}"),
    ]
    for process in started:
        succeed(process.result())
    test, own, half = (
        np.load(tmp_path / f"{name}.npz") for name in ("test", "own", "half")
    )
    np.testing.assert_array_equal(test["label"], LABELS)
    assert test["loc"].shape == test["stddev"].shape == (NUM_TEST, 2)
    latents = trained["label"].workdir / "tensorboard" / "test" / "latents.tsv"
    np.testing.assert_allclose(
        test["loc"], np.loadtxt(latents), rtol=1e-5, atol=1e-6
    )
    assert own["label"].tolist() == [7]
    assert half["scale_tril"].shape == (1, 2, 2)
    assert np.load(tmp_path / "given.npz")["label"].tolist() == [4, 0]


# What is answered at once.


@pytest.mark.parametrize(
    ("app", "flags", "told"),
    [
        ("train_cvae", ["--num_quadrants=4"], "[1, 3]"),
        ("train_cvae", ["--num_quadrants=2"], "--condition=quadrants"),
        ("train_cvae", ["--condition=left"], "quadrants"),
        (
            "train_cvae",
            ["--label_dropout=0.1", "--condition=quadrants"],
            "--condition=label",
        ),
        ("train_cvae", ["--label_dropout=1"], "0.99"),
        ("generate", ["--guidance=-1"], "non-negative"),
        ("generate", ["--num_completions=0"], "positive"),
    ],
    ids=str,
)
def test_an_impossible_flag_is_told_at_once(tmp_path, app, flags, told):
    workdir = tmp_path / "workdir"
    process = run_without_tensorflow(app, f"--workdir={workdir}", *flags)
    assert process.returncode == 1
    assert process.stderr.startswith(f"{app}: ")
    assert process.stderr.count("\n") == 1
    assert flags[0].partition("=")[0] in process.stderr
    assert told in process.stderr
    assert not workdir.exists()


# What the apps refuse once they have looked at it.


def of_run(app, trained, kind, flags, *told):
    return Refused(app, [f"--workdir={trained[kind].workdir}", *flags], told)


def unknown_label(folder, trained):
    flags = ["--label=10"]
    return of_run("generate", trained, "label", flags, "--label=10", "0 to 9")


def label_that_is_no_number(folder, trained):
    flags = ["--label=three"]
    return of_run("generate", trained, "label", flags, "--label=three")


def guidance_without_a_label(folder, trained):
    flags = ["--label=none", "--guidance=1"]
    return of_run("generate", trained, "label", flags, "--guidance")


def labels_that_the_model_does_not_know(folder, trained):
    path = folder / "given.npz"
    np.savez(path, image=np.zeros((2, SIDE, SIDE), np.uint8), label=[3, 10])
    flags = [f"--input={path}"]
    return of_run("encode", trained, "label", flags, path, "0 to 9")


def pixels_out_of_range(folder, trained):
    path = folder / "given.npz"
    np.savez(path, image=np.full((2, SIDE, SIDE), 1.5))
    flags = [f"--input={path}"]
    return of_run("generate", trained, "quadrants", flags, path, "[0, 1]")


def condition_of_its_own(folder, trained):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    assemble(network, 5).save(folder / "model.keras")
    flags = [f"--workdir={folder}"]
    return Refused("generate", flags, ["neither labels nor", "script"])


def data_that_are_others_now(folder, trained):
    workdir = shutil.copytree(trained["label"].workdir, folder / "workdir")
    path = workdir / "flags.txt"
    path.write_text(path.read_text().replace("checksum", "checksum 1"))
    flags = [f"--workdir={workdir}"]
    return Refused("encode", flags, [workdir, "other data", "--data_dir"])


def label_for_a_model_of_quadrants(folder, trained):
    flags = ["--label=3"]
    return of_run("generate", trained, "quadrants", flags, "--label", "labels")


def input_for_a_model_of_labels(folder, trained):
    flags = ["--input=train"]
    return of_run("generate", trained, "label", flags, "--input", "quadrants")


def pictures_without_a_label(folder, trained):
    save_noise(folder / "pictures" / "a.png", (SIDE, SIDE))
    flags = [f"--input={folder / 'pictures'}"]
    return of_run("encode", trained, "label", flags, "--label")


def no_such_pictures(folder, trained):
    flags = [f"--input={folder / 'nowhere'}"]
    told = [folder / "nowhere", "no such picture"]
    return of_run("generate", trained, "quadrants", flags, *told)


def label_of_a_vae(folder, trained):
    make_vae().save(folder / "model.keras")
    flags = [f"--workdir={folder}", "--label=3"]
    return Refused("generate", flags, ["--label", "conditional"])


def restore_by_a_conditional_model(folder, trained):
    told = ["ConditionalVAE", "train_dae"]
    return of_run("restore", trained, "label", ["--sigma=0.3"], *told)


def data_without_labels(folder, trained):
    path = folder / "data.npz"
    np.savez(path, image=np.zeros((40, 4, 4), np.uint8))
    told = [path, "no labels", "--condition=quadrants"]
    return Refused("train_cvae", [f"--dataset={path}"], told)


def images_without_quadrants(folder, trained):
    path = folder / "data.npz"
    np.savez(path, image=np.zeros((40, 1, 4), np.uint8))
    flags = [f"--dataset={path}", "--condition=quadrants"]
    return Refused("train_cvae", flags, ["1x4", "quadrants"])


def workdir_of_another_program(folder, trained):
    workdir = shutil.copytree(trained["label"].workdir, folder / "workdir")
    flags = [f"--workdir={workdir}"]
    return Refused("train_vae", flags, [workdir, "train_cvae"])


REFUSED = [
    unknown_label,
    label_that_is_no_number,
    guidance_without_a_label,
    labels_that_the_model_does_not_know,
    pixels_out_of_range,
    condition_of_its_own,
    data_that_are_others_now,
    label_for_a_model_of_quadrants,
    input_for_a_model_of_labels,
    pictures_without_a_label,
    no_such_pictures,
    label_of_a_vae,
    restore_by_a_conditional_model,
    data_without_labels,
    images_without_quadrants,
    workdir_of_another_program,
]


@pytest.mark.slow
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_refused_with_one_line_that_tells_what_and_where(refusals, make):
    check_refusal(*refusals[make])
