"""A prior that is a flow of affine couplings."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core.validation import check, check_count
from keras_genmodels.distributions import couplings, latents
from keras_genmodels.distributions.priors import PriorLayer
from keras_genmodels.distributions.vectors import VectorDistribution

tfd = tfp.distributions


@keras.saving.register_keras_serializable("keras_genmodels")
class RealNVPPrior(PriorLayer):
    """A normalizing flow: affine couplings map z to standard normal noise.

    It starts as N(0, I).

    Args:
        latent_size: int >= 2, length of z.
        num_couplings: int >= 1.
        hidden_sizes: widths of the hidden layers of each coupling's network.

    #### References

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP,
    arXiv:1605.08803.
    """

    def __init__(
        self, latent_size, num_couplings=8, hidden_sizes=(128, 128), **kwargs
    ):
        super().__init__(**kwargs)
        check(
            latent_size >= 2,
            f"a RealNVPPrior needs a latent_size of 2 or more, got "
            f"{latent_size}",
        )
        check_count("num_couplings", num_couplings)
        self.latent_size = latent_size
        self.num_couplings = num_couplings
        self.hidden_sizes = tuple(hidden_sizes)
        self.couplings = [
            couplings.AffineCoupling(
                latent_size,
                moved,
                self.hidden_sizes,
                dtype=self.dtype_policy,
                name=f"coupling_{i}",
            )
            for i, moved in enumerate(
                couplings.alternating(latent_size, num_couplings)
            )
        ]

    def distribution(self, encode=None):
        return CouplingFlow(
            self.couplings, self.latent_size, self.compute_dtype
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "latent_size": self.latent_size,
            "num_couplings": self.num_couplings,
            "hidden_sizes": self.hidden_sizes,
        }


class CouplingFlow(VectorDistribution):
    """The distribution of a `RealNVPPrior`.

    Args:
        couplings: list of layers as `AffineCoupling`, from z to noise.
        size: int, length of z.
        dtype: of z.
    """

    def __init__(self, couplings, size, dtype):
        parameters = dict(couplings=couplings, size=size, dtype=dtype)
        self._couplings = couplings
        super().__init__(size, dtype, parameters)

    def to_noise(self, z):
        """Maps z to noise.

        Args:
            z: float tensor `[..., size]`.

        Returns:
            the noise, like z, and the log-determinant of its derivative with
            respect to z, `[...]`.
        """
        y = tf.reshape(z, (-1, self._size))
        log_det = tf.zeros_like(y[:, 0])
        for coupling in self._couplings:
            y, part = coupling(y)
            log_det += part
        shape = tf.shape(z)
        return tf.reshape(y, shape), tf.reshape(log_det, shape[:-1])

    def transform(self, noise):
        y = tf.reshape(noise, (-1, self._size))
        for coupling in reversed(self._couplings):
            y = coupling.inverse(y)
        return tf.reshape(y, tf.shape(noise))

    def _log_prob(self, z):
        noise, log_det = self.to_noise(z)
        normal = latents.standard_normal(self._size, self.dtype)
        return normal.log_prob(noise) + log_det
