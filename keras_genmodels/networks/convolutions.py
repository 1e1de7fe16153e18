"""Convolutional networks, from tensors to parameters of distributions."""

import math

import keras

from keras_genmodels.core.validation import check, check_count
from keras_genmodels.networks.encoders import (
    ACTIVATION,
    CHANNELS_LAST,
    dense_layers,
    join_condition,
)
from keras_genmodels.networks.residual import ResidualBlock

_SMALLEST_SIDE = 4
_MAX_FILTERS = 128


def conv_encoder(
    image_shape, output_size, filters=16, condition_size=0, residual_blocks=0
):
    """Builds a convolutional encoder for images of any size.

    A 3x3 convolution at full size, then stages of one of stride 2 that halves
    the size, until the smaller side is at most 4 pixels.

    Args:
        image_shape: (height, width, channels).
        output_size: int, size of the output per example.
        filters: channels at full size, int >= 1, which each halving doubles,
            up to 128; or a list or tuple, the channels at each size. Few
            at full size make a network much cheaper.
        condition_size: int >= 0, width of the features of a condition, which
            a dense layer turns into one more channel of the image, and which
            are concatenated to the flattened activations; 0: no condition.
        residual_blocks: int >= 0, number of `ResidualBlock`s after each
            convolution, which make it a residual network; or a list or
            tuple, the number at each size.

    Returns:
        `keras.Sequential`, `[batch, height, width, channels]` to
        `[batch, output_size]`; with a condition a Functional `keras.Model` of
        `[x, features]`, the features float `[batch, condition_size]`.

    Raises:
        ValueError: for a `condition_size` or `residual_blocks` below 0, and
            for a list with another length than there are sizes.
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
        filters: channels at each size, as of `conv_encoder`: in the same
            order, from the full size down.
        condition_size: int >= 0, width of the features of a condition, which
            are concatenated to the latent; 0: no condition.
        residual_blocks: number of `ResidualBlock`s at each size of the image,
            as of `conv_encoder`.

    Returns:
        `keras.Sequential`, `[batch, latent_size]` to
        `[batch, *params_shape]`; with a condition a Functional `keras.Model`
        of `[z, features]`, the features float `[batch, condition_size]`.

    Raises:
        ValueError: for a `condition_size` or `residual_blocks` below 0, and
            for a list with another length than there are sizes.
    """
    *image_size, channels = params_shape
    sizes = _halvings(image_size)
    stages = _stages(sizes, filters, residual_blocks)
    width, blocks = stages[-1]
    layers = [
        *dense_layers((256, math.prod(sizes[-1]) * width)),
        keras.layers.Reshape((*sizes[-1], width)),
        *_residual_layers(blocks),
    ]
    for i in reversed(range(len(sizes) - 1)):
        width, blocks = stages[i]
        layers += [
            keras.layers.Conv2DTranspose(
                width,
                4,
                strides=2,
                padding="same",
                data_format=CHANNELS_LAST,
                activation=ACTIVATION,
                name=f"up_{i}",
            ),
            _crop(sizes[i + 1], sizes[i]),
            *_residual_layers(blocks),
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
    return join_condition("decoder", (latent_size,), condition_size, [], layers)


def image_condition(image_shape, size, filters=16, residual_blocks=0):
    """Builds the condition network of images, with `conv_encoder`'s layers.

    Args:
        image_shape: (height, width, channels) of the condition.
        size: int, width of the features.
        filters, residual_blocks: as of `conv_encoder`.

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
    layers = []
    stages = _stages(_halvings(image_shape[:2]), filters, residual_blocks)
    for i, (width, blocks) in enumerate(stages):
        layers.append(
            _convolution(width, strides=2, name=f"down_{i}")
            if i
            else _convolution(width, name="stem")
        )
        layers += _residual_layers(blocks)
    return join_condition(
        name,
        image_shape,
        condition_size,
        [*layers, keras.layers.Flatten(data_format=CHANNELS_LAST)],
        [
            *dense_layers((256,)),
            keras.layers.Dense(output_size, name="params"),
        ],
        add_channel=True,
    )


def _stages(sizes, filters, residual_blocks):
    """Lists channels and number of residual blocks at each size."""
    if not isinstance(filters, list | tuple):
        check_count("filters", filters)
        most = max(filters, _MAX_FILTERS)
        filters = [min(filters * 2**i, most) for i in range(len(sizes))]
    if not isinstance(residual_blocks, list | tuple):
        check_count("residual_blocks", residual_blocks, 0)
        residual_blocks = [residual_blocks] * len(sizes)
    for name, each, least in (
        ("filters", filters, 1),
        ("residual_blocks", residual_blocks, 0),
    ):
        names = ", ".join("x".join(map(str, size)) for size in sizes)
        check(
            len(each) == len(sizes),
            f"{name} must be one int, or {len(sizes)} ints for {names} pixels, "
            f"got {len(each)}",
        )
        for count in each:
            check_count(name, count, least)
    return list(zip(filters, residual_blocks, strict=True))


def _residual_layers(count):
    return [ResidualBlock() for _ in range(count)]


def _convolution(filters, strides=1, name=None):
    return keras.layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        data_format=CHANNELS_LAST,
        activation=ACTIVATION,
        name=name,
    )


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
