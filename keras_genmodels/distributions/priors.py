"""The base class of Keras layers that hold the prior p(z), and N(0, I).

With a `condition_size` a layer holds p(z|c). A new kind of prior is one more
subclass of `PriorLayer`. The layer has the weights and builds the distribution
at each use, as one that is kept would not follow the weights.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check, check_count
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
        condition_size: int, width of the features of a condition c that the
            layer holds p(z|c) for; 0 if it does not take them.
        uses_encoder: whether `distribution` calls `encode`.
    """

    latent_size = None
    adapted = True
    condition_size = 0
    uses_encoder = False

    def __init__(self, dtype=None, **kwargs):
        super().__init__(dtype=dtype or statistics_dtype(), **kwargs)
        self.built = True

    def distribution(self, encode=None, **condition):
        """Returns p(z), or p(z|c).

        Args:
            encode: function of events to q(z|x), that of the model; only
                `VampPrior` calls it. In a model of class labels it returns
                q(z|u, c) of K events u and of the condition of each example,
                batch `[batch, K]`.
            **condition: `features`, float tensor `[batch, condition_size]`, of
                a layer with a `condition_size`; such a layer has the argument.

        Returns:
            `tfd.Distribution`, event `[latent_size]`; batch `[]`, or `[batch]`
            of p(z|c).
        """
        raise NotImplementedError

    def draw(self, rows, encode=None, **condition):
        """Draws z from p(z), or p(z|c).

        Args:
            rows: int32 tensor `[n, 2]`, a seed per row; row i of the draws
                depends on seed i and condition i alone.
            encode, **condition: as in `distribution`, of n examples.

        Returns:
            float tensor `[n, latent_size]`.
        """
        prior = self.distribution(encode, **condition)
        return latents.transform(prior, row_noise(rows, prior))

    def _as_features(self, features):
        """Checks the features of a condition; returns None without one."""
        check(
            (features is None) == (self.condition_size == 0),
            f"a {type(self).__name__} takes features of a condition if, and "
            f"only if, it has a condition_size, which is {self.condition_size}",
        )
        if features is None:
            return None
        return tf.cast(features, self.compute_dtype)


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
