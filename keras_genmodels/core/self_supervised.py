"""The loss and the random numbers of models that train without targets."""

import typing

import keras
import tensorflow as tf

from keras_genmodels.core import private_api, seeds

# Keeps the random numbers of training apart from others of the same seed.
_TRAINING_STREAM = 1


class SelfSupervised:
    """Mixin for a Keras model whose `call` returns per-example terms.

    The model has a `seed`, and defines `_per_example_loss(terms, training)`
    and `_per_example_metrics(terms)` of the dict that `call` returns. `fit`
    and `evaluate` take events without targets; `compile` takes no loss.

    `metric_units` has the metrics that the progress of a training shows, the
    most important first, and their units.
    """

    metric_units: typing.ClassVar = {"loss": ""}

    def _track(self, *names):
        """Creates a running mean per metric; called by the constructor."""
        self._trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns the mean of the per-example losses, plus `self.losses`."""
        kind = type(self).__name__
        if y is not None:
            raise ValueError(
                f"a {kind} is trained without targets: fit(x), not fit(x, y)"
            )
        if private_api.is_compiled_with_loss(self):
            raise ValueError(
                f"a {kind} brings its own loss: compile without loss="
            )
        loss = self._per_example_loss(y_pred, training)
        if sample_weight is not None:
            loss *= tf.cast(sample_weight, loss.dtype)
        loss = tf.reduce_mean(loss)
        for extra in self.losses:
            loss += tf.cast(extra, loss.dtype)
        # Keras sums the gradients over replicas.
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates and returns the running means."""
        for name, value in self._per_example_metrics(y_pred).items():
            self._trackers[name].update_state(
                value, sample_weight=sample_weight
            )
        return self.get_metrics_result()

    def _step_seed(self):
        """Returns the seed of this training step, int32 `[2]`."""
        if not self.compiled:
            raise ValueError(
                "training draws from (seed, step) and the optimizer counts the "
                "steps: compile first"
            )
        seed = seeds.fold_in(seeds.as_seed(self.seed), _TRAINING_STREAM)
        seed = seeds.fold_in(seed, self.optimizer.iterations.value)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            seed = seeds.fold_in(seed, replica.replica_id_in_sync_group)
        return seed
