"""Layers of denoiser networks: levels, modulation, attention, upsampling."""

import math

import keras
import tensorflow as tf

from keras_genmodels.core.validation import check, check_count, is_count


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
class Split(keras.layers.Layer):
    """Splits the last axis into parts of given sizes.

    Args:
        sizes: ints >= 1, whose sum is the length of the axis.

    Call arguments:
        x: `[..., length]`.

    Call returns:
        list of `[..., size]`, one for each of `sizes`.
    """

    def __init__(self, sizes, **kwargs):
        super().__init__(**kwargs)
        check(
            isinstance(sizes, tuple | list)
            and sizes
            and all(map(is_count, sizes)),
            f"sizes must be a list of one or more ints >= 1, got {sizes!r}",
        )
        self.sizes = list(sizes)

    def call(self, x):
        return tf.split(x, self.sizes, axis=-1)

    def compute_output_shape(self, input_shape):
        return [(*input_shape[:-1], size) for size in self.sizes]

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}


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


@keras.saving.register_keras_serializable("keras_genmodels")
class SelfAttention(keras.layers.Layer):
    """Adds to each pixel what it finds at all other pixels of the image.

    The channels are normalised, each head compares queries with keys of its
    own part of the channels, and the values are added to the input after a
    dense layer. A new layer returns its input.

    Args:
        num_heads: int >= 1, a divisor of the channels.

    Call arguments:
        x: `[batch, height, width, channels]`.

    Call returns:
        like `x`.

    #### References

    Vaswani et al. (2017), Attention is all you need, arXiv:1706.03762. Ho,
    Jain and Abbeel (2020), Denoising diffusion probabilistic models,
    arXiv:2006.11239, appendix B (where in a U-Net).
    """

    def __init__(self, num_heads=1, **kwargs):
        super().__init__(**kwargs)
        check_count("num_heads", num_heads)
        self.num_heads = num_heads

    def build(self, input_shape):
        channels = input_shape[-1]
        check(
            channels % self.num_heads == 0,
            f"num_heads must divide the {channels} channels, got "
            f"{self.num_heads}",
        )
        dtype = self.dtype_policy
        self._normalize = keras.layers.LayerNormalization(dtype=dtype)
        self._project = keras.layers.Dense(
            3 * channels, use_bias=False, dtype=dtype
        )
        self._combine = keras.layers.Dense(
            channels, kernel_initializer="zeros", dtype=dtype
        )
        self._normalize.build(input_shape)
        self._project.build(input_shape)
        self._combine.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        shape, width = tf.shape(x), x.shape[-1] // self.num_heads
        parts = tf.reshape(
            self._project(self._normalize(x)),
            (shape[0], -1, 3, self.num_heads, width),
        )
        # Not Keras' `dot_product_attention`, which computes in float32.
        query, key, value = tf.unstack(parts, axis=2)
        logits = tf.einsum("bqhc,bkhc->bhqk", query, key)
        logits = tf.cast(logits, self.variable_dtype) / math.sqrt(width)
        weights = tf.cast(tf.nn.softmax(logits), x.dtype)
        found = tf.einsum("bhqk,bkhc->bqhc", weights, value)
        return x + self._combine(tf.reshape(found, shape))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


def multiply_add(x, scale, shift):
    """Returns x * scale + shift for `[batch, channels]` scale and shift."""
    scale, shift = (tf.cast(s, x.dtype) for s in (scale, shift))
    if len(x.shape) == 2:
        return x * scale + shift
    sides = [*[1] * (len(x.shape) - 2), x.shape[-1]]
    # The batch of `x` also where TensorFlow does not know its size: it fuses
    # the sum of a residual block into a convolution if their shapes are equal.
    batch = tf.concat([tf.shape(x)[:1], sides], axis=0)
    scale, shift = (
        tf.broadcast_to(tf.reshape(s, [-1, *sides]), batch)
        for s in (scale, shift)
    )
    return x * scale + shift


# Names of these layers in files of formats 1 and 2.
keras.saving.get_custom_objects().update(
    {
        "keras_genmodels>LevelFeatures": FourierFeatures,
        "keras_genmodels>Modulation": FiLM,
    }
)
