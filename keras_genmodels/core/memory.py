"""How much is computed at once, and whether an array fits in memory."""

import math

import keras
import numpy as np
import psutil

from keras_genmodels.core import devices, private_api

# Draws of a latent that are decoded at once, and on a GPU the activations of
# the widest layer for them (2 GiB in float32).
_DRAWS, _GPU_DRAWS, _GPU_ACTIVATIONS = 2000, 100_000, 2**29


def by_device(cpu, gpu):
    """Returns the first of two sizes, or the second on a machine with a GPU.

    A program keeps the sizes of the machine that traces it, also if it is
    exported.
    """
    return gpu if devices.has_gpu() else cpu


def draws_at_once(model, needed=None):
    """Returns how many draws of a latent a model decodes at once by default.

    Args:
        model: a `LatentVariableModel`.
        needed: int >= 1, number of draws in all, or None.

    Returns:
        int >= 1: 2000, or on a GPU up to 100 000, less for wide networks. Up
        to there it is at least 2000, at most twice what is needed, and one of
        few numbers, for each of which a loop is compiled.
    """
    if not by_device(cpu=False, gpu=True):
        return _DRAWS
    most = min(_GPU_DRAWS, _GPU_ACTIVATIONS // widest_layer(model))
    if needed is not None:
        most = min(most, max(_DRAWS, 2 ** (needed - 1).bit_length()))
    return max(1, most)


def widest_layer(model):
    """Returns the number of activations of the widest layer for one event.

    Args:
        model: a Keras model with `event_shape`.
    """
    sizes = [math.prod(model.event_shape)]
    for layer in private_api.flatten_layers(model):
        # Only layers that are part of a functional network have an output.
        outputs = keras.tree.flatten(getattr(layer, "output", None))
        sizes += [
            math.prod(size or 1 for size in output.shape[1:])
            for output in outputs
            if output is not None
        ]
    return max(sizes)


def available():
    """Returns the free memory in bytes."""
    return psutil.virtual_memory().available


def excess(shape, dtype):
    """Describes an array that takes more than half of the free memory.

    Half, because training holds images a second time, as a tensor.

    Args:
        shape: `(n, height, width, channels)` of images.
        dtype: of a pixel.

    Returns:
        str, such as "9 images of 8x8x1 take 2.0 GiB, more than half of the
        3.0 GiB of free memory"; None for an array that fits.
    """
    return excess_of(
        f"{shape[0]} images of {'x'.join(map(str, shape[1:]))}",
        math.prod(shape) * np.dtype(dtype).itemsize,
    )


def excess_of(what, size):
    """Describes what takes more than half of the free memory, as `excess`.

    Args:
        what: str, such as "9 images".
        size: int, bytes that they take.
    """
    free = available()
    if size <= free // 2:
        return None
    return (
        f"{what} take {size / 2**30:.1f} GiB, more than half of the "
        f"{free / 2**30:.1f} GiB of free memory"
    )
