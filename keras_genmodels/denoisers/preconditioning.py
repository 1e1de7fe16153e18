"""The preconditioning of a denoiser's network.

With m the mean of the data, s^2 their variance (averaged over the entries of
an event), and a network F,

    D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m)),

c_skip = s^2 / (s^2 + sigma^2), c_out = sigma s / (s^2 + sigma^2)^(1/2) and
c_in = 1 / (s^2 + sigma^2)^(1/2), input and target of F have variance 1 at
every level: Karras et al. (2022), arXiv:2206.00364, table 1.
"""

import tensorflow as tf

from keras_genmodels.core.events import per_event


def precondition(network, x, sigma, mean, variance):
    """Returns D(x, sigma).

    Args:
        network: function of the scaled input, F.
        x: float tensor `[batch, *event_shape]`.
        sigma: tensor `[batch]` of the same dtype.
        mean, variance: tensors `[*event_shape]` and `[]`, of the data.

    Returns:
        float tensor like `x`.
    """
    level = per_event(sigma, x)
    mean = tf.cast(mean, x.dtype)
    variance = tf.cast(variance, x.dtype)
    total = variance + level**2
    centered = x - mean
    out = level * tf.sqrt(variance / total)
    skip = mean + variance / total * centered
    return skip + out * network(centered / tf.sqrt(total))


def error_weight(sigma, variance):
    """Returns 1 / c_out^2, the weight of the squared error, `[batch]`."""
    variance = tf.cast(variance, sigma.dtype)
    return (variance + sigma**2) / (variance * sigma**2)
