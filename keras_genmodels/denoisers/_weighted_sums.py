"""Weighted sums over a finite set of events, which is read in blocks."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Maximum number of events per block, and of their values.
_BLOCK = 4096
_VALUES = 2**22

# Events per group of `_top_k`.
_GROUP = 16


class Query(NamedTuple):
    """Noisy events minus the mean, times the precision, and the precision.

    `events` is `[M, batch]`, for the fastest product with a block.
    """

    events: tf.Tensor
    precision: tf.Tensor


class Sums(NamedTuple):
    """Sums over all events, for logits of P(x_i|x).

    Args:
        peak: `[batch]`, the largest logit.
        total: `[batch]`, the sum of the weights exp(logit - peak).
        weighted: `[batch, M]`, the sum of the events times their weights.
        logits: `[batch, k]`, the k largest logits in falling order.
        indices: int32 `[batch, k]`, of the events with these.
    """

    peak: tf.Tensor
    total: tf.Tensor
    weighted: tf.Tensor
    logits: tf.Tensor
    indices: tf.Tensor


class Weights(NamedTuple):
    """The probabilities of all events, for `EventSet.covariance`.

    Args:
        mean: float64 `[batch, M]`, of the events in the form of a block.
        peak: `[batch]`, the largest logit, in the dtype of the query.
        log_total: float64 `[batch]`; log P(x_i|x) = logit - peak - log_total.
        indices: int32 `[batch, k]`, of events with a logit in float64.
        logits: float64 `[batch, k]`, logit - peak of these.
    """

    mean: tf.Tensor
    peak: tf.Tensor
    log_total: tf.Tensor
    indices: tf.Tensor
    logits: tf.Tensor


class EventSet(NamedTuple):
    """Events x_1 ... x_N of M values.

    Noisy events x are `[batch, M]`, sigma is `[batch]`.

    Args:
        data: `[N, M]`, uint8, read as value / 255, or floating.
        half_squares: floating `[N]`, |x_i - mean|^2 / 2.
        mean: floating `[M]`.
    """

    data: tf.Tensor
    half_squares: tf.Tensor
    mean: tf.Tensor

    @property
    def size(self):
        """Number of events, N."""
        return self.data.shape[0]

    @property
    def radius(self):
        """The largest |x_i - mean|, a scalar."""
        return tf.sqrt(2 * tf.reduce_max(self.half_squares))

    @property
    def unit(self):
        """Value of a step of 1 in a block."""
        return 1 / 255 if self._is_uint8 else 1.0

    def nats_lost(self, x, sigma):
        """Returns a bound on the float32 error of the logits, `[batch]`.

        The factors are about twice the errors measured for the most probable
        events among images and uniform vectors of 1 to 12288 values.
        """
        widest = reach = tf.cast(self.radius, x.dtype)
        if self._is_uint8:
            # Blocks of integers are not centred.
            reach += tf.norm(tf.cast(self.mean, x.dtype))
        size = tf.norm(x - tf.cast(self.mean, x.dtype), axis=1)
        lost = 8 * size * reach + 2 * tf.square(widest)
        return _roundoff() * lost / tf.square(sigma)

    def query(self, x, sigma, dtype):
        """Returns the factor of the events in their logits.

        -|y - x_i|^2 / 2 = (y - m)'x_i - |x_i - m|^2 / 2 + constant. With m the
        mean the terms are small, and so are rounding errors.
        """
        precision = 1 / tf.square(tf.cast(sigma, dtype))
        scale = (precision * self.unit)[:, None]
        centred = tf.cast(x, dtype) - tf.cast(self.mean, dtype)
        return Query(tf.transpose(centred * scale), precision)

    def sums(self, query, k, average=True):
        """Computes `Sums` in one pass, in the dtype of the query.

        Without `average`, `weighted` is 0.
        """

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
                weighted += tf.matmul(weights, block, transpose_a=True)
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

    def covariance(self, query, vectors, weights):
        """Computes covariances with x_i'v under P(x_i|x), in one pass.

        Events with a float64 logit, which dominate if few are probable, are
        added in float64.

        Args:
            query: `Query` of the noisy events.
            vectors: `[batch, M]`, v.
            weights: `Weights` of the noisy events.

        Returns:
            Cov(x_i, x_i'v), float64 `[batch, M]`, and Cov(log P(x_i|x),
            x_i'v), float64 `[batch]`.
        """
        vectors = tf.cast(vectors, tf.float64)
        shift = tf.reduce_sum(weights.mean * vectors, axis=1)
        step = self._covariance_step(query, vectors, shift, weights)
        zero = tf.zeros_like(query.precision)
        sums = self._over_blocks(
            step, (zero, tf.zeros_like(tf.transpose(query.events)), zero)
        )
        total, moment, slope = (tf.cast(value, tf.float64) for value in sums)
        events, _ = self.gather(weights.indices)
        terms = tf.linalg.matvec(events, vectors) - shift[:, None]
        terms *= tf.exp(weights.logits - weights.log_total[:, None])
        total += tf.reduce_sum(terms, axis=1)
        moment += tf.linalg.matvec(events, terms, transpose_a=True)
        slope += tf.reduce_sum(terms * weights.logits, axis=1)
        # The terms would add up to 0 without rounding.
        moment -= total[:, None] * weights.mean
        return moment * self.unit**2, slope * self.unit

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
            terms *= tf.matmul(block, vectors) - shift
            total += tf.reduce_sum(terms, axis=0)
            moment += tf.matmul(terms, block, transpose_a=True)
            slope += tf.reduce_sum(terms * logits, axis=0)
            return total, moment, slope

        return step

    def gather(self, indices):
        """Returns events in the form of a block, and half their squares.

        Args:
            indices: int32 `[batch, k]`.

        Returns:
            float64 `[batch, k, M]` and `[batch, k]`.
        """
        events = self._as_block(tf.gather(self.data, indices), tf.float64)
        half = tf.gather(self.half_squares, indices)
        return events, tf.cast(half, tf.float64)

    def values(self, indices, dtype):
        """Returns events, `[batch, M]`, for indices int32 `[batch]`."""
        events = tf.cast(tf.gather(self.data, indices), dtype)
        return events / 255 if self._is_uint8 else events

    def as_values(self, events):
        """Returns the values of events in the form of a block."""
        if self._is_uint8:
            return events / 255
        return events + tf.cast(self.mean, events.dtype)

    def _over_blocks(self, step, state):
        """Repeats `state = step(start, size, *state)` for each block."""
        size = min(_BLOCK, _VALUES // self.data.shape[1], self.size)
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
        return self._as_block(block, dtype)

    def _as_block(self, events, dtype):
        """Returns events, `[..., M]`: centred unless they are uint8."""
        events = tf.cast(events, dtype)
        return events if self._is_uint8 else events - tf.cast(self.mean, dtype)

    def _logits(self, block, start, query):
        """Returns log P(x_i|x) up to a constant per column, `[size, batch]`."""
        half = tf.slice(self.half_squares, [start], block.shape[:1])
        half = tf.cast(half, block.dtype)[:, None]
        return tf.matmul(block, query.events) - half * query.precision

    @property
    def _is_uint8(self):
        return self.data.dtype == tf.uint8


def _roundoff():
    """Returns the relative rounding error of factors of a matrix product.

    On GPUs TensorFlow multiplies in TF32, with 11 bits, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)`.
    """
    is_short = tf.config.experimental.tensor_float_32_execution_enabled()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return 2.0**-11 if is_short and on_gpu else 2.0**-24


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
