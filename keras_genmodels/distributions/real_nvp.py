"""A prior that is a flow of affine couplings."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core.validation import check, check_count
from keras_genmodels.distributions import couplings, latents, layered
from keras_genmodels.distributions.priors import PriorLayer
from keras_genmodels.distributions.vectors import VectorDistribution

tfd = tfp.distributions


@keras.saving.register_keras_serializable("keras_genmodels")
class RealNVPPrior(PriorLayer):
    """A normalizing flow: affine couplings map z to standard normal noise.

    It starts as N(0, I). With a `condition_size` it is p(z|c): the features of
    c enter the network of each coupling.

    Args:
        latent_size: int >= 2, length of z.
        num_couplings: int >= 1.
        hidden_sizes: widths of the hidden layers of each coupling's network.
        condition_size: int >= 0, width of the features of a condition; 0: no
            condition.

    #### References

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP,
    arXiv:1605.08803.
    """

    def __init__(
        self,
        latent_size,
        num_couplings=8,
        hidden_sizes=(128, 128),
        condition_size=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check(
            latent_size >= 2,
            f"a RealNVPPrior needs a latent_size of 2 or more, got "
            f"{latent_size}",
        )
        check_count("num_couplings", num_couplings)
        check_count("condition_size", condition_size, 0)
        self.latent_size = latent_size
        self.num_couplings = num_couplings
        self.hidden_sizes = tuple(hidden_sizes)
        self.condition_size = condition_size
        self.couplings = [
            couplings.AffineCoupling(
                latent_size,
                moved,
                self.hidden_sizes,
                condition_size,
                dtype=self.dtype_policy,
                name=f"coupling_{i}",
            )
            for i, moved in enumerate(
                couplings.alternating(latent_size, num_couplings)
            )
        ]

    def distribution(self, encode=None, features=None):
        return CouplingFlow(
            self.couplings,
            self.latent_size,
            self.compute_dtype,
            self._as_features(features),
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "latent_size": self.latent_size,
            "num_couplings": self.num_couplings,
            "hidden_sizes": self.hidden_sizes,
            "condition_size": self.condition_size,
        }


class CouplingFlow(VectorDistribution):
    """The distribution of a `RealNVPPrior`.

    Args:
        couplings: list of layers as `AffineCoupling`, from z to noise.
        size: int, length of z.
        dtype: of z.
        features: float tensor `[batch, width]` of conditions, which makes the
            batch shape `[batch]`; or None.
    """

    def __init__(self, couplings, size, dtype, features=None):
        parameters = dict(
            couplings=couplings, size=size, dtype=dtype, features=features
        )
        self._couplings = couplings
        self._features = features
        super().__init__(size, dtype, parameters)

    def to_noise(self, z):
        """Maps z to noise.

        Args:
            z: float tensor `[..., size]`; with features it is broadcast to
                `[..., batch, size]`.

        Returns:
            the noise, like z, and the log-determinant of its derivative with
            respect to z, `[...]`.
        """
        y, given, shape = self._rows(z)
        log_det = tf.zeros_like(y[:, 0])
        for coupling in self._couplings:
            y, part = coupling(y, *given)
            log_det += part
        return tf.reshape(y, shape), tf.reshape(log_det, shape[:-1])

    def transform(self, noise):
        y, given, shape = self._rows(noise)
        for coupling in reversed(self._couplings):
            y = coupling.inverse(y, *given)
        return tf.reshape(y, shape)

    def _rows(self, z):
        """Joins all axes of z but the last.

        Returns:
            float tensor `[n, size]`; a list of the features of each of its
            rows, or an empty one; and the shape of z, an int32 tensor.
        """
        if self._features is None:
            return tf.reshape(z, (-1, self._size)), [], tf.shape(z)
        shape = tf.concat([self._batch_shape_tensor(), [self._size]], axis=0)
        z = z + tf.zeros(shape, z.dtype)
        features, y = layered.with_rows(self._features, z)
        return y, [features], tf.shape(z)

    def _log_prob(self, z):
        noise, log_det = self.to_noise(z)
        normal = latents.standard_normal(self._size, self.dtype)
        return normal.log_prob(noise) + log_det

    def _batch_shape(self):
        if self._features is None:
            return super()._batch_shape()
        return self._features.shape[:1]

    def _batch_shape_tensor(self):
        if self._features is None:
            return super()._batch_shape_tensor()
        return tf.shape(self._features)[:1]
