"""The base class of Keras layers that hold the prior p(z), and N(0, I).

A new kind of prior is one more subclass of `PriorLayer`. The layer has the
weights and builds the distribution at each use, as one that is kept would not
follow the weights.
"""

import keras
import tensorflow_probability as tfp

from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check_count
from keras_genmodels.distributions import latents
from keras_genmodels.distributions.layers import statistics_dtype

tfd = tfp.distributions


class PriorLayer(keras.layers.Layer):
    """Base class of the layers that hold a prior p(z).

    A subclass has all its weights after the constructor, and defines
    `distribution`. Its distribution has `log_prob` of tensors `[..., L]`; it
    is a Gaussian, or has a method `transform` (`distributions.vectors`), or
    the subclass also defines `draw`.

    Args:
        dtype: dtype of p(z) and of the weights; by default float64 under a
            float64 policy, else float32.

    Attributes:
        latent_size: int, L; None if it is that of the encoder.
        adapted: whether the weights are ready for training, or `adapt(data,
            seed)` must set them first.
    """

    latent_size = None
    adapted = True

    def __init__(self, dtype=None, **kwargs):
        super().__init__(dtype=dtype or statistics_dtype(), **kwargs)
        self.built = True

    def distribution(self, encode=None):
        """Returns p(z).

        Args:
            encode: function of events to q(z|x), that of the model; only
                `VampPrior` calls it.

        Returns:
            `tfd.Distribution`, batch `[]`, event `[latent_size]`.
        """
        raise NotImplementedError

    def draw(self, rows, encode=None):
        """Draws z from p(z).

        Args:
            rows: int32 tensor `[n, 2]`, a seed per row; row i of the draws
                depends on seed i alone.
            encode: as in `distribution`.

        Returns:
            float tensor `[n, latent_size]`.
        """
        prior = self.distribution(encode)
        return latents.transform(prior, row_noise(rows, prior))


@keras.saving.register_keras_serializable("keras_genmodels")
class StandardNormal(PriorLayer):
    """p(z) = N(0, I), without weights.

    Args:
        latent_size: int >= 1, length of z.
    """

    def __init__(self, latent_size, **kwargs):
        super().__init__(**kwargs)
        check_count("latent_size", latent_size)
        self.latent_size = latent_size

    def distribution(self, encode=None):
        return latents.standard_normal(self.latent_size, self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "latent_size": self.latent_size}


def row_noise(rows, prior):
    """Draws standard normal noise, row i from the i-th row seed."""
    return seeds.normal(rows, tuple(prior.event_shape), prior.dtype)
