"""Which devices programs run on."""

import tensorflow as tf


def has_gpu():
    """Returns whether TensorFlow uses a GPU of this machine.

    GPUs hidden by `tf.config.set_visible_devices` do not count.
    """
    return bool(tf.config.get_visible_devices("GPU"))
