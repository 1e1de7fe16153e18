"""The exact posterior mean of a finite set of events."""

import functools
import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.events import clean_batches, per_event
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.denoisers._noisy_mixture import NoisyMixture
from keras_genmodels.denoisers._weighted_sums import EventSet, Weights
from keras_genmodels.denoisers.fitted import AdaptedDenoiser

# Number of most probable events whose weights are computed in float64.
_NUM_CANDIDATES = 4

# Allowed error of float32: the probability of the other events times the error
# of their log probabilities, in nats. Beyond it, everything is float64.
_NATS = 3e-3

# Relative rounding error of a float32 sum of weights.
_SUM_ERROR = 1e-6


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
    float64 policy everything is float64. GPUs that multiply in TF32
    (TensorFlow's default, see `tf.config`) have 8000 times larger e and often
    need float64.

    The derivatives by x and by sigma are exact, too. With J = dD/dx, which is
    symmetric, and expectations under P(x_i|x),

        J v = E[(x_i - D) (x_i - D)'v] / sigma^2,

    which reverse mode computes in one more pass without storing blocks. The
    error of J v is at most 0.003 (|J| + 1) |v|, plus rounding; rows without
    that guarantee are recomputed in float64. Second derivatives are
    TensorFlow's own, of these sums: their memory grows with N.

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

    @property
    def num_events(self):
        """Number of events in the data, N."""
        return self._weight("data").shape[0]

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
            batches = [batch.astype(dtype) for batch in batches]
        count = sum(map(len, batches))
        floats = (as_float(batch, "float64") for batch in batches)
        mean = sum(batch.sum(0) for batch in floats) / count
        mean = mean.astype(dtype)
        # About the mean as stored, which queries subtract.
        half_squares = np.concatenate(
            [_half_squares(as_float(b, "float64") - mean) for b in batches]
        )
        values = {
            "mean": mean,
            "data": np.concatenate(batches).reshape(count, -1),
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
            *_replace_rows(
                compute(x.dtype), is_good, lambda: compute(tf.float64)
            )
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
    """Returns the compiled posterior mean for sets of one shape.

    Eager execution takes 1.5 times as long. The set is an argument, because
    TensorFlow never frees a graph with a custom gradient, nor the variables
    that it captures.

    Args:
        data, half_squares, mean: `tf.TensorSpec`s, of an `EventSet`.
        dtype: of x and sigma.

    Returns:
        function of `data`, `half_squares`, `mean`, `x` `[batch, M]` and
        `sigma` `[batch]` that returns D, `[batch, M]`.
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
    """Returns D, `[batch, M]`, and its vector-Jacobian product."""
    weights = _exact_weights(events, x, sigma)

    def gradient(vectors):
        return _products(events, x, sigma, vectors, weights)

    return events.as_values(weights.mean), gradient


def _in_float32(events, x, sigma):
    """Returns the same; only rows that need it are computed in float64."""
    weights, log_lost = _float32_weights(events, x, sigma)

    def as_result(weights):
        return (tf.cast(events.as_values(weights.mean), x.dtype),)

    def gradient(vectors):
        return _replace_rows(
            _products(events, x, sigma, vectors, weights),
            _is_derivative_good(events, x, sigma, log_lost),
            lambda: _products(
                events, x, sigma, vectors, _exact_weights(events, x, sigma)
            ),
        )

    (average,) = _replace_rows(
        as_result(weights),
        log_lost < math.log(_NATS),
        lambda: as_result(_exact_weights(events, x, sigma)),
    )
    return average, gradient


def _exact_weights(events, x, sigma):
    """Returns the `Weights` of all events, computed in float64."""
    found = events.sums(events.query(x, sigma, tf.float64), 1)
    return Weights(
        found.weighted / found.total[:, None],
        found.peak,
        tf.math.log(found.total),
        found.indices[:, :0],
        found.logits[:, :0],
    )


def _float32_weights(events, x, sigma):
    """Computes weights in float64 for the most probable events only.

    Returns:
        `Weights`, and the logarithm of p (exp(e) - 1), which bounds the total
        error of the other events' probabilities, float64 `[batch]`.
    """
    count = min(_NUM_CANDIDATES, events.size)
    found = events.sums(events.query(x, sigma, tf.float32), count)
    peak, total, weighted, logits = (
        tf.cast(sums, tf.float64) for sums in found[:4]
    )
    weights = tf.exp(logits - peak[:, None])
    rest = total - tf.reduce_sum(weights, axis=1) + _SUM_ERROR * total
    # A sharper bound if the rest is smaller than the rounding of the sum.
    spare = events.size - count
    others = math.log(spare) if spare else -np.inf
    log_rest = tf.minimum(tf.math.log(rest), others + logits[:, -1] - peak)
    logits, candidates = _float64_logits(events, x, sigma, found.indices)
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


def _float64_logits(events, x, sigma, indices):
    """Computes the logits of some events, relative to their largest.

    Args:
        events: `EventSet`.
        x, sigma: noisy events, `[batch, M]`, and their level, `[batch]`.
        indices: int32 `[batch, k]`, of the events.

    Returns:
        logits, float64 `[batch, k]`, and the events in the form of a block,
        float64 `[batch, k, M]`.
    """
    query = events.query(x, sigma, tf.float64)
    candidates, half = events.gather(indices)
    logits = tf.linalg.matvec(candidates, tf.transpose(query.events))
    logits -= half * query.precision[:, None]
    return logits - tf.reduce_max(logits, axis=1, keepdims=True), candidates


def _products(events, x, sigma, vectors, weights):
    """Computes J v, `[batch, M]`, and v' dD/dsigma, `[batch]`, in one pass.

    J = Cov(x_i) / sigma^2 and dD/dsigma = Cov(x_i, |x - x_i|^2) / sigma^3,
    where |x - x_i|^2 is -2 sigma^2 log P(x_i|x) up to a constant.
    """
    query = events.query(x, sigma, weights.peak.dtype)
    covariance, slope = events.covariance(query, vectors, weights)
    sigma = tf.cast(sigma, tf.float64)
    products = covariance / tf.square(sigma)[:, None]
    return tf.cast(products, x.dtype), tf.cast(-2 * slope / sigma, x.dtype)


def _is_derivative_good(events, x, sigma, log_lost):
    """Returns whether float32 suffices for the derivative, bool `[batch]`.

    It does if each probability, and so J, is off by a factor of at most
    exp(e); or if the total error of the probabilities is negligible, given
    that no two events are further apart than twice the radius.
    """
    diameter = 2 * tf.cast(events.radius, tf.float64)
    log_lost += 2 * tf.math.log(diameter / tf.cast(sigma, tf.float64))
    is_sharp = _error(events, x, sigma) < _NATS
    return is_sharp | (log_lost < math.log(_NATS))


def _error(events, x, sigma):
    """Returns e, a bound on the float32 error of log P(x_i|x), `[batch]`."""
    return 2 * events.nats_lost(x, sigma)


def _replace_rows(results, is_good, compute):
    """Replaces rows that are not good, if there are any.

    Args:
        results: tuple of tensors `[batch, ...]`.
        is_good: bool `[batch]`.
        compute: function that returns a tuple like `results`, called only if
            some row is not good.
    """

    def replaced():
        return tuple(
            tf.where(per_event(is_good, result), result, new)
            for result, new in zip(results, compute(), strict=True)
        )

    return tf.cond(tf.reduce_all(is_good), lambda: tuple(results), replaced)


def _half_squares(values):
    return np.square(values.reshape(len(values), -1)).sum(1) / 2
