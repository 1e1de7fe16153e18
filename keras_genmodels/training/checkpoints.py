"""The state of a run, and checkpoints from which it resumes exactly."""

import math
import pathlib
import re
import shutil
import time

import keras
import tensorflow as tf

from keras_genmodels.core import files, private_api
from keras_genmodels.training.errors import NotFiniteError, TrainingError
from keras_genmodels.training.workers import Workers


class RunState:
    """All `tf.Variable`s of a run; the data and the options are the rest.

    Args:
        model: a compiled model; the variables of its optimizer are created
            here.
    """

    def __init__(self, model):
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        self.model = model
        self.best_weights = [
            tf.Variable(weight.value) for weight in model.weights
        ]
        self.best_loss = tf.Variable(math.inf, dtype=tf.float64)
        self.best_epoch = tf.Variable(0, dtype=tf.int64)
        self.stale_epochs = tf.Variable(0, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)
        self._totals = {}

    @property
    def step(self):
        """Number of training steps so far."""
        return int(private_api.training_step(self.model.optimizer).numpy())

    def variables(self):
        """Lists all variables, in an order that the model alone determines."""
        metrics = [v for m in self.model.metrics for v in m.variables]
        of_keras = [
            *self.model.variables,
            *self.model.optimizer.variables,
            *metrics,
        ]
        unique = {id(variable): variable for variable in of_keras}
        return [
            *(self._stored(variable.value) for variable in unique.values()),
            *self.best_weights,
            self.best_loss,
            self.best_epoch,
            self.stale_epochs,
            self.seconds,
        ]

    def _stored(self, value):
        """Returns a variable, or one for the total of its replicas' values.

        Only all workers together can read such a total.
        """
        if not isinstance(value, tf.distribute.DistributedValues) or (
            value.synchronization != tf.VariableSynchronization.ON_READ
        ):
            return value
        total = tf.Variable(value.read_value())
        self._totals[id(value)] = value, total
        return total

    def collect(self):
        """Sets the totals to those of the replicas' values."""
        for value, total in self._totals.values():
            total.assign(value.read_value())

    def spread(self):
        """Sets the replicas' values so that they have the totals."""
        for value, total in self._totals.values():
            with self.model.distribute_strategy.scope():
                value.assign(total)


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of the run so that it can resume.

    The last step of an epoch is saved only after the validation of the epoch,
    so that no resumed run skips a validation.

    Args:
        state: the `RunState`.
        directory: path of the folder of the checkpoints.
        every: int, saves at least once in this many steps.
        steps_per_epoch: int, training steps in an epoch.
        strategy: `tf.distribute.Strategy`; only its chief writes.
        multiple: int, of which the step of a checkpoint is a multiple, so
            that a run with another strategy can resume there.
    """

    def __init__(
        self, state, directory, every, steps_per_epoch, strategy, multiple
    ):
        super().__init__()
        self.state = state
        self.directory = files.local_path(directory)
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self._checkpoint = tf.train.Checkpoint(variables=state.variables())
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self.directory), max_to_keep=2
        )
        self.workers = Workers(strategy)
        self.multiple = multiple
        self._saved = 0
        self._since = time.monotonic()

    def restore(self):
        """Restores the last checkpoint, if there is one.

        Returns:
            int, the number of steps so far.

        Raises:
            TrainingError: if there are checkpoints and none can be read.
        """
        step = self._restore_last() if self.workers.is_chief else 0
        step = self.workers.agree(step)
        if step and not self.workers.is_chief:
            path = self.directory / f"ckpt-{step}"
            if reason := self._read(path):
                raise TrainingError(
                    f"cannot read checkpoint {path} ({reason}): all workers "
                    "must share the workdir"
                )
        self.state.spread()
        self._saved = step
        return step

    def _restore_last(self):
        self._clean_up()
        for path in reversed(self._manager.checkpoints):
            if reason := self._read(path):
                print(f"cannot read checkpoint {path}: {reason}", flush=True)
                continue
            return self.state.step
        if self._manager.checkpoints:
            raise TrainingError(
                f"no checkpoint in {self.directory} can be read: delete that "
                "folder to train from the start"
            )
        return 0

    def _read(self, path):
        """Restores a checkpoint; returns why that failed, or None."""
        try:
            self._checkpoint.restore(str(path)).assert_consumed()
        except Exception as error:  # TensorFlow raises many kinds.
            reason = " ".join(str(error).split())[:200]
            return reason or type(error).__name__
        return None

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the metrics of a resumed epoch, which `fit` has reset."""
        if (
            self.state.step == self._saved
            and self._saved % self.steps_per_epoch
        ):
            self.restore()

    def on_train_batch_end(self, batch, logs=None):
        """Saves within an epoch if a checkpoint is due."""
        if self.state.step % self.steps_per_epoch:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        """Saves after an epoch if a checkpoint is due or the run ends."""
        last = epoch + 1 == self.params["epochs"]
        if last or self.model.stop_training:
            self._save()
        else:
            self._save_if_due()

    def _save_if_due(self):
        step = self.state.step
        is_next_late = step + self.multiple - self._saved > self.every
        if is_next_late and step % self.multiple == 0:
            self._save()

    def _save(self):
        step = self.state.step
        if not all(
            tf.reduce_all(tf.math.is_finite(weight.value))
            for weight in self.model.trainable_weights
        ):
            raise NotFiniteError(f"the weights are not finite at step {step}")
        now = time.monotonic()
        self.state.seconds.assign_add(now - self._since)
        self._since = now
        self.state.collect()
        if self.workers.is_chief:
            self._write(step)
        self._saved = step

    def _write(self, step):
        try:
            with files.disk_errors(self.directory):
                self._manager.save(checkpoint_number=step)
        except OSError:
            self._clean_up()
            raise

    def _clean_up(self):
        """Removes the files of a failed or killed save."""
        kept = {pathlib.Path(path).name for path in self._manager.checkpoints}
        for path in self.directory.glob("ckpt-*"):
            name = re.match(r"ckpt-\d+", path.name)
            if name and name[0] not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
