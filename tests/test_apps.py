"""The apps as a user runs them: in processes of their own, as told to."""

import collections
import concurrent.futures
import functools
import io
import json
import math
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import keras
import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from keras_genmodels import files

ROOT = pathlib.Path(__file__).parents[1]
APPS = ("train_vae", "generate", "encode")
TINY = ("--network=mlp", "--hidden_sizes=16", "--latent_size=2")
SIDE = 8
NUM_TEST = 360
# Mean over the test digits of the entropy of their pixels, each drawn with
# probability its grey value: no model can have an elbo above its negative.
ENTROPY = 13.30
# So long that only a process that hangs gets there.
TIMEOUT = 300
# As on a disk that is full. Python itself ignores the signal that comes with
# this limit, so that writing fails with an error.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def command(app, *args):
    return [sys.executable, "-m", f"apps.{app}", *map(str, args)]


def run(app, *args, file_limit=None):
    """Runs an app, in which no file may grow beyond `file_limit` bytes."""
    python, *rest = command(app, *args)
    if file_limit:
        rest = ["-c", LIMITED, str(file_limit), *rest]
    return subprocess.run(
        [python, *rest],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.fixture(scope="module")
def launch():
    """Runs apps beside each other, no more at once than small machines bear.

    `launch(app, *args).result()` is what `run` returns.
    """
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield functools.partial(pool.submit, run)
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("apps")


@pytest.fixture(scope="module")
def data_dir(folder):
    """A `--data_dir`, so that nothing is written to the home."""
    path = folder / "tfds"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def tiny_run(data_dir):
    """The flags of the run that `trained` makes, but for its workdir."""
    return (f"--data_dir={data_dir}", "--epochs=2", *TINY)


Trained = collections.namedtuple("Trained", "workdir process")


@pytest.fixture(scope="module")
def trained(folder, tiny_run):
    """A finished run. Not to be written to: tests copy it."""
    workdir = folder / "trained"
    return Trained(workdir, run("train_vae", f"--workdir={workdir}", *tiny_run))


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(trained.workdir, tmp_path / "copied")


def succeed(process):
    """Checks that an app was content, and gives what it said."""
    assert process.stderr == ""
    assert process.returncode == 0
    return process.stdout


def assert_refused(process, app, *told, status=1):
    """Checks that an app ended with one line that tells all of `told`."""
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stderr.startswith(f"{app}: ")
    for words in told:
        assert str(words) in process.stderr
    assert process.returncode == status


def contents(workdir):
    return {
        path.relative_to(workdir): path.read_bytes()
        for path in workdir.rglob("*")
        if path.is_file()
    }


def weights(workdir):
    """Reads the arrays in model.keras, by name."""
    arrays = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with zipfile.ZipFile(workdir / "model.keras") as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored) as file:
        file.visititems(add)
    assert arrays
    return arrays


def assert_same_weights(one, other):
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name], name)


def metrics(workdir):
    return json.loads((workdir / "metrics.json").read_text())


def unfinished(workdir):
    """Lists what a writer that gave up would have left."""
    return list(workdir.rglob(".writing-*"))


def picture(path):
    with PIL.Image.open(path) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB"))


def save_noise(path, shape, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


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


def test_flags_model_and_checkpoints_are_kept(trained, tiny_run):
    flags = (trained.workdir / "flags.txt").read_text().splitlines()
    assert flags[0] == "# train_vae"
    assert {*tiny_run, f"--workdir={trained.workdir}"} < {*flags}
    model = keras.saving.load_model(trained.workdir / "model.keras")
    assert model.latent_size == 2
    assert list((trained.workdir / "checkpoints").glob("ckpt-22.*"))
    assert not unfinished(trained.workdir)


@pytest.mark.parametrize(
    "name", ["reconstructions", "samples", "interpolation", "latent_plane"]
)
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
    ("split", "steps"), [("train", [0, 1]), ("validation", [0, 1]), ("test", [2])]
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
    if split == "test":
        expected = metrics(trained.workdir)["test"]["elbo"]
        np.testing.assert_allclose(curves["elbo"], [expected], rtol=1e-6)


def test_tensorboard_pictures(trained):
    found = events(trained.workdir / "tensorboard" / "pictures")
    for name in ("reconstructions", "samples", "interpolation", "latent_plane"):
        metadata = found.SummaryMetadata(name)
        assert metadata.plugin_data.plugin_name == "images"
        assert [event.step for event in found.Tensors(name)] == [1, 2]


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


# The same workdir again.


def test_the_same_command_again_changes_nothing(trained, tiny_run):
    before = contents(trained.workdir)
    again = run("train_vae", f"--workdir={trained.workdir}", *tiny_run)
    assert "This run is finished" in succeed(again)
    assert f"Results in {trained.workdir}" in again.stdout
    assert contents(trained.workdir) == before


@pytest.mark.parametrize(
    ("flag", "told"),
    [("--beta=2", "--beta=2.0 (was 1.0)"), ("--epochs=1", "of 2 epochs")],
)
def test_flags_that_contradict_the_run_are_refused(
    copied, tiny_run, flag, told
):
    before = contents(copied)
    other = run("train_vae", f"--workdir={copied}", *tiny_run, flag)
    assert_refused(other, "train_vae", copied, flag, told)
    assert contents(copied) == before


def test_a_workdir_that_is_in_use_is_refused(copied, tiny_run):
    before = contents(copied)
    with files.locked(copied):
        second = run("train_vae", f"--workdir={copied}", *tiny_run)
    assert_refused(second, "train_vae", "another process", copied)
    assert contents(copied) == before


def test_a_full_disk_keeps_the_results_and_more_room_extends_them(
    copied, tiny_run
):
    extend = ("train_vae", f"--workdir={copied}", *tiny_run, "--epochs=4")
    before = contents(copied)
    # The checkpoint takes 50 kB.
    full = run(*extend, file_limit=20_000)
    assert_refused(full, "train_vae", copied / "checkpoints")
    after = contents(copied)
    kept = {
        path
        for path in before
        if path.parts[0] in ("model.keras", "metrics.json", "figures")
        or path.parts[0] == "checkpoints"
    }
    assert all(after[path] == before[path] for path in kept)
    assert {p for p in after if p.parts[0] == "checkpoints"} < kept
    assert not unfinished(copied)
    succeed(run(*extend))
    assert metrics(copied)["epochs"] == 4


def test_the_kept_flags_repeat_the_run(trained, tmp_path):
    flags = f"--flagfile={trained.workdir}/flags.txt"
    succeed(run("train_vae", flags, f"--workdir={tmp_path}"))
    assert metrics(tmp_path)["test"] == metrics(trained.workdir)["test"]
    assert_same_weights(tmp_path, trained.workdir)


# Stopped and started again.


def checkpoints(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("*.index")}


def stop(signal_number, workdir, flags, delay):
    """Sends a signal some seconds after a start has saved something new."""
    known = checkpoints(workdir)
    deadline = time.monotonic() + TIMEOUT
    with subprocess.Popen(
        command("train_vae", f"--workdir={workdir}", *flags),
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
    return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--epochs=20"], id="convolutions"),
        pytest.param(
            ["--epochs=60", "--network=mlp", "--jit_compile=true"],
            id="xla",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(
    launch, data_dir, tmp_path, flags
):
    flags = [f"--data_dir={data_dir}", "--checkpoint_every=5", *flags]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    uninterrupted = launch("train_vae", f"--workdir={whole}", *flags)
    moments = random.Random(0)
    for _ in range(3):
        killed = stop(signal.SIGKILL, cut, flags, moments.random())
        assert killed.returncode == -signal.SIGKILL
    interrupted = stop(signal.SIGINT, cut, flags, moments.random())
    assert_refused(interrupted, "train_vae", "the same command", status=130)
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_vae", f"--workdir={cut}", *flags))
    assert "Epoch 1/" not in resumed
    succeed(uninterrupted.result())
    assert_same_weights(cut, whole)
    assert metrics(cut)["test"] == metrics(whole)["test"]
    assert metrics(cut)["best_epoch"] == metrics(whole)["best_epoch"]


# Images, likelihoods and posteriors of other kinds.


@pytest.fixture(scope="module")
def colours(folder):
    """Colour images that are neither square nor of even size, in two types."""
    values = np.random.default_rng(0).integers(0, 256, (60, 9, 14, 3), np.uint8)
    np.savez(folder / "float.npz", image=values.astype(np.float32) / 255)
    np.savez(folder / "uint8.npz", image=values)
    return folder


def test_other_images_likelihoods_and_posteriors(launch, colours, tmp_path):
    one_epoch = ("--epochs=1", "--batch_size=16", "--latent_size=2")
    gaussian, logistic = tmp_path / "gaussian", tmp_path / "logistic"
    runs = [
        launch(
            "train_vae",
            f"--workdir={gaussian}",
            f"--dataset={colours}/float.npz",
            "--likelihood=gaussian",
            "--posterior=full",
            *one_epoch,
        ),
        launch(
            "train_vae",
            f"--workdir={logistic}",
            f"--dataset={colours}/uint8.npz",
            "--likelihood=discretized_logistic",
            *one_epoch,
        ),
    ]
    said = [succeed(process.result()) for process in runs]
    assert "bits_per_dimension" not in metrics(gaussian)["test"]
    test = metrics(logistic)["test"]
    bits = -test["elbo"] / (9 * 14 * 3 * math.log(2))
    assert test["bits_per_dimension"] == pytest.approx(bits)
    assert f"{bits:.3f} bits per dimension" in said[1]
    generated, encoded = tmp_path / "generated.npz", tmp_path / "encoded.npz"
    uses = [
        launch(
            "generate",
            f"--workdir={logistic}",
            "--num_images=3",
            f"--output={generated}",
        ),
        launch("encode", f"--workdir={gaussian}", f"--output={encoded}"),
    ]
    for process in uses:
        succeed(process.result())
    assert np.load(generated)["image"].shape == (3, 9, 14, 3)
    arrays = np.load(encoded)
    assert {*arrays} == {"loc", "scale_tril"}
    assert arrays["loc"].shape == (6, 2)
    assert arrays["scale_tril"].shape == (6, 2, 2)
    assert np.all(arrays["scale_tril"][:, 0, 1] == 0)
    assert np.all(arrays["scale_tril"][:, [0, 1], [0, 1]] > 0)


def test_a_run_starts_from_the_weights_of_another(trained, tiny_run, tmp_path):
    # Steps so small that the weights stay where they start.
    still = run(
        "train_vae",
        f"--workdir={tmp_path}",
        *tiny_run,
        "--seed=1",
        "--learning_rate=1e-12",
        f"--init_from={trained.workdir}/model.keras",
    )
    succeed(still)
    start = weights(trained.workdir)
    for name, array in weights(tmp_path).items():
        np.testing.assert_allclose(array, start[name], atol=1e-6, err_msg=name)


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
        draw("sixteen.npz", 16, 1),
        draw("four.npz", 4, 1),
        draw("again.npz", 4, 1),
        draw("other.npz", 4, 2),
        draw("five.png", 5, 1),
    ]
    said = [succeed(process.result()) for process in draws]
    assert f"16 images in {tmp_path}/sixteen.npz" in said[0]
    four, again, other = (
        (tmp_path / f"{name}.npz").read_bytes()
        for name in ("four", "again", "other")
    )
    assert four == again != other
    images = np.load(tmp_path / "sixteen.npz")["image"]
    assert images.shape == (16, SIDE, SIDE, 1)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    np.testing.assert_array_equal(
        images[:4], np.load(tmp_path / "four.npz")["image"]
    )
    sheet = picture(tmp_path / "five.png")
    # Two rows of three tiles, enlarged fourfold, a line between them.
    assert sheet.shape == (2 * 33 - 1, 3 * 33 - 1, 3)
    for i in range(5):
        top, left = 33 * (i // 3), 33 * (i % 3)
        tile = sheet[top : top + 32 : 4, left : left + 32 : 4]
        grey = np.broadcast_to(np.rint(255 * images[i]), tile.shape)
        np.testing.assert_array_equal(tile, grey)
    assert np.all(sheet[33:, 66:] == 255)


def test_encode(launch, trained, tmp_path):
    pictures = tmp_path / "pictures"
    first = save_noise(pictures / "a.png", (20, 10, 3))
    save_noise(pictures / "b.png", (5, 30), seed=1)
    sources = {
        "test": [],
        "folder": [f"--input={pictures}"],
        "single": [f"--input={first}"],
    }
    runs = [
        launch(
            "encode",
            f"--workdir={trained.workdir}",
            f"--output={tmp_path / name}.npz",
            *source,
        )
        for name, source in sources.items()
    ]
    for process in runs:
        succeed(process.result())
    test, several, single = (np.load(tmp_path / f"{n}.npz") for n in sources)
    assert {*test} == {"loc", "stddev", "label"}
    assert test["loc"].shape == test["stddev"].shape == (NUM_TEST, 2)
    assert np.all(test["stddev"] > 0)
    np.testing.assert_array_equal(
        test["label"], sklearn.datasets.load_digits().target[-NUM_TEST:]
    )
    latents = trained.workdir / "tensorboard" / "test" / "latents.tsv"
    # The file holds six digits.
    np.testing.assert_allclose(
        test["loc"], np.loadtxt(latents), rtol=1e-5, atol=1e-6
    )
    assert {*several} == {*single} == {"loc", "stddev"}
    assert several["loc"].shape == several["stddev"].shape == (2, 2)
    assert not np.array_equal(*several["loc"])
    np.testing.assert_allclose(single["loc"], several["loc"][:1], rtol=1e-5)


@pytest.mark.parametrize(
    ("app", "args", "file_limit"),
    [("generate", ["--num_images=500"], 20_000), ("encode", [], 2_000)],
)
def test_a_full_disk_keeps_the_earlier_file(
    trained, tmp_path, app, args, file_limit
):
    output = tmp_path / "kept.npz"
    output.write_text("earlier")
    full = run(
        app,
        f"--workdir={trained.workdir}",
        f"--output={output}",
        *args,
        file_limit=file_limit,
    )
    assert_refused(full, app, "File too large", output)
    assert output.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.npz"]


# Answers at once.


def seconds(*args):
    """Measures the quickest of three runs, as the machine may be busy."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        run(*args)
        times.append(time.monotonic() - start)
    return min(times)


def without_tensorflow(app, *args):
    """Runs an app, checks that it needed none, and gives what it said."""
    python, *rest = command(app, *args)
    process = subprocess.run(
        [python, "-X", "importtime", *rest],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    imports = [
        line.rpartition("|")[2].strip()
        for line in process.stderr.splitlines()
        if line.startswith("import time:")
    ]
    assert "apps.common_flags" in imports
    packages = {name.partition(".")[0] for name in imports}
    assert not packages & {"tensorflow", "keras", "keras_genmodels", "numpy"}
    process.stderr = "".join(
        line
        for line in process.stderr.splitlines(keepends=True)
        if not line.startswith("import time:")
    )
    return process


@pytest.mark.parametrize("app", APPS)
def test_help_comes_at_once(app):
    process = without_tensorflow(app, "--help")
    assert f"python -m apps.{app}" in process.stdout
    assert "--workdir" in process.stdout
    assert process.stderr == ""
    assert seconds(app, "--help") < 1


@pytest.mark.parametrize("app", APPS)
def test_a_wrong_flag_is_told_at_once(app):
    process = without_tensorflow(app, "--nonsense=1")
    assert_refused(process, app, "'nonsense'", "--help")
    assert seconds(app, "--nonsense=1") < 1


@pytest.mark.parametrize(
    ("app", "flags", "told"),
    [
        ("train_vae", ["--epochs=0"], ["--epochs=0", "positive"]),
        ("train_vae", ["--latent_size=0"], ["--latent_size=0", "positive"]),
        ("train_vae", ["--image_size=abc"], ["--image_size=abc", "integers"]),
        ("train_vae", ["--likelihood=foo"], ["--likelihood=foo", "gaussian"]),
        (
            "train_vae",
            ["--observation_stddev=0.1"],
            ["--observation_stddev", "--likelihood=gaussian"],
        ),
        (
            "train_vae",
            ["--hidden_sizes=20"],
            ["--hidden_sizes", "--network=mlp"],
        ),
        ("train_vae", ["digits"], ["'digits'"]),
        ("generate", ["--num_images=0"], ["--num_images=0", "positive"]),
        ("generate", ["--output=/x/a.jpg"], ["/x/a.jpg", ".png or .npz"]),
        ("encode", ["--output=/x/a.png"], ["/x/a.png", ".npz"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_impossible_flags_are_refused_before_anything_is_loaded(
    tmp_path, app, flags, told
):
    workdir = tmp_path / "workdir"
    process = without_tensorflow(app, f"--workdir={workdir}", *flags)
    assert_refused(process, app, *told)
    assert not workdir.exists()


# Bad input.


def images(path, **arrays):
    np.savez(path, **arrays)
    return f"--dataset={path}"


def with_unknown_data(folder, trained):
    return ["train_vae", "--dataset=nonsense"], ["'nonsense'", "digits"]


def with_no_data_dir(folder, trained):
    path = folder / "nowhere"
    return ["train_vae", f"--data_dir={path}"], [path, "--data_dir"]


def with_a_broken_picture(folder, trained):
    for i in range(12):
        path = save_noise(folder / f"{i}.png", (SIDE, SIDE))
    path.write_bytes(path.read_bytes()[:60])
    flags = ["--dataset=image_folder", f"--data_dir={folder}"]
    return ["train_vae", *flags, f"--image_size={SIDE}"], [path, "picture"]


def with_a_matrix(folder, trained):
    path = folder / "matrix.npz"
    flag = images(path, image=np.zeros((20, 5)))
    return ["train_vae", flag], [path, "[20, 5]", "[n, height, width]"]


def with_int64(folder, trained):
    path = folder / "int64.npz"
    flag = images(path, image=np.zeros((20, 5, 5), np.int64))
    return ["train_vae", flag], [path, "int64", "uint8"]


def with_values_to_255(folder, trained):
    path = folder / "large.npz"
    flag = images(path, image=np.full((20, 5, 5), 255.0))
    return ["train_vae", flag], [path, "255", "[0, 1]"]


def with_another_array(folder, trained):
    path = folder / "other.npz"
    flag = images(path, pictures=np.zeros((20, 5, 5)))
    return ["train_vae", flag], [path, "'image'", "pictures"]


def with_a_batch_beyond_the_data(folder, trained):
    flag = images(folder / "few.npz", image=np.zeros((20, 5, 5)))
    return ["train_vae", flag, "--batch_size=99"], ["--batch_size=99", "17"]


def with_weights_of_another_shape(folder, trained):
    start = f"--init_from={trained.workdir}/model.keras"
    flag = images(folder / "small.npz", image=np.zeros((20, 5, 5)))
    return ["train_vae", flag, *TINY, "--batch_size=8", start], [start]


def with_half_a_model(folder, trained):
    path = folder / "model.keras"
    whole = (trained.workdir / "model.keras").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return ["generate", f"--workdir={folder}"], [path]


def with_a_foreign_model(folder, trained):
    layers = [keras.layers.Input((3,)), keras.layers.Dense(2)]
    keras.Sequential(layers).save(folder / "model.keras")
    return (
        ["generate", f"--workdir={folder}"],
        [folder / "model.keras", "Sequential"],
    )


def with_no_model(folder, trained):
    return ["encode", f"--workdir={folder}"], [folder, "model.keras"]


def with_no_workdir(folder, trained):
    path = folder / "nowhere"
    return ["generate", f"--workdir={path}"], [path, "--workdir"]


def with_no_picture(folder, trained):
    path = folder / "nowhere.png"
    flags = [f"--workdir={trained.workdir}", f"--input={path}"]
    return ["encode", *flags, f"--output={folder}/z.npz"], [path]


BAD_INPUT = [
    value for name, value in [*globals().items()] if name.startswith("with_")
]


@pytest.fixture(scope="module")
def refusals(folder, launch, trained):
    """What the apps make of all bad input, as they come to it."""
    found = {}
    for make in BAD_INPUT:
        place = folder / make.__name__
        place.mkdir()
        (app, *flags), told = make(place, trained)
        if app == "train_vae":
            flags += [f"--workdir={place}/workdir"]
        found[make] = (launch(app, *flags), app, told)
    return found


@pytest.mark.parametrize("make", BAD_INPUT, ids=lambda make: make.__name__)
def test_bad_input_is_refused_in_one_line(refusals, folder, make):
    process, app, told = refusals[make]
    assert_refused(process.result(), app, *told)
    assert not unfinished(folder / make.__name__)
    assert not (folder / make.__name__ / "workdir" / "model.keras").exists()
