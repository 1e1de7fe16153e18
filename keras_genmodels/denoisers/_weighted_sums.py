"""Weighted sums over a finite set of events, which is read in blocks."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core import memory
from keras_genmodels.denoisers._events import Events, Sums

# Maximum number of events per block, and of their values: 16 MiB in float32,
# and 128 MiB on a GPU, where small blocks wait for the launches of kernels.
_BLOCK, _GPU_BLOCK = 4096, 2**15
_VALUES, _GPU_VALUES = 2**22, 2**25

# Events per group of `_top_k`.
_GROUP = 16


class _EventSetFields(NamedTuple):
    data: tf.Tensor
    half_squares: tf.Tensor
    mean: tf.Tensor


class EventSet(_EventSetFields, Events):
    """Events that one device holds.

    Args:
        data: `[N, M]`, uint8, read as value / 255, or floating.
        half_squares: floating `[N]`, |x_i - mean|^2 / 2.
        mean: floating `[M]`.
    """

    settings = ()
    spans_devices = False

    @property
    def tensors(self):
        """The arguments, a tuple."""
        return tuple(self)

    @property
    def specs(self):
        """The `tf.TypeSpec` of each of the `tensors`, a tuple."""
        return tuple(tf.TensorSpec(it.shape, it.dtype) for it in self)

    @property
    def size(self):
        """Number of events, N."""
        return self.data.shape[0]

    @property
    def radius(self):
        """The largest |x_i - mean|, a scalar."""
        return tf.sqrt(2 * tf.reduce_max(self.half_squares))

    @property
    def is_uint8(self):
        """Whether the data are uint8, read as value / 255."""
        return self.data.dtype == tf.uint8

    def sums(self, query, k, average=True):
        """Computes `Sums`; see `Events`."""

        def step(start, size, peak, total, weighted, best, indices):
            block = self._block(start, size, query.events.dtype)
            logits = self._logits(block, start, query)
            new, places = _top_k(logits, min(k, size))
            best, order = tf.math.top_k(tf.concat([best, new], 1), k)
            indices = tf.concat([indices, start + places], 1)
            indices = tf.gather(indices, order, batch_dims=1)
            # Relative to the largest logit so far, as in FlashAttention.
            higher = best[:, 0]
            weights = tf.exp(logits - higher)
            decay = tf.exp(peak - higher)
            total = total * decay + tf.reduce_sum(weights, axis=0)
            if average:
                weighted *= decay[:, None]
                weighted += self.add_up(weights, block, query.splits)
            return higher, total, weighted, best, indices

        zero = tf.zeros_like(query.precision)
        zeros = tf.repeat(zero[:, None], k, axis=1)
        start = Sums(
            zero - np.inf,
            zero,
            tf.zeros_like(tf.transpose(query.events)),
            zeros - np.inf,
            tf.cast(zeros, tf.int32),
        )
        return Sums(*self._over_blocks(step, start))

    def covariance_sums(self, query, vectors, shift, weights):
        """Computes the sums of `covariance`; see `Events`."""
        step = self._covariance_step(query, vectors, shift, weights)
        zero = tf.zeros_like(query.precision)
        return self._over_blocks(
            step, (zero, tf.zeros_like(tf.transpose(query.events)), zero)
        )

    def _covariance_step(self, query, vectors, shift, weights):
        dtype = query.events.dtype
        vectors = tf.cast(tf.transpose(vectors), dtype)
        shift, log_total = (
            tf.cast(row, dtype) for row in (shift, weights.log_total)
        )

        def step(start, size, total, moment, slope):
            block = self._block(start, size, dtype)
            logits = self._logits(block, start, query)
            # Rounding may put a logit above the peak.
            logits = tf.minimum(logits - weights.peak, 0)
            terms = tf.exp(logits - log_total)
            terms = _without(terms, weights.indices - start)
            terms *= self.multiply(block, vectors, query.splits) - shift
            total += tf.reduce_sum(terms, axis=0)
            moment += self.add_up(terms, block, query.splits)
            slope += tf.reduce_sum(terms * logits, axis=0)
            return total, moment, slope

        return step

    def rows(self, indices, dtype):
        """Returns rows of the data, `[..., M]`, for int32 indices `[...]`."""
        return tf.cast(tf.gather(self.data, indices), dtype)

    def half_squares_of(self, indices):
        """Returns |x_i - mean|^2 / 2, float64 `[...]`, for `[...]`."""
        return tf.cast(tf.gather(self.half_squares, indices), tf.float64)

    def _over_blocks(self, step, state):
        """Repeats `state = step(start, size, *state)` for each block."""
        most = memory.by_device(cpu=_BLOCK, gpu=_GPU_BLOCK)
        values = memory.by_device(cpu=_VALUES, gpu=_GPU_VALUES)
        size = min(most, values // self.data.shape[1], self.size)
        # Whole groups: `_top_k` then pads only the last block.
        size = max(size // _GROUP * _GROUP, min(_GROUP, self.size))
        whole = self.size // size * size
        _, *state = tf.while_loop(
            lambda start, *_: start < whole,
            lambda start, *state: (start + size, *step(start, size, *state)),
            (0, *state),
            # One block in memory at a time; two are no faster.
            parallel_iterations=1,
        )
        if whole < self.size:
            state = step(whole, self.size - whole, *state)
        return state

    def _block(self, start, size, dtype):
        width = self.data.shape[1]
        block = tf.slice(self.data, [start, 0], [size, width])
        return self.as_block(tf.cast(block, dtype))

    def _logits(self, block, start, query):
        """Returns log P(x_i|x) up to a constant per column, `[size, batch]`."""
        half = tf.slice(self.half_squares, [start], block.shape[:1])
        half = tf.cast(half, block.dtype)[:, None]
        product = self.multiply(block, query.events, query.splits)
        return product - half * query.precision


def _without(weights, places):
    """Sets some of the weights to 0.

    Args:
        weights: floating `[rows, columns]`, >= 0.
        places: int32 `[columns, k]`, row numbers; those out of range are
            ignored.
    """
    rows = weights.shape[0]
    inside = (places >= 0) & (places < rows)
    columns = tf.range(tf.shape(places)[0])[:, None] + tf.zeros_like(places)
    return tf.tensor_scatter_nd_min(
        weights,
        tf.stack([tf.clip_by_value(places, 0, rows - 1), columns], axis=-1),
        tf.where(inside, tf.zeros([], weights.dtype), np.inf),
    )


def _top_k(logits, k):
    """Returns the k largest of each column, and their rows, `[columns, k]`.

    Of equal values the upper comes first, as in `tf.math.top_k`, which is slow
    for long rows: this compares the largest of each group of neighbours first,
    and then only the values in the k best groups.
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
