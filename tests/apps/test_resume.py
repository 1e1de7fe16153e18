"""Trainings that are stopped and started again."""

import random
import signal
import subprocess
import sys
import time

import pytest
from support.app_runs import (
    ROOT,
    TIMEOUT,
    assert_refused,
    assert_same_results,
    assert_same_weights,
    checkpoints,
    run,
    succeed,
)


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
        pytest.param(
            ["--epochs=30"], id="convolutions", marks=pytest.mark.exhaustive
        ),
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
    for _ in range(2):
        killed = stop(signal.SIGKILL, moments.uniform(0, 0.3), cut, *flags)
        assert killed.returncode == -signal.SIGKILL
    interrupted = stop(signal.SIGINT, moments.uniform(0, 0.3), cut, *flags)
    assert_refused(interrupted, "train_vae", "the same command", status=130)
    assert not (cut / "model.keras").exists()
    resumed = succeed(run("train_vae", f"--workdir={cut}", *flags))
    assert "epoch 1/" not in resumed
    succeed(uninterrupted.result())
    assert_same_weights(cut, whole)
    assert_same_results(cut, whole)
