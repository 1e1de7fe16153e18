"""Checks of a denoising autoencoder's network."""

import tensorflow as tf

from keras_genmodels.core.events import is_any_size
from keras_genmodels.core.validation import check
from keras_genmodels.networks.outputs import check_output
from keras_genmodels.networks.sizes import smallest_side

# Of an image for a network of any size that does not say what it takes.
_EXAMPLE_SIDE = 64


def event_shape_of(network, event_shape):
    """Returns the shape of one event that the network takes.

    It is (None, None, channels) for images of any size.
    """
    shape = event_shape
    if shape is None:
        shape = getattr(network, "input_shape", None)
        check(shape, "the network has no input_shape: pass event_shape")
        shape = (shape[0] if isinstance(shape, list) else shape)[1:]
    shape = tuple(shape)
    check(
        None not in shape
        or (len(shape) == 3 and shape[:2] == (None, None) and shape[2]),
        "event_shape must be of fixed sides, or (None, None, channels) for "
        f"images of any size, got {shape}: pass event_shape",
    )
    return shape


def example_shape(network, event_shape):
    """Returns the shape of an event to build the network with.

    Args:
        network: Keras network.
        event_shape: as returned by `event_shape_of`.

    Returns:
        `event_shape`; (side, side, channels) for images of any size, with the
        smallest side that the network says it takes, else 64.
    """
    if not is_any_size(event_shape):
        return event_shape
    side = smallest_side(network)
    side = side if side > 1 else _EXAMPLE_SIDE
    return (side, side, event_shape[2])


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
