"""What a run prints while it trains."""

import itertools
import sys
import time

import keras
import tqdm

_MAX_LINES = 20


class Progress(keras.callbacks.Callback):
    """Prints the progress of a run: a bar on a terminal, a few lines in a log.

    It shows the metrics that the class of the model lists in `metric_units`,
    a dict of metric names to units, and the first of them on the validation
    data; the loss for a model without that attribute.

    Args:
        state: the `RunState`, which holds the best epoch.
        steps_per_epoch: int, training steps in an epoch.
        stream: text file; the standard output by default.
    """

    def __init__(self, state, steps_per_epoch, stream=None):
        super().__init__()
        self.state = state
        self.steps_per_epoch = steps_per_epoch
        self.stream = stream or sys.stdout
        self._bar = None
        self._epoch = 0

    def on_train_begin(self, logs=None):
        """Starts the clock, or the bar."""
        self._best_epoch = self._read_best_epoch()
        self._start = time.monotonic(), self.state.step
        self._is_first_epoch = True
        if self.stream.isatty():
            self._bar = tqdm.tqdm(
                total=self._num_steps,
                initial=self.state.step,
                unit="step",
                dynamic_ncols=True,
                file=self.stream,
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch, which is not passed to each batch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar."""
        if self._bar is not None:
            step = self._epoch * self.steps_per_epoch + batch + 1
            self._bar.update(max(0, step - self._bar.n))

    def on_epoch_end(self, epoch, logs=None):
        """Prints the metrics, at most about 20 times in a run."""
        epochs, num = self.params["epochs"], epoch + 1
        ends = num == epochs or self.model.stop_training
        message = f"{self._describe(logs)}{self._describe_best(num, logs)}"
        if self._bar is not None:
            self._bar.set_postfix_str(f"epoch {num}/{epochs}: {message}")
        elif epoch == 0 or ends or num % _epochs_per_line(epochs) == 0:
            # The first epoch mostly compiles: no measure of the others.
            known = not (ends or self._is_first_epoch)
            left = f", {self._time_left()} left" if known else ""
            print(
                f"epoch {num}/{epochs}{left}: {message}",
                file=self.stream,
                flush=True,
            )
            self._best_epoch = self._read_best_epoch()
        if self._is_first_epoch:
            # The time of the first epoch is mostly that of compilation.
            self._start = time.monotonic(), self.state.step
            self._is_first_epoch = False

    def close(self):
        """Leaves the bar as it is and starts a new line."""
        if self._bar is not None:
            self._bar.close()

    @property
    def _num_steps(self):
        return self.params["epochs"] * self.steps_per_epoch

    def _read_best_epoch(self):
        return int(self.state.best_epoch)

    def _describe(self, logs):
        """Returns the metrics as text, with each unit once."""
        units = getattr(type(self.model), "metric_units", {"loss": ""})
        parts, named = [], {""}
        for name, unit in units.items():
            if name in logs:
                suffix = "" if unit in named else f" {unit}"
                parts.append(f"{name} {logs[name]:.2f}{suffix}")
                named.add(unit)
        first = next(iter(units))
        if f"val_{first}" in logs:
            parts.append(f"validation {first} {logs[f'val_{first}']:.2f}")
        return ", ".join(parts)

    def _describe_best(self, num, logs):
        """Returns a note on the best epoch of a run with validation."""
        best = self._read_best_epoch()
        if "val_loss" not in logs:
            return ""
        if best == num:
            return ", new best"
        if self._bar is not None:
            return f", best epoch {best}"
        return f", new best in epoch {best}" if best > self._best_epoch else ""

    def _time_left(self):
        start, first_step = self._start
        step = self.state.step
        per_step = (time.monotonic() - start) / max(1, step - first_step)
        return format_time(per_step * (self._num_steps - step))


def _epochs_per_line(epochs):
    """Returns 1, 2, 5, 10, 20, 50, ... for at most `_MAX_LINES` lines."""
    steps = (n * 10**power for power in itertools.count() for n in (1, 2, 5))
    return next(step for step in steps if step * _MAX_LINES >= epochs)


def format_time(seconds):
    """Returns a duration as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"
