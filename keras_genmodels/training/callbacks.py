"""Callbacks of `fit`: the best weights, interruption, pictures."""

import contextlib
import math
import signal

import keras
import tensorflow as tf

from keras_genmodels.core import files
from keras_genmodels.training.errors import NotFiniteError


@contextlib.contextmanager
def averaged_weights(model):
    """Puts the optimizer's averaged weights into the model in the block."""
    raw = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_weights)
    try:
        yield
    finally:
        model.set_weights(raw)


class BestWeights(keras.callbacks.Callback):
    """Validates the averaged weights, keeps the best, and stops early.

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
        """Notes the epoch, which is not passed to validation."""
        self._epoch = epoch

    def on_test_begin(self, logs=None):
        """Swaps the averaged weights in."""
        self._averaged.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        """Keeps the weights if they are the best, and swaps back."""
        with self._averaged:
            if not math.isfinite(logs["loss"]):
                raise NotFiniteError(
                    f"the validation loss is {logs['loss']}, not finite, at "
                    f"step {self.state.step}"
                )
            if logs["loss"] < self.state.best_loss.numpy():
                self.state.best_loss.assign(logs["loss"])
                self._keep()
            else:
                self.state.stale_epochs.assign_add(1)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the last epoch if there is no validation."""
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


class Interrupts(keras.callbacks.Callback):
    """Ends the run at Ctrl-C, between two steps.

    Python would raise KeyboardInterrupt at any line, and within a finalizer or
    an attribute look-up of TensorFlow it is lost.
    """

    def __init__(self):
        super().__init__()
        self._asked = False

    @contextlib.contextmanager
    def caught(self):
        """Handles the first Ctrl-C in the block; a second one ends at once."""
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
    """Stops the run when the loss is infinite or NaN.

    Args:
        state: the `RunState`.
    """

    def __init__(self, state):
        super().__init__()
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        """Checks the running mean, which stays not finite once it is."""
        if not math.isfinite((logs or {}).get("loss", 0)):
            raise NotFiniteError(
                f"the loss is {float(logs['loss'])}, not finite, at step "
                f"{self.state.step}"
            )


class Pictures(keras.callbacks.Callback):
    """Writes pictures and scalars for TensorBoard, up to ten times in a run.

    Args:
        directory: TensorBoard's folder.
        draw: function of the model that returns a dict of uint8 pictures
            `[height, width, 3]` and of floats.
    """

    def __init__(self, directory, draw):
        super().__init__()
        self.directory = files.local_path(directory)
        self.draw = draw

    def on_epoch_end(self, epoch, logs=None):
        """Draws with the averaged weights, each tenth of the run."""
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
