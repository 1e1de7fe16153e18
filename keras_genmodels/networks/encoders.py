"""Plain Keras networks, from tensors to parameters of distributions."""

import math

import keras

from keras_genmodels.core import deprecation
from keras_genmodels.core.validation import check_count
from keras_genmodels.networks.gated import GatedDense
from keras_genmodels.networks.residual import ResidualBlock

# Explicit in every layer: Keras' default is a setting of the user.
CHANNELS_LAST = "channels_last"
_ACTIVATION = "silu"
_SMALLEST_SIDE = 4
_MAX_FILTERS = 128


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
    return _network(
        name,
        event_shape,
        condition_size,
        [keras.layers.Flatten(data_format=CHANNELS_LAST)],
        [
            *_dense_layers(hidden_sizes, gated),
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
    return _network(
        "decoder",
        (latent_size,),
        condition_size,
        [],
        [
            *_dense_layers(hidden_sizes, gated),
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
            *_dense_layers(hidden_sizes),
            keras.layers.Dense(output_size, name="params"),
        ],
        name="prior",
    )


def conv_encoder(
    image_shape, output_size, filters=16, condition_size=0, residual_blocks=0
):
    """Builds a convolutional encoder for images of any size.

    Each stage is a 3x3 convolution of stride 2 that doubles the channels (up
    to 128), until the smaller side is at most 4 pixels.

    Args:
        image_shape: (height, width, channels).
        output_size: int, size of the output per example.
        filters: channels of the first stage.
        condition_size: int >= 0, width of the features of a condition, which
            a dense layer turns into one more channel of the image, and which
            are concatenated to the flattened activations; 0: no condition.
        residual_blocks: int >= 0, number of `ResidualBlock`s after each
            convolution, which make it a residual network.

    Returns:
        `keras.Sequential`, `[batch, height, width, channels]` to
        `[batch, output_size]`; with a condition a Functional `keras.Model` of
        `[x, features]`, the features float `[batch, condition_size]`.

    Raises:
        ValueError: for a `condition_size` or `residual_blocks` below 0.
    """
    return _conv_encoder(
        "encoder",
        image_shape,
        output_size,
        filters,
        residual_blocks,
        condition_size,
    )


def conv_decoder(
    latent_size, params_shape, filters=16, condition_size=0, residual_blocks=0
):
    """Builds a convolutional decoder, the mirror image of `conv_encoder`.

    Each stage is a transposed convolution of stride 2, cropped to the size
    of the encoder's stage, so that odd sizes are restored exactly.

    Args:
        latent_size: int, width of the latent.
        params_shape: (height, width, channels of the output).
        filters: channels of the last stage.
        condition_size: int >= 0, width of the features of a condition, which
            are concatenated to the latent; 0: no condition.
        residual_blocks: int >= 0, number of `ResidualBlock`s at each size of
            the image.

    Returns:
        `keras.Sequential`, `[batch, latent_size]` to
        `[batch, *params_shape]`; with a condition a Functional `keras.Model`
        of `[z, features]`, the features float `[batch, condition_size]`.

    Raises:
        ValueError: for a `condition_size` or `residual_blocks` below 0.
    """
    *image_size, channels = params_shape
    sizes = _halvings(image_size)
    width = _width(filters, len(sizes) - 1)
    layers = [
        *_dense_layers((256, math.prod(sizes[-1]) * width)),
        keras.layers.Reshape((*sizes[-1], width)),
        *_residual_layers(residual_blocks),
    ]
    for i in reversed(range(len(sizes) - 1)):
        layers += [
            keras.layers.Conv2DTranspose(
                _width(filters, i),
                4,
                strides=2,
                padding="same",
                data_format=CHANNELS_LAST,
                activation=_ACTIVATION,
                name=f"up_{i}",
            ),
            _crop(sizes[i + 1], sizes[i]),
            *_residual_layers(residual_blocks),
        ]
    layers.append(
        keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            data_format=CHANNELS_LAST,
            name="params",
        )
    )
    return _network("decoder", (latent_size,), condition_size, [], layers)


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


def image_condition(image_shape, size, filters=16, residual_blocks=0):
    """Builds the condition network of images, with `conv_encoder`'s layers.

    Args:
        image_shape: (height, width, channels) of the condition.
        size: int, width of the features.
        filters: channels of the first stage.
        residual_blocks: as of `conv_encoder`.

    Returns:
        `keras.Sequential`, `[batch, height, width, channels]` to
        `[batch, size]`.
    """
    return _conv_encoder(
        "condition", image_shape, size, filters, residual_blocks
    )


def _conv_encoder(
    name, image_shape, output_size, filters, residual_blocks, condition_size=0
):
    # In the order of the network, which is that of the initial random weights.
    stages = [_convolution(filters, name="stem")]
    stages += _residual_layers(residual_blocks)
    for i in range(1, len(_halvings(image_shape[:2]))):
        stages.append(
            _convolution(_width(filters, i), strides=2, name=f"down_{i}")
        )
        stages += _residual_layers(residual_blocks)
    return _network(
        name,
        image_shape,
        condition_size,
        [
            *stages,
            keras.layers.Flatten(data_format=CHANNELS_LAST),
        ],
        [
            *_dense_layers((256,)),
            keras.layers.Dense(output_size, name="params"),
        ],
        add_channel=True,
    )


def _network(
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
    dtype = keras.config.dtype_policy().variable_dtype
    return keras.Input(tuple(shape), dtype=dtype)


def _dense_layers(sizes, gated=False):
    if gated:
        return [GatedDense(n) for n in sizes]
    return [keras.layers.Dense(n, activation=_ACTIVATION) for n in sizes]


def _residual_layers(count):
    check_count("residual_blocks", count, 0)
    return [ResidualBlock() for _ in range(count)]


def _convolution(filters, strides=1, name=None):
    return keras.layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        data_format=CHANNELS_LAST,
        activation=_ACTIVATION,
        name=name,
    )


def _width(filters, stage):
    return min(filters * 2**stage, max(filters, _MAX_FILTERS))


def _halvings(size):
    """Lists image sizes from `size` down, each half of the one before."""
    sizes = [tuple(size)]
    while min(sizes[-1]) > _SMALLEST_SIDE:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes


def _crop(size, target):
    """Crops from twice `size` to `target`, at the bottom and the right."""
    return keras.layers.Cropping2D(
        [(0, 2 * side - goal) for side, goal in zip(size, target, strict=True)],
        data_format=CHANNELS_LAST,
    )
