"""Fully connected networks, from tensors to parameters of distributions."""

import math

import keras

from keras_genmodels.core import deprecation
from keras_genmodels.networks.gated import GatedDense

# Explicit in every layer: Keras' default is a setting of the user.
CHANNELS_LAST = "channels_last"
ACTIVATION = "silu"


def mlp_encoder(
    event_shape,
    output_size,
    hidden_sizes=(200, 200),
    condition_size=0,
    name="encoder",
    gated=False,
):
    """Builds a fully connected encoder.

    Args:
        event_shape: shape of one event; it is flattened.
        output_size: int, size of the output per example (a posterior layer's
            `params_size`).
        hidden_sizes: widths of the hidden layers.
        condition_size: int >= 0, width of the features of a condition, which
            are concatenated to the flattened event; 0: no condition.
        name: name of the network.
        gated: whether hidden layers are `GatedDense`, dense ones times
            sigmoid ones.

    Returns:
        `keras.Sequential`, `[batch, *event_shape]` to `[batch, output_size]`;
        with a condition a Functional `keras.Model` of `[x, features]`, the
        features float `[batch, condition_size]`.

    Raises:
        ValueError: for a `condition_size` below 0.
    """
    return join_condition(
        name,
        event_shape,
        condition_size,
        [keras.layers.Flatten(data_format=CHANNELS_LAST)],
        [
            *dense_layers(hidden_sizes, gated),
            keras.layers.Dense(output_size, name="params"),
        ],
    )


def mlp_decoder(
    latent_size,
    params_shape,
    hidden_sizes=(200, 200),
    condition_size=0,
    gated=False,
):
    """Builds a fully connected decoder.

    Args:
        latent_size: int, width of the latent.
        params_shape: shape of the output per example (a likelihood layer's
            `params_shape`).
        hidden_sizes: widths of the hidden layers, from latent to data.
        condition_size: int >= 0, width of the features of a condition, which
            are concatenated to the latent; 0: no condition.
        gated: as of `mlp_encoder`.

    Returns:
        `keras.Sequential`, `[batch, latent_size]` to
        `[batch, *params_shape]`; with a condition a Functional `keras.Model`
        of `[z, features]`, the features float `[batch, condition_size]`.

    Raises:
        ValueError: for a `condition_size` below 0.
    """
    return join_condition(
        "decoder",
        (latent_size,),
        condition_size,
        [],
        [
            *dense_layers(hidden_sizes, gated),
            keras.layers.Dense(math.prod(params_shape), name="params"),
            keras.layers.Reshape(tuple(params_shape)),
        ],
    )


def mlp_prior(condition_size, output_size, hidden_sizes=(200,)):
    """Builds a fully connected network of a learned prior p(z|c).

    Args:
        condition_size: int, width of the features of the condition.
        output_size: int, size of the output per example (the posterior
            layer's `params_size`).
        hidden_sizes: widths of the hidden layers.

    Returns:
        `keras.Sequential`, `[batch, condition_size]` to
        `[batch, output_size]`.
    """
    return keras.Sequential(
        [
            input_layer((condition_size,)),
            *dense_layers(hidden_sizes),
            keras.layers.Dense(output_size, name="params"),
        ],
        name="prior",
    )


@deprecation.accept_old_arguments({"num_labels": "num_classes"})
def label_embedding(num_classes, size):
    """Builds the condition network of class labels: an embedding.

    Args:
        num_classes: int >= 1, number of classes.
        size: int >= 1, width of the vectors.

    Returns:
        `keras.Sequential`, integers `[batch]` in [0, `num_classes`], the last
        of which is "no label", to `[batch, size]`.

    Raises:
        ValueError: for a number below 1.
    """
    for name, value in (("num_classes", num_classes), ("size", size)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    return keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            # The scale of the latents, the other input of the decoder. Keras'
            # default is 20 times smaller and has little effect at first.
            keras.layers.Embedding(
                num_classes + 1,
                size,
                embeddings_initializer=keras.initializers.RandomNormal(
                    stddev=1.0
                ),
                name="labels",
            ),
        ],
        name="condition",
    )


def join_condition(
    name, input_shape, condition_size, before, after, add_channel=False
):
    """Builds a network that concatenates features between two lists of layers.

    Args:
        name: name of the network.
        input_shape: shape of one example.
        condition_size: width of the features, 0 for a Sequential network.
        before: layers with an output `[batch, n]`, or none if the input is.
        after: the layers after the concatenation.
        add_channel: whether the features are also a channel of the input.
    """
    if condition_size < 0:
        raise ValueError(f"condition_size must be >= 0, got {condition_size}")
    if not condition_size:
        return keras.Sequential(
            [input_layer(input_shape), *before, *after], name=name
        )
    x, features = input_layer(input_shape), input_layer((condition_size,))
    h = x
    if add_channel:
        h = keras.layers.Concatenate()([h, _as_channel(features, input_shape)])
    for layer in before:
        h = layer(h)
    h = keras.layers.Concatenate()([h, features])
    for layer in after:
        h = layer(h)
    return keras.Model([x, features], h, name=name)


def _as_channel(features, image_shape):
    height, width, _ = image_shape
    plane = keras.layers.Dense(height * width, name="features_channel")
    return keras.layers.Reshape((height, width, 1))(plane(features))


def input_layer(shape):
    """Builds the input of a network, in the precision of its weights.

    Keras' default is float32 even under a float64 policy, and rounds.

    Args:
        shape: shape of one example.

    Returns:
        symbolic tensor `[batch, *shape]`.
    """
    return keras.Input(tuple(shape), dtype=weights_dtype())


def weights_dtype():
    """Returns the precision of weights, in which a network's output is, too.

    The compute dtype of a mixed policy would round it.
    """
    return keras.config.dtype_policy().variable_dtype


def dense_layers(sizes, gated=False):
    """Returns a list of hidden layers of some widths."""
    if gated:
        return [GatedDense(n) for n in sizes]
    return [keras.layers.Dense(n, activation=ACTIVATION) for n in sizes]
