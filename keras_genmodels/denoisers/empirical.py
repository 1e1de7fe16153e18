"""The exact denoiser of a finite set: the lecture's formula."""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels._compiled import loop_of
from keras_genmodels._events import event_batches
from keras_genmodels.denoisers.adapted import AdaptedDenoiser, as_values
from keras_genmodels.errors import UserError

# Events read at once: at most so many, of so many values altogether.
_BLOCK = 4096
_VALUES = 2**22

# Of so many events only the likeliest is looked at first.
_GROUP = 16

# So many of the likeliest events are weighed in float64.
_CANDIDATES = 4

# The others' probability times what float32 may lose of the difference of
# their log probabilities, in nats; beyond, all are weighed in float64.
_NATS = 3e-3

# What float32 may lose of a sum of weights, relative to it.
_SUM_ERROR = 1e-6


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

    The data are read once, in blocks, and the weights summed on the way, so
    that no matrix of N times batch is ever in memory: in float32, but for the
    4 likeliest events, which are weighed anew in float64. With p the
    probability of all others and e a bound on the error of their log
    P(x_i|x), in nats, the result is within p (exp(e) - 1) < 0.003 times
    max_i |x_i - D| of D, besides the rounding of the sums, about 1e-6 of
    max_i |x_i - mean|. In images of 784 values e is about 4e-4 / sigma^2,
    and where that is much p is next to 0. Where it is not (a crowd within a
    small sigma), all is done anew in float64, at a quarter of the speed for
    the batch; rows that did not need it keep their float32 result, so that no
    row depends on the others. Under a float64 policy all is float64.

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
            found = self._sums(self._query(x, sigma, dtype), k, average=False)
            log_total = found.peak + tf.math.log(found.total)
            probabilities = tf.exp(found.logits - log_total[:, None])
            return tf.cast(probabilities, x.dtype), found.indices

        if x.dtype == tf.float64:
            return Posterior(*compute(x.dtype))
        is_good = self._nats_lost(x, sigma) < _NATS
        return Posterior(
            *_mended(compute(x.dtype), is_good, lambda: compute(tf.float64))
        )

    def _denoise(self, x, sigma):
        if tf.executing_eagerly():
            # Run operation by operation, it would take half as long again.
            return loop_of(self, _compiled, x)(x, sigma)
        if x.dtype == tf.float64:
            flat = self._average(x, sigma)
        else:
            flat, is_good = self._average_in_float32(x, sigma)
            (flat,) = _mended(
                (flat,),
                is_good,
                lambda: (tf.cast(self._average(x, sigma), x.dtype),),
            )
        return tf.reshape(flat, (-1, *self.event_shape))

    def _average(self, x, sigma):
        """Gives the posterior mean, `[batch, M]`, all of it in float64."""
        found = self._sums(self._query(x, sigma, tf.float64), 1)
        return self._as_values(found.weighted / found.total[:, None])

    def _average_in_float32(self, x, sigma):
        """Gives that but for the error, `[batch, M]`, and if it is small."""
        count = min(_CANDIDATES, self.num_events)
        found = self._sums(self._query(x, sigma, tf.float32), count)
        peak, total, weighted, logits = (
            tf.cast(sums, tf.float64) for sums in found[:4]
        )
        weights = tf.exp(logits - peak[:, None])
        rest = total - tf.reduce_sum(weights, axis=1) + _SUM_ERROR * total
        # Sharper where the rest is less than what was rounded off the sum.
        spare = self.num_events - count
        others = math.log(spare) if spare else -np.inf
        log_rest = tf.minimum(tf.math.log(rest), others + logits[:, -1] - peak)
        change, events = self._weigh_anew(x, sigma, found.indices, weights)
        total += tf.reduce_sum(change, axis=1)
        weighted += tf.linalg.matvec(events, change, transpose_a=True)
        # exp(e) - 1 <= exp(e) min(e, 1), which does not overflow as a log.
        error = 2 * tf.cast(self._nats_lost(x, sigma), tf.float64)
        log_error = error + tf.math.log(tf.minimum(error, 1))
        is_good = log_rest - tf.math.log(total) + log_error < math.log(_NATS)
        mean = self._as_values(weighted / total[:, None])
        return tf.cast(mean, x.dtype), is_good

    def _weigh_anew(self, x, sigma, indices, weights):
        """Gives what is missing of the weights of events, and the events.

        Args:
            x, sigma: as in `_denoise`.
            indices: int32 `[batch, k]`, of the events.
            weights: float64 `[batch, k]`, exp(logit - peak) as summed.

        Returns:
            float64 `[batch, k]`, what to add to `weights`; float64 `[batch, k,
            M]`, the events as `_block` gives them.
        """
        query = self._query(x, sigma, tf.float64)
        # Gathering from a variable would mark it as one that changes in part,
        # and from then on TensorFlow copies all of it wherever it is read.
        data, half = map(
            tf.convert_to_tensor, (self._data.value, self._half_squares.value)
        )
        events = self._as_block(tf.gather(data, indices), tf.float64)
        half = tf.gather(half, indices)
        logits = tf.linalg.matvec(events, tf.transpose(query.events))
        logits -= tf.cast(half, tf.float64) * query.precision[:, None]
        logits -= tf.reduce_max(logits, axis=1, keepdims=True)
        return tf.exp(logits) - weights, events

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
        events = tf.transpose(self._centred(x, dtype) * scale)
        return _Query(events, precision)

    def _sums(self, query, k, average=True):
        """Reads all events once; gives `_Sums`, in the query's type.

        Without `average`, its `weighted` is left at 0.
        """

        def step(start, size, peak, total, weighted, best, indices):
            block = self._block(start, size, query.events.dtype)
            logits = self._logits(block, start, query)
            new, places = _top_k(logits, min(k, size))
            best, order = tf.math.top_k(tf.concat([best, new], 1), k)
            indices = tf.concat([indices, start + places], 1)
            indices = tf.gather(indices, order, batch_dims=1)
            # Kept relative to the largest so far, as in FlashAttention.
            higher = best[:, 0]
            weights = tf.exp(logits - higher)
            decay = tf.exp(peak - higher)
            total = total * decay + tf.reduce_sum(weights, axis=0)
            if average:
                weighted *= decay[:, None]
                weighted += tf.matmul(weights, block, transpose_a=True)
            return higher, total, weighted, best, indices

        nothing = tf.zeros_like(query.precision)
        none = tf.repeat(nothing[:, None], k, axis=1)
        start = _Sums(
            nothing - np.inf,
            nothing,
            tf.zeros_like(tf.transpose(query.events)),
            none - np.inf,
            tf.cast(none, tf.int32),
        )
        return _Sums(*self._over_blocks(step, start))

    def _over_blocks(self, step, state):
        """Gives `state` after `state = step(start, size, *state)` for each."""
        size = min(_BLOCK, _VALUES // self._data.shape[1], self.num_events)
        # Whole groups, so that `_top_k` has to pad the last block only.
        size = max(size // _GROUP * _GROUP, min(_GROUP, self.num_events))
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
        width = self._data.shape[1]
        block = tf.slice(self._data.value, [start, 0], [size, width])
        return self._as_block(block, dtype)

    def _as_block(self, events, dtype):
        """Reads events, `[..., M]`: as integers if uint8, else centred."""
        events = tf.cast(events, dtype)
        return events if self._is_uint8 else events - self._flat_mean(dtype)

    def _as_values(self, events):
        """Undoes `_as_block`."""
        if self._is_uint8:
            return events / 255
        return events + self._flat_mean(events.dtype)

    def _logits(self, block, start, query):
        """Gives log P(x_i|x) but for a number a column, `[size, batch]`."""
        half = tf.slice(self._half_squares.value, [start], block.shape[:1])
        half = tf.cast(half, block.dtype)[:, None]
        return tf.matmul(block, query.events) - half * query.precision

    def _centred(self, x, dtype):
        flat = tf.reshape(x, (-1, self._data.shape[1]))
        return tf.cast(flat, dtype) - self._flat_mean(dtype)

    def _flat_mean(self, dtype):
        return tf.cast(tf.reshape(self._mean.value, (-1,)), dtype)

    @property
    def _is_uint8(self):
        return self._data.dtype == "uint8"


class _Query(NamedTuple):
    """Noisy events less the mean, times precision; and precision.

    `events` is `[M, batch]`: so the product with a block is the fastest.
    """

    events: tf.Tensor
    precision: tf.Tensor


class _Sums(NamedTuple):
    """What is known of the logits of all events.

    Their largest, `[batch]`; the sum of exp(logit - peak), `[batch]`, and
    that of the events so weighted, `[batch, M]`; the k largest, falling, and
    the indices of their events, `[batch, k]`.
    """

    peak: tf.Tensor
    total: tf.Tensor
    weighted: tf.Tensor
    logits: tf.Tensor
    indices: tf.Tensor


def _compiled(denoise, spec):
    sigma = tf.TensorSpec([None], spec.dtype)
    return tf.function(denoise, input_signature=[spec, sigma])


def _mended(results, is_good, anew):
    """Replaces the rows that are not good by those of `anew`, if there are.

    Args:
        results: tuple of tensors `[batch, ...]` of rank 2.
        is_good: bool `[batch]`.
        anew: function that gives such a tuple, at a cost.
    """

    def replaced():
        return tuple(
            tf.where(is_good[:, None], result, new)
            for result, new in zip(results, anew(), strict=True)
        )

    return tf.cond(tf.reduce_all(is_good), lambda: tuple(results), replaced)


def _top_k(logits, k):
    """Gives the k largest of each column, and their rows, `[columns, k]`.

    Of equals the upper comes first, as in `tf.math.top_k`: that is slow on
    long rows, so it looks at the largest of each group of neighbours, and
    then only into the k best groups. Whatever is not in these has k that come
    before it.
    """
    rows = logits.shape[0]
    if rows <= k * _GROUP:
        return tf.math.top_k(tf.transpose(logits), k)
    padding = -rows % _GROUP
    if padding:
        logits = tf.pad(logits, [[0, padding], [0, 0]], constant_values=-np.inf)
    columns = tf.shape(logits)[1]
    groups = tf.reshape(logits, (-1, _GROUP, columns))
    _, best = tf.math.top_k(tf.transpose(tf.reduce_max(groups, axis=1)), k)
    best = tf.sort(best, axis=1)[..., None] * _GROUP + tf.range(_GROUP)
    best = tf.reshape(best, (-1, k * _GROUP))
    flat = best * columns + tf.range(columns)[:, None]
    values, order = tf.math.top_k(tf.gather(tf.reshape(logits, (-1,)), flat), k)
    return values, tf.gather(best, order, batch_dims=1)


def _half_squares(values):
    return np.square(values.reshape(len(values), -1)).sum(1) / 2
