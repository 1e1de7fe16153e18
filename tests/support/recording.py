"""A layer that tells how many examples it is given at once."""

import keras
import tensorflow as tf


class Recording(keras.layers.Layer):
    """Gives what it takes, and keeps the batch size of each pass."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def call(self, x):
        def record(values):
            self.sizes.append(len(values))
            return values

        # At run time, whatever was traced.
        same = tf.numpy_function(record, [x], x.dtype)
        same.set_shape(x.shape)
        return same


def recorded(network):
    """Gives a network behind a `Recording`, and that."""
    layer = Recording()
    shape = network.input_shape[1:]
    return keras.Sequential([keras.Input(shape), layer, network]), layer
