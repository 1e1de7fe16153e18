"""The check of what a network returns, for all models."""

import tensorflow as tf

from keras_genmodels.core.wording import kind_of

# Rows of the batch on which networks are built: more than one, so that a
# network that mixes rows is found, and not two, the usual length of a list.
NUM_ROWS = 3


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


def are_probabilities(output):
    """Returns whether outputs for large inputs look like those of a sigmoid.

    Args:
        output: float tensor, what a network returned for inputs so large that
            logits would exceed 1.

    Returns:
        bool, whether all lie in [0, 1]. Equal ones, as of a last layer of
        zeros, say nothing, unless they are sigmoid(0).
    """
    low, high = (float(f(output)) for f in (tf.reduce_min, tf.reduce_max))
    return 0 <= low <= high <= 1 and (low < high or low == 0.5)


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
        return f"{kind_of(output)} of {len(output)} ({shapes})"
    return kind_of(output)
