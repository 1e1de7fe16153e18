"""Draws of the latent of a model: their weights, and their gradients."""

import typing

import tensorflow as tf
import tensorflow_probability as tfp

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
        """Gives log p(x, z|c) / q(z|x, c), `[num_samples, batch]`, nats.

        Args:
            rate_weight: what the rate's part, log p(z|c) / q(z|x, c), is
                multiplied by.
        """
        log_ratio = self.prior.log_prob(self.z) - self.log_posterior
        return rate_weight * log_ratio - self.distortion


def differentiate_doubly(posterior, noise, z, log_posterior, rate_weight):
    """Makes gradients of a bound by these draws doubly reparameterised.

    Those by the parameters of q(z|x, c) then go through z alone, each draw's
    times its share of the weights (for a rate of weight b, times 1 - b + b
    share): that leaves their expectation as it is and takes variance away.

    Args:
        posterior: q(z|x, c).
        noise: float tensor `[num_samples, batch, latent_size]`.
        z: the draws, of the same shape.
        log_posterior: log q(z|x, c), `[num_samples, batch]`.
        rate_weight: as of `Draws.log_weights`.

    Returns:
        z and log_posterior, of the same values.

    #### References

    Tucker, Lawson, Gu and Maddison (2018), Doubly reparameterized gradient
    estimators for Monte Carlo objectives, arXiv:1810.04152 (IWAE-DReG).
    """
    slope = tf.stop_gradient(
        -for_each_draw(posterior.scale, "solvevec", noise, adjoint=True)
    )
    z, none = _times_share_of_weights(z, tf.cast(rate_weight, z.dtype))
    moved = tf.reduce_sum(slope * (z - tf.stop_gradient(z)), -1)
    return z, tf.stop_gradient(log_posterior) + moved + none


def for_each_draw(scale, verb, noise, **arguments):
    """Applies a linear operator to all draws of an example at once.

    Args:
        scale: `tf.linalg.LinearOperator` of a batch of examples.
        verb: "matvec" or "solvevec".
        noise: float tensor `[num_samples, batch, latent_size]`.
        **arguments: of the verb.

    Returns:
        float tensor like `noise`.
    """
    if isinstance(scale, tf.linalg.LinearOperatorDiag):
        return getattr(scale, verb)(noise, **arguments)
    # The draws as columns: one triangular product an example, not one a draw.
    columns = tf.transpose(noise, (1, 2, 0))
    apply = getattr(scale, {"matvec": "matmul", "solvevec": "solve"}[verb])
    return tf.transpose(apply(columns, **arguments), (2, 0, 1))


@tf.custom_gradient
def _times_share_of_weights(z, rate_weight):
    """Multiplies each draw's gradient by the share that it has in the bound.

    Args:
        z: float tensor `[num_samples, batch, latent_size]`.
        rate_weight: float scalar tensor.

    Returns:
        z, and zeros `[num_samples, batch]` to be added to log q(z|x, c): the
        gradient that comes back by them is in proportion to the shares.
    """

    def gradient(of_z, of_log_weights):
        share = tf.math.divide_no_nan(
            of_log_weights, tf.reduce_sum(of_log_weights, 0)
        )
        factor = 1 - rate_weight + rate_weight * share
        return of_z * factor[..., tf.newaxis], None

    return (tf.identity(z), tf.zeros_like(z[..., 0])), gradient
