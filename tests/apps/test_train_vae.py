"""The app train_vae as a user runs it, in a process of its own."""

import math
import shutil

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from support.app_runs import (
    NUM_TEST,
    ROOT,
    SIDE,
    Refused,
    Trained,
    assert_refused,
    assert_same_weights,
    check_refusal,
    contents,
    each_refused,
    measures,
    metrics,
    picture,
    run,
    save_noise,
    succeed,
    unfinished,
    weights,
)
from tensorboard.backend.event_processing import event_accumulator

from keras_genmodels.metrics.estimates import as_text
from keras_genmodels.runs.workdir import Workdir

TINY = (
    "--network=mlp",
    "--hidden_sizes=16",
    "--latent_size=2",
    "--jit_compile=false",
)
# Nats: the mean over the digits of the entropy of their pixels, each drawn
# with probability its grey value. No model has a test elbo above its negative.
ENTROPY = 13.30


@pytest.fixture(scope="module")
def tiny_run(data_dir):
    """The flags of the run that `trained` makes, but for its workdir."""
    return (f"--data_dir={data_dir}", "--epochs=2", *TINY)


@pytest.fixture(scope="module")
def trained(folder, tiny_run):
    """A finished run. Not to be written to: tests copy it."""
    workdir = folder / "trained"
    return Trained(workdir, run("train_vae", f"--workdir={workdir}", *tiny_run))


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(trained.workdir, tmp_path / "copied")


def test_training_prints_the_results_and_their_paths(trained):
    said = succeed(trained.process)
    for name in ("elbo", "rate", "distortion", "log_likelihood"):
        measure = measures(trained.workdir, "likelihood")[name]
        number = as_text(measure["value"], measure["standard_error"], "nats")
        assert number in said
    assert f"Results in {trained.workdir}" in said
    assert f"tensorboard --logdir {trained.workdir}/tensorboard" in said


def test_metrics_json_holds_plausible_numbers(trained):
    found = metrics(trained.workdir)
    test = measures(trained.workdir, "likelihood")
    values = {name: measure["value"] for name, measure in test.items()}
    assert found["test"]["num_images"] == NUM_TEST
    assert ENTROPY < -values["elbo"] < SIDE**2 * math.log(2)
    assert values["elbo"] == pytest.approx(
        -values["rate"] - values["distortion"]
    )
    for name in ("elbo", "rate", "distortion"):
        assert 0 < test[name]["standard_error"] < 1
    training = found["training"]
    assert (training["epochs"], training["steps"]) == (2, 22)
    assert 1 <= training["best_epoch"] <= 2


def test_flags_model_and_checkpoints_are_written(trained, tiny_run):
    flags = (trained.workdir / "flags.txt").read_text().splitlines()
    assert {*tiny_run} < {*flags}
    assert Workdir(trained.workdir).read_run().program == "train_vae"
    model = keras.saving.load_model(trained.workdir / "model.keras")
    assert model.latent_size == 2
    assert list((trained.workdir / "checkpoints").glob("ckpt-22.*"))
    assert not unfinished(trained.workdir)


FIGURES = ("reconstructions", "samples", "interpolation", "latent_plane")


def test_figures_are_drawn(trained):
    for name in FIGURES:
        pixels = picture(trained.workdir / "figures" / f"{name}.png")
        assert 200 < min(pixels.shape[:2]) <= max(pixels.shape[:2]) < 2000
        assert np.ptp(pixels) > 100


def events(directory):
    accumulator = event_accumulator.EventAccumulator(
        str(directory), {event_accumulator.TENSORS: 0}
    )
    return accumulator.Reload()


@pytest.mark.parametrize(
    ("split", "steps"),
    [("train", [0, 1]), ("validation", [0, 1]), ("test", [1])],
)
def test_tensorboard_has_the_curves_of_each_split(trained, split, steps):
    found = events(trained.workdir / "tensorboard" / split)
    curves = {}
    for name in ("loss", "elbo", "rate", "distortion"):
        points = found.Tensors(f"epoch_{name}")
        assert [point.step for point in points] == steps
        curves[name] = [tf.make_ndarray(p.tensor_proto) for p in points]
    np.testing.assert_allclose(
        curves["elbo"], -np.add(curves["rate"], curves["distortion"]), rtol=1e-5
    )
    np.testing.assert_allclose(curves["loss"], -np.array(curves["elbo"]))
    if split == "test":
        expected = measures(trained.workdir, "likelihood")["elbo"]["value"]
        np.testing.assert_allclose(curves["elbo"], [expected], rtol=1e-6)


def test_tensorboard_has_the_pictures_of_each_epoch(trained):
    found = events(trained.workdir / "tensorboard" / "pictures")
    for name in FIGURES:
        plugin = found.SummaryMetadata(name).plugin_data.plugin_name
        assert plugin == "images"
        assert len(found.Tensors(name)) == 2


def test_tensorboard_has_the_latents_of_the_test_split(trained):
    directory = trained.workdir / "tensorboard" / "test"
    config = (directory / "projector_config.pbtxt").read_text()
    for name in ("latents.tsv", "labels.tsv", "sprite.png"):
        assert f'"{name}"' in config
    assert np.loadtxt(directory / "latents.tsv").shape == (NUM_TEST, 2)
    labels = (directory / "labels.tsv").read_text().split()
    digits = sklearn.datasets.load_digits().target[-NUM_TEST:]
    assert labels == [str(digit) for digit in digits]
    side = math.ceil(math.sqrt(NUM_TEST)) * SIDE
    assert picture(directory / "sprite.png").shape == (side, side, 3)


def test_the_same_command_again_changes_nothing(trained, tiny_run):
    before = contents(trained.workdir)
    again = run("train_vae", f"--workdir={trained.workdir}", *tiny_run)
    assert "This run is finished" in succeed(again)
    assert f"Results in {trained.workdir}" in again.stdout
    assert contents(trained.workdir) == before


OLD = ROOT / "tests" / "data" / "run_of_version_0_2"


@pytest.mark.slow
def test_a_run_of_version_0_2_is_extended(tmp_path):
    workdir = Workdir(shutil.copytree(OLD, tmp_path / "old"))
    flags = (f"--flagfile={workdir}/flags.txt", f"--workdir={workdir}")
    said = succeed(run("train_vae", *flags, "--epochs=2"))
    assert "epoch 1/" not in said
    assert metrics(workdir.path)["training"]["steps"] == 22
    assert workdir.read_run().epochs == 2
    other = run("train_vae", *flags, "--epochs=2", "--beta=2")
    assert_refused(other, "train_vae", ": beta=2.0 (was 1.0)")


def test_a_workdir_that_is_in_use_is_refused(copied, tiny_run):
    before = contents(copied)
    with Workdir(copied).locked():
        second = run("train_vae", f"--workdir={copied}", *tiny_run)
    assert_refused(second, "train_vae", "another process", copied)
    assert contents(copied) == before


@pytest.mark.slow
def test_a_full_disk_keeps_the_results_and_with_space_the_run_is_extended(
    copied, tiny_run
):
    extend = ("train_vae", f"--workdir={copied}", *tiny_run, "--epochs=4")
    # The new plan is noted, and the further epochs' curves come in.
    growing = ("flags.txt", "run.json", "tensorboard")
    before = contents(copied, *growing)
    # The checkpoint takes 50 kB.
    full = run(*extend, file_limit=20_000)
    assert_refused(full, "train_vae", copied / "checkpoints", "File too large")
    assert contents(copied, *growing) == before
    assert not unfinished(copied)
    succeed(run(*extend))
    assert metrics(copied)["training"]["epochs"] == 4


@pytest.mark.slow
def test_a_run_is_repeated_from_flags_txt_and_its_weights_are_loaded(
    launch, trained, tiny_run, tmp_path
):
    repeated, started = tmp_path / "repeated", tmp_path / "started"
    runs = [
        launch(
            "train_vae",
            f"--flagfile={trained.workdir}/flags.txt",
            f"--workdir={repeated}",
        ),
        # Steps so small that the weights stay where they start.
        launch(
            "train_vae",
            f"--workdir={started}",
            *tiny_run,
            "--seed=1",
            "--learning_rate=1e-9",
            f"--init_from={trained.workdir}/model.keras",
        ),
    ]
    for process in runs:
        succeed(process.result())
    assert metrics(repeated)["test"] == metrics(trained.workdir)["test"]
    assert_same_weights(repeated, trained.workdir)
    start = weights(trained.workdir)
    for name, array in weights(started).items():
        np.testing.assert_allclose(array, start[name], atol=1e-6, err_msg=name)


# Images, likelihoods and posteriors of other kinds.


@pytest.mark.slow
def test_other_images_likelihoods_and_posteriors(launch, tmp_path):
    shape = (9, 14, 3)
    values = np.random.default_rng(0).integers(0, 256, (60, *shape), np.uint8)
    np.savez(tmp_path / "gaussian.npz", image=values.astype(np.float32) / 255)
    np.savez(tmp_path / "discretized_logistic.npz", image=values)

    def train(likelihood, *flags):
        return launch(
            "train_vae",
            f"--workdir={tmp_path / likelihood}",
            f"--dataset={tmp_path / likelihood}.npz",
            f"--likelihood={likelihood}",
            "--epochs=1",
            "--batch_size=16",
            "--latent_size=2",
            *flags,
        )

    gaussian = train("gaussian", "--posterior=full", "--network=mlp")
    logistic = train("discretized_logistic")
    succeed(gaussian.result())
    continuous = measures(tmp_path / "gaussian", "likelihood")
    assert "bits_per_dimension" not in continuous
    test = metrics_of_finished(logistic, tmp_path / "discretized_logistic")
    bits = -test["elbo"]["value"] / (math.prod(shape) * math.log(2))
    measure = test["bits_per_dimension"]
    assert measure["value"] == pytest.approx(bits)
    text = as_text(bits, measure["standard_error"], "bits")
    assert text in logistic.result().stdout


def metrics_of_finished(process, workdir):
    succeed(process.result())
    return measures(workdir, "likelihood")


# Errors, each of one line.


def npz(folder, flags=(), named=(), **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    named = named or [path]
    return Refused("train_vae", [f"--dataset={path}", *flags], named)


def unknown_data_set(folder, trained):
    return Refused(
        "train_vae", ["--dataset=nonsense"], ["'nonsense'", "digits"]
    )


def no_data_dir(folder, trained):
    flag = f"--data_dir={folder}/nowhere"
    return Refused("train_vae", [flag], [folder / "nowhere", "data_dir"])


def broken_picture(folder, trained):
    for i in range(12):
        path = save_noise(folder / f"{i}.png", (SIDE, SIDE))
    path.write_bytes(path.read_bytes()[:60])
    flags = ["--dataset=image_folder", f"--data_dir={folder}"]
    return Refused("train_vae", flags, [path, "picture"])


def batch_beyond_the_data(folder, trained):
    flag = "--batch_size=99"
    named = [flag.strip("-"), "17 training images"]
    return npz(folder, [flag], named, image=np.zeros((20, 5, 5)))


def weights_of_another_size(folder, trained):
    start = f"--init_from={trained.workdir}/model.keras"
    flags = [start, "--batch_size=8", *TINY]
    named = [start.strip("-"), "8x8x1", "5x5x1"]
    return npz(folder, flags, named, image=np.zeros((20, 5, 5)))


def other_beta_than_before(folder, trained):
    return again(folder, trained, "--beta=2", ": beta=2.0 (was 1.0)")


def fewer_epochs_than_before(folder, trained):
    return again(folder, trained, "--epochs=1", ": epochs=1", "2 epochs")


def workdir_of_another_program(folder, trained):
    workdir = shutil.copytree(trained.workdir, folder / "workdir")
    flags = [f"--workdir={workdir}"]
    return Refused("train_cvae", flags, [workdir, "train_vae"])


def again(folder, trained, flag, *named):
    workdir = shutil.copytree(trained.workdir, folder / "workdir")
    flags = [f"--flagfile={workdir}/flags.txt", flag]
    return Refused("train_vae", flags, [workdir, *named])


QUICK = [unknown_data_set, other_beta_than_before]
SLOW = [
    batch_beyond_the_data,
    weights_of_another_size,
    no_data_dir,
    broken_picture,
    fewer_epochs_than_before,
    workdir_of_another_program,
]


@each_refused(QUICK, SLOW)
def test_errors_are_one_line(refusals, make):
    check_refusal(*refusals[make])


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(
            ("--prior=vamp", "--num_pseudo_inputs=20"), marks=pytest.mark.slow
        ),
        *(
            pytest.param(flags, marks=pytest.mark.exhaustive)
            for flags in (
                ("--prior=flow", "--num_couplings=2"),
                ("--prior=mixture", "--num_components=3"),
            )
        ),
    ],
    ids=["vamp", "flow", "mixture"],
)
def test_a_prior_is_trained_with_gated_networks(flags, data_dir, tmp_path):
    command = (f"--data_dir={data_dir}", "--epochs=1", *TINY, *flags)
    network = "--network=gated_mlp"
    succeed(run("train_vae", f"--workdir={tmp_path}/run", *command, network))
    found = measures(tmp_path / "run", "likelihood")
    rate, information, misfit = (
        found[name]["value"] for name in ("rate", "information", "marginal_kl")
    )
    assert rate == pytest.approx(information + misfit, abs=1e-4)
    references = found["information"]["references"]
    assert references["log N"]["value"] == pytest.approx(math.log(NUM_TEST))
    assert keras.saving.load_model(tmp_path / "run" / "model.keras").adapted
