"""Checks of the arguments of latent-variable models."""

import tensorflow as tf

from keras_genmodels.core.validation import check_count


def build_network(name, network, inputs, output_size):
    """Builds the weights of a network and checks the size of its output.

    Args:
        name: name of the network, for the message.
        network: a Keras network.
        inputs: its input for a batch of one example.
        output_size: int, number of parameters of its distribution layer.

    Raises:
        ValueError: if its output has another size.
    """
    size = tf.size(network(inputs)).numpy()
    if size != output_size:
        raise ValueError(
            f"the {name} returns {size} numbers per example, its distribution "
            f"layer takes {output_size} (params_size)"
        )


def check_layer(name, layer, kind):
    """Raises unless an argument is a distribution layer of a kind."""
    if not isinstance(layer, kind):
        raise ValueError(
            f"{name} must be a distribution layer ({kind.__name__} of "
            f"keras_genmodels), got {layer!r}"
        )


def check_weighting(beta, warmup_steps, num_samples, doubly):
    """Checks the arguments that say what the loss is."""
    if not beta >= 0:
        raise ValueError(f"beta must be >= 0, got {beta}")
    if not warmup_steps >= 0:
        raise ValueError(f"rate_warmup_steps must be >= 0, got {warmup_steps}")
    check_count("num_importance_samples", num_samples)
    if not isinstance(doubly, bool):
        raise ValueError(
            f"doubly_reparameterized must be True or False, got {doubly!r}"
        )
    if num_samples == 1 and doubly:
        raise ValueError(
            "doubly_reparameterized requires num_importance_samples of 2 or "
            "more, got 1"
        )
    if num_samples > 1 and beta != 1:
        raise ValueError(
            f"num_importance_samples={num_samples} requires beta=1, got {beta}"
        )


def as_batch(name, value, shape, dtype):
    """Returns a batch of floats as a tensor `[batch, *shape]`.

    Raises:
        ValueError: for another shape, or values that are not floating.
    """
    value = tf.convert_to_tensor(value)
    if not value.dtype.is_floating:
        raise ValueError(
            f"{name} must be of floating type (images: uint8 / 255), got "
            f"{value.dtype.name}"
        )
    if not value.shape[1:].is_compatible_with(shape) or not value.shape.rank:
        raise ValueError(
            f"{name} must have shape [batch, {', '.join(map(str, shape))}], "
            f"got {value.shape}"
        )
    return tf.cast(value, dtype)
