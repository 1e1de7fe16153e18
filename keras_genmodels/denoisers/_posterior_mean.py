"""The posterior mean of a finite set of events, and its derivatives."""

import functools
import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core.events import per_event
from keras_genmodels.core.precision import splits_factors, traced_for
from keras_genmodels.denoisers._events import Weights

# Number of most probable events whose weights are computed in float64.
_NUM_CANDIDATES = 4

# Allowed error of float32: the probability of the other events times the error
# of their log probabilities, in nats. Beyond it, everything is float64.
NATS = 3e-3

# Relative rounding error of a float32 sum of weights.
_SUM_ERROR = 1e-6


def average(events, x, sigma):
    """Computes D, by a compiled function with a gradient.

    Args:
        events: `Events`.
        x, sigma: noisy events, `[batch, M]`, and their level, `[batch]`, of
            one dtype.

    Returns:
        tensor `[batch, M]`.
    """
    key = type(events), events.settings, x.dtype, events.specs
    compiled = _compiled(*key, traced_for())
    run = functools.partial(compiled, *_flatten(events.tensors))
    if events.spans_devices:
        run = _with_gradient(run, key, events)
    return run(x, sigma)


@functools.cache
def _compiled(kind, settings, dtype, specs, place):
    """Returns the compiled posterior mean for sets of one shape.

    Eager execution takes 1.5 times as long. The set is an argument, because
    TensorFlow never frees a graph with a custom gradient, nor the variables
    that it captures.

    Args:
        kind: class of the events, made by `kind(*settings, *tensors)`.
        settings: tuple, its first arguments.
        dtype: of x and sigma.
        specs: tuple of the `tf.TypeSpec` of each of the tensors.
        place: tuple, what it is traced for.

    Returns:
        function of the tensors (of each replica, where these differ), `x`
        `[batch, M]` and `sigma` `[batch]` that returns D, `[batch, M]`.
    """
    compute = _in_float64 if dtype == tf.float64 else _in_float32

    def average(*args):
        *flat, x, sigma = args
        tensors = tf.nest.pack_sequence_as(specs, flat, expand_composites=True)
        events = kind(*settings, *tensors)
        return tf.custom_gradient(lambda *args: compute(events, *args))(
            x, sigma
        )

    rows = tf.TensorSpec([None, *kind(*settings, *specs).mean.shape], dtype)
    sigma = tf.TensorSpec([None], dtype)
    signature = [*_flatten(specs), rows, sigma]
    return tf.function(average, input_signature=signature, autograph=False)


@functools.cache
def _compiled_products(kind, settings, dtype, specs):
    """Returns the same for its vector-Jacobian product.

    Args:
        kind, settings, dtype, specs: as of `_compiled`.

    Returns:
        function of the tensors, `x`, `sigma` and v `[batch, M]` that returns
        J v and v' dD/dsigma.
    """
    compute = _in_float64 if dtype == tf.float64 else _in_float32

    def products(*args):
        *flat, x, sigma, vectors = args
        tensors = tf.nest.pack_sequence_as(specs, flat, expand_composites=True)
        _, gradient = compute(kind(*settings, *tensors), x, sigma)
        return gradient(vectors)

    return tf.function(products, autograph=False, reduce_retracing=True)


def _with_gradient(run, key, events):
    """Returns `run` with a gradient that is a function of its own.

    TensorFlow's eager tape loses the gradient of a function that runs on
    several replicas. This one computes the sums anew.
    """

    def average(x, sigma):
        def gradient(vectors):
            tensors = _flatten(events.tensors)
            return _compiled_products(*key)(*tensors, x, sigma, vectors)

        return run(x, sigma), gradient

    return tf.custom_gradient(average)


def _flatten(tensors):
    return tf.nest.flatten(tensors, expand_composites=True)


def _in_float64(events, x, sigma):
    """Returns D, `[batch, M]`, and its vector-Jacobian product."""
    weights = _exact_weights(events, x, sigma)

    def gradient(vectors):
        return _products(events, x, sigma, vectors, weights, False)

    return events.as_values(weights.mean), gradient


def _in_float32(events, x, sigma):
    """Returns the same; only rows that need it are computed in float64."""
    # Once, as `tf.vectorized_map` would ask for each row of a Jacobian.
    splits = splits_factors()
    weights, log_lost = _float32_weights(events, x, sigma, splits)

    def as_result(weights):
        return (tf.cast(events.as_values(weights.mean), x.dtype),)

    def gradient(vectors):
        return replace_rows(
            _products(events, x, sigma, vectors, weights, splits),
            _is_derivative_good(events, x, sigma, splits, log_lost),
            lambda: _products(
                events,
                x,
                sigma,
                vectors,
                _exact_weights(events, x, sigma),
                splits,
            ),
        )

    (average,) = replace_rows(
        as_result(weights),
        log_lost < math.log(NATS),
        lambda: as_result(_exact_weights(events, x, sigma)),
    )
    return average, gradient


def _exact_weights(events, x, sigma):
    """Returns the `Weights` of all events, computed in float64."""
    found = events.sums(events.query(x, sigma, tf.float64, False), 1)
    return Weights(
        found.weighted / found.total[:, None],
        found.peak,
        tf.math.log(found.total),
        found.indices[:, :0],
        found.logits[:, :0],
    )


def _float32_weights(events, x, sigma, splits):
    """Computes weights in float64 for the most probable events only.

    Returns:
        `Weights`, and the logarithm of p (exp(e) - 1), which bounds the total
        error of the other events' probabilities, float64 `[batch]`.
    """
    count = min(_NUM_CANDIDATES, events.size)
    found = events.sums(events.query(x, sigma, tf.float32, splits), count)
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
    error = tf.cast(_error(events, x, sigma, splits), tf.float64)
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
    query = events.query(x, sigma, tf.float64, False)
    candidates, half = events.gather(indices)
    logits = tf.linalg.matvec(candidates, tf.transpose(query.events))
    logits -= half * query.precision[:, None]
    return logits - tf.reduce_max(logits, axis=1, keepdims=True), candidates


def _products(events, x, sigma, vectors, weights, splits):
    """Computes J v, `[batch, M]`, and v' dD/dsigma, `[batch]`, in one pass.

    J = Cov(x_i) / sigma^2 and dD/dsigma = Cov(x_i, |x - x_i|^2) / sigma^3,
    where |x - x_i|^2 is -2 sigma^2 log P(x_i|x) up to a constant.
    """
    query = events.query(x, sigma, weights.peak.dtype, splits)
    covariance, slope = events.covariance(query, vectors, weights)
    sigma = tf.cast(sigma, tf.float64)
    products = covariance / tf.square(sigma)[:, None]
    return tf.cast(products, x.dtype), tf.cast(-2 * slope / sigma, x.dtype)


def _is_derivative_good(events, x, sigma, splits, log_lost):
    """Returns whether float32 suffices for the derivative, bool `[batch]`.

    It does if each probability, and so J, is off by a factor of at most
    exp(e); or if the total error of the probabilities is negligible, given
    that no two events are further apart than twice the radius.
    """
    diameter = 2 * tf.cast(events.radius, tf.float64)
    log_lost += 2 * tf.math.log(diameter / tf.cast(sigma, tf.float64))
    is_sharp = _error(events, x, sigma, splits) < NATS
    return is_sharp | (log_lost < math.log(NATS))


def _error(events, x, sigma, splits):
    """Returns e, a bound on the float32 error of log P(x_i|x), `[batch]`."""
    return 2 * events.nats_lost(x, sigma, splits)


def replace_rows(results, is_good, compute):
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
