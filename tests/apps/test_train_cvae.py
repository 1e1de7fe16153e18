"""The app train_cvae as a user runs it, in a process of its own."""

import functools

import keras
import numpy as np
import pytest
import sklearn.datasets
from support.app_runs import (
    NUM_TEST,
    SIDE,
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

from keras_genmodels import operators
from keras_genmodels.metrics.estimates import as_text

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
KNOWN = operators.observed_quadrants((SIDE, SIDE, 1), 2)


@pytest.fixture(scope="module")
def trained(folder, data_dir, launch):
    """Returns a kind's finished run. Not to be written to."""

    @functools.cache
    def train(kind):
        process = launch(
            "train_cvae",
            f"--workdir={folder / kind}",
            f"--data_dir={data_dir}",
            *TINY,
            *KINDS[kind],
        )
        return Trained(folder / kind, process.result())

    return train


@pytest.mark.parametrize(
    "kind", ["label", pytest.param("quadrants", marks=pytest.mark.slow)]
)
def test_a_run_prints_and_writes_its_results(trained, kind):
    workdir, process = trained(kind)
    said, test = succeed(process), measures(workdir, "likelihood")
    assert metrics(workdir)["kind"] == "ConditionalVAE"
    weighted = test["log_likelihood"]
    assert weighted["label"].endswith("100 draws")
    assert weighted["value"] >= test["elbo"]["value"]
    for measure in (test["elbo"], weighted):
        number = as_text(measure["value"], measure["standard_error"], "nats")
        assert number in said
    figures = {path.stem for path in (workdir / "figures").glob("*.png")}
    drawn = "samples" if kind == "label" else "completions"
    assert figures == {"reconstructions", drawn}
    for name in figures:
        assert np.ptp(picture(workdir / "figures" / f"{name}.png")) > 100


def test_generated_images_show_their_labels(trained):
    workdir, process = trained("label")
    labels = measures(workdir, "labels")
    drawn = labels["label_accuracy"]
    real = drawn["references"]["real test images"]
    assert real["value"] > 0.9
    # A tiny model; one that does not look at the label gets 0.1.
    assert 0.5 < drawn["value"] <= 1
    assert 0 < labels["diversity"]["value"] < 1
    for estimate in (drawn, real):
        number = as_text(estimate["value"], estimate["standard_error"])
        assert number in process.stdout


@pytest.mark.slow
def test_the_distortion_of_a_completion_is_of_the_unobserved_half(trained):
    test = measures(trained("quadrants").workdir, "likelihood")
    # After two epochs hardly better than a coin for each of 32 pixels.
    assert 0.3 * 32 < test["distortion"]["value"] < 1.2 * 32 * np.log(2)


def test_the_test_loss_is_that_of_three_samples(trained):
    test = measures(trained("label").workdir, "likelihood")
    weighted = test["log_likelihood"]["value"]
    assert -weighted < test["loss"]["value"] < -test["elbo"]["value"]


@pytest.mark.exhaustive  # `train_dae` by label shows it, too.
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    trained, tmp_path
):
    """With dropped labels, which are drawn anew in each step."""
    whole, cut = trained("label").workdir, tmp_path / "cut"
    flags = f"--flagfile={whole}/flags.txt"
    kill("train_cvae", cut, flags, least_step=15)
    assert last_step(cut) > 11
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_cvae", flags, f"--workdir={cut}"))
    assert "epoch 1/" not in resumed
    assert_same_weights(cut, whole)
    assert_same_results(cut, whole)


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(trained):
    workdir = trained("quadrants").workdir
    before = contents(workdir)
    again = run(
        "train_cvae", f"--flagfile={workdir}/flags.txt", f"--workdir={workdir}"
    )
    assert "This run is finished" in succeed(again)
    assert contents(workdir) == before


@pytest.mark.slow
def test_filters_are_the_channels_at_full_size(data_dir, tmp_path):
    """In all networks of a model that has the most of them."""
    flags = ("--epochs=1", "--filters=3", "--condition=quadrants")
    flags += ("--network=resnet", f"--data_dir={data_dir}")
    succeed(run("train_cvae", *flags, f"--workdir={tmp_path / 'run'}"))
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    for network in (model.encoder, model.condition_network):
        assert network.get_layer("stem").filters == 3
    assert model.decoder.get_layer("up_0").filters == 3
    for network in (model.encoder, model.condition_network, model.decoder):
        kinds = {type(layer).__name__ for layer in network.layers}
        assert "ResidualBlock" in kinds


# Errors, each of one line.


def data_without_labels(folder, trained):
    path = folder / "data.npz"
    np.savez(path, image=np.zeros((40, 4, 4), np.uint8))
    named = [path, "no labels", "another condition"]
    return Refused("train_cvae", [f"--dataset={path}"], named)


def images_without_quadrants(folder, trained):
    path = folder / "data.npz"
    np.savez(path, image=np.zeros((40, 1, 4), np.uint8))
    flags = [f"--dataset={path}", "--condition=quadrants"]
    return Refused("train_cvae", flags, ["1x4", "quadrants"])


@each_refused([data_without_labels], [images_without_quadrants])
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(
            ("--prior=vamp", "--num_pseudo_inputs=10", "--label_dropout=0.1"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--prior=flow", "--num_couplings=2", "--condition=quadrants"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--prior=mixture", "--num_components=3"),
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["vamp", "flow", "mixture"],
)
def test_a_prior_of_the_condition_is_trained(flags, data_dir, tmp_path):
    command = (f"--data_dir={data_dir}", "--epochs=1", *TINY, *flags)
    succeed(run("train_cvae", f"--workdir={tmp_path}/run", *command))
    found = measures(tmp_path / "run", "likelihood")
    assert found["elbo"]["value"] <= found["log_likelihood"]["value"]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.adapted
    is_of_labels = model.num_classes is not None
    c = np.arange(10) if is_of_labels else np.eye(SIDE)[np.newaxis, ..., None]
    assert model.prior(c).batch_shape == (len(c),)
