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
            *(variable.value for variable in unique.values()),
            *self.best_weights,
            self.best_loss,
            self.best_epoch,
            self.stale_epochs,
            self.seconds,
        ]


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of the run so that it can resume.

    The last step of an epoch is saved only after the validation of the epoch,
    so that no resumed run skips a validation.

    Args:
        state: the `RunState`.
        directory: path of the folder of the checkpoints.
        every: int, saves at least once in this many steps.
        steps_per_epoch: int, training steps in an epoch.
    """

    def __init__(self, state, directory, every, steps_per_epoch):
        super().__init__()
        self.state = state
        self.directory = files.local_path(directory)
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self._checkpoint = tf.train.Checkpoint(variables=state.variables())
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self.directory), max_to_keep=2
        )
        self._saved = 0
        self._since = time.monotonic()

    def restore(self):
        """Restores the last checkpoint, if there is one.

        Returns:
            int, the number of steps so far.

        Raises:
            TrainingError: if there are checkpoints and none can be read.
        """
        self._clean_up()
        for path in reversed(self._manager.checkpoints):
            try:
                self._checkpoint.restore(path).assert_consumed()
            except Exception as error:  # TensorFlow raises many kinds.
                reason = " ".join(str(error).split())[:200]
                print(f"cannot read checkpoint {path}: {reason}", flush=True)
                continue
            self._saved = self.state.step
            return self._saved
        if self._manager.checkpoints:
            raise TrainingError(
                f"no checkpoint in {self.directory} can be read: delete that "
                "folder to train from the start"
            )
        return 0

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
        next_step = self.state.step + self.model.steps_per_execution
        if next_step - self._saved > self.every:
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
        try:
            with files.disk_errors(self.directory):
                self._manager.save(checkpoint_number=step)
        except OSError:
            self._clean_up()
            raise
        self._saved = step

    def _clean_up(self):
        """Removes the files of a failed or killed save."""
        kept = {pathlib.Path(path).name for path in self._manager.checkpoints}
        for path in self.directory.glob("ckpt-*"):
            name = re.match(r"ckpt-\d+", path.name)
            if name and name[0] not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
