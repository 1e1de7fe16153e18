"""Checks of the arguments of latent-variable models."""

import warnings

import numpy as np
import tensorflow as tf

from keras_genmodels.core.model_config import is_loading
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.distributions.layers import MultivariateNormalDiag
from keras_genmodels.networks import outputs

# Latents for which the logits of a network exceed 1.
_FAR = 1e4


def build_network(name, network, inputs, layer):
    """Builds the weights of a network and checks its output.

    Args:
        name: name of the network, for the message.
        network: a Keras network.
        inputs: its input for a batch of `networks.outputs.NUM_ROWS` examples.
        layer: distribution layer that reads its output.

    Raises:
        ValueError: unless it returns one tensor `[batch, *params_shape]` or
            `[batch, params_size]` of the layer.
    """
    shape, kind = tuple(layer.params_shape), type(layer).__name__
    outputs.check_output(
        name,
        network(inputs),
        # With one channel the last axis may be missing.
        (
            shape,
            (layer.params_size,),
            *([shape[:-1]] if shape[-1] == 1 else []),
        ),
        f"{kind} reads {layer.params_size} numbers per example (params_size): "
        f"{layer.params_meaning}; concatenate several outputs in this order "
        "along the last axis",
    )


def build_decoder(network, z, likelihood, features=None):
    """Builds a decoder, and checks that it returns no probabilities.

    Args:
        network: a Keras network.
        z: latents, of a batch of `networks.outputs.NUM_ROWS` examples.
        likelihood: distribution layer that reads its output.
        features: of a conditional model, its second input; else None.

    Raises:
        ValueError: as `build_network`, and for a network that ends in a
            sigmoid, unless the likelihood is over the reals. A file of a model
            that was trained so is loaded with a warning.
    """

    def inputs(z):
        return z if features is None else [z, features]

    build_network("decoder", network, inputs(z), likelihood)
    if likelihood.support == "real":
        return
    far = np.random.default_rng(0).normal(0, _FAR, z.shape)
    if outputs.are_probabilities(network(inputs(tf.cast(far, z.dtype)))):
        message = (
            "the decoder returns only values in [0, 1], as after a sigmoid, "
            f"and {type(likelihood).__name__} reads "
            f"{likelihood.params_meaning}, before any sigmoid: leave out the "
            "last activation"
        )
        check(is_loading(), message)
        warnings.warn(message, stacklevel=3)


def zeros(shape, dtype):
    """Returns examples on which networks are built, `[NUM_ROWS, *shape]`."""
    return tf.zeros((outputs.NUM_ROWS, *shape), dtype)


def check_layer(name, layer, kind):
    """Raises unless an argument is a distribution layer of a kind."""
    if not isinstance(layer, kind):
        raise ValueError(
            f"{name} must be a distribution layer ({kind.__name__} of "
            f"keras_genmodels), got {layer!r}"
        )


def check_free_bits(free_bits, posterior, is_standard):
    """Checks that the rate is a sum of those of the latents.

    Args:
        free_bits: as of `LatentVariableModel`.
        posterior: distribution layer of q(z|x).
        is_standard: whether p(z) is N(0, I).
    """
    check(
        not free_bits
        or (isinstance(posterior, MultivariateNormalDiag) and is_standard),
        "free_bits requires a diagonal posterior (MultivariateNormalDiag) and "
        "the prior N(0, I), whose rate is a sum of those of the latents",
    )


def check_weighting(beta, warmup_steps, num_samples, doubly, free_bits):
    """Checks the arguments that say what the loss is."""
    if not free_bits >= 0:
        raise ValueError(f"free_bits must be >= 0, got {free_bits}")
    if num_samples > 1 and free_bits:
        raise ValueError(
            f"free_bits requires num_importance_samples=1, got {num_samples}"
        )
    if not beta >= 0:
        raise ValueError(f"beta must be >= 0, got {beta}")
    if free_bits and not beta:
        raise ValueError("free_bits requires beta above 0, got 0")
    # Files of version 0.3.0 may hold a float, such as 1000.0.
    if not (warmup_steps >= 0 and float(warmup_steps).is_integer()):
        raise ValueError(
            f"rate_warmup_steps must be an int >= 0, got {warmup_steps}"
        )
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
