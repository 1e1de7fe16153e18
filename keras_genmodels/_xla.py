"""Whether XLA makes a model faster here; BUILD.md has the figures."""

import keras
import tensorflow as tf


def pays_off(model):
    """Tells whether a model should be compiled by XLA.

    Returns:
        bool: on a GPU, and on a CPU where it has no convolutions.
    """
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return on_gpu or not _has_convolutions(model)


def _has_convolutions(layer):
    convolutions = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
    return isinstance(layer, convolutions) or any(
        _has_convolutions(inner) for inner in getattr(layer, "layers", ())
    )
