"""The one meaning of `jit_compile`; docs/benchmarks.md has the measurements."""

import re
import warnings

import keras
import tensorflow as tf

from keras_genmodels.core import private_api

_CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)
_OLD_VALUES = {None: "auto", "true": True, "false": False}


def resolve(jit_compile, model):
    """Returns whether XLA compiles a function of a model.

    Args:
        jit_compile: a bool, or "auto" for `should_compile(model)`. None (for
            "auto"), "true" and "false" are deprecated.
        model: a Keras model, or any callable.

    Returns:
        bool.

    Raises:
        ValueError: for another value.
    """
    if jit_compile in ("true", "false") or jit_compile is None:
        value = _OLD_VALUES[jit_compile]
        warnings.warn(
            f"jit_compile={jit_compile!r} is deprecated: use {value!r}",
            DeprecationWarning,
            stacklevel=3,
        )
        jit_compile = value
    if jit_compile == "auto":
        return should_compile(model)
    if not isinstance(jit_compile, bool):
        raise ValueError(
            f'jit_compile must be "auto", True or False, got {jit_compile!r}'
        )
    return jit_compile


def should_compile(model):
    """Returns whether XLA is expected to make a model faster on this machine.

    Returns:
        bool: True on a GPU, and on a CPU for a Keras model without
        convolutions; False on a CPU for any other callable.
    """
    if tf.config.list_physical_devices("GPU"):
        return True
    return isinstance(model, keras.Layer) and not _has_convolutions(model)


def _has_convolutions(model):
    return any(
        isinstance(layer, _CONVOLUTIONS)
        for layer in private_api.flatten_layers(model)
    )
