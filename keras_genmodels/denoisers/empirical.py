"""The exact denoiser of a finite set: the lecture's formula."""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.denoisers.adapted import AdaptedDenoiser, as_values
from keras_genmodels.denoisers.base import event_batches
from keras_genmodels.errors import UserError

_BLOCK = 2048

# Nats that float32 may lose of the logit of an event; beyond, float64.
_NATS = 3e-3

# So many of the likeliest events are weighed in float64 ...
_CANDIDATES = 16
# ... and taken for all, if the others have less than this probability.
_NEGLIGIBLE = 1e-7


class Posterior(NamedTuple):
    """The likeliest events behind a noisy one; see `posterior`."""

    probabilities: tf.Tensor
    indices: tf.Tensor


@keras.saving.register_keras_serializable("keras_genmodels")
class EmpiricalDenoiser(AdaptedDenoiser):
    """The posterior mean where the data are all there is.

    Under the distribution that gives each of x_1 ... x_N probability 1/N,

        D(x, sigma) = sum_i P(x_i|x) x_i,
        P(x_i|x) = softmax_i(-|x - x_i|^2 / (2 sigma^2)),

    the lecture's formula and the minimiser of its cost. For sigma -> 0 it is
    the nearest x_i, for sigma -> infinity the mean. Events that occur twice
    count twice.

    The data are read in blocks and the weights summed on the way, so that no
    matrix of N times batch is ever in memory. float32 serves where it gives
    each log P(x_i|x) to about 0.001 nats; for smaller sigma the likeliest
    events are weighed anew in float64, and all of them where these do not
    have the whole probability to themselves. Under a float64 policy all is
    float64.

    Args:
        name: name of the model.

    #### References

    Milakov and Gimelshein (2018), Online normalizer calculation for softmax,
    arXiv:1805.02867. Dao et al. (2022), FlashAttention, arXiv:2205.14135.
    """

    weight_names = ("data", "half_squares")

    @property
    def num_events(self):
        """How many events it was adapted to, N."""
        return self._weight("data").shape[0]

    def adapt(self, data):
        """Keeps the data.

        Args:
            data: array `[n, *event_shape]`, or `tf.data.Dataset` of batches
                of such, or of dicts with a batch under `image`; floating, or
                uint8, read as value / 255 and kept as uint8.

        Raises:
            UserError: for data that are empty, not finite or of another type.
        """
        dtype = self._float_dtype
        batches = list(event_batches(data))
        event_shape = batches[0].shape[1:]
        if batches[0].dtype != np.uint8:
            batches = [batch.astype(dtype) for batch in batches]
        count = sum(map(len, batches))
        mean = sum(as_values(batch).sum(0) for batch in batches) / count
        mean = mean.astype(dtype)
        # About the mean as it is stored: it is what queries are taken from.
        half_squares = np.concatenate(
            [_half_squares(as_values(batch) - mean) for batch in batches]
        )
        values = {
            "mean": mean,
            "data": np.concatenate(batches).reshape(count, -1),
            "half_squares": half_squares,
        }
        self._set_data(event_shape, 2 * float(half_squares.mean()), values)

    def posterior(self, x, sigma, k):
        """Gives the k likeliest events behind each noisy one.

        Args:
            x: floating tensor or array `[batch, *event_shape]`, noisy.
            sigma: noise level, > 0, scalar or `[batch]`.
            k: int in [1, N].

        Returns:
            `Posterior`: `probabilities`, float `[batch, k]`, the k largest
            P(x_i|x), falling, of all N, so that they add up to at most 1; and
            `indices`, int32 `[batch, k]`, their i in the order of the data.
            Of equals the one with the lower index comes first.

        Raises:
            UserError: as `denoise`, and for a k out of range.
        """
        x, sigma = self.read(x, sigma)
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise UserError(f"k must be an int, got {k!r}")
        if not 1 <= k <= self.num_events:
            raise UserError(
                f"k must be in [1, {self.num_events}], the number of events, "
                f"got {k}"
            )

        def compute(dtype):
            query = self._query(x, sigma, dtype)
            logits, indices, log_total = self._likeliest(query, k)
            probabilities = tf.exp(logits - log_total[:, None])
            return tf.cast(probabilities, x.dtype), indices

        return Posterior(
            *tf.cond(
                self._float32_is_enough(x, sigma),
                lambda: compute(tf.float32),
                lambda: compute(tf.float64),
            )
        )

    def _denoise(self, x, sigma):
        def average(dtype):
            mean = self._average(self._query(x, sigma, dtype))
            return tf.cast(mean, x.dtype)

        flat = tf.cond(
            self._float32_is_enough(x, sigma),
            lambda: average(tf.float32),
            lambda: self._average_of_few(x, sigma, average),
        )
        return tf.reshape(flat, (-1, *self.event_shape))

    def _float32_is_enough(self, x, sigma):
        if x.dtype == tf.float64:
            return tf.constant(False)
        return tf.reduce_max(self._nats_lost(x, sigma)) < _NATS

    def _nats_lost(self, x, sigma):
        """Bounds what rounding to float32 does to the logits, `[batch]`.

        The factors are about twice the errors measured on images and on
        uniform vectors of 1 to 12288 values, among the likeliest events.
        """
        widest = tf.sqrt(2 * tf.reduce_max(self._half_squares))
        widest = reach = tf.cast(widest, x.dtype)
        if self._is_uint8:
            # Blocks of integers are multiplied as they are, not centred.
            reach += tf.norm(tf.cast(self._mean, x.dtype))
        size = tf.norm(self._centred(x, x.dtype), axis=1)
        lost = 8 * size * reach + 2 * tf.square(widest)
        return 2.0**-24 * lost / tf.square(sigma)

    def _query(self, x, sigma, dtype):
        """Prepares what `_logits` multiplies the events with.

        -|y - x_i|^2 / 2 = (y - m)'x_i - |x_i - m|^2 / 2 + what all i share:
        the smaller the numbers, the less of them is rounded off, and with m
        the mean they are small.
        """
        precision = 1 / tf.square(tf.cast(sigma, dtype))
        unit = 1 / 255 if self._is_uint8 else 1.0
        scale = (precision * unit)[:, None]
        return _Query(self._centred(x, dtype) * scale, precision)

    def _average(self, query):
        """Gives the posterior mean, `[batch, M]`, in the query's type."""

        def step(start, size, peak, total, weighted):
            block = self._block(start, size, query.events.dtype)
            logits = self._logits(block, start, query)
            # Kept relative to the largest so far, as in FlashAttention.
            higher = tf.maximum(peak, tf.reduce_max(logits, axis=0))
            weights = tf.exp(logits - higher)
            decay = tf.exp(peak - higher)
            total = total * decay + tf.reduce_sum(weights, axis=0)
            weighted = weighted * decay[:, None]
            weighted += tf.matmul(weights, block, transpose_a=True)
            return higher, total, weighted

        nothing = tf.zeros_like(query.precision)
        _, total, weighted = self._over_blocks(
            step, (nothing - np.inf, nothing, tf.zeros_like(query.events))
        )
        mean = weighted / total[:, None]
        if self._is_uint8:
            return mean / 255
        return mean + self._flat_mean(mean.dtype)

    def _average_of_few(self, x, sigma, average):
        """Averages a few likeliest events in float64, or else all."""
        count = min(_CANDIDATES, self.num_events)
        query = self._query(x, sigma, tf.float32)
        logits, indices, _ = self._likeliest(query, count)
        spare = self.num_events - count
        log_rest = logits[:, -1] - logits[:, 0] + math.log(max(spare, 1))
        log_rest += 2 * tf.cast(self._nats_lost(x, sigma), tf.float32)
        few = tf.reduce_all(log_rest < math.log(_NEGLIGIBLE)) | (spare == 0)
        return tf.cond(
            few & (x.dtype != tf.float64),
            lambda: tf.cast(self._weigh(x, sigma, indices), x.dtype),
            lambda: average(tf.float64),
        )

    def _weigh(self, x, sigma, indices):
        """Averages the events of `indices` by their distances, in float64."""
        events = tf.cast(tf.gather(self._data.value, indices), tf.float64)
        if self._is_uint8:
            events /= 255
        flat = tf.reshape(tf.cast(x, tf.float64), (-1, 1, events.shape[-1]))
        squares = tf.reduce_sum(tf.square(flat - events), axis=-1)
        sigma = tf.cast(sigma, tf.float64)[:, None]
        weights = tf.nn.softmax(-squares / (2 * tf.square(sigma)))
        return tf.linalg.matvec(events, weights, transpose_a=True)

    def _likeliest(self, query, k):
        """Gives the k largest logits, their indices, and logsumexp of all."""

        def step(start, size, peak, total, best, indices):
            block = self._block(start, size, query.events.dtype)
            logits = self._logits(block, start, query)
            higher = tf.maximum(peak, tf.reduce_max(logits, axis=0))
            total = total * tf.exp(peak - higher)
            total += tf.reduce_sum(tf.exp(logits - higher), axis=0)
            new, places = tf.math.top_k(tf.transpose(logits), min(k, size))
            best, order = tf.math.top_k(tf.concat([best, new], 1), k)
            indices = tf.concat([indices, start + places], 1)
            indices = tf.gather(indices, order, batch_dims=1)
            return higher, total, best, indices

        nothing = tf.zeros_like(query.precision)
        none = tf.repeat(nothing[:, None], k, axis=1)
        start = (nothing - np.inf, nothing, none - np.inf)
        peak, total, best, indices = self._over_blocks(
            step, (*start, tf.cast(none, tf.int32))
        )
        return best, indices, peak + tf.math.log(total)

    def _over_blocks(self, step, state):
        """Gives `state` after `state = step(start, size, *state)` for each."""
        size = min(_BLOCK, self.num_events)
        whole = self.num_events // size * size
        _, *state = tf.while_loop(
            lambda start, *_: start < whole,
            lambda start, *state: (start + size, *step(start, size, *state)),
            (0, *state),
            # One block in memory at a time; two were no faster.
            parallel_iterations=1,
        )
        if whole < self.num_events:
            state = step(whole, self.num_events - whole, *state)
        return state

    def _block(self, start, size, dtype):
        """Gives events, `[size, M]`: integers if uint8, else centred."""
        width = self._data.shape[1]
        block = tf.slice(self._data.value, [start, 0], [size, width])
        block = tf.cast(block, dtype)
        return block if self._is_uint8 else block - self._flat_mean(dtype)

    def _logits(self, block, start, query):
        """Gives log P(x_i|x) but for a number a column, `[size, batch]`."""
        half = tf.slice(self._half_squares.value, [start], block.shape[:1])
        half = tf.cast(half, block.dtype)[:, None]
        product = tf.matmul(block, query.events, transpose_b=True)
        return product - half * query.precision

    def _centred(self, x, dtype):
        flat = tf.reshape(x, (-1, self._data.shape[1]))
        return tf.cast(flat, dtype) - self._flat_mean(dtype)

    def _flat_mean(self, dtype):
        return tf.cast(tf.reshape(self._mean.value, (-1,)), dtype)

    @property
    def _is_uint8(self):
        return self._data.dtype == "uint8"


class _Query(NamedTuple):
    """Noisy events less the mean, times precision; and precision."""

    events: tf.Tensor
    precision: tf.Tensor


def _half_squares(values):
    return np.square(values.reshape(len(values), -1)).sum(1) / 2
