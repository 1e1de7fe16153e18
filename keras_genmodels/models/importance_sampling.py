"""Draws of the latent of each example: importance weights and gradients."""

import typing

import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import replicas
from keras_genmodels.distributions import latents

tfd = tfp.distributions


class Draws(typing.NamedTuple):
    """Draws of z for each example of a batch, decoded."""

    posterior: tfd.Distribution  # q(z|x, c)
    prior: tfd.Distribution  # p(z|c)
    z: tf.Tensor  # [num_samples, batch, latent_size]
    log_posterior: tf.Tensor  # log q(z|x, c), [num_samples, batch]
    likelihood: tfd.Distribution  # p(x|z, c), batch [num_samples * batch]
    distortion: tf.Tensor  # -log p(x|z, c), [num_samples, batch]

    def log_weights(self, rate_weight=1.0):
        """Returns log p(x, z|c) / q(z|x, c), `[num_samples, batch]`, nats.

        Args:
            rate_weight: factor of log p(z|c) / q(z|x, c).
        """
        log_ratio = self.prior.log_prob(self.z) - self.log_posterior
        return rate_weight * log_ratio - self.distortion

    def rate(self):
        """Returns KL(q(z|x, c) || p(z|c)), `[batch]`, nats.

        It is in closed form where TFP has one (two Gaussians), else the mean
        of log q(z|x, c) - log p(z|c) over the draws.
        """
        if all(map(latents.is_gaussian, (self.posterior, self.prior))):
            return tfd.kl_divergence(self.posterior, self.prior)
        log_ratio = self.log_posterior - self.prior.log_prob(self.z)
        return tf.reduce_mean(log_ratio, axis=0)

    def rate_with_free(self, free_bits):
        """Returns the rate, in which that of each latent is at least a number.

        A latent whose rate averaged over the batch is below `free_bits`
        counts as `free_bits`, without a gradient, so that the mean over the
        batch is the sum of max(free_bits, mean rate of the latent).

        Args:
            free_bits: float > 0, nats.

        Returns:
            float tensor `[batch]`, nats.

        Raises:
            ValueError: unless both distributions are diagonal Gaussians.
        """
        parts = latents.kl_of_each(self.posterior, self.prior)
        is_free = replicas.mean(tf.stop_gradient(parts)) < free_bits
        least = tf.cast(free_bits, parts.dtype)
        return tf.reduce_sum(tf.where(is_free, least, parts), axis=-1)


def differentiate_doubly(posterior, noise, z, log_posterior, rate_weight):
    """Makes the gradients of a bound by these draws doubly reparameterised.

    The gradient with respect to the parameters of q(z|x, c) then flows
    through z only, and that of each draw is multiplied by its share of the
    weights (for a rate of weight b, by 1 - b + b share). The expectation is
    the same, the variance lower.

    Args:
        posterior: q(z|x, c), a Gaussian.
        noise: float tensor `[num_samples, batch, latent_size]`.
        z: the draws, of the same shape.
        log_posterior: log q(z|x, c), `[num_samples, batch]`.
        rate_weight: as in `Draws.log_weights`.

    Returns:
        z and log_posterior, with the same values.

    Raises:
        ValueError: for another posterior.

    #### References

    Tucker, Lawson, Gu and Maddison (2018), Doubly reparameterized gradient
    estimators for Monte Carlo objectives, arXiv:1810.04152 (IWAE-DReG).
    """
    if not latents.is_gaussian(posterior):
        raise ValueError(
            "doubly_reparameterized requires a Gaussian posterior, got "
            f"{posterior}"
        )
    # The derivative of log q with respect to z.
    slope = tf.stop_gradient(
        -latents.apply_scale(posterior.scale, "solvevec", noise, adjoint=True)
    )
    z, zeros = _times_share_of_weights(z, tf.cast(rate_weight, z.dtype))
    moved = tf.reduce_sum(slope * (z - tf.stop_gradient(z)), -1)
    return z, tf.stop_gradient(log_posterior) + moved + zeros


@tf.custom_gradient
def _times_share_of_weights(z, rate_weight):
    """Multiplies the gradient of each draw by its share of the weights.

    Args:
        z: float tensor `[num_samples, batch, latent_size]`.
        rate_weight: float scalar tensor.

    Returns:
        z, and zeros `[num_samples, batch]` to add to log q(z|x, c): their
        incoming gradient is proportional to the shares.
    """

    def gradient(of_z, of_log_weights):
        share = tf.math.divide_no_nan(
            of_log_weights, tf.reduce_sum(of_log_weights, 0)
        )
        factor = 1 - rate_weight + rate_weight * share
        return of_z * factor[..., tf.newaxis], None

    return (tf.identity(z), tf.zeros_like(z[..., 0])), gradient
