"""The one meaning of `jit_compile`; docs/benchmarks.md has the measurements."""

import re
import warnings

import keras

from keras_genmodels.core import devices, private_api

_CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)
_OLD_VALUES = {None: "auto", "true": True, "false": False}


def resolve(jit_compile, model=None):
    """Returns whether XLA compiles a function of a model.

    Args:
        jit_compile: a bool, or "auto" for `should_compile(model)`. None (for
            "auto"), "true" and "false" are deprecated.
        model: the Keras model; None for a loop over a denoiser, such as
            `restore` and `generate`.

    Returns:
        bool.

    Raises:
        ValueError: for another value.
    """
    jit_compile = read(jit_compile)
    return should_compile(model) if jit_compile == "auto" else jit_compile


def resolve_loop(jit_compile, denoiser):
    """Returns whether XLA compiles a loop over a denoiser.

    Args:
        jit_compile: as of `resolve`.
        denoiser: a `Denoiser`, or its method; or a function. XLA compiles for
            one device, and so no denoiser with `spans_devices`.

    Raises:
        ValueError: for another value, and for True with several devices.
    """
    owner = getattr(denoiser, "__self__", denoiser)
    if not getattr(owner, "spans_devices", False):
        return resolve(jit_compile)
    if read(jit_compile) is True:
        raise ValueError(
            "jit_compile=True requires a denoiser on one device: XLA cannot "
            "compile what several share"
        )
    return False


def read(jit_compile):
    """Returns "auto", True or False, also for values that are deprecated.

    Raises:
        ValueError: for another value.
    """
    check(jit_compile)
    if jit_compile in _OLD_VALUES:
        value = _OLD_VALUES[jit_compile]
        warnings.warn(
            f"jit_compile={jit_compile!r} is deprecated: use {value!r}",
            DeprecationWarning,
            stacklevel=4,
        )
        return value
    return jit_compile


def check(jit_compile):
    """Raises ValueError for a value that is no `jit_compile`."""
    is_bool = isinstance(jit_compile, bool)
    if not is_bool and jit_compile not in ("auto", *_OLD_VALUES):
        raise ValueError(
            f'jit_compile must be "auto", True or False, got {jit_compile!r}'
        )


def should_compile(model=None):
    """Returns whether XLA is expected to make a model faster on this machine.

    Returns:
        bool: True on a GPU, and on a CPU for a Keras model without
        convolutions; False on a CPU for a loop over a denoiser (None).
    """
    if devices.has_gpu():
        return True
    return model is not None and not _has_convolutions(model)


def _has_convolutions(model):
    return any(
        isinstance(layer, _CONVOLUTIONS)
        for layer in private_api.flatten_layers(model)
    )
