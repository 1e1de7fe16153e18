"""The check of what a network returns, for all models."""

import keras
import tensorflow as tf

# Rows of the batch on which networks are built: more than one, so that a
# network that mixes rows is found, and not two, the usual length of a list.
NUM_ROWS = 3

_RESHAPING = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Cropping2D,
    keras.layers.Dropout,
    keras.layers.Identity,
)
_SIGMOIDS = (keras.activations.sigmoid, keras.activations.hard_sigmoid)


def check_output(name, output, shapes, advice):
    """Checks that a network returns one tensor of a stated shape per example.

    Args:
        name: name of the network, for the message.
        output: what it returned for a batch of `NUM_ROWS` examples.
        shapes: tuple of the allowed shapes per example; None allows any.
        advice: what to do, for the message.

    Raises:
        ValueError: for several tensors, another shape, or integers.
    """
    if (
        isinstance(output, tf.Tensor)
        and output.dtype.is_floating
        and output.shape.rank
        and output.shape[0] == NUM_ROWS
        and (shapes is None or tuple(output.shape[1:]) in shapes)
    ):
        return
    expected = "..." if shapes is None else ", ".join(map(str, shapes[0]))
    raise ValueError(
        f"the {name} must return one floating tensor [batch, {expected}], got "
        f"{_describe(output)}: {advice}"
    )


def ends_in_sigmoid(network):
    """Returns whether the last activation of a network is a sigmoid.

    Args:
        network: a Keras layer or network. Only Sequential and Functional ones
            are looked into; changes of the shape alone may follow.
    """
    if isinstance(network, keras.Sequential):
        parts = network.layers
    else:
        # Functional: in the order of computation, with `keras.ops`.
        parts = getattr(network, "operations", None)
    if parts:
        kept = [part for part in parts if not isinstance(part, _RESHAPING)]
        return bool(kept) and ends_in_sigmoid(kept[-1])
    return (
        getattr(network, "activation", None) in _SIGMOIDS
        or type(network).__name__ == "Sigmoid"
    )


def _describe(output):
    if isinstance(output, tf.Tensor):
        shape = list(output.shape)
        if shape[:1] == [NUM_ROWS]:
            sides = ["batch", *map(str, shape[1:])]
            return f"{output.dtype.name} [{', '.join(sides)}]"
        return f"{output.dtype.name} {shape} for a batch of {NUM_ROWS}"
    parts = output.values() if isinstance(output, dict) else output
    if isinstance(output, tuple | list | dict):
        shapes = ", ".join(_describe(part) for part in parts)
        return f"a {type(output).__name__} of {len(output)} ({shapes})"
    return f"a {type(output).__name__}"
