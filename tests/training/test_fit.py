"""Options, failures and ends of a training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.short_runs import STEPS, VALIDATION, options, run
from support.small_vaes import make_vae

from keras_genmodels import datasets
from keras_genmodels.training import callbacks
from keras_genmodels.training import fit as training


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


@pytest.mark.slow
def test_the_model_ends_with_the_best_epochs_averaged_weights(tmp_path):
    model, report = run(tmp_path, options(learning_rate=0.05, epochs=8))
    x = VALIDATION.images
    terms = model.predict(x, verbose=0)
    assert report["validation_loss"] == pytest.approx(
        (terms["rate"] + terms["distortion"]).mean(), rel=1e-5
    )
    assert 1 <= report["best_epoch"] <= 8


@pytest.mark.slow
def test_without_validation_the_last_epoch_is_taken(tmp_path):
    _, report = run(tmp_path, validation=None)
    assert report["best_epoch"] == 4
    assert report["validation_loss"] is None


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path):
    # Their squares are beyond float32.
    images = np.full((20, 8, 8, 1), 1e30, np.float32)
    model = make_vae(likelihood="gaussian")
    broken = datasets.Split(images, None)
    with pytest.raises(training.NotFiniteError, match="validation loss"):
        run(tmp_path, model=model, validation=broken)


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
