"""What an exact denoiser computes of its events, wherever they are stored."""

from typing import NamedTuple

import tensorflow as tf

from keras_genmodels.core.precision import (
    choose,
    split_matmul,
    split_roundoff,
)


class Query(NamedTuple):
    """Noisy events minus the mean, times the precision, and the precision.

    Args:
        events: `[M, batch]`, for the fastest product with a block.
        precision: `[batch]`.
        splits: bool scalar, as of `core.precision.split_matmul`.
    """

    events: tf.Tensor
    precision: tf.Tensor
    splits: bool | tf.Tensor


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
    """The probabilities of all events, for `Events.covariance`.

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


class Events:
    """Events x_1 ... x_N of M values, wherever they are stored.

    Noisy events x are `[batch, M]`, sigma is `[batch]`.

    A subclass has `size`, N; `mean`, floating `[M]`; `radius`, the largest
    |x_i - mean|, a scalar; `is_uint8`, whether the data are uint8, read as
    value / 255; and the methods `sums`, `covariance_sums`, `rows` and
    `half_squares_of`. It is made of `settings` and `tensors`, the arguments of
    its constructor, so that a compiled function can take the latter, and says
    whether it `spans_devices`.
    """

    @property
    def unit(self):
        """Value of a step of 1 in a block."""
        return 1 / 255 if self.is_uint8 else 1.0

    def nats_lost(self, x, sigma, splits):
        """Returns a bound on the float32 error of the logits, `[batch]`.

        The factors are about twice the errors measured for the most probable
        events among images and uniform vectors of 1 to 12288 values.
        """
        widest = reach = tf.cast(self.radius, x.dtype)
        if self.is_uint8:
            # Blocks of integers are not centred.
            reach += tf.norm(tf.cast(self.mean, x.dtype))
        size = tf.norm(x - tf.cast(self.mean, x.dtype), axis=1)
        lost = 8 * size * reach + 2 * tf.square(widest)
        roundoff = tf.cast(split_roundoff(splits), x.dtype)
        return roundoff * lost / tf.square(sigma)

    def query(self, x, sigma, dtype, splits):
        """Returns the factor of the events in their logits.

        -|y - x_i|^2 / 2 = (y - m)'x_i - |x_i - m|^2 / 2 + constant. With m the
        mean the terms are small, and so are rounding errors.
        """
        precision = 1 / tf.square(tf.cast(sigma, dtype))
        scale = (precision * self.unit)[:, None]
        centred = tf.cast(x, dtype) - tf.cast(self.mean, dtype)
        return Query(tf.transpose(centred * scale), precision, splits)

    def sums(self, query, k, average=True):
        """Computes `Sums` in one pass, in the dtype of the query.

        Without `average`, `weighted` is 0.
        """
        raise NotImplementedError

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
        sums = self.covariance_sums(query, vectors, shift, weights)
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

    def covariance_sums(self, query, vectors, shift, weights):
        """Computes the sums of `covariance` over events without such a logit.

        Args:
            query, vectors, weights: as of `covariance`.
            shift: float64 `[batch]`, the mean of x_i'v.

        Returns:
            in the dtype of the query, the sums of P(x_i|x) (x_i'v - shift),
            `[batch]`, of that times x_i, `[batch, M]`, and of that times log
            P(x_i|x), `[batch]`, up to a constant.
        """
        raise NotImplementedError

    def rows(self, indices, dtype):
        """Returns rows of the data, `[..., M]`, for int32 indices `[...]`."""
        raise NotImplementedError

    def half_squares_of(self, indices):
        """Returns |x_i - mean|^2 / 2, float64 `[...]`, for `[...]`."""
        raise NotImplementedError

    def gather(self, indices):
        """Returns events in the form of a block, and half their squares.

        Args:
            indices: int32 `[batch, k]`.

        Returns:
            float64 `[batch, k, M]` and `[batch, k]`.
        """
        events = self.as_block(self.rows(indices, tf.float64))
        return events, self.half_squares_of(indices)

    def values(self, indices, dtype):
        """Returns events, `[batch, M]`, for indices int32 `[batch]`."""
        events = self.rows(indices, dtype)
        return events / 255 if self.is_uint8 else events

    def multiply(self, block, factor, splits):
        """Returns the product of a block and a matrix, in full precision."""
        short = ("a",) if self.is_uint8 else ()
        return split_matmul(block, factor, splits, short=short)

    def add_up(self, weights, block, splits):
        """Returns weighted sums of the events of a block, `[batch, M]`.

        Args:
            weights: `[size, batch]`.
            block: `[size, M]`.
            splits: as of `Query`.
        """
        if not self.is_uint8:
            return split_matmul(weights, block, splits, transpose_a=True)

        def add_up_centred():
            # Tensor cores truncate: sums of terms of one sign would drift.
            center = tf.round(255 * tf.cast(self.mean, block.dtype))
            sums = split_matmul(
                weights, block - center, True, short=("b",), transpose_a=True
            )
            return sums + tf.reduce_sum(weights, axis=0)[:, None] * center

        return choose(
            splits,
            add_up_centred,
            lambda: tf.matmul(weights, block, transpose_a=True),
        )

    def as_values(self, events):
        """Returns the values of events in the form of a block."""
        if self.is_uint8:
            return events / 255
        return events + tf.cast(self.mean, events.dtype)

    def as_block(self, rows):
        """Returns rows of the data, `[..., M]`, centred unless uint8."""
        if self.is_uint8:
            return rows
        return rows - tf.cast(self.mean, rows.dtype)
