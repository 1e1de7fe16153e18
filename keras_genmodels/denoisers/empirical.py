"""The exact denoiser of a finite set: the lecture's formula."""

import functools
import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core.arrays import as_float, concatenate
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import event_batches, per_event
from keras_genmodels.denoisers._weighted_sums import EventSet, Weights
from keras_genmodels.denoisers.fitted import AdaptedDenoiser

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
    row depends on the others. Under a float64 policy all is float64. On a GPU
    that multiplies in TF32 (TensorFlow's default, see `tf.config`) e is 8000
    times as much, and float64 often needed; without TF32 it is not.

    Its derivative, by x and by sigma, is exact, too. With J = dD/dx, which is
    symmetric, and expectations under P(x_i|x),

        J v = E[(x_i - D) (x_i - D)'v] / sigma^2,

    reverse mode reads the data once more and keeps nothing of a block. J v is
    within 0.003 (|J| + 1) |v|, besides rounding; rows where that is not
    certain are done anew in float64. Second derivatives are TensorFlow's, of
    these sums: what they keep grows with N.

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
        values = (as_float(batch, "float64") for batch in batches)
        mean = sum(value.sum(0) for value in values) / count
        mean = mean.astype(dtype)
        # About the mean as it is stored: it is what queries are taken from.
        half_squares = concatenate(
            _half_squares(as_float(batch, "float64") - mean)
            for batch in batches
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

        events, flat = self._event_set(), self._flat(x)

        def compute(dtype):
            query = events.query(flat, sigma, dtype)
            found = events.sums(query, k, average=False)
            log_total = found.peak + tf.math.log(found.total)
            probabilities = tf.exp(found.logits - log_total[:, None])
            return tf.cast(probabilities, x.dtype), found.indices

        if x.dtype == tf.float64:
            return Posterior(*compute(x.dtype))
        is_good = events.nats_lost(flat, sigma) < _NATS
        return Posterior(
            *_mended(compute(x.dtype), is_good, lambda: compute(tf.float64))
        )

    def _denoise(self, x, sigma):
        events = self._event_set()
        specs = [tf.TensorSpec(part.shape, part.dtype) for part in events]
        flat = _compiled(*specs, x.dtype)(*events, self._flat(x), sigma)
        return tf.reshape(flat, tf.shape(x))

    def _event_set(self):
        data, half_squares, mean = (
            tf.convert_to_tensor(weight.value)
            for weight in (self._data, self._half_squares, self._mean)
        )
        return EventSet(data, half_squares, tf.reshape(mean, (-1,)))

    def _flat(self, x):
        return tf.reshape(x, (-1, self._data.shape[1]))


@functools.cache
def _compiled(data, half_squares, mean, dtype):
    """Compiles the posterior mean for sets of a shape.

    Run operation by operation, it would take half as long again. The set is
    an argument, as TensorFlow keeps every graph with a gradient of our own,
    and the variables that such a graph reads, until the process ends.

    Args:
        data, half_squares, mean: `tf.TensorSpec`, of an `EventSet`.
        dtype: of x and sigma.

    Returns:
        function of `data`, `half_squares`, `mean`, `x` `[batch, M]` and
        `sigma` `[batch]`; gives D, `[batch, M]`.
    """
    compute = _in_float64 if dtype == tf.float64 else _in_float32

    def average(data, half_squares, mean, x, sigma):
        events = EventSet(data, half_squares, mean)
        return tf.custom_gradient(lambda *args: compute(events, *args))(
            x, sigma
        )

    x = tf.TensorSpec([None, *mean.shape], dtype)
    sigma = tf.TensorSpec([None], dtype)
    signature = [data, half_squares, mean, x, sigma]
    return tf.function(average, input_signature=signature, autograph=False)


def _in_float64(events, x, sigma):
    """Gives D, `[batch, M]`, and the function that multiplies with D'."""
    weights = _exact_weights(events, x, sigma)

    def gradient(vectors):
        return _products(events, x, sigma, vectors, weights)

    return events.as_values(weights.mean), gradient


def _in_float32(events, x, sigma):
    """Gives the same, of which only the rows that need it are in float64."""
    weights, log_lost = _float32_weights(events, x, sigma)

    def as_result(weights):
        return (tf.cast(events.as_values(weights.mean), x.dtype),)

    def gradient(vectors):
        return _mended(
            _products(events, x, sigma, vectors, weights),
            _is_derivative_good(events, x, sigma, log_lost),
            lambda: _products(
                events, x, sigma, vectors, _exact_weights(events, x, sigma)
            ),
        )

    (average,) = _mended(
        as_result(weights),
        log_lost < math.log(_NATS),
        lambda: as_result(_exact_weights(events, x, sigma)),
    )
    return average, gradient


def _exact_weights(events, x, sigma):
    """Weighs all events in float64; gives `Weights`."""
    found = events.sums(events.query(x, sigma, tf.float64), 1)
    return Weights(
        found.weighted / found.total[:, None],
        found.peak,
        tf.math.log(found.total),
        found.indices[:, :0],
        found.logits[:, :0],
    )


def _float32_weights(events, x, sigma):
    """Weighs the likeliest events in float64, the others in float32.

    Returns:
        `Weights`; and p (exp(e) - 1), by which the others' probabilities are
        off altogether at most, as a log, float64 `[batch]`.
    """
    count = min(_CANDIDATES, events.size)
    found = events.sums(events.query(x, sigma, tf.float32), count)
    peak, total, weighted, logits = (
        tf.cast(sums, tf.float64) for sums in found[:4]
    )
    weights = tf.exp(logits - peak[:, None])
    rest = total - tf.reduce_sum(weights, axis=1) + _SUM_ERROR * total
    # Sharper where the rest is less than what was rounded off the sum.
    spare = events.size - count
    others = math.log(spare) if spare else -np.inf
    log_rest = tf.minimum(tf.math.log(rest), others + logits[:, -1] - peak)
    logits, candidates = _weigh_anew(events, x, sigma, found.indices)
    change = tf.exp(logits) - weights
    total += tf.reduce_sum(change, axis=1)
    weighted += tf.linalg.matvec(candidates, change, transpose_a=True)
    log_total = tf.math.log(total)
    # exp(e) - 1 <= exp(e) min(e, 1), which does not overflow as a log.
    error = tf.cast(_error(events, x, sigma), tf.float64)
    log_error = error + tf.math.log(tf.minimum(error, 1))
    weights = Weights(
        weighted / total[:, None], found.peak, log_total, found.indices, logits
    )
    return weights, log_rest - log_total + log_error


def _weigh_anew(events, x, sigma, indices):
    """Gives the logits of some events less their largest, and the events.

    Args:
        events, x, sigma: of which set, and which noisy events.
        indices: int32 `[batch, k]`, of the events.

    Returns:
        float64 `[batch, k]`; float64 `[batch, k, M]`, as blocks hold them.
    """
    query = events.query(x, sigma, tf.float64)
    candidates, half = events.gather(indices)
    logits = tf.linalg.matvec(candidates, tf.transpose(query.events))
    logits -= half * query.precision[:, None]
    return logits - tf.reduce_max(logits, axis=1, keepdims=True), candidates


def _products(events, x, sigma, vectors, weights):
    """Gives J v and v' dD/dsigma, `[batch, M]` and `[batch]`, in one pass.

    J = Cov(x_i) / sigma^2 and dD/dsigma = Cov(x_i, |x - x_i|^2) / sigma^3,
    where |x - x_i|^2 is -2 sigma^2 log P(x_i|x), but for what all i share.
    """
    query = events.query(x, sigma, weights.peak.dtype)
    covariance, slope = events.covariance(query, vectors, weights)
    sigma = tf.cast(sigma, tf.float64)
    products = covariance / tf.square(sigma)[:, None]
    return tf.cast(products, x.dtype), tf.cast(-2 * slope / sigma, x.dtype)


def _is_derivative_good(events, x, sigma, log_lost):
    """Whether float32 is good enough for the derivative, bool `[batch]`.

    Probabilities that are off by a factor of exp(e) make J so, at most.
    Otherwise, what they are off altogether is too little to tell: no two
    events are further apart than twice the radius.
    """
    diameter = 2 * tf.cast(events.radius, tf.float64)
    log_lost += 2 * tf.math.log(diameter / tf.cast(sigma, tf.float64))
    is_sharp = _error(events, x, sigma) < _NATS
    return is_sharp | (log_lost < math.log(_NATS))


def _error(events, x, sigma):
    """Bounds e, the error of the log probabilities in float32, `[batch]`."""
    return 2 * events.nats_lost(x, sigma)


def _mended(results, is_good, anew):
    """Replaces the rows that are not good by those of `anew`, if there are.

    Args:
        results: tuple of tensors `[batch, ...]`.
        is_good: bool `[batch]`.
        anew: function that gives such a tuple, at a cost.
    """

    def replaced():
        return tuple(
            tf.where(per_event(is_good, result), result, new)
            for result, new in zip(results, anew(), strict=True)
        )

    return tf.cond(tf.reduce_all(is_good), lambda: tuple(results), replaced)


def _half_squares(values):
    return np.square(values.reshape(len(values), -1)).sum(1) / 2
