"""The exact posterior mean of a finite set of events."""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation, private_api, replicas
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.events import clean_batches
from keras_genmodels.core.precision import splits_factors
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.denoisers._noisy_mixture import NoisyMixture
from keras_genmodels.denoisers._posterior_mean import (
    NATS,
    average,
    replace_rows,
)
from keras_genmodels.denoisers._shared_events import SharedEvents
from keras_genmodels.denoisers._weighted_sums import EventSet
from keras_genmodels.denoisers.fitted import AdaptedDenoiser


class Posterior(NamedTuple):
    """Most probable clean events for a noisy one; see `posterior`."""

    probabilities: tf.Tensor
    indices: tf.Tensor


@keras.saving.register_keras_serializable("keras_genmodels")
class EmpiricalDenoiser(AdaptedDenoiser):
    """The exact posterior mean of the empirical distribution of the data.

    Under the distribution with probability 1/N for each of x_1 ... x_N,

        D(x, sigma) = sum_i P(x_i|x) x_i,
        P(x_i|x) = softmax_i(-|x - x_i|^2 / (2 sigma^2)),

    which minimises the denoising loss on the training set. For sigma -> 0 it
    is the nearest x_i, for sigma -> infinity the mean. Duplicates count as
    often as they occur.

    The data are read once per call, in blocks with a running softmax, so that
    no matrix of N times batch is in memory. The sums are float32; the weights
    of the 4 most probable events are recomputed in float64. Let p be the
    probability of all others and e a bound on the error of their log
    P(x_i|x), in nats. Then the error of D is at most p (exp(e) - 1) < 0.003
    times max_i |x_i - D|, plus rounding of about 1e-6 max_i |x_i - mean|. For
    images of 784 values e is about 4e-4 / sigma^2; where that is large, p is
    nearly 0. Rows that exceed the bound (many neighbours within a small sigma)
    are recomputed in float64, at a quarter of the speed for the batch; other
    rows keep their float32 result, so that rows are independent. Under a
    float64 policy everything is float64.

    The bound also holds where products are TF32 (TensorFlow's default on
    GPUs, see `tf.config`): unless a program runs on a CPU, it splits the
    factors into parts that TF32 represents, and e is 4 times as large. It
    decides when it runs, wherever it was traced or exported. A program that
    XLA compiles decides when it is traced: it splits the factors on a machine
    with a GPU, and if `kgm.export` writes it. One that is to run on a GPU and
    is traced elsewhere has to be so within
    `keras_genmodels.core.precision.for_any_machine()`.

    The derivatives by x and by sigma are exact, too. With J = dD/dx, which is
    symmetric, and expectations under P(x_i|x),

        J v = E[(x_i - D) (x_i - D)'v] / sigma^2,

    which reverse mode computes in one more pass without storing blocks. The
    error of J v is at most 0.003 (|J| + 1) |v|, plus rounding; rows without
    that guarantee are recomputed in float64. Second derivatives are
    TensorFlow's own, of these sums: their memory grows with N.

    Built in the scope of a `tf.distribute.Strategy` of several replicas, each
    of them holds an n-th part of the data and computes its sums, which are
    merged: the result is the same up to rounding. There are no second
    derivatives and no XLA then. See docs/distributed.md.

    Args:
        name: name of the model.

    #### References

    Milakov and Gimelshein (2018), Online normalizer calculation for softmax,
    arXiv:1805.02867. Dao et al. (2022), FlashAttention, arXiv:2205.14135.
    """

    weight_names = ("data", "half_squares")

    @deprecation.accept_old_arguments(old_order=("name",))
    def __init__(self, *, name=None):
        super().__init__(name=name)
        strategy = tf.distribute.get_strategy()
        self._strategy = None
        self._shared = None
        if strategy.num_replicas_in_sync > 1:
            self._strategy = strategy
            private_api.use_one_replica(self)

    @property
    def num_events(self):
        """Number of events in the data, N."""
        return self._event_set().size

    @property
    def spans_devices(self):
        """Whether several replicas share the data."""
        return self._strategy is not None

    def adapt(self, data):
        """Stores the data.

        Args:
            data: array `[n, *event_shape]`, or `tf.data.Dataset` of batches
                of such, or of dicts with a batch under `image`; floating, or
                uint8, read as value / 255 and stored as uint8.

        Raises:
            ValueError: for data that are empty, not finite or of another
                type.
        """
        dtype = self._float_dtype
        batches = list(clean_batches(data))
        event_shape = batches[0].shape[1:]
        if batches[0].dtype != np.uint8:
            batches = [batch.astype(dtype, copy=False) for batch in batches]
        count = sum(map(len, batches))
        floats = (as_float(batch, "float64") for batch in batches)
        mean = sum(batch.sum(0) for batch in floats) / count
        mean = mean.astype(dtype)
        # About the mean as stored, which queries subtract.
        half_squares = np.concatenate(
            [_half_squares(as_float(b, "float64") - mean) for b in batches]
        )
        rows = [batch.reshape(len(batch), -1) for batch in batches]
        values = {
            "mean": mean,
            "data": rows if self.spans_devices else np.concatenate(rows),
            "half_squares": half_squares,
        }
        self._set_data(event_shape, 2 * float(half_squares.mean()), values)

    def noisy_data(self, sigma):
        """Returns p_sigma: 1/N sum_i N(x_i, sigma^2 I); see `Denoiser`."""
        self._check_adapted()
        return NoisyMixture(
            self._event_set(), self.event_shape, sigma, self.variable_dtype
        )

    def posterior(self, x, sigma, k):
        """Returns the k most probable clean events for each noisy one.

        Args:
            x: floating tensor or array `[batch, *event_shape]`, noisy.
            sigma: noise level, > 0, scalar or `[batch]`.
            k: int in [1, N].

        Returns:
            `Posterior`: `probabilities`, float `[batch, k]`, the k largest
            P(x_i|x) of all N in falling order; and `indices`, int32
            `[batch, k]`, their i. Ties are ordered by index.

        Raises:
            ValueError: as `denoise`, and for k out of range.
        """
        x, sigma = self.validate_noisy(x, sigma)
        check_count("k", k)
        check(
            k <= self.num_events,
            f"k must be at most {self.num_events}, the number of events, got "
            f"{k}",
        )
        events, flat = self._event_set(), self._flat(x)

        splits = splits_factors()

        def compute(dtype):
            query = events.query(flat, sigma, dtype, splits)
            found = events.sums(query, k, average=False)
            log_total = found.peak + tf.math.log(found.total)
            probabilities = tf.exp(found.logits - log_total[:, None])
            return tf.cast(probabilities, x.dtype), found.indices

        if x.dtype == tf.float64:
            return Posterior(*compute(x.dtype))
        is_good = events.nats_lost(flat, sigma, splits) < NATS
        return Posterior(
            *replace_rows(
                compute(x.dtype), is_good, lambda: compute(tf.float64)
            )
        )

    def save_own_variables(self, store):
        """Saves the weights, also those that replicas share."""
        super().save_own_variables(store)
        if self._shared is not None:
            store["1"], store["2"] = self._shared.arrays()

    def _denoise(self, x, sigma):
        events = self._event_set()
        flat = average(events, self._flat(x), sigma)
        return tf.reshape(flat, tf.shape(x))

    def _event_set(self):
        self._check_adapted()
        if self.spans_devices:
            check(
                replicas.are_outside(),
                "a denoiser whose data replicas share computes on all of them "
                "at once: call it outside of strategy.run",
            )
            return self._shared
        data, half_squares, mean = (
            tf.convert_to_tensor(weight.value)
            for weight in (self._data, self._half_squares, self._mean)
        )
        return EventSet(data, half_squares, tf.reshape(mean, (-1,)))

    def _flat(self, x):
        return tf.reshape(x, (-1, math.prod(self.event_shape)))

    def _set_weights(self, event_shape, values):
        if not self.spans_devices:
            super()._set_weights(event_shape, values)
            return
        data, mean = values["data"], values["mean"]
        self._shared = SharedEvents.divide(
            self._strategy,
            data if isinstance(data, list) else [data],
            values["half_squares"],
            mean.reshape(-1),
        )
        super()._set_weights(event_shape, {"mean": mean})

    def _has_shapes_of(self, values):
        return not self.spans_devices and super()._has_shapes_of(values)

    def _stored(self):
        if not self.spans_devices:
            return super()._stored()
        names = "data", "half_squares"
        arrays = dict(zip(names, self._shared.arrays(), strict=True))
        return {"mean": self._mean, **arrays}


def _half_squares(values):
    return np.square(values.reshape(len(values), -1)).sum(1) / 2
