"""The apps as a user runs them: each command in a process of its own."""

import math
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from support.app_runs import (
    NUM_TEST,
    ROOT,
    SIDE,
    TIMEOUT,
    Refused,
    Trained,
    assert_refused,
    assert_same_weights,
    check_refusal,
    checkpoints,
    contents,
    metrics,
    picture,
    run,
    run_python,
    run_without_tensorflow,
    save_noise,
    succeed,
    tiles_of,
    unfinished,
    weights,
)
from tensorboard.backend.event_processing import event_accumulator

from keras_genmodels.core import files

APPS = (
    "train_vae",
    "train_cvae",
    "train_dae",
    "evaluate",
    "generate",
    "encode",
    "restore",
)
TINY = ("--network=mlp", "--hidden_sizes=16", "--latent_size=2")
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


# What a run leaves.


def test_training_tells_the_result_and_where_it_lies(trained):
    said = succeed(trained.process)
    assert f"Test elbo {metrics(trained.workdir)['test']['elbo']:.2f}" in said
    assert f"Results in {trained.workdir}" in said
    assert f"tensorboard --logdir {trained.workdir}/tensorboard" in said


def test_metrics(trained):
    found = metrics(trained.workdir)
    test = found["test"]
    assert test["num_examples"] == NUM_TEST
    assert ENTROPY < -test["elbo"] < SIDE**2 * math.log(2)
    assert test["elbo"] == pytest.approx(-test["rate"] - test["distortion"])
    for name in ("elbo", "rate", "distortion"):
        assert 0 < test[f"{name}_standard_error"] < 1
    assert (found["epochs"], found["steps"]) == (2, 22)
    assert 1 <= found["best_epoch"] <= 2


def test_flags_model_and_checkpoint_are_kept(trained, tiny_run):
    flags = (trained.workdir / "flags.txt").read_text().splitlines()
    assert flags[0] == "# program=train_vae"
    assert {*tiny_run} < {*flags}
    model = keras.saving.load_model(trained.workdir / "model.keras")
    assert model.latent_size == 2
    assert list((trained.workdir / "checkpoints").glob("ckpt-22.*"))
    assert not unfinished(trained.workdir)


def test_filters_are_the_channels_at_full_size(data_dir, tmp_path):
    """In all networks of a model that has the most of them."""
    flags = ("--epochs=1", "--filters=3", "--condition=quadrants")
    workdir = tmp_path / "run"
    succeed(
        run(
            "train_cvae",
            f"--workdir={workdir}",
            f"--data_dir={data_dir}",
            *flags,
        )
    )
    model = keras.saving.load_model(workdir / "model.keras")
    for network in (model.encoder, model.condition_network):
        assert network.get_layer("stem").filters == 3
    assert model.decoder.get_layer("up_0").filters == 3


FIGURES = ("reconstructions", "samples", "interpolation", "latent_plane")


@pytest.mark.parametrize("name", FIGURES)
def test_figures(trained, name):
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
def test_tensorboard_curves(trained, split, steps):
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
        expected = metrics(trained.workdir)["test"]["elbo"]
        np.testing.assert_allclose(curves["elbo"], [expected], rtol=1e-6)


def test_tensorboard_pictures(trained):
    found = events(trained.workdir / "tensorboard" / "pictures")
    for name in FIGURES:
        plugin = found.SummaryMetadata(name).plugin_data.plugin_name
        assert plugin == "images"
        assert len(found.Tensors(name)) == 2


def test_tensorboard_projector(trained):
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


# The same run again.


def test_the_same_command_again_changes_nothing(trained, tiny_run):
    before = contents(trained.workdir)
    again = run("train_vae", f"--workdir={trained.workdir}", *tiny_run)
    assert "This run is finished" in succeed(again)
    assert f"Results in {trained.workdir}" in again.stdout
    assert contents(trained.workdir) == before


def test_a_run_of_an_earlier_version_is_known_again(copied, tiny_run):
    """Of one that had fewer flags."""
    later = (
        "--num_importance_samples=1",
        "--doubly_reparameterized=false",
        "--gradient_clip_norm=0.0",
    )
    flags = (copied / "flags.txt").read_text().splitlines()
    assert {*later} < {*flags}
    before = [flag for flag in flags if flag not in later]
    (copied / "flags.txt").write_text("\n".join(before) + "\n")
    again = run("train_vae", f"--workdir={copied}", *tiny_run)
    assert "This run is finished" in succeed(again)
    other = run(
        "train_vae", f"--workdir={copied}", *tiny_run, "--gradient_clip_norm=9"
    )
    told = "--gradient_clip_norm=9.0 (was 0.0)"
    assert_refused(other, "train_vae", told)


def test_a_workdir_that_is_in_use_is_refused(copied, tiny_run):
    before = contents(copied)
    with files.locked(copied):
        second = run("train_vae", f"--workdir={copied}", *tiny_run)
    assert_refused(second, "train_vae", "another process", copied)
    assert contents(copied) == before


@pytest.mark.slow
def test_a_full_disk_keeps_the_results_and_with_more_room_they_grow(
    copied, tiny_run
):
    extend = ("train_vae", f"--workdir={copied}", *tiny_run, "--epochs=4")
    # The new plan is noted, and the further epochs' curves come in.
    growing = ("flags.txt", "tensorboard")
    before = contents(copied, *growing)
    # The checkpoint takes 50 kB.
    full = run(*extend, file_limit=20_000)
    assert_refused(full, "train_vae", copied / "checkpoints", "File too large")
    assert contents(copied, *growing) == before
    assert not unfinished(copied)
    succeed(run(*extend))
    assert metrics(copied)["epochs"] == 4


@pytest.mark.slow
def test_a_run_repeats_from_its_flags_and_lends_its_weights(
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


# Stopped and started again.


def stop(signal_number, delay, workdir, *flags):
    """Sends a signal some time after a start has saved something new."""
    known = checkpoints(workdir)
    deadline = time.monotonic() + TIMEOUT
    flags = ["-m", "apps.train_vae", f"--workdir={workdir}", *flags]
    with subprocess.Popen(
        [sys.executable, *flags],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while process.poll() is None and checkpoints(workdir) <= known:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(delay)
            process.send_signal(signal_number)
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    return subprocess.CompletedProcess(flags, process.returncode, out, err)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--epochs=30"], id="convolutions"),
        pytest.param(
            ["--epochs=60", "--network=mlp", "--jit_compile=true"], id="xla"
        ),
    ],
)
@pytest.mark.slow
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(
    launch, data_dir, tmp_path, flags
):
    flags = [f"--data_dir={data_dir}", "--checkpoint_every=5", *flags]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uninterrupted = launch("train_vae", f"--workdir={whole}", *flags)
    moments = random.Random(0)
    for _ in range(3):
        killed = stop(signal.SIGKILL, moments.uniform(0, 0.3), cut, *flags)
        assert killed.returncode == -signal.SIGKILL
    interrupted = stop(signal.SIGINT, moments.uniform(0, 0.3), cut, *flags)
    assert_refused(interrupted, "train_vae", "the same command", status=130)
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_vae", f"--workdir={cut}", *flags))
    assert "Epoch 1/" not in resumed
    succeed(uninterrupted.result())
    assert_same_weights(cut, whole)
    for name in ("test", "steps", "best_epoch", "validation_loss"):
        assert metrics(cut)[name] == metrics(whole)[name]


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
    assert "bits_per_dimension" not in metrics(tmp_path / "gaussian")["test"]
    test = metrics_of_finished(logistic, tmp_path / "discretized_logistic")
    bits = -test["elbo"] / (math.prod(shape) * math.log(2))
    assert test["bits_per_dimension"] == pytest.approx(bits)
    assert f"{bits:.3f} bits per dimension" in logistic.result().stdout
    output = tmp_path / "encoded.npz"
    workdir = tmp_path / "gaussian"
    succeed(run("encode", f"--workdir={workdir}", f"--output={output}"))
    encoded = np.load(output)
    assert {*encoded} == {"loc", "scale_tril"}
    assert encoded["loc"].shape == (6, 2)
    assert encoded["scale_tril"].shape == (6, 2, 2)
    assert np.all(encoded["scale_tril"][:, 0, 1] == 0)
    assert np.all(encoded["scale_tril"][:, [0, 1], [0, 1]] > 0)


def metrics_of_finished(process, workdir):
    succeed(process.result())
    return metrics(workdir)["test"]


# What a model is used for.


def test_generate(launch, trained, tmp_path):
    def draw(name, count, seed):
        return launch(
            "generate",
            f"--workdir={trained.workdir}",
            f"--num_images={count}",
            f"--seed={seed}",
            f"--output={tmp_path / name}",
        )

    draws = [
        draw("sixteen.npz", 16, seed=1),
        draw("four.npz", 4, seed=1),
        draw("again.npz", 4, seed=1),
        draw("five.png", 5, seed=2),
    ]
    said = [succeed(process.result()) for process in draws]
    assert f"16 images in {tmp_path}/sixteen.npz" in said[0]
    images = np.load(tmp_path / "sixteen.npz")["image"]
    assert images.shape == (16, SIDE, SIDE, 1)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    four, again = tmp_path / "four.npz", tmp_path / "again.npz"
    assert four.read_bytes() == again.read_bytes()
    np.testing.assert_array_equal(images[:4], np.load(four)["image"])
    tiles = tiles_of(picture(tmp_path / "five.png"), rows=2, columns=3)
    assert np.all(tiles[5] == 255)
    model = keras.saving.load_model(trained.workdir / "model.keras")
    others = 255 * np.broadcast_to(model.sample(5, seed=2), tiles[:5].shape)
    # A picture holds whole grey levels.
    np.testing.assert_allclose(tiles[:5], others, rtol=0, atol=0.51)
    assert np.abs(255 * images[:5] - tiles[:5]).max() > 1


def test_encode(launch, trained, tmp_path):
    pictures = tmp_path / "pictures"
    first = save_noise(pictures / "a.png", (20, 10, 3))
    save_noise(pictures / "b.png", (5, 30), seed=1)

    def encode(name, *flags):
        output = f"--output={tmp_path / name}"
        return launch("encode", f"--workdir={trained.workdir}", output, *flags)

    runs = [
        encode("test.npz"),
        encode("both.npz", f"--input={pictures}"),
        encode("single.npz", f"--input={first}"),
    ]
    for process in runs:
        succeed(process.result())
    test, both, single = (
        np.load(tmp_path / f"{name}.npz") for name in ("test", "both", "single")
    )
    assert {*test} == {"loc", "stddev", "label"}
    assert test["loc"].shape == test["stddev"].shape == (NUM_TEST, 2)
    assert np.all(test["stddev"] > 0)
    np.testing.assert_array_equal(
        test["label"], sklearn.datasets.load_digits().target[-NUM_TEST:]
    )
    latents = trained.workdir / "tensorboard" / "test" / "latents.tsv"
    # The text has six digits.
    np.testing.assert_allclose(
        test["loc"], np.loadtxt(latents), rtol=1e-5, atol=1e-6
    )
    assert {*both} == {*single} == {"loc", "stddev"}
    assert both["loc"].shape == both["stddev"].shape == (2, 2)
    assert not np.array_equal(*both["loc"])
    # Sums of float32 in an order that may depend on the number of rows.
    np.testing.assert_allclose(
        single["loc"], both["loc"][:1], rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "flags"),
    [
        ("train_vae", []),
        ("generate", ["--output={}/a.png"]),
        ("encode", ["--output={}/z.npz"]),
        ("evaluate", ["--num_images=50", "--output={}/b.html"]),
        ("export", ["--name=vae", "--export_dir={}"]),
    ],
)
def test_an_app_is_quiet_where_it_imports_all_itself(
    app, flags, trained, tmp_path
):
    """As a user starts it, without the fork of the other tests."""
    shutil.copytree(trained.workdir, tmp_path / "workdir")
    workdir = tmp_path / "workdir"
    if app == "train_vae":
        flags = [f"--flagfile={workdir}/flags.txt"]
    flags = [flag.format(tmp_path) for flag in flags]
    succeed(run_python("-m", f"apps.{app}", f"--workdir={workdir}", *flags))


# What is answered at once.


def least_seconds(*args):
    """Times three runs and takes the quickest, as the machine may be busy."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        run(*args)
        times.append(time.monotonic() - start)
    return min(times)


@pytest.mark.parametrize("app", APPS)
def test_help_comes_at_once(app):
    process = run_without_tensorflow(app, "--help")
    assert f"python -m apps.{app}" in process.stdout
    assert "--workdir" in process.stdout
    assert process.stderr == ""
    assert least_seconds(app, "--help") < 1


@pytest.mark.parametrize("app", APPS)
def test_a_wrong_flag_is_told_at_once(app):
    process = run_without_tensorflow(app, "--nonsense=1")
    assert_refused(process, app, "'nonsense'", "--help")
    assert least_seconds(app, "--nonsense=1") < 1


@pytest.mark.parametrize(
    ("app", "flag", "told"),
    [
        ("train_vae", "--epochs=0", "positive"),
        ("train_vae", "--latent_size=0", "positive"),
        ("train_vae", "--beta=nan", "number"),
        ("train_vae", "--image_size=abc", "integers"),
        ("train_vae", "--likelihood=foo", "discretized_logistic"),
        ("train_vae", "--observation_stddev=0.1", "--likelihood=gaussian"),
        ("train_vae", "--hidden_sizes=20", "--network=mlp"),
        ("train_vae", "--doubly_reparameterized", "--num_importance_samples"),
        ("train_vae", "digits", "flags"),
        ("generate", "--num_images=0", "positive"),
        ("generate", "--output=/x/a.jpg", ".png or .npz"),
        ("encode", "--output=/x/a.png", ".npz"),
    ],
)
def test_an_impossible_flag_is_told_at_once(tmp_path, app, flag, told):
    workdir = tmp_path / "workdir"
    process = run_without_tensorflow(app, f"--workdir={workdir}", flag)
    assert_refused(process, app, flag.partition("=")[0], told)
    assert not workdir.exists()


def test_the_importance_weighted_bound_has_no_beta(tmp_path):
    process = run_without_tensorflow(
        "train_vae",
        f"--workdir={tmp_path / 'workdir'}",
        "--num_importance_samples=5",
        "--beta=0.5",
    )
    told = "--beta goes with --num_importance_samples=1 alone"
    assert_refused(process, "train_vae", told)
    assert not (tmp_path / "workdir").exists()


def test_an_mlp_has_no_filters(tmp_path):
    workdir = tmp_path / "workdir"
    process = run_without_tensorflow(
        "train_vae", f"--workdir={workdir}", "--network=mlp", "--filters=8"
    )
    assert_refused(process, "train_vae", "--filters goes with --network=conv")
    assert not workdir.exists()


# What the apps refuse once they have looked at it.


def npz(folder, flags=(), told=(), **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    told = told or [path]
    return Refused("train_vae", [f"--dataset={path}", *flags], told)


def unknown_data_set(folder, trained):
    return Refused(
        "train_vae", ["--dataset=nonsense"], ["'nonsense'", "digits"]
    )


def no_data_dir(folder, trained):
    flag = f"--data_dir={folder}/nowhere"
    return Refused("train_vae", [flag], [folder / "nowhere", "--data_dir"])


def broken_picture(folder, trained):
    for i in range(12):
        path = save_noise(folder / f"{i}.png", (SIDE, SIDE))
    path.write_bytes(path.read_bytes()[:60])
    flags = ["--dataset=image_folder", f"--data_dir={folder}"]
    return Refused("train_vae", flags, [path, "picture"])


def matrix(folder, trained):
    told = [folder / "data.npz", "[20, 5]", "[n, height, width]"]
    return npz(folder, told=told, image=np.zeros((20, 5)))


def int64(folder, trained):
    told = [folder / "data.npz", "int64", "uint8"]
    return npz(folder, told=told, image=np.zeros((20, 5, 5), np.int64))


def floats_to_255(folder, trained):
    told = [folder / "data.npz", "255", "[0, 1]"]
    return npz(folder, told=told, image=np.full((20, 5, 5), 255.0))


def array_of_another_name(folder, trained):
    told = [folder / "data.npz", "'image'", "pictures"]
    return npz(folder, told=told, pictures=np.zeros((20, 5, 5)))


def batch_beyond_the_data(folder, trained):
    flag = "--batch_size=99"
    told = [flag, "17 training images"]
    return npz(folder, [flag], told, image=np.zeros((20, 5, 5)))


def weights_of_another_architecture(folder, trained):
    start = f"--init_from={trained.workdir}/model.keras"
    flags = [start, "--batch_size=8", *TINY]
    return npz(folder, flags, [start], image=np.zeros((20, 5, 5)))


def other_beta_than_before(folder, trained):
    return again(folder, trained, "--beta=2", "--beta=2.0 (was 1.0)")


def fewer_epochs_than_before(folder, trained):
    return again(folder, trained, "--epochs=1", "--epochs=1", "2 epochs")


def again(folder, trained, flag, *told):
    workdir = shutil.copytree(trained.workdir, folder / "workdir")
    flags = [f"--flagfile={workdir}/flags.txt", flag]
    return Refused("train_vae", flags, [workdir, *told])


def half_a_model(folder, trained):
    path = folder / "model.keras"
    whole = (trained.workdir / "model.keras").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return Refused("generate", [f"--workdir={folder}"], [path])


def foreign_model(folder, trained):
    path = folder / "model.keras"
    layers = [keras.layers.Input((3,)), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path)
    return Refused("generate", [f"--workdir={folder}"], [path, "Sequential"])


def no_model(folder, trained):
    return Refused("encode", [f"--workdir={folder}"], [folder, "model.keras"])


def no_flags(folder, trained):
    shutil.copy(trained.workdir / "model.keras", folder)
    return Refused("encode", [f"--workdir={folder}"], [folder, "flags.txt"])


def full_disk_for_images(folder, trained):
    return full_disk("generate", folder, trained, "--num_images=500")


def full_disk_for_latents(folder, trained):
    return full_disk("encode", folder, trained)


def full_disk(app, folder, trained, *flags):
    output = folder / "earlier.npz"
    output.write_text("kept")
    workdir = f"--workdir={trained.workdir}"
    flags = [workdir, f"--output={output}", *flags]
    return Refused(app, flags, [output, "File too large"], file_limit=2000)


REFUSED = [
    unknown_data_set,
    no_data_dir,
    broken_picture,
    matrix,
    int64,
    floats_to_255,
    array_of_another_name,
    batch_beyond_the_data,
    weights_of_another_architecture,
    other_beta_than_before,
    fewer_epochs_than_before,
    half_a_model,
    foreign_model,
    no_model,
    no_flags,
    full_disk_for_images,
    full_disk_for_latents,
]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_refused_with_one_line_that_tells_what_and_where(refusals, make):
    check_refusal(*refusals[make])
