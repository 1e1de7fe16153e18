"""Inputs of small denoiser networks."""

import numpy as np

SMALL = {"filters": (4, 8, 16), "blocks": 1}
LEVEL = np.float32(np.log(0.5) / 4)


def perturb(network, seed=0):
    """Changes every weight, as some layers are initialised with zeros."""
    rng = np.random.default_rng(seed)
    for weight in network.trainable_variables:
        noise = rng.standard_normal(weight.shape)
        weight.assign_add(0.1 * noise.astype(weight.dtype))
    return network


def images(shape, count=2, dtype="float32"):
    return np.random.default_rng(1).random((count, *shape)).astype(dtype)


def inputs_of(network, x, level=LEVEL):
    """Returns a list of the events, the level and the label, as it has."""
    if not isinstance(network.input, list):
        return x
    rows = [np.full(len(x), level, x.dtype), np.arange(len(x), dtype="int32")]
    wanted = [given.dtype.startswith("float") for given in network.input[1:]]
    return [x, *(rows[0] if is_level else rows[1] for is_level in wanted)]
