"""Layers of denoiser networks: noise levels, normalisation, upsampling."""

import numbers

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_genmodels")
class LevelFeatures(keras.layers.Layer):
    """Sines and cosines of a noise level, to be read by dense layers.

    The frequencies, from 1/2 to 16 radians per unit of the level, part noise
    levels an octave apart (0.17 units) well and leave no level's features
    equal to another's between sigmas of e^-12 and e^12. They are computed in
    the precision of the weights: bfloat16 would round them to 1 %.

    Args:
        size: even int >= 2, number of features.

    Call arguments:
        level: `[batch]`, ln(sigma) / 4.

    Call returns:
        `[batch, size]`, in [-1, 1].
    """

    def __init__(self, size=32, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if not is_count(size) or size % 2:
            raise ValueError(f"size must be an even int >= 2, got {size!r}")
        self.size = size

    def call(self, level):
        level = tf.cast(level, self.variable_dtype)
        exponents = tf.linspace(-1.0, 4.0, self.size // 2)
        frequencies = tf.cast(2.0**exponents, level.dtype)
        angles = level[:, None] * frequencies
        features = tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)
        return tf.cast(features, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("keras_genmodels")
class Modulation(keras.layers.Layer):
    """Scales and shifts each channel of each example: x (1 + a) + b.

    Call arguments:
        inputs: `[x, modulation]`: `[batch, ..., channels]` and
            `[batch, 2 * channels]`, a and then b.

    Call returns:
        like `x`.

    #### References

    Perez et al. (2018), FiLM: visual reasoning with a general conditioning
    layer, arXiv:1709.07871.
    """

    def call(self, inputs):
        x, modulation = inputs
        scale, shift = tf.split(modulation, 2, axis=-1)
        return _multiply_add(x, 1 + scale, shift)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable("keras_genmodels")
class ChannelNormalization(keras.layers.Layer):
    """Group normalisation that is fast on CPUs, and may be modulated.

    The same numbers as `keras.layers.GroupNormalization`, which takes several
    passes over the image. Here two sums per channel give the statistics, and
    these, weights and modulation become one multiply-add per pixel.
    Statistics are float32 under a mixed policy. A variance is the difference
    of two sums, with a relative error of 1e-7 (1 + mean^2 / variance).

    Args:
        groups: int >= 1, divides the number of channels; equal to it, each
            channel is normalised on its own.
        epsilon: float > 0, added to the variance.

    Call arguments:
        inputs: `x`, `[batch, height, width, channels]`, or a list of it and
            of a modulation `[batch, 2 * channels]`, a and then b: what comes
            out is scaled by 1 + a, then shifted by b.

    Call returns:
        like `x`.

    #### References

    Wu and He (2018), Group normalization, arXiv:1803.08494.
    """

    def __init__(self, groups=8, epsilon=1e-3, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if not is_count(groups):
            raise ValueError(f"groups must be an int >= 1, got {groups!r}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be > 0, got {epsilon!r}")
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape):
        if isinstance(input_shape[0], (tuple, list)):
            input_shape = input_shape[0]
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"groups must divide the {channels} channels, got {self.groups}"
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
        return _multiply_add(x, scale, shift)

    def _statistics(self, x):
        """Gives mean and 1 / deviation, each `[batch, channels]`."""
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


@keras.saving.register_keras_serializable("keras_genmodels")
class DepthToSpace(keras.layers.Layer):
    """Turns each pixel's channels into 2 x 2 pixels.

    After a 1x1 convolution this is a transposed 2x2 convolution of stride 2,
    in less time.

    Call arguments:
        x: `[batch, height, width, 4 * channels]`.

    Call returns:
        `[batch, 2 * height, 2 * width, channels]`.
    """

    def call(self, x):
        return tf.nn.depth_to_space(x, 2)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        sides = (s if s is None else 2 * s for s in (height, width))
        return (batch, *sides, channels // 4)


def _multiply_add(x, scale, shift):
    """Gives x * scale + shift for `[batch, channels]` scale and shift."""
    shape = [-1, *[1] * (len(x.shape) - 2), x.shape[-1]]
    scale, shift = (
        tf.reshape(tf.cast(s, x.dtype), shape) for s in (scale, shift)
    )
    return x * scale + shift


def is_count(value):
    """Tells whether a value is an int >= 1."""
    return (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and value >= 1
    )
