"""Trainings that are interrupted, resume, fail and end, in one process."""

import errno
import math
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_vaes import make_vae

from keras_genmodels import datasets
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import callbacks
from keras_genmodels.training import fit as training

STEPS = 7
BATCH = 16


def _split(n, seed):
    rng = np.random.default_rng(seed)
    # Four kinds of images, so that there is something to learn.
    kinds = rng.random((4, 8, 8, 1))
    images = kinds[rng.integers(0, 4, n)] + 0.1 * rng.random((n, 8, 8, 1))
    return datasets.Split((images > 0.6).astype(np.float32), None)


TRAIN, VALIDATION = _split(100, 0), _split(40, 1)


def _images(batch):
    return batch["image"]


def options(**changes):
    return training.Options(
        **{
            "epochs": 4,
            "steps_per_epoch": STEPS,
            "checkpoint_every": 4,
            "jit_compile": False,
            "learning_rate": 1e-2,
            "ema_momentum": 0.9,
            **changes,
        }
    )


def run(workdir, given=None, model=None, validation=VALIDATION, verbose=0):
    keras.utils.set_random_seed(0)
    model = model or make_vae()
    report = training.fit(
        model,
        Workdir(workdir),
        given or options(),
        batches=lambda step: datasets.training_batches(
            TRAIN, batch_size=BATCH, seed=0, start_step=step
        ).map(_images),
        validation=validation
        and datasets.evaluation_batches(validation, batch_size=64, seed=0).map(
            _images
        ),
        verbose=verbose,
    )
    return model, report


def assert_same_weights(one, other):
    for mine, theirs in zip(
        one.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


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


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 10])
def test_the_learning_rate_grows_and_then_falls_or_stays(schedule, warmup):
    given = options(
        epochs=10,
        learning_rate=0.5,
        learning_rate_warmup_steps=warmup,
        learning_rate_schedule=schedule,
    )
    model = make_vae()
    training.compile_model(model, given)
    rates = []
    for step in range(given.num_steps):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    left = np.arange(given.num_steps - warmup) / (given.num_steps - warmup)
    falling = 0.25 * (1 + np.cos(np.pi * left))
    rest = falling if schedule == "cosine" else np.full_like(left, 0.5)
    expected = [*(0.5 * np.arange(warmup) / 10), *rest]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_to_a_norm_over_all_weights():
    """Adam's first moments after a step from 0 are a tenth of the gradients."""

    def norm(clip):
        model = make_vae(seed=0)
        training.compile_model(model, options(gradient_clip_norm=clip))
        weights = model.trainable_variables
        model.optimizer.apply([tf.ones(w.shape) for w in weights], weights)
        moments = [
            np.asarray(variable)
            for variable in model.optimizer.variables
            if variable.name.endswith("momentum")
        ]
        assert len(moments) == len(weights)
        return 10 * math.sqrt(sum((m**2).sum() for m in moments))

    free = norm(0)
    assert norm(free / 3) == pytest.approx(free / 3, rel=1e-3)
    assert norm(free * 3) == pytest.approx(free, rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"steps_per_epoch": 0},
        {"checkpoint_every": 0},
        {"learning_rate": 0.0},
        {"learning_rate_warmup_steps": -1},
        {"learning_rate_warmup_steps": 4 * STEPS},
        {"gradient_clip_norm": -1.0},
        {"gradient_clip_norm": float("nan")},
        {"ema_momentum": 1.0},
        {"learning_rate_schedule": "linear"},
        {"jit_compile": "yes"},
        {"early_stopping_patience": -1},
    ],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        options(**wrong)


def test_the_model_ends_with_the_best_epochs_averaged_weights(tmp_path):
    model, report = run(tmp_path, options(learning_rate=0.05, epochs=8))
    x = VALIDATION.images
    terms = model.predict(x, verbose=0)
    assert report["validation_loss"] == pytest.approx(
        (terms["rate"] + terms["distortion"]).mean(), rel=1e-5
    )
    assert 1 <= report["best_epoch"] <= 8


def test_without_validation_the_last_epoch_is_taken(tmp_path):
    _, report = run(tmp_path, validation=None)
    assert report["best_epoch"] == 4
    assert report["validation_loss"] is None


def test_early_stopping_ends_the_run_for_good(tmp_path, capsys):
    # Nothing is learned, so no epoch is better than the first.
    given = options(
        learning_rate=1e-12,
        ema_momentum=0.0,
        early_stopping_patience=2,
        epochs=50,
    )
    _, report = run(tmp_path, given, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/50: ")
    assert "elbo" in lines[0] and "new best" in lines[0]
    assert "Stopped early" in lines[-1]
    assert report["epochs"] < 50
    stopped_at = report["epochs"]
    assert stopped_at - report["best_epoch"] == 2
    _, again = run(tmp_path, given)
    assert again == report


def test_averaging_swaps_back_exactly():
    model = make_vae()
    model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9))
    weights = model.trainable_weights
    for _ in range(3):
        model.optimizer.apply([tf.ones(w.shape) for w in weights], weights)
    raw = model.get_weights()
    with callbacks.averaged_weights(model):
        inside = model.get_weights()
    assert all(
        np.abs(a - b).max() > 0 for a, b in zip(raw, inside, strict=True)
    )
    for before, after in zip(raw, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_good_weights(
    tmp_path,
):
    with pytest.raises(training.NotFiniteError, match=r"loss .* not finite"):
        run(tmp_path, options(learning_rate=1e18, checkpoint_every=1))
    kept = tf.train.latest_checkpoint(tmp_path / "checkpoints")
    reader = tf.train.load_checkpoint(kept)
    arrays = [
        reader.get_tensor(name)
        for name, shape in reader.get_variable_to_shape_map().items()
        if len(shape) > 1
    ]
    assert len(arrays) >= 8
    assert all(np.isfinite(array).all() for array in arrays)


def test_weights_that_are_not_finite_are_not_kept(tmp_path, monkeypatch):
    """The loss of a step is that of the weights before it."""
    steps = []

    def spoil(self, batch, logs=None):
        steps.append(batch)
        if len(steps) == 3:
            weight = self.model.trainable_weights[0]
            weight.assign(weight * np.nan)

    monkeypatch.setattr(callbacks.NonFiniteLoss, "on_train_batch_end", spoil)
    with pytest.raises(training.NotFiniteError, match=r"weights .* step 3"):
        run(tmp_path, options(checkpoint_every=1))
    kept = tf.train.latest_checkpoint(tmp_path / "checkpoints")
    assert kept.endswith("ckpt-2")


def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path):
    # Their squares are beyond float32.
    images = np.full((20, 8, 8, 1), 1e30, np.float32)
    model = make_vae(likelihood="gaussian")
    broken = datasets.Split(images, None)
    with pytest.raises(training.NotFiniteError, match="validation loss"):
        run(tmp_path, model=model, validation=broken)


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


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "steps"),
    [
        (100, 10, 10),
        (104, 10, 10),
        (106, 10, 11),
        (10, 10, 1),
        # Long epochs: a multiple of 16, at most half of that away.
        (57000, 128, 448),
        (4490, 10, 448),
    ],
)
def test_an_epoch_is_about_one_pass(num_examples, batch_size, steps):
    assert training.steps_per_epoch(num_examples, batch_size) == steps


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size=11 is more than the 10"):
        training.steps_per_epoch(10, 11)


def test_the_old_name_of_the_schedule_is_accepted_with_a_warning():
    with pytest.warns(DeprecationWarning, match="learning_rate_schedule"):
        old = options(schedule="constant")
    assert old == options(learning_rate_schedule="constant")
    with pytest.warns(DeprecationWarning, match="learning_rate_schedule"):
        assert old.schedule == "constant"
