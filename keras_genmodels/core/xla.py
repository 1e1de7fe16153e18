"""Whether XLA makes a model faster here; BUILD.md has the figures."""

import re

import keras
import tensorflow as tf

_CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)


def pays_off(model):
    """Tells whether a model should be compiled by XLA.

    Returns:
        bool: on a GPU, and on a CPU where it has no convolutions.
    """
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return on_gpu or not _has_convolutions(model)


def _has_convolutions(model):
    return any(
        isinstance(layer, _CONVOLUTIONS) for layer in model._flatten_layers()
    )
