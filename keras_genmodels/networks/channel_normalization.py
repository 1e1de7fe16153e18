"""A normalisation layer that only saved networks contain."""

import warnings

import keras
import tensorflow as tf

from keras_genmodels.core import deprecation
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.networks.layers import multiply_add


@keras.saving.register_keras_serializable("keras_genmodels")
class ChannelNormalization(keras.layers.Layer):
    """Group normalisation with an optional modulation; deprecated.

    It exists for saved networks that contain it. It computes the same as
    `keras.layers.GroupNormalization`, with float32 statistics under a mixed
    policy. A variance is the difference of two sums, with a relative error of
    1e-7 (1 + mean^2 / variance).

    Args:
        groups: int >= 1, divides the number of channels.
        epsilon: float > 0, added to the variance.

    Call arguments:
        inputs: `x`, `[batch, height, width, channels]`, or a list of it and
            of a modulation `[batch, 2 * channels]`, a followed by b: the
            result is scaled by 1 + a, then shifted by b.

    Call returns:
        like `x`.

    #### References

    Wu and He (2018), Group normalization, arXiv:1803.08494.
    """

    def __init__(self, groups=8, epsilon=1e-3, **kwargs):
        deprecation.warn(
            "ChannelNormalization", "keras.layers.GroupNormalization"
        )
        super().__init__(autocast=False, **kwargs)
        check_count("groups", groups)
        check(epsilon > 0, f"epsilon must be > 0, got {epsilon!r}")
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape):
        if isinstance(input_shape[0], (tuple, list)):
            input_shape = input_shape[0]
        channels = input_shape[-1]
        check(
            channels % self.groups == 0,
            f"groups must divide the {channels} channels, got {self.groups}",
        )
        self.gamma = self.add_weight(
            shape=(channels,), initializer="ones", name="gamma"
        )
        self.beta = self.add_weight(
            shape=(channels,), initializer="zeros", name="beta"
        )

    def call(self, inputs):
        x, modulation = (
            inputs if isinstance(inputs, (tuple, list)) else (inputs, None)
        )
        x = tf.cast(x, self.compute_dtype)
        mean, scale = self._statistics(x)
        scale = scale * self.gamma
        shift = self.beta - mean * scale
        if modulation is not None:
            a, b = tf.split(tf.cast(modulation, scale.dtype), 2, axis=-1)
            scale, shift = scale * (1 + a), shift * (1 + a) + b
        return multiply_add(x, scale, shift)

    def _statistics(self, x):
        """Returns mean and 1 / standard deviation, each `[batch, channels]`."""
        x = tf.cast(x, self.variable_dtype)
        shape = tf.shape(x)
        channels = x.shape[-1]
        size = channels // self.groups
        count = tf.cast(shape[1] * shape[2] * size, x.dtype)

        def average(image):
            sums = tf.reduce_sum(image, axis=[1, 2])
            sums = tf.reshape(sums, [-1, self.groups, size])
            return tf.reduce_sum(sums, axis=-1) / count

        mean = average(x)
        # Rounding may take the difference below zero.
        variance = tf.maximum(average(x * x) - mean**2, 0)
        scale = tf.math.rsqrt(variance + self.epsilon)
        return (tf.repeat(s, size, axis=-1) for s in (mean, scale))

    def compute_output_shape(self, input_shape):
        nested = isinstance(input_shape[0], (tuple, list))
        return input_shape[0] if nested else input_shape

    def get_config(self):
        config = {"groups": self.groups, "epsilon": self.epsilon}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer of a file, without the warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cls(**config)
