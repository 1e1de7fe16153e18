"""Products with a denoiser's Jacobian, and its trace."""

import math

import tensorflow as tf

from keras_genmodels.core.events import shape_of_events
from keras_genmodels.core.validation import check
from keras_genmodels.sampling._loop import checked_denoise

# Products that are computed at once, and those of `traces`.
_BLOCK = 256
_TRACE_BLOCK = 2**15


def vector_product(denoise, x, sigma, vectors):
    """Returns J' v, in reverse mode.

    Args:
        denoise: function of x and sigma.
        x: float tensor `[batch, ...]`.
        sigma: float tensor `[batch]`, or None.
        vectors: float tensor like x, v.

    Returns:
        float tensor like x.

    Raises:
        ValueError: if the denoiser has no derivative.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        denoised = checked_denoise(denoise, x, sigma)
    products = tape.gradient(denoised, x, vectors)
    check(
        products is not None,
        "the denoiser has no derivative: TensorFlow finds no differentiable "
        "operations between x and D(x)",
    )
    return products


def jacobian_trace(denoise, x, sigma):
    """Returns tr J of vectors, `[batch]`, by one evaluation of D.

    Args:
        denoise: function of x and sigma, row by row.
        x: float tensor `[batch, M]`.
        sigma: float tensor `[batch]`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        denoised = checked_denoise(denoise, x, sigma)
    jacobian = tape.batch_jacobian(
        denoised, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return tf.linalg.trace(jacobian)


def traces(trace, x, sigma):
    """Computes `jacobian_trace` in blocks, which bound the memory.

    Args:
        trace: function of x and sigma to the traces, of any batch size.
        x: float tensor `[batch, M]`.
        sigma: float tensor `[batch]`.

    Returns:
        float64 tensor `[batch, 1]`.
    """
    count = tf.shape(x)[0]
    block = tf.minimum(count, max(1, _TRACE_BLOCK // x.shape[1]))

    def advance(i, found):
        rows = tf.minimum(i * block + tf.range(block), count - 1)
        values = trace(tf.gather(x, rows), tf.gather(sigma, rows))
        return i + 1, found.write(i, tf.cast(values, tf.float64))

    rounds = -(-count // tf.maximum(block, 1))
    found = tf.TensorArray(tf.float64, rounds, element_shape=[None])
    _, found = tf.while_loop(
        lambda i, _: i < rounds, advance, (0, found), parallel_iterations=1
    )
    return found.concat()[:count, tf.newaxis]


def quadratic_forms(multiply, x, sigma, probe, num_probes):
    """Computes v' J v for several vectors v of each event.

    The pairs of an event and a vector are computed in blocks of one size, so
    that memory does not grow with their number.

    Args:
        multiply: function of x, sigma and vectors to J' v, of any batch size.
        x: float tensor `[batch, ...]`.
        sigma: float tensor `[batch]`.
        probe: function of int32 `[n]` rows of x and int32 `[n]` numbers of
            vectors to the vectors, `[n, M]`.
        num_probes: int >= 1, or int32 scalar tensor.

    Returns:
        float64 tensor `[batch, num_probes]`.
    """
    shape = shape_of_events(x)
    count = tf.shape(x)[0] * num_probes
    block = tf.minimum(count, _BLOCK)

    def advance(i, forms):
        pair = tf.minimum(i * block + tf.range(block), count - 1)
        rows = pair // num_probes
        vectors = tf.cast(probe(rows, pair % num_probes), x.dtype)
        products = multiply(
            tf.gather(x, rows),
            tf.gather(sigma, rows),
            tf.reshape(vectors, (-1, *shape)),
        )
        terms = tf.reshape(products, (-1, math.prod(shape))) * vectors
        sums = tf.reduce_sum(tf.cast(terms, tf.float64), axis=1)
        return i + 1, forms.write(i, sums)

    rounds = -(-count // tf.maximum(block, 1))
    forms = tf.TensorArray(tf.float64, rounds, element_shape=[None])
    _, forms = tf.while_loop(
        lambda i, _: i < rounds, advance, (0, forms), parallel_iterations=1
    )
    return tf.reshape(forms.concat()[:count], (-1, num_probes))
