"""Runs apps, each in a process of its own, and reads what they write."""

import collections
import io
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import h5py
import numpy as np
import PIL.Image
import pytest

from support import app_fork

ROOT = pathlib.Path(__file__).parents[2]
SIDE = 8
NUM_TEST = 360
# Seconds that only a process that hangs takes.
TIMEOUT = 300


def run_python(*args):
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def run(app, *args, file_limit=None):
    """Runs an app in a forked process (see `app_fork`).

    No file may grow beyond `file_limit` bytes.
    """
    args = [str(arg) for arg in args]
    with tempfile.TemporaryDirectory() as folder:
        streams = [pathlib.Path(folder, name) for name in ("out", "err")]
        for path in streams:
            path.touch()
        status = app_fork.run(
            ROOT,
            app,
            args,
            file_limit=file_limit,
            streams=[str(path) for path in streams],
            timeout=TIMEOUT,
        )
        texts = [path.read_text() for path in streams]
    return subprocess.CompletedProcess([app, *args], status, *texts)


Trained = collections.namedtuple("Trained", "workdir process")
Refused = collections.namedtuple(
    "Refused", "app flags named file_limit", defaults=[None]
)


def succeed(process):
    """Checks that an app succeeded, and returns what it printed."""
    assert process.stderr == ""
    assert process.returncode == 0
    return process.stdout


def assert_refused(process, app, *named, status=1):
    """Checks that an app ended with one line that contains all of `named`."""
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stderr.startswith(f"{app}: ")
    for words in named:
        assert str(words) in process.stderr
    assert process.returncode == status


def contents(folder, *but):
    """Reads all files, except those below some names in the folder."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in but
    }


def unfinished(workdir):
    """Lists the temporary files that a failed writer would have left."""
    return list(workdir.rglob(".writing-*"))


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


def measures(workdir, section):
    """Returns the measures of a section of the test split."""
    return metrics(workdir)["test"]["sections"][section]["measures"]


def assert_same_results(workdir, other):
    mine, theirs = metrics(workdir), metrics(other)
    assert mine["test"] == theirs["test"]
    for name in ("steps", "best_epoch", "validation_loss"):
        assert mine["training"][name] == theirs["training"][name]


def picture(path):
    with PIL.Image.open(path) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB"))


def save_noise(path, shape, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def save_unlabelled(path, num=300):
    """Writes a data set that is evaluated without training a classifier."""
    kinds = np.random.default_rng(0).integers(0, 2, (4, SIDE, SIDE), np.uint8)
    which = np.random.default_rng(1).integers(0, 4, num)
    noise = np.random.default_rng(2).integers(0, 100, (num, SIDE, SIDE))
    np.savez(path, image=np.uint8(kinds[which] * 155 + noise))
    return f"--dataset={path}"


def checkpoints(workdir):
    return {path.name for path in (workdir / "checkpoints").glob("*.index")}


def last_step(workdir):
    """Returns the step of the newest checkpoint, 0 if there is none."""
    steps = [name.split("-")[1].split(".")[0] for name in checkpoints(workdir)]
    return max(map(int, steps), default=0)


def kill(app, workdir, *flags, least_step):
    """Starts a training, and kills it shortly after a checkpoint."""
    command = [sys.executable, "-m", f"apps.{app}", f"--workdir={workdir}"]
    delay = random.Random(0).uniform(0, 0.2)
    deadline = time.monotonic() + TIMEOUT
    with subprocess.Popen(
        [*command, *flags],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while process.poll() is None and last_step(workdir) < least_step:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(delay)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


# What takes seconds to import.
_LARGE = {"tensorflow", "keras", "keras_genmodels", "numpy"}


def run_without_tensorflow(app, *args):
    """Runs an app, and checks that it imported no large package."""
    process = run_python("-X", "importtime", "-m", f"apps.{app}", *args)
    lines = process.stderr.splitlines(keepends=True)
    times = [line for line in lines if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in times}
    assert "apps.cli.guard" in imported
    packages = {name.partition(".")[0] for name in imported}
    assert not packages & _LARGE
    process.stderr = "".join(line for line in lines if line not in times)
    return process


def run_each_without_tensorflow(app, commands):
    """Runs an app for each list of flags, as `run_without_tensorflow`."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "flag_forks.py")],
        cwd=ROOT,
        input=json.dumps([app, commands]),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert process.returncode == 0, process.stderr
    found = []
    for args, (status, errors, packages) in zip(
        commands, json.loads(process.stdout), strict=True
    ):
        assert "apps" in packages
        assert not _LARGE & {*packages}
        found.append(
            subprocess.CompletedProcess([app, *args], status, stderr=errors)
        )
    return found


def tiles_of(sheet, rows, columns):
    """Divides a sheet of images, enlarged fourfold with a line between."""
    assert sheet.shape == (33 * rows - 1, 33 * columns - 1, 3)
    return np.stack(
        [
            sheet[top : top + 4 * SIDE : 4, left : left + 4 * SIDE : 4]
            for top in range(0, 33 * rows, 33)
            for left in range(0, 33 * columns, 33)
        ]
    )


def contents_but_lock(folder):
    return {
        path: content
        for path, content in contents(folder).items()
        if path.name != ".lock"
    }


def each_refused(quick, slow=()):
    """Parametrises a test over functions that make a `Refused`."""
    cases = [
        *quick,
        *(pytest.param(make, marks=pytest.mark.slow) for make in slow),
    ]
    return pytest.mark.parametrize("make", cases, ids=lambda m: m.__name__)


def start_refusals(cases, folder, launch, trained):
    """Starts apps that end with one line, two at a time.

    Args:
        cases: functions of a folder of their own and the finished runs, which
            return a `Refused`.
        folder: where these folders go.
        launch: the fixture.
        trained: the fixture.

    Returns:
        dict of each function to the arguments of `check_refusal`.
    """
    started = {}
    for make in cases:
        place = folder / make.__name__
        place.mkdir()
        case = make(place, trained)
        before = contents_but_lock(place)
        flags = case.flags
        if not any(flag.startswith("--workdir=") for flag in flags):
            flags = [*flags, f"--workdir={place}/workdir"]
        process = launch(case.app, *flags, file_limit=case.file_limit)
        started[make] = (process, case, place, before)
    return started


def check_refusal(process, case, place, before):
    """Checks that an app named what is wrong, and changed no file."""
    assert_refused(process.result(), case.app, *case.named)
    assert contents_but_lock(place) == before
