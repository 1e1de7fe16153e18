"""The rate, decomposed by the average of the posteriors of some examples."""

import functools
import math

import numpy as np
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core.arrays import map_batches
from keras_genmodels.distributions.gaussian_mixture import log_prob_of_each

tfd = tfp.distributions

# Largest number of log densities of a batch: 8 MB, which a cache holds.
_MAX_SIZE = 2**20
# Largest number of features of a batch of evaluations of networks: 8 MB. With
# 32 MB, which no cache holds, it takes almost twice as long.
_MAX_FEATURES = 2**21


def divide_rate(posteriors, z, log_prior):
    """Divides the rate into the information about x and the misfit of p(z).

    With q(z) = 1/N sum_n q(z|x_n) over the N examples,

        E KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)),

    I = E log q(z|x) / q(z) being the mutual information of the index of an
    example and z, which is at most log N. q(z) is computed exactly, in
    float64, by N^2 log densities; the expectations are over one draw of z
    from the posterior of each example.

    Args:
        posteriors: dict of `loc` `[n, size]`, and `stddev` `[n, size]` or
            `scale_tril` `[n, size, size]`, those of q(z|x_n).
        z: array `[n, size]`, a draw from each.
        log_prior: array `[n]`, log p(z) of each draw.

    Returns:
        dict of float64 arrays `[n]`, nats: `information`, each at most log n,
        and `marginal_kl`, whose means are I and KL(q(z) || p(z)).

    #### References

    Hoffman and Johnson (2016), ELBO surgery: yet another way to carve up the
    variational evidence lower bound, NIPS workshop on approximate inference.
    """
    loc = np.asarray(posteriors["loc"], np.float64)
    num = len(loc)
    log_prob = log_prob_of_each(_gaussians(posteriors, loc))

    def at_draws(z, index):
        log_probs = log_prob(tf.constant(z, tf.float64))
        own = tf.gather(log_probs, index, batch_dims=1)
        return own, tf.reduce_logsumexp(log_probs, axis=1) - np.log(num)

    own, aggregated = map_batches(
        at_draws,
        np.asarray(z, np.float64),
        np.arange(num),
        batch_size=max(1, _MAX_SIZE // num),
    )
    return _divided(own, aggregated, log_prior)


def divide_rate_of_layers(posterior_of, encoded, z, log_prior):
    """Divides the rate as `divide_rate`, for latents of several layers.

    A layer of q(z|x_n) depends on the layers above it in z by a network, so
    that each of the N^2 log densities, in the dtype of z, takes an evaluation
    of all networks of q but the encoder.

    Args:
        posterior_of: function of rows of `encoded` to q(z|x_n), batch `[n]`.
        encoded: float array `[n, width]`, the encoder's output for x_n.
        z, log_prior: as of `divide_rate`.

    Returns:
        dict as of `divide_rate`.
    """

    @functools.partial(tf.function, reduce_retracing=True, autograph=False)
    def log_probs(z, encoded):
        return posterior_of(encoded).log_prob(z[:, tf.newaxis])

    num = len(z)
    side = max(1, math.isqrt(_MAX_FEATURES // encoded.shape[1]))
    own, total = np.empty(num), np.full(num, -np.inf)
    tiles = [slice(i, min(i + side, num)) for i in range(0, num, side)]
    for draws in tiles:
        for rows in tiles:
            found = log_probs(z[draws], encoded[rows]).numpy().astype("f8")
            total[draws] = np.logaddexp(
                total[draws], scipy.special.logsumexp(found, axis=1)
            )
            if rows == draws:
                own[draws] = np.diagonal(found)
    return _divided(own, total - np.log(num), log_prior)


def _divided(own, aggregated, log_prior):
    return {
        "information": own - aggregated,
        "marginal_kl": aggregated - np.asarray(log_prior, np.float64),
    }


def _gaussians(posteriors, loc):
    if "stddev" in posteriors:
        stddev = np.asarray(posteriors["stddev"], np.float64)
        return tfd.MultivariateNormalDiag(loc, stddev)
    scale_tril = np.asarray(posteriors["scale_tril"], np.float64)
    return tfd.MultivariateNormalTriL(loc, scale_tril)
