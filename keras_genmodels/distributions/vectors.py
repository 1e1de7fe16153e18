"""The base class of distributions of vectors that are built from noise."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class VectorDistribution(tfd.Distribution):
    """A distribution of vectors, each a function of standard normal noise.

    A subclass defines `transform(noise)`, float `[..., size]` to draws like
    it, and `_log_prob(z)`; and if its batch shape is not `[]`, also
    `_batch_shape` and `_batch_shape_tensor`.

    Args:
        size: int, length of a vector.
        dtype: of the vectors.
        parameters: dict of the arguments of the subclass.
    """

    def __init__(self, size, dtype, parameters):
        self._size = size
        super().__init__(
            dtype=tf.as_dtype(dtype),
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=type(self).__name__,
        )

    def transform(self, noise):
        """Returns the draws that belong to standard normal noise."""
        raise NotImplementedError

    def _sample_n(self, n, seed=None):
        seed = tfp.random.sanitize_seed(seed)
        shape = tf.concat(
            [[n], self.batch_shape_tensor(), [self._size]], axis=0
        )
        noise = tf.random.stateless_normal(shape, seed, dtype=self.dtype)
        return self.transform(noise)

    def _event_shape(self):
        return tf.TensorShape([self._size])

    def _event_shape_tensor(self):
        return tf.constant([self._size], tf.int32)

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.constant([], tf.int32)
