"""Plain Keras networks: parameters in, parameters out, no distributions."""

import math

import keras

_ACTIVATION = "silu"
_SMALLEST_SIDE = 4
_MAX_FILTERS = 128


def mlp_encoder(event_shape, output_size, hidden_sizes=(200, 200)):
    """Builds a fully connected encoder.

    Args:
        event_shape: shape of one event; it is flattened.
        output_size: int, how many numbers it gives per example (a posterior
            layer's `params_size`).
        hidden_sizes: widths of the hidden layers.

    Returns:
        `keras.Sequential`, `[batch, *event_shape]` to `[batch, output_size]`.
    """
    return keras.Sequential(
        [
            _input(event_shape),
            keras.layers.Flatten(),
            *_dense_layers(hidden_sizes),
            keras.layers.Dense(output_size, name="params"),
        ],
        name="encoder",
    )


def mlp_decoder(latent_size, params_shape, hidden_sizes=(200, 200)):
    """Builds a fully connected decoder.

    Args:
        latent_size: int, width of the latent.
        params_shape: shape of its output per example (a likelihood layer's
            `params_shape`).
        hidden_sizes: widths of the hidden layers, from latent to data.

    Returns:
        `keras.Sequential`, `[batch, latent_size]` to
        `[batch, *params_shape]`.
    """
    return keras.Sequential(
        [
            _input((latent_size,)),
            *_dense_layers(hidden_sizes),
            keras.layers.Dense(math.prod(params_shape), name="params"),
            keras.layers.Reshape(tuple(params_shape)),
        ],
        name="decoder",
    )


def conv_encoder(image_shape, output_size, filters=16):
    """Builds a convolutional encoder for images of any size.

    Each stage is a 3x3 convolution of stride 2 that doubles the channels (up
    to 128), until the smaller side is at most 4 pixels.

    Args:
        image_shape: (height, width, channels).
        output_size: int, how many numbers it gives per example.
        filters: channels of the first stage.

    Returns:
        `keras.Sequential`, `[batch, height, width, channels]` to
        `[batch, output_size]`.
    """
    stages = len(_halvings(image_shape[:2])) - 1
    return keras.Sequential(
        [
            _input(image_shape),
            _convolution(filters, name="stem"),
            *(
                _convolution(_width(filters, i), strides=2, name=f"down_{i}")
                for i in range(1, stages + 1)
            ),
            keras.layers.Flatten(),
            *_dense_layers((256,)),
            keras.layers.Dense(output_size, name="params"),
        ],
        name="encoder",
    )


def conv_decoder(latent_size, params_shape, filters=16):
    """Builds the mirror image of `conv_encoder`.

    Each stage is a transposed convolution of stride 2, cropped to the size
    that the encoder had there, so that odd sizes come back exactly.

    Args:
        latent_size: int, width of the latent.
        params_shape: (height, width, channels of its output).
        filters: channels of the last stage.

    Returns:
        `keras.Sequential`, `[batch, latent_size]` to
        `[batch, *params_shape]`.
    """
    *image_size, channels = params_shape
    sizes = _halvings(image_size)
    width = _width(filters, len(sizes) - 1)
    layers = [
        _input((latent_size,)),
        *_dense_layers((256, math.prod(sizes[-1]) * width)),
        keras.layers.Reshape((*sizes[-1], width)),
    ]
    for i in reversed(range(len(sizes) - 1)):
        layers += [
            keras.layers.Conv2DTranspose(
                _width(filters, i),
                4,
                strides=2,
                padding="same",
                activation=_ACTIVATION,
                name=f"up_{i}",
            ),
            _crop(sizes[i + 1], sizes[i]),
        ]
    layers.append(
        keras.layers.Conv2D(channels, 3, padding="same", name="params")
    )
    return keras.Sequential(layers, name="decoder")


def _input(shape):
    # Keras' default is float32 under a float64 policy too, and rounds.
    dtype = keras.config.dtype_policy().variable_dtype
    return keras.Input(tuple(shape), dtype=dtype)


def _dense_layers(sizes):
    return [keras.layers.Dense(n, activation=_ACTIVATION) for n in sizes]


def _convolution(filters, strides=1, name=None):
    return keras.layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        activation=_ACTIVATION,
        name=name,
    )


def _width(filters, stage):
    return min(filters * 2**stage, max(filters, _MAX_FILTERS))


def _halvings(size):
    """Lists the image sizes from `size` down, each half of the last."""
    sizes = [tuple(size)]
    while min(sizes[-1]) > _SMALLEST_SIDE:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes


def _crop(size, target):
    """Crops twice `size` to `target`, at the bottom and the right."""
    return keras.layers.Cropping2D(
        [(0, 2 * side - goal) for side, goal in zip(size, target, strict=True)]
    )
