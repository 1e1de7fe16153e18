"""What happens around Keras' `fit`: resuming, the best weights, pictures."""

import contextlib
import math
import pathlib
import re
import shutil
import signal
import time

import keras
import tensorflow as tf

from keras_genmodels.core.errors import UserError


class RunState:
    """All that a run is, beside the data and the flags, as `tf.Variable`s.

    Args:
        model: a compiled model; its optimizer's variables are made here.
    """

    def __init__(self, model):
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
        """Training steps made."""
        return int(self.model.optimizer.iterations.numpy())

    def variables(self):
        """Lists everything, in an order that the model's build fixes."""
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


@contextlib.contextmanager
def averaged_weights(model):
    """Puts the optimizer's averaged weights into the model for a while."""
    raw = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_weights)
    try:
        yield
    finally:
        model.set_weights(raw)


class BestWeights(keras.callbacks.Callback):
    """Validates the averaged weights, keeps the best, stops when none come.

    Args:
        state: the `RunState` that holds them.
        patience: epochs without a better validation loss after which to
            stop; 0 for never.
    """

    def __init__(self, state, patience=0):
        super().__init__()
        self.state = state
        self.patience = patience
        self._averaged = contextlib.ExitStack()
        self._epoch = 0

    @property
    def exhausted(self):
        """Whether patience has run out."""
        return 0 < self.patience <= int(self.state.stale_epochs.numpy())

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch, as validation is not told it."""
        self._epoch = epoch

    def on_test_begin(self, logs=None):
        """Swaps the averaged weights in."""
        self._averaged.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        """Keeps the weights if they are the best, and swaps back."""
        with self._averaged:
            if not math.isfinite(logs["loss"]):
                what = f"the validation loss is {logs['loss']}, not finite,"
                raise not_finite(what, self.state.step)
            if logs["loss"] < self.state.best_loss.numpy():
                self.state.best_loss.assign(logs["loss"])
                self._keep()
            else:
                self.state.stale_epochs.assign_add(1)

    def on_epoch_end(self, epoch, logs=None):
        """Takes the last epoch where nothing is validated."""
        if "val_loss" not in logs:
            with averaged_weights(self.model):
                self._keep()
        self.model.stop_training = self.exhausted

    def _keep(self):
        self.state.best_epoch.assign(self._epoch + 1)
        self.state.stale_epochs.assign(0)
        for best, weight in zip(
            self.state.best_weights, self.model.weights, strict=True
        ):
            best.assign(weight.value)


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of the run so that it can go on from there.

    An epoch's last step is saved only once the epoch is validated, so that
    no resume misses a validation.

    Args:
        state: the `RunState`.
        directory: where the checkpoints lie.
        every: save at least every so many steps.
        steps_per_epoch: training steps in an epoch.
    """

    def __init__(self, state, directory, every, steps_per_epoch):
        super().__init__()
        self.state = state
        self.directory = pathlib.Path(directory)
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
            int, the step that the run is at.

        Raises:
            UserError: if no checkpoint that is there can be read.
        """
        self._clean_up()
        for path in reversed(self._manager.checkpoints):
            try:
                self._checkpoint.restore(path).assert_consumed()
            except Exception as error:  # TensorFlow raises many kinds.
                reason = " ".join(str(error).split())[:200]
                print(f"can't read checkpoint {path}: {reason}", flush=True)
                continue
            self._saved = self.state.step
            return self._saved
        if self._manager.checkpoints:
            raise UserError(
                f"no checkpoint in {self.directory} can be read: delete that "
                "folder to train from the start"
            )
        return 0

    def on_epoch_begin(self, epoch, logs=None):
        """Gives an epoch that goes on its metrics back, as `fit` reset them."""
        if (
            self.state.step == self._saved
            and self._saved % self.steps_per_epoch
        ):
            self.restore()

    def on_train_batch_end(self, batch, logs=None):
        """Saves within an epoch when it is time."""
        if self.state.step % self.steps_per_epoch:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        """Saves after an epoch when it is time or the run ends."""
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
            raise not_finite("the weights are not finite", step)
        now = time.monotonic()
        self.state.seconds.assign_add(now - self._since)
        self._since = now
        try:
            self._manager.save(checkpoint_number=step)
        except tf.errors.OpError as error:
            self._clean_up()
            # After the path, which is that of TensorFlow's temporary file.
            reason = " ".join(error.message.split()).rpartition("; ")[2]
            raise UserError(
                f"can't write a checkpoint to {self.directory}: {reason}; an "
                "earlier one stands: make room, then give the same command "
                "again"
            ) from error
        self._saved = step

    def _clean_up(self):
        """Removes what a failed or killed save left."""
        kept = {pathlib.Path(path).name for path in self._manager.checkpoints}
        for path in self.directory.glob("ckpt-*"):
            name = re.match(r"ckpt-\d+", path.name)
            if name and name[0] not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class Interrupts(keras.callbacks.Callback):
    """Ends the run at Ctrl-C, between two steps.

    Left to itself, Python raises KeyboardInterrupt wherever it is, and within
    a finalizer or an attribute look-up of TensorFlow's that is lost.
    """

    def __init__(self):
        super().__init__()
        self._asked = False

    @contextlib.contextmanager
    def caught(self):
        """Takes Ctrl-C in place of Python; the second one still is Python's."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        try:
            signal.signal(signal.SIGINT, self._note)
        except ValueError:  # Only the main thread may.
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._raise_if_asked()

    def _note(self, signal_number, frame):
        self._raise_if_asked()
        self._asked = True

    def _raise_if_asked(self):
        if self._asked:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        """Ends the run if that was asked for."""
        self._raise_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        """Ends the run if that was asked for."""
        self._raise_if_asked()


class NonFiniteLoss(keras.callbacks.Callback):
    """Stops the run when the loss is no number.

    Args:
        state: the `RunState`.
    """

    def __init__(self, state):
        super().__init__()
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the running mean: it stays not finite once it is."""
        if not math.isfinite((logs or {}).get("loss", 0)):
            raise not_finite(
                f"the loss is {float(logs['loss'])}, not finite,",
                self.state.step,
            )


def not_finite(what, step):
    """Makes the error for a run that has gone astray."""
    return UserError(
        f"{what} at step {step}: give a smaller --learning_rate "
        "and another --workdir (the last good checkpoint is kept in this one)"
    )


class Pictures(keras.callbacks.Callback):
    """Draws up to ten times in a run, for TensorBoard.

    Args:
        directory: TensorBoard's folder.
        draw: function of the model that gives a dict of uint8 pictures
            `[height, width, 3]` and of floats.
    """

    def __init__(self, directory, draw):
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.draw = draw

    def on_epoch_end(self, epoch, logs=None):
        """Draws with the averaged weights, every tenth of the run."""
        epochs = self.params["epochs"]
        if (epoch + 1) % math.ceil(epochs / 10) and epoch + 1 < epochs:
            return
        writer = tf.summary.create_file_writer(str(self.directory / "pictures"))
        with averaged_weights(self.model), writer.as_default(step=epoch):
            for name, value in self.draw(self.model).items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
                else:
                    tf.summary.image(name, value[tf.newaxis])
        writer.close()
