"""Layers for images of any size: padding to a multiple and cropping back."""

import math

import keras
import tensorflow as tf

from keras_genmodels.core import private_api
from keras_genmodels.core.validation import check_count


@keras.saving.register_keras_serializable("keras_genmodels")
class PadToMultiple(keras.layers.Layer):
    """Pads images at the bottom and right by reflection.

    Args:
        multiple: int >= 1, of which height and width become multiples.

    Call arguments:
        x: `[batch, height, width, channels]`, each side >= `multiple`.

    Call returns:
        `[batch, padded height, padded width, channels]`.
    """

    def __init__(self, multiple, **kwargs):
        super().__init__(**kwargs)
        check_count("multiple", multiple)
        self.multiple = multiple

    def call(self, x):
        sides = tf.shape(x)[1:3]
        missing = tf.math.floormod(-sides, self.multiple)
        padding = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
        return tf.pad(x, padding, "REFLECT")

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        n = self.multiple
        sides = (s if s is None else math.ceil(s / n) * n for s in sides)
        return (batch, *sides, channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}


def smallest_side(network):
    """Returns the least height and width of the images of a network, an int.

    It is the multiple of a `PadToMultiple`, and 1 without such a layer.
    """
    return max(
        (
            layer.multiple
            for layer in private_api.flatten_layers(network)
            if isinstance(layer, PadToMultiple)
        ),
        default=1,
    )


@keras.saving.register_keras_serializable("keras_genmodels")
class CropLike(keras.layers.Layer):
    """Cuts images at the bottom and right to the size of others.

    Call arguments:
        inputs: `[x, like]`, `[batch, height, width, channels]` each.

    Call returns:
        x in the height and width of `like`.
    """

    def call(self, inputs):
        x, like = inputs
        sides = tf.shape(like)
        return x[:, : sides[1], : sides[2]]

    def compute_output_shape(self, input_shape):
        x, like = input_shape
        return (x[0], *like[1:3], x[3])
