"""A finite set of events, and sums over all of it, read block by block."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Events read at once: at most so many, of so many values altogether.
_BLOCK = 4096
_VALUES = 2**22

# Of so many events only the likeliest is looked at first.
_GROUP = 16


class Query(NamedTuple):
    """Noisy events less the mean, times precision; and precision.

    `events` is `[M, batch]`: so the product with a block is the fastest.
    """

    events: tf.Tensor
    precision: tf.Tensor


class Sums(NamedTuple):
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


class Weights(NamedTuple):
    """The probabilities of all events, as `EventSet.covariance` needs them.

    Args:
        mean: float64 `[batch, M]`, of the events as blocks hold them.
        peak: `[batch]`, the largest logit, in the type of the query.
        log_total: float64 `[batch]`; log P(x_i|x) is logit - peak - log_total.
        indices: int32 `[batch, k]`, of events that were weighed by themselves.
        logits: float64 `[batch, k]`, logit - peak of these.
    """

    mean: tf.Tensor
    peak: tf.Tensor
    log_total: tf.Tensor
    indices: tf.Tensor
    logits: tf.Tensor


class EventSet(NamedTuple):
    """Events x_1 ... x_N of M values, and what is asked of all of them.

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
        """How many events there are, N."""
        return self.data.shape[0]

    @property
    def radius(self):
        """The largest |x_i - mean|, a scalar."""
        return tf.sqrt(2 * tf.reduce_max(self.half_squares))

    @property
    def unit(self):
        """What a step of 1 in a block is as a value."""
        return 1 / 255 if self._is_uint8 else 1.0

    def nats_lost(self, x, sigma):
        """Bounds what rounding to float32 does to the logits, `[batch]`.

        The factors are about twice the errors measured on images and on
        uniform vectors of 1 to 12288 values, among the likeliest events.
        """
        widest = reach = tf.cast(self.radius, x.dtype)
        if self._is_uint8:
            # Blocks of integers are multiplied as they are, not centred.
            reach += tf.norm(tf.cast(self.mean, x.dtype))
        size = tf.norm(x - tf.cast(self.mean, x.dtype), axis=1)
        lost = 8 * size * reach + 2 * tf.square(widest)
        return _roundoff() * lost / tf.square(sigma)

    def query(self, x, sigma, dtype):
        """Prepares what events are multiplied with for their logits.

        -|y - x_i|^2 / 2 = (y - m)'x_i - |x_i - m|^2 / 2 + what all i share:
        the smaller the numbers, the less of them is rounded off, and with m
        the mean they are small.
        """
        precision = 1 / tf.square(tf.cast(sigma, dtype))
        scale = (precision * self.unit)[:, None]
        centred = tf.cast(x, dtype) - tf.cast(self.mean, dtype)
        return Query(tf.transpose(centred * scale), precision)

    def sums(self, query, k, average=True):
        """Reads all events once; gives `Sums`, in the query's type.

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
        start = Sums(
            nothing - np.inf,
            nothing,
            tf.zeros_like(tf.transpose(query.events)),
            none - np.inf,
            tf.cast(none, tf.int32),
        )
        return Sums(*self._over_blocks(step, start))

    def covariance(self, query, vectors, weights):
        """Reads all events once; gives how x_i'v varies with two others.

        Args:
            query: as of the noisy events that `weights` belong to.
            vectors: `[batch, M]`, v.
            weights: `Weights`.

        Returns:
            Cov(x_i, x_i'v), float64 `[batch, M]`; and Cov(log P(x_i|x),
            x_i'v), float64 `[batch]`. Where few events share all, it is
            these that count: they are multiplied in float64.
        """
        vectors = tf.cast(vectors, tf.float64)
        shift = tf.reduce_sum(weights.mean * vectors, axis=1)
        step = self._covariance_step(query, vectors, shift, weights)
        nothing = tf.zeros_like(query.precision)
        rest = self._over_blocks(
            step, (nothing, tf.zeros_like(tf.transpose(query.events)), nothing)
        )
        total, moment, slope = (tf.cast(sums, tf.float64) for sums in rest)
        events, _ = self.gather(weights.indices)
        terms = tf.linalg.matvec(events, vectors) - shift[:, None]
        terms *= tf.exp(weights.logits - weights.log_total[:, None])
        total += tf.reduce_sum(terms, axis=1)
        moment += tf.linalg.matvec(events, terms, transpose_a=True)
        slope += tf.reduce_sum(terms * weights.logits, axis=1)
        # But for rounding, the terms add up to 0.
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
            # None is above the peak, whatever was rounded.
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
        """Gives events as blocks hold them, and half their squares.

        Args:
            indices: int32 `[batch, k]`.

        Returns:
            float64 `[batch, k, M]` and `[batch, k]`.
        """
        events = self._as_block(tf.gather(self.data, indices), tf.float64)
        half = tf.gather(self.half_squares, indices)
        return events, tf.cast(half, tf.float64)

    def as_values(self, events):
        """Reads what blocks hold as values."""
        if self._is_uint8:
            return events / 255
        return events + tf.cast(self.mean, events.dtype)

    def _over_blocks(self, step, state):
        """Gives `state` after `state = step(start, size, *state)` for each."""
        size = min(_BLOCK, _VALUES // self.data.shape[1], self.size)
        # Whole groups, so that `_top_k` has to pad the last block only.
        size = max(size // _GROUP * _GROUP, min(_GROUP, self.size))
        whole = self.size // size * size
        _, *state = tf.while_loop(
            lambda start, *_: start < whole,
            lambda start, *state: (start + size, *step(start, size, *state)),
            (0, *state),
            # One block in memory at a time; two were no faster.
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
        """Reads events, `[..., M]`: as integers if uint8, else centred."""
        events = tf.cast(events, dtype)
        return events if self._is_uint8 else events - tf.cast(self.mean, dtype)

    def _logits(self, block, start, query):
        """Gives log P(x_i|x) but for a number a column, `[size, batch]`."""
        half = tf.slice(self.half_squares, [start], block.shape[:1])
        half = tf.cast(half, block.dtype)[:, None]
        return tf.matmul(block, query.events) - half * query.precision

    @property
    def _is_uint8(self):
        return self.data.dtype == tf.uint8


def _roundoff():
    """Gives what a float32 matrix product rounds its factors off by.

    On GPUs TensorFlow multiplies in TF32, of 11 bits, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)`.
    """
    is_short = tf.config.experimental.tensor_float_32_execution_enabled()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return 2.0**-11 if is_short and on_gpu else 2.0**-24


def _without(weights, places):
    """Sets some of the weights to 0.

    Args:
        weights: floating `[rows, columns]`, >= 0.
        places: int32 `[columns, k]`, rows; those that there are not are
            passed over.
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
