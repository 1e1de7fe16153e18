"""Layers of denoiser networks: noise levels, modulation, upsampling."""

import keras
import tensorflow as tf

from keras_genmodels.core.validation import check, is_count


@keras.saving.register_keras_serializable("keras_genmodels")
class FourierFeatures(keras.layers.Layer):
    """Sines and cosines of a noise level, as inputs of dense layers.

    The frequencies, 1/2 to 16 radians per unit of the level, separate noise
    levels an octave apart (0.17 units) well, and no two sigmas between e^-12
    and e^12 have equal features. They are computed in the precision of the
    weights; bfloat16 would round them to 1 %.

    Args:
        size: even int >= 2, number of features.

    Call arguments:
        level: `[batch]`, ln(sigma) / 4.

    Call returns:
        `[batch, size]`, in [-1, 1].
    """

    def __init__(self, size=32, **kwargs):
        super().__init__(autocast=False, **kwargs)
        check(
            is_count(size) and size % 2 == 0,
            f"size must be an even int >= 2, got {size!r}",
        )
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
class FiLM(keras.layers.Layer):
    """Scales and shifts each channel of each example: x (1 + a) + b.

    Call arguments:
        inputs: `[x, modulation]`: `[batch, ..., channels]` and
            `[batch, 2 * channels]`, a followed by b.

    Call returns:
        like `x`.

    #### References

    Perez et al. (2018), FiLM: visual reasoning with a general conditioning
    layer, arXiv:1709.07871.
    """

    def call(self, inputs):
        x, modulation = inputs
        scale, shift = tf.split(modulation, 2, axis=-1)
        return multiply_add(x, 1 + scale, shift)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable("keras_genmodels")
class DepthToSpace(keras.layers.Layer):
    """Rearranges the channels of each pixel into 2 x 2 pixels.

    After a 1x1 convolution it equals a transposed 2x2 convolution of stride 2,
    and is faster.

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


def multiply_add(x, scale, shift):
    """Returns x * scale + shift for `[batch, channels]` scale and shift."""
    shape = [-1, *[1] * (len(x.shape) - 2), x.shape[-1]]
    scale, shift = (
        tf.reshape(tf.cast(s, x.dtype), shape) for s in (scale, shift)
    )
    return x * scale + shift


# Names of these layers in files of formats 1 and 2.
keras.saving.get_custom_objects().update(
    {
        "keras_genmodels>LevelFeatures": FourierFeatures,
        "keras_genmodels>Modulation": FiLM,
    }
)
