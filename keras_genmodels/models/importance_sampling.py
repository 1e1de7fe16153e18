"""Draws of the latent of each example: importance weights and gradients."""

import typing

import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import replicas
from keras_genmodels.distributions import latents, layered

tfd = tfp.distributions


class Draws(typing.NamedTuple):
    """Draws of z for each example of a batch, decoded."""

    posterior: tfd.Distribution  # q(z|x, c)
    prior: tfd.Distribution  # p(z|c)
    z: tf.Tensor  # [num_samples, batch, latent_size]
    log_posterior: tf.Tensor  # log q(z|x, c), [num_samples, batch]
    likelihood: tfd.Distribution  # p(x|z, c), batch [num_samples * batch]
    distortion: tf.Tensor  # -log p(x|z, c), [num_samples, batch]
    # `layered.LayerDraw`s of a posterior of several layers, else None.
    layers: list | None = None

    def log_weights(self, rate_weight=1.0):
        """Returns log p(x, z|c) / q(z|x, c), `[num_samples, batch]`, nats.

        Args:
            rate_weight: factor of log p(z|c) / q(z|x, c).
        """
        log_ratio = self.prior.log_prob(self.z) - self.log_posterior
        return rate_weight * log_ratio - self.distortion

    def rate(self):
        """Returns KL(q(z|x, c) || p(z|c)), `[batch]`, nats.

        It is in closed form where TFP has one (two Gaussians), the sum of
        `layered.rates_of_layers` if both have layers, else the mean of
        log q(z|x, c) - log p(z|c) over the draws.
        """
        if all(map(latents.is_gaussian, (self.posterior, self.prior))):
            return tfd.kl_divergence(self.posterior, self.prior)
        if all(map(latents.has_layers, (self.posterior, self.prior))):
            return tf.add_n(self._rates_of_layers())
        log_ratio = self.log_posterior - self.prior.log_prob(self.z)
        return tf.reduce_mean(log_ratio, axis=0)

    def _rates_of_layers(self):
        return layered.rates_of_layers(self.layers, self.prior, self.z)

    def rate_with_free(self, free_bits):
        """Returns the rate, in which each part of it is at least a number.

        Parts are the rates of the latents, or of the layers of a posterior of
        several layers. One that averaged over the batch is below `free_bits`
        counts as `free_bits`, without a gradient, so that the mean over the
        batch is the sum of max(free_bits, mean of the part).

        Args:
            free_bits: float > 0, nats.

        Returns:
            float tensor `[batch]`, nats.

        Raises:
            ValueError: unless both distributions are diagonal Gaussians, or
                have layers.
        """
        if self.layers is None:
            parts = latents.kl_of_each(self.posterior, self.prior)
        else:
            parts = tf.stack(self._rates_of_layers(), axis=-1)
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
        posterior: q(z|x, c), a Gaussian or a
            `layered.LayeredDistribution`.
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
    slope = tf.stop_gradient(_slope(posterior, noise, z))
    z, zeros = _times_share_of_weights(z, tf.cast(rate_weight, z.dtype))
    moved = tf.reduce_sum(slope * (z - tf.stop_gradient(z)), -1)
    return z, tf.stop_gradient(log_posterior) + moved + zeros


def _slope(posterior, noise, z):
    """Returns the derivative of log q(z|x, c) with respect to z, like z."""
    if latents.is_gaussian(posterior):
        return -latents.apply_scale(
            posterior.scale, "solvevec", noise, adjoint=True
        )
    if latents.has_layers(posterior):
        z = tf.stop_gradient(z)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            log_posterior = posterior.log_prob(z)
        return tape.gradient(log_posterior, z)
    raise ValueError(
        f"doubly_reparameterized requires a Gaussian posterior, got {posterior}"
    )


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
