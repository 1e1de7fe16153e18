"""A run prints a bar on a terminal, and at most about 20 lines in a log."""

import io
import re
import types

import numpy as np
import pytest

from keras_genmodels.denoisers import DenoisingAutoencoder
from keras_genmodels.models import VAE, ConditionalVAE
from keras_genmodels.training import progress as progress_lib


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(
    stream,
    epochs,
    *,
    units=None,
    name="elbo",
    best_epochs=None,
    steps=4,
    start=0,
    validation=True,
):
    """Calls the callback as Keras does in a run, without any training."""
    kind = type("Model", (), {"metric_units": units} if units else {})
    model = kind()
    model.stop_training = False
    state = types.SimpleNamespace(step=start * steps, best_epoch=np.int64(0))
    progress = progress_lib.Progress(state, steps, stream)
    progress.set_model(model)
    progress.set_params({"epochs": epochs})
    progress.on_train_begin()
    for epoch in range(start, epochs):
        progress.on_epoch_begin(epoch)
        for batch in range(1, steps, 2):
            state.step = epoch * steps + batch + 1
            progress.on_train_batch_end(batch)
        value = -25 + epoch / 100
        logs = {name: value, "rate": 5.354, "loss": -value}
        if validation:
            logs |= {f"val_{name}": value - 1, "val_loss": 1 - value}
        if best_epochs is None or epoch + 1 in best_epochs:
            state.best_epoch = np.int64(epoch + 1)
        progress.on_epoch_end(epoch, logs)
    progress.close()
    return stream.getvalue()


UNITS = {"elbo": "nats", "rate": "nats"}


@pytest.mark.parametrize("epochs", [1, 7, 20, 21, 41, 250, 1000])
def test_a_log_has_few_lines_whatever_the_number_of_epochs(epochs):
    lines = train(io.StringIO(), epochs, units=UNITS).splitlines()
    assert len(lines) <= 22
    assert lines[0].startswith("epoch 1/")
    assert lines[-1].startswith(f"epoch {epochs}/{epochs}: ")
    assert len(lines) >= min(epochs, 10)


def test_a_line_has_the_time_left_and_the_metrics_with_their_units():
    lines = train(io.StringIO(), 3, units=UNITS).splitlines()
    number = r"-?\d+\.\d\d"
    assert re.fullmatch(
        rf"epoch 2/3, \d+:\d\d left: elbo {number} nats, rate 5\.35, "
        rf"validation elbo {number}, new best",
        lines[1],
    )


def test_the_time_left_does_not_count_compilation(monkeypatch):
    def seconds():
        now = 0
        yield now
        for epoch in range(10):
            now += 100 if epoch == 0 else 2
            yield now  # For the line, or to start again after the first epoch.

    clock = seconds()
    monkeypatch.setattr(progress_lib.time, "monotonic", lambda: next(clock))
    lines = train(io.StringIO(), 10, units=UNITS).splitlines()
    assert lines[0].startswith("epoch 1/10: ")
    assert lines[2].startswith("epoch 3/10, 0:14 left: ")


def test_a_new_best_is_noted_even_if_its_epoch_has_no_line():
    text = train(io.StringIO(), 100, units=UNITS, best_epochs=(1, 2, 33, 40))
    lines = text.splitlines()
    assert lines[0].endswith(", new best")
    assert lines[1].endswith(", new best in epoch 2")
    noted = {line.split("/")[0]: line for line in lines}
    assert "new best in epoch 33" in noted["epoch 35"]
    assert noted["epoch 40"].endswith(", new best")
    assert "best" not in noted["epoch 45"]


def test_without_validation_no_epoch_is_called_the_best():
    text = train(io.StringIO(), 3, units=UNITS, validation=False)
    assert "best" not in text and "validation" not in text


def test_a_model_without_units_shows_its_loss():
    line = train(io.StringIO(), 1)
    assert line == "epoch 1/1: loss 25.00, validation loss 26.00, new best\n"


def test_a_terminal_shows_one_bar_with_the_time_left():
    text = train(Terminal(), 30, units=UNITS, best_epochs=(1, 20), start=10)
    assert text.count("\n") == 1
    last = text.rstrip().rpartition("\r")[2]
    assert "120/120" in last and "<" in last
    assert "epoch 30/30: elbo -24.71 nats, rate 5.35" in last
    assert "best epoch 20" in last


def test_every_kind_of_model_says_what_it_measures():
    for kind, first in (
        (VAE, "elbo"),
        (ConditionalVAE, "elbo"),
        (DenoisingAutoencoder, "psnr"),
    ):
        assert next(iter(kind.metric_units)) == first


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (21.4, "0:21"), (119.6, "2:00"), (3725, "1:02:05")],
)
def test_times_are_written_as_a_person_does(seconds, text):
    assert progress_lib.format_time(seconds) == text
