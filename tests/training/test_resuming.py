"""Trainings that are killed, resume and go on, in one process."""

import contextlib
import errno
import shutil

import keras
import pytest
import tensorflow as tf
from support.short_runs import (
    STEPS,
    TRAIN,
    assert_same_weights,
    options,
    run,
)
from support.small_hierarchies import make_hvae

from keras_genmodels.training import callbacks
from keras_genmodels.training import fit as training


class Killed(BaseException):
    """Ends a run at any point, as a kill does."""


@pytest.fixture
def kill_at(monkeypatch):
    """Returns a function of a step, after which the next run is killed."""
    original = callbacks.NonFiniteLoss.on_train_batch_end

    def at(step):
        def on_train_batch_end(self, batch, logs=None):
            original(self, batch, logs)
            if self.state.step == step and logs:
                raise Killed

        monkeypatch.setattr(
            callbacks.NonFiniteLoss, "on_train_batch_end", on_train_batch_end
        )

    yield at


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def uninterrupted(whole_run):
    return run(whole_run)


# Before the first checkpoint, within an epoch, at its last step (not yet
# validated), at the next one's first; and at the last step of all.
@pytest.mark.parametrize(
    "steps",
    [
        [17],
        # Once each: one run follows all the epochs after the kill.
        *(
            pytest.param(steps, marks=pytest.mark.slow)
            for steps in [[2], [5], [7], [28], [5, 10, 17, 23]]
        ),
    ],
)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    tmp_path, kill_at, uninterrupted, steps
):
    for step in steps:
        kill_at(step)
        with pytest.raises(Killed):
            run(tmp_path)
    kill_at(None)
    model, report = run(tmp_path)
    assert_same_weights(model, uninterrupted[0])
    same = {**report, "training_seconds": 0}
    assert same == {**uninterrupted[1], "training_seconds": 0}
    # Metrics of a resumed epoch are those of the whole epoch.
    metrics = model.history.history["elbo"]
    whole = uninterrupted[0].history.history["elbo"]
    if steps[-1] == 17:
        assert len(metrics) == 4 - 17 // STEPS
    assert metrics == whole[4 - len(metrics) :]


@pytest.mark.slow
def test_a_kill_loses_no_more_than_the_steps_between_checkpoints(
    tmp_path, kill_at
):
    given = options(checkpoint_every=3, epochs=3)
    for step in (5, 11, 16):
        kill_at(step)
        with pytest.raises(Killed):
            run(tmp_path, given)
        latest = tf.train.latest_checkpoint(tmp_path / "checkpoints")
        assert step - 3 <= int(latest.rpartition("-")[2]) <= step


@pytest.mark.slow
def test_a_run_resumes_with_more_steps_in_one_execution(
    tmp_path, kill_at, monkeypatch
):
    """As after a change from several replicas, which make one, to a device."""
    given = options(epochs=2, steps_per_epoch=8, checkpoint_every=5)
    with monkeypatch.context() as patched:
        compile_model = training.compile_model

        def compile_for_one_step(model, options):
            compile_model(model, options)
            assert model.steps_per_execution == 4
            model.steps_per_execution = 1

        patched.setattr(training, "compile_model", compile_for_one_step)
        kill_at(7)
        with pytest.raises(Killed):
            run(tmp_path, given)
    saved = sorted(path.name for path in tmp_path.glob("**/ckpt-*.index"))
    assert saved == ["ckpt-4.index"]
    _, report = run(tmp_path, given)
    assert report["steps"] == 16
    assert report["epochs"] == 2


def test_a_finished_run_stays_and_more_epochs_extend_it(
    tmp_path, uninterrupted, whole_run
):
    first, report = uninterrupted
    assert (report["epochs"], report["steps"]) == (4, 4 * STEPS)
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    again, second = run(tmp_path)
    assert_same_weights(first, again)
    assert second == report
    _, longer = run(tmp_path, options(epochs=6))
    assert (longer["epochs"], longer["steps"]) == (6, 6 * STEPS)


@pytest.mark.slow
def test_a_run_too_short_to_average_can_be_extended(tmp_path):
    given = {
        "steps_per_epoch": 4,
        "learning_rate_schedule": "constant",
        "ema_momentum": None,
    }
    _, short = run(tmp_path, options(epochs=1, **given))
    _, longer = run(tmp_path, options(epochs=30, **given))
    assert (short["steps"], longer["steps"]) == (4, 120)


@pytest.mark.slow
def test_damaged_checkpoints_are_skipped_and_only_such_are_an_error(
    tmp_path, kill_at, uninterrupted
):
    kill_at(20)
    with pytest.raises(Killed):
        run(tmp_path / "one")
    kill_at(None)
    shutil.copytree(tmp_path / "one", tmp_path / "all")
    for path in (tmp_path / "all" / "checkpoints").glob("*.data-*"):
        path.write_bytes(b"")
    with pytest.raises(training.TrainingError, match="delete that folder"):
        run(tmp_path / "all")
    checkpoints = sorted((tmp_path / "one" / "checkpoints").glob("*.data-*"))
    assert len(checkpoints) == 2
    newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:1000])
    model, _ = run(tmp_path / "one")
    assert_same_weights(model, uninterrupted[0])


@pytest.mark.slow
def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    save, calls = tf.train.CheckpointManager.save, []

    def fill_up(self, *args, **kwargs):
        calls.append(1)
        if len(calls) < 3:
            return save(self, *args, **kwargs)
        step = kwargs["checkpoint_number"]
        (tmp_path / "checkpoints" / f"ckpt-{step}_temp").mkdir()
        raise tf.errors.ResourceExhaustedError(
            None, None, "temporary file; No space left on device"
        )

    monkeypatch.setattr(tf.train.CheckpointManager, "save", fill_up)
    with pytest.raises(OSError, match="checkpoints") as info:
        run(tmp_path)
    assert info.value.errno == errno.ENOSPC
    monkeypatch.setattr(tf.train.CheckpointManager, "save", save)
    assert not list((tmp_path / "checkpoints").glob("*_temp"))
    _, report = run(tmp_path)
    assert report["epochs"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["flow", "vamp"])
def test_a_killed_run_of_several_layers_of_latents_resumes(
    tmp_path, kill_at, prior
):
    """A run draws the pseudo-inputs of a VampPrior also when it resumes."""
    models = []
    for name, steps in (("whole", [None]), ("killed", [10, None])):
        for step in steps:
            kill_at(step)
            keras.utils.set_random_seed(0)
            model = make_hvae(prior=prior)
            if prior == "vamp":
                model.adapt(TRAIN.images)
            with (
                contextlib.nullcontext()
                if step is None
                else pytest.raises(Killed)
            ):
                run(tmp_path / name, options(epochs=2), model)
        models.append(model)
    assert_same_weights(*models)
