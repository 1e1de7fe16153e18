"""A mixture of Gaussians over vectors, with `log_prob` by matrix products."""

import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.distributions import latents

tfd = tfp.distributions


class GaussianMixture(tfd.MixtureSameFamily):
    """A mixture of K Gaussians over vectors of length L.

    TFP's own `log_prob` of n vectors makes a tensor `[n, K, L]`. For diagonal
    covariances this one takes two matrix products, with tensors `[n, K]`; for
    others one, with `[n, K, L]`. In float32 squares of z - loc in units of the
    scale are then exact to about 1e-7 of the largest square of a loc in these
    units.

    Args:
        mixture_distribution: `tfd.Categorical` over the K components.
        components_distribution: Gaussian with `loc` and `scale`, such as
            `tfd.MultivariateNormalDiag`, batch `[K]`, event `[L]`.
    """

    def _log_prob(self, z):
        size = self.event_shape[0]
        log_probs = log_prob_of_each(
            self.components_distribution, tf.reshape(z, (-1, size))
        )
        log_weights = tf.nn.log_softmax(
            self.mixture_distribution.logits_parameter()
        )
        found = tf.reduce_logsumexp(log_probs + log_weights, axis=-1)
        return tf.reshape(found, tf.shape(z)[:-1])

    def select(self, uniform):
        """Returns the component that each of some uniform numbers selects.

        Args:
            uniform: float tensor `[n]` in [0, 1).

        Returns:
            a Gaussian of batch `[n]`.
        """
        ends = tf.cumsum(self.mixture_distribution.probs_parameter())
        index = tf.reduce_sum(
            tf.cast(uniform[:, tf.newaxis] >= ends[:-1], tf.int32), axis=-1
        )
        components = self.components_distribution
        loc = tf.gather(components.mean(), index)
        if latents.is_diagonal(components):
            stddev = tf.gather(components.stddev(), index)
            return tfd.MultivariateNormalDiag(loc, stddev)
        scale_tril = tf.gather(components.scale.to_dense(), index)
        return tfd.MultivariateNormalTriL(loc, scale_tril)


def uniform_mixture(components):
    """Returns the `GaussianMixture` of equally likely components."""
    num = components.batch_shape[0] or components.batch_shape_tensor()[0]
    logits = tf.zeros([num], components.dtype)
    return GaussianMixture(tfd.Categorical(logits=logits), components)


def log_prob_of_each(components, z):
    """Computes the log density of vectors under each of some Gaussians.

    Args:
        components: Gaussian with `loc` and `scale`, batch `[K]`, event `[L]`.
        z: float tensor `[n, L]`.

    Returns:
        float tensor `[n, K]`, nats.
    """
    loc, scale = components.mean(), components.scale
    # Near zero squares round less; their differences stay the same.
    center = tf.stop_gradient(tf.reduce_mean(loc, axis=0))
    loc, z = loc - center, z - center
    if latents.is_diagonal(components):
        precision = 1 / components.variance()
        squares = (
            tf.matmul(z**2, precision, transpose_b=True)
            - 2 * tf.matmul(z, loc * precision, transpose_b=True)
            + tf.reduce_sum(loc**2 * precision, axis=-1)
        )
    else:
        identity = tf.eye(loc.shape[-1], dtype=loc.dtype)
        whiten = scale.solve(identity)
        squares = tf.reduce_sum(
            (
                tf.einsum("nj,kij->nki", z, whiten)
                - tf.linalg.matvec(whiten, loc)
            )
            ** 2,
            axis=-1,
        )
    normal = tfd.Normal(tf.zeros([], z.dtype), 1)
    constant = loc.shape[-1] * normal.log_prob(tf.zeros([], z.dtype))
    return constant - squares / 2 - scale.log_abs_determinant()
