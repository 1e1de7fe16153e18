"""Checks of a denoising autoencoder's network."""

import tensorflow as tf

from keras_genmodels.core.validation import check
from keras_genmodels.networks.outputs import check_output


def event_shape_of(network, event_shape):
    """Returns the shape of one event that the network takes."""
    if event_shape is not None:
        return tuple(event_shape)
    shape = getattr(network, "input_shape", None)
    if isinstance(shape, list):
        shape = shape[0]
    check(
        shape and None not in shape[1:],
        "the network has no fixed input_shape: pass event_shape",
    )
    return tuple(shape[1:])


def build(network, inputs, reason):
    """Builds the network's weights and checks the shape of its output.

    Args:
        network: Keras network.
        inputs: dict of names of its inputs to tensors, the events first.
        reason: str, the arguments that require these inputs, for messages.
    """
    names, inputs = list(inputs), list(inputs.values())
    event_shape = tuple(inputs[0].shape[1:])
    is_single = len(inputs) == 1
    try:
        output = network(inputs[0] if is_single else inputs)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        expected = "only events" if is_single else f"[{', '.join(names)}]"
        raise ValueError(
            f"for {reason} the network must take {expected}, with events of "
            f"{event_shape}, but: {error}"
        ) from error
    check_output(
        "network",
        output,
        (event_shape,),
        "it must return events of the shape it takes",
    )
