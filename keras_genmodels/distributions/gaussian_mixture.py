"""A mixture of many Gaussians over vectors, without tensors of all of them."""

import functools
import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core.precision import matmul
from keras_genmodels.distributions import latents

tfd = tfp.distributions

# Error of `log_prob_of_each` in float32, relative to the sum of the absolute
# values of the terms of a square; and the error that is accepted, in nats.
_LOSS_OF_FLOAT32 = 4e-7
_MAX_LOSS = 0.01


class GaussianMixture(tfd.MixtureSameFamily):
    """A mixture of K Gaussians over vectors of length L, or a batch of such.

    TFP's own `log_prob` and `sample` of n vectors make tensors `[n, K, L]`.
    This `log_prob` is a matrix product `[n, K]`, and of a mixture without batch
    only the components that were drawn are sampled.

    Args:
        mixture_distribution: `tfd.Categorical` over the K components, batch
            `[]` or `[batch]`.
        components_distribution: Gaussian with `loc` and `scale`, such as
            `tfd.MultivariateNormalDiag`, batch `[K]` or `[batch, K]`, event
            `[L]`.
    """

    def _log_prob(self, z):
        size = self.event_shape[0]
        components = self.components_distribution
        log_prob = log_prob_of_each(components)
        log_weights = tf.nn.log_softmax(
            self.mixture_distribution.logits_parameter()
        )
        if components.batch_shape.rank == 1:
            log_probs = log_prob(tf.reshape(z, (-1, size)))
            found = tf.reduce_logsumexp(log_probs + log_weights, axis=-1)
            return tf.reshape(found, tf.shape(z)[:-1])
        batch = components.batch_shape_tensor()[0]
        z = z + tf.zeros([batch, size], z.dtype)
        # One matrix product for each mixture, of all z that it has.
        draws = tf.transpose(tf.reshape(z, (-1, batch, size)), (1, 0, 2))
        log_probs = log_prob(draws) + log_weights[..., tf.newaxis, :]
        found = tf.transpose(tf.reduce_logsumexp(log_probs, axis=-1))
        return tf.reshape(found, tf.shape(z)[:-1])

    def _sample_n(self, n, seed=None, **kwargs):
        if self.components_distribution.batch_shape.rank > 1:
            return super()._sample_n(n, seed, **kwargs)
        of_components, of_vectors = tfp.random.split_seed(seed)
        uniform = tf.random.stateless_uniform(
            [n], of_components, dtype=self.dtype
        )
        return self.select(uniform).sample(seed=of_vectors)

    def select(self, uniform):
        """Returns the component that each of some uniform numbers selects.

        Args:
            uniform: float tensor `[n]` in [0, 1); n is the batch if there is
                one.

        Returns:
            a Gaussian of batch `[n]`.
        """
        probs = self.mixture_distribution.probs_parameter()
        ends = tf.cumsum(probs, axis=-1)[..., :-1]
        index = tf.reduce_sum(
            tf.cast(uniform[:, tf.newaxis] >= ends, tf.int32), axis=-1
        )
        components = self.components_distribution
        return take(components, index, components.batch_shape.rank - 1)


def uniform_mixture(components):
    """Returns the `GaussianMixture` of equally likely components.

    Args:
        components: as of `GaussianMixture`.
    """
    shape = components.batch_shape
    if not shape.is_fully_defined():
        shape = components.batch_shape_tensor()
    logits = tf.zeros(shape, components.dtype)
    return GaussianMixture(tfd.Categorical(logits=logits), components)


def take(gaussians, index, batch_dims=0):
    """Returns some of a batch of Gaussians.

    Args:
        gaussians: Gaussian with `loc` and `scale`.
        index: int32 tensor, `[...]`; positions on axis `batch_dims`.
        batch_dims: int, number of leading axes that `index` shares.

    Returns:
        a Gaussian of the batch shape of `index`.
    """

    def gather(values):
        return tf.gather(values, index, batch_dims=batch_dims)

    loc = gather(gaussians.mean())
    if latents.is_diagonal(gaussians):
        return tfd.MultivariateNormalDiag(loc, gather(gaussians.stddev()))
    scale_tril = gather(gaussians.scale.to_dense())
    return tfd.MultivariateNormalTriL(loc, scale_tril)


def log_prob_of_each(components):
    """Builds the function that computes the log density under each Gaussian.

    With P the inverse of the covariance, the square of z - loc in units of
    the scale is z'Pz - 2 z'P loc + loc'P loc: for all Gaussians at once, one
    matrix product of coefficients and of products of entries of z. In float32
    that loses up to about 4e-7 of the sum of the absolute values of its terms;
    where this is above 0.01 nats, as for a scale of 0.04 in 40 dimensions with
    centres of about 1, the product is taken in float64.

    Args:
        components: Gaussian with `loc` and `scale`, batch `[K]` or
            `[batch, K]`, event `[L]`.

    Returns:
        function of a float tensor z `[n, L]` or `[batch, n, L]` that returns
        log densities `[n, K]` or `[batch, n, K]`, nats.
    """
    dtype = components.dtype
    loc = tf.cast(components.mean(), tf.float64)
    # Near zero squares round less; their differences stay the same.
    center = tf.stop_gradient(tf.reduce_mean(loc, axis=-2, keepdims=True))
    loc, size = loc - center, loc.shape[-1]
    if latents.is_diagonal(components):
        first = second = np.arange(size)
        precisions = 1 / tf.cast(components.variance(), tf.float64)
        scaled_loc = precisions * loc
        terms_of_loc = precisions * loc**2
    else:
        first, second = np.tril_indices(size)
        precision = _inverse_covariance(components)
        scaled_loc = matmul(precision, loc[..., tf.newaxis])[..., 0]
        # z reaches about as far; the terms cancel along narrow axes.
        reach = tf.abs(loc) + tf.cast(components.stddev(), tf.float64)
        terms_of_loc = (
            reach * matmul(tf.abs(precision), reach[..., tf.newaxis])[..., 0]
        )
        precisions = _lower_entries(precision, first, second)
    coefficients = tf.concat([-precisions / 2, scaled_loc], axis=-1)
    squares = tf.reduce_sum(loc * scaled_loc, -1)
    constant = -(size * math.log(2 * math.pi) + squares) / 2 - tf.cast(
        components.scale.log_abs_determinant(), tf.float64
    )

    def product(z, dtype):
        offset = tf.cast(z, dtype) - tf.cast(center, dtype)
        left, right = (tf.gather(offset, it, axis=-1) for it in (first, second))
        terms = tf.concat([left * right, offset], axis=-1)
        found = matmul(terms, tf.cast(coefficients, dtype), transpose_b=True)
        found += tf.cast(constant, dtype)[..., tf.newaxis, :]
        return tf.cast(found, z.dtype)

    if dtype == tf.float64:
        return functools.partial(product, dtype=dtype)
    loss = _LOSS_OF_FLOAT32 * tf.reduce_max(tf.reduce_sum(terms_of_loc, -1))
    return lambda z: tf.cond(
        loss > _MAX_LOSS,
        lambda: product(z, tf.float64),
        lambda: product(z, dtype),
    )


def _inverse_covariance(gaussians):
    """Returns the inverses of the covariances, float64 `[..., L, L]`."""
    size = gaussians.event_shape[0]
    whiten = gaussians.scale.solve(tf.eye(size, dtype=gaussians.dtype))
    whiten = tf.cast(whiten, tf.float64)
    return matmul(whiten, whiten, transpose_a=True)


def _lower_entries(matrices, first, second):
    """Returns entries (first, second) of symmetric matrices, `[..., n]`.

    Each one off the diagonal counts for two.
    """
    size = matrices.shape[-1]
    shape = tf.concat([tf.shape(matrices)[:-2], [size**2]], axis=0)
    entries = tf.reshape(matrices, shape)
    count = tf.constant(np.where(first == second, 1, 2), matrices.dtype)
    return count * tf.gather(entries, first * size + second, axis=-1)
