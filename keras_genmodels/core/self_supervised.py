"""The loss and the random numbers of models that train without targets."""

import typing

import keras
import tensorflow as tf

from keras_genmodels.core import batch_parts, private_api, replicas, seeds
from keras_genmodels.core.events import num_events
from keras_genmodels.core.keras_verbs import KerasVerbs
from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import kind_of

# Keeps the random numbers of training apart from others of the same seed.
_TRAINING_STREAM = 1


class SelfSupervised(private_api.BuiltByConstructor, KerasVerbs):
    """Mixin for a Keras model whose `call` returns per-example terms.

    The model has a `seed`, and defines `_per_example_loss(terms, training)`
    and `_per_example_metrics(terms)` of the dict that `call` returns. `fit`
    and `evaluate` take events without targets; `compile` takes no loss and no
    metrics. `_targets_as_inputs` says in a message how a data set of pairs
    (x, y) becomes inputs.

    `metric_units` has the metrics that the progress of a training shows, the
    most important first, and their units.
    """

    metric_units: typing.ClassVar = {"loss": ""}
    _targets_as_inputs = "x"

    def _track(self, *names):
        """Creates a running mean per metric; called by the constructor."""
        self._trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        **settings,
    ):
        """Compiles as `keras.Model.compile`, with the model's own loss.

        Raises:
            ValueError: for a loss, its weights, or metrics.
        """
        own = ", ".join(("loss", *self._trackers))
        for name, value in {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }.items():
            check(
                value is None,
                f"{kind_of(self)} brings its own loss and metrics "
                f"({own}) and has no targets for others: compile without "
                f"{name}=",
            )
        super().compile(optimizer, **settings)

    def compile_from_config(self, config):
        """Compiles as the model of a file was, without a loss or metrics."""
        config = keras.saving.deserialize_keras_object(config)
        # Version 0.2 refused these in `fit`, so that a file may have them.
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            config.pop(name, None)
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains as `keras.Model.fit`, on events without targets.

        Raises:
            ValueError: for targets, and for weights, which Keras drops for
                data without targets.
        """
        validation = kwargs.get("validation_data")
        self._check_targets(y)
        if isinstance(validation, tuple) and len(validation) > 1:
            self._check_targets(validation[1])
        check(
            kwargs.get("class_weight") is None,
            f"class_weight requires targets, which {kind_of(self)} "
            "does not have",
        )
        self._check_weights(y, kwargs, "train_on_batch")
        self._build_optimizer()
        # A model that is not compiled has no optimizer.
        optimizer = getattr(self, "optimizer", None)
        accumulates = getattr(optimizer, "gradient_accumulation_steps", None)
        check(
            not accumulates
            or self.distribute_strategy.num_replicas_in_sync == 1,
            "gradient_accumulation_steps requires one replica: Keras cannot "
            "accumulate gradients on several, which take larger batches",
        )
        return super().fit(x, y, *args, **kwargs)

    def _checked_data(self, verb, x, y=None):
        private_api.stop_autotuning_on_replicas()
        strategy, check_data = self.distribute_strategy, super()._checked_data
        if isinstance(x, batch_parts.PartialBatches):
            return batch_parts.distribute_parts(
                lambda part: check_data(verb, x.read(part)), strategy
            )
        data = check_data(verb, x, y)
        if verb == "fit" and isinstance(data, tf.data.Dataset):
            return batch_parts.distribute(data, strategy)
        return data

    def train_step(self, data):
        """Trains on a batch of events."""
        return self._as_logs(super().train_step(data))

    def test_step(self, data):
        """Evaluates a batch of events."""
        return self._as_logs(super().test_step(data))

    def _as_logs(self, metrics):
        """Returns the metrics of a step as Keras averages them."""
        self._names_of_logs = tuple(metrics)
        return replicas.as_logs(metrics)

    def make_train_function(self, force=False):
        """Creates Keras' function of training steps."""
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = self._with_named_logs(self.train_function)

    def make_test_function(self, force=False):
        """Creates Keras' function of evaluation steps."""
        if self.test_function is None or force:
            super().make_test_function(force=True)
            self.test_function = self._with_named_logs(self.test_function)

    def _with_named_logs(self, steps):
        """Returns a function of Keras with a dict of metrics as its value."""

        def named(iterator):
            return replicas.from_logs(steps(iterator), self._names_of_logs)

        return named

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """Trains as `keras.Model.train_on_batch`; raises as `fit`."""
        self._check_targets(y)
        self._build_optimizer()
        return super().train_on_batch(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate`; raises as `fit`."""
        self._check_targets(y)
        self._check_weights(y, kwargs, "test_on_batch")
        return super().evaluate(x, y, *args, **kwargs)

    def _build_optimizer(self):
        """Creates the variables of the optimizer.

        Keras creates them while it traces the first training step; if that
        ended in an error, they would belong to a graph that is gone.
        """
        if self.compiled and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _check_targets(self, y):
        """Raises for targets."""
        inputs = self._targets_as_inputs
        check(
            y is None,
            f"{kind_of(self)} is trained without targets: "
            f"fit({inputs}), not fit(x, y); map a data set of (x, y) to "
            f"{inputs}",
        )

    def _check_weights(self, y, arguments, method):
        check(
            y is not None or arguments.get("sample_weight") is None,
            "Keras drops sample_weight of data without targets: use "
            f"{method}(x, sample_weight=...)",
        )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns the mean of the per-example losses, plus `self.losses`.

        A replica of several returns its part of the sum over replicas, which
        is that of the global batch.
        """
        self._check_targets(y)
        loss = self._per_example_loss(y_pred, training)
        if sample_weight is not None:
            loss *= tf.cast(sample_weight, loss.dtype)
        loss = self._part_of_mean(loss, training)
        for extra in self.losses:
            loss += tf.cast(extra, loss.dtype) / replicas.count()
        return loss

    def _part_of_mean(self, loss, training):
        """Returns what this replica adds to the mean over the global batch."""
        if replicas.count() == 1:
            return tf.reduce_mean(loss)
        num_rows = total = num_events(loss)
        if training:
            _, total = replicas.global_rows(num_rows)
            return tf.reduce_sum(loss) / tf.cast(total, loss.dtype)
        # Keras weights the losses of an evaluation by the rows of a replica,
        # which the last batch may leave without any.
        mean = tf.math.divide_no_nan(
            tf.reduce_sum(loss), tf.cast(num_rows, loss.dtype)
        )
        return mean / replicas.count()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates and returns the running means."""
        for name, value in self._per_example_metrics(y_pred).items():
            self._trackers[name].update_state(
                value, sample_weight=sample_weight
            )
        return self.get_metrics_result()

    def _step(self):
        """Returns the number of training batches so far, integer tensor."""
        if not self.compiled:
            raise ValueError(
                "training draws from (seed, step) and the optimizer counts the "
                "steps: compile first"
            )
        return private_api.training_step(self.optimizer)

    def _step_seed(self):
        """Returns the seed of this training step, int32 `[2]`."""
        seed = seeds.fold_in(seeds.as_seed(self.seed), _TRAINING_STREAM)
        return seeds.fold_in(seed, self._step())
