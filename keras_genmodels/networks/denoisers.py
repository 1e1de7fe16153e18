"""Networks of denoisers: noisy event in, event of the same shape out.

They are plain Keras models and know nothing of noise beyond the level that
they are told; what their output means is the caller's choice (a denoiser of
this package reads it as the noise, or preconditions it).
"""

import math

import keras

from keras_genmodels.networks.encoders import input_layer
from keras_genmodels.networks.layers import (
    ChannelNormalization,
    DepthToSpace,
    LevelFeatures,
    Modulation,
    is_count,
)

_SMALLEST_SIDE = 2
_LEVEL_SIZE = 128


def unet(
    image_shape,
    conditional=True,
    filters=(32, 64, 128),
    blocks=2,
    normalization_groups=None,
):
    """Builds a residual U-Net for images of any size.

    Each of `filters` is a level of half the size of the one before; levels
    that would be smaller than 2 pixels are left out. A residual block is two
    3x3 convolutions, and between them scale and shift by the level, then
    ReLU. The way up adds what the way down had there.

    Without normalisation it trains faster, by the clock and by the step;
    Dhariwal and Nichol's modulated normalisation is there on request.

    Args:
        image_shape: (height, width, channels), each >= 1.
        conditional: whether it is told the noise level.
        filters: channels of each level, from the full size down, each >= 1.
        blocks: int >= 1, residual blocks at each level of each way.
        normalization_groups: None, or the number of groups of a
            `ChannelNormalization` in each block; divides all of `filters`.

    Returns:
        Functional `keras.Model`. If `conditional` it maps `[x, level]` to an
        image, else `x` to an image: `x` and the image
        `[batch, height, width, channels]`, the level `[batch]`, which is
        ln(sigma) / 4 of the noise's standard deviation sigma, any finite
        number. A new model gives zeros. The image is float32 under a mixed
        dtype policy.

    Raises:
        ValueError: for an argument outside of the ranges above.

    #### References

    Ronneberger et al. (2015), U-Net, arXiv:1505.04597. Zhang et al. (2021),
    Plug-and-play image restoration with deep denoiser prior (residual blocks
    without normalisation), arXiv:2008.13751. Karras et al. (2022),
    Elucidating the design space of diffusion-based generative models
    (the level), arXiv:2206.00364. Dhariwal and Nichol (2021), Diffusion
    models beat GANs on image synthesis, arXiv:2105.05233.
    """
    _check_image_arguments(image_shape, filters, blocks)
    _check_groups(normalization_groups, filters)
    x = input_layer(image_shape)
    level = input_layer(()) if conditional else None
    embedding = _embed(level) if conditional else None

    def block(h, name):
        return _block(h, embedding, normalization_groups, name)

    y = _u_shape(x, filters, blocks, block, use_bias=True)
    inputs = [x, level] if conditional else x
    return keras.Model(inputs, y, name="unet")


def bias_free_unet(image_shape, filters=(32, 64, 128), blocks=2):
    """Builds a U-Net F without additive constants: F(a x) = a F(x), a > 0.

    So is x - F(x), a denoiser that need not be told the noise level and
    generalises to levels that it was not trained on. It is `unet` without
    biases, modulation and normalisation; ReLU keeps the homogeneity.

    Args:
        image_shape: (height, width, channels), each >= 1.
        filters: channels of each level, from the full size down, each >= 1.
        blocks: int >= 1, residual blocks at each level of each way.

    Returns:
        Functional `keras.Model`, `[batch, height, width, channels]` to the
        same shape, float32 under a mixed dtype policy. A new model gives
        zeros.

    Raises:
        ValueError: for an argument outside of the ranges above.

    #### References

    Mohan et al. (2020), Robust and interpretable blind image denoising via
    bias-free convolutional neural networks, arXiv:1906.05478.
    """
    _check_image_arguments(image_shape, filters, blocks)
    x = input_layer(image_shape)
    y = _u_shape(x, filters, blocks, _bias_free_block, use_bias=False)
    return keras.Model(x, y, name="bias_free_unet")


def mlp_denoiser(event_shape, conditional=True, hidden_sizes=(512, 512)):
    """Builds a fully connected network from events to events of any rank.

    Each hidden layer is scaled and shifted by the level, then SiLU.

    Args:
        event_shape: shape of one event, each side >= 1.
        conditional: whether it is told the noise level.
        hidden_sizes: widths of the hidden layers, each >= 1.

    Returns:
        Functional `keras.Model`. If `conditional` it maps `[x, level]` to an
        event, else `x` to an event: `x` and the event
        `[batch, *event_shape]`, the level `[batch]` as for `unet`. A new
        model gives zeros. The event is float32 under a mixed dtype policy.

    Raises:
        ValueError: for an argument outside of the ranges above.
    """
    _check_sizes("event_shape", event_shape)
    _check_sizes("hidden_sizes", hidden_sizes)
    x = input_layer(event_shape)
    level = input_layer(()) if conditional else None
    embedding = _embed(level) if conditional else None
    h = keras.layers.Flatten()(x)
    for i, size in enumerate(hidden_sizes):
        h = _hidden_layer(size, f"hidden_{i}")(h)
        if conditional:
            modulation = _modulation(embedding, size, f"hidden_{i}")
            h = Modulation(name=f"hidden_{i}_modulated")([h, modulation])
        h = keras.layers.Activation("silu")(h)
    h = keras.layers.Dense(
        math.prod(event_shape),
        kernel_initializer="zeros",
        dtype=_output_dtype(),
        name="output",
    )(h)
    y = keras.layers.Reshape(tuple(event_shape), dtype=_output_dtype())(h)
    inputs = [x, level] if conditional else x
    return keras.Model(inputs, y, name="mlp_denoiser")


def _u_shape(x, filters, blocks, block, use_bias):
    """Leads `x` down the levels and up again, `blocks` blocks at each."""
    sizes = _sizes(x.shape[1:3], len(filters))
    h = _convolution(filters[0], use_bias, "stem")(x)
    skips = []
    for i in range(len(sizes) - 1):
        h = _repeat(block, h, blocks, f"down_{i}")
        skips.append(h)
        h = keras.layers.Conv2D(
            filters[i + 1],
            2,
            strides=2,
            padding="same",
            use_bias=use_bias,
            name=f"down_{i}",
        )(h)
    h = _repeat(block, h, blocks, "middle")
    for i in reversed(range(len(skips))):
        h = _upsample(h, filters[i], sizes[i], use_bias, f"up_{i}")
        h = keras.layers.Add(name=f"skip_{i}")([h, skips[i]])
        h = _repeat(block, h, blocks, f"up_{i}")
    # A 3x3 convolution to one channel costs half of one to thirty-two.
    return keras.layers.Conv2D(
        x.shape[-1],
        1,
        use_bias=use_bias,
        kernel_initializer="zeros",
        dtype=_output_dtype(),
        name="output",
    )(keras.layers.ReLU()(h))


def _repeat(block, h, count, name):
    for j in range(count):
        h = block(h, f"{name}_block_{j}")
    return h


def _block(h, embedding, groups, name):
    """Adds a convolution of the modulated ReLU of a convolution."""
    filters = h.shape[-1]
    # What follows the first convolution has a shift of its own.
    plain = embedding is None and groups is None
    y = _convolution(filters, plain, f"{name}_in")(h)
    if embedding is not None:
        y = [y, _modulation(embedding, filters, name)]
    if groups is not None:
        y = ChannelNormalization(groups, name=f"{name}_normalized")(y)
    elif embedding is not None:
        y = Modulation(name=f"{name}_modulated")(y)
    y = keras.layers.ReLU()(y)
    y = _convolution(filters, True, f"{name}_out", gain=0.1)(y)
    return keras.layers.Add(name=name)([h, y])


def _bias_free_block(h, name):
    filters = h.shape[-1]
    y = _convolution(filters, False, f"{name}_in")(h)
    y = keras.layers.ReLU()(y)
    y = _convolution(filters, False, f"{name}_out", gain=0.1)(y)
    return keras.layers.Add(name=name)([h, y])


def _upsample(h, filters, size, use_bias, name):
    """Doubles the size of `h`, crops it to `size`."""
    h = keras.layers.Conv2D(4 * filters, 1, use_bias=use_bias, name=name)(h)
    h = DepthToSpace()(h)
    excess = [(0, n - m) for n, m in zip(h.shape[1:3], size, strict=True)]
    if excess == [(0, 0), (0, 0)]:
        return h
    return keras.layers.Cropping2D(excess)(h)


def _convolution(filters, use_bias, name, gain=1.0):
    # The variance that ReLU halves is doubled; a small gain begins near the
    # identity, which is what normalisation would otherwise be needed for.
    initializer = keras.initializers.VarianceScaling(2.0 * gain)
    return keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=initializer,
        name=name,
    )


def _hidden_layer(size, name):
    # Keras' default counts the outputs too: many neurons that read a few
    # numbers would begin nearly linear, all with their bends at zero.
    return keras.layers.Dense(
        size,
        kernel_initializer=keras.initializers.VarianceScaling(2.0),
        bias_initializer=keras.initializers.RandomNormal(stddev=0.5),
        name=name,
    )


def _embed(level):
    h = LevelFeatures()(level)
    for i in range(2):
        h = keras.layers.Dense(
            _LEVEL_SIZE, activation="silu", name=f"level_{i}"
        )(h)
    return h


def _modulation(embedding, channels, name):
    """Gives `[batch, 2 * channels]`, zeros in a new model."""
    return keras.layers.Dense(
        2 * channels, kernel_initializer="zeros", name=f"{name}_modulation"
    )(embedding)


def _sizes(size, levels):
    """Lists the image sizes of the levels, each half of the last."""
    sizes = [tuple(size)]
    while len(sizes) < levels and min(sizes[-1]) > _SMALLEST_SIDE:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes


def _output_dtype():
    # A mixed policy's short floats would round what the network has found.
    return keras.config.dtype_policy().variable_dtype


def _check_image_arguments(image_shape, filters, blocks):
    _check_sizes("image_shape", image_shape)
    if len(image_shape) != 3:
        raise ValueError(
            "image_shape must be (height, width, channels), got "
            f"{tuple(image_shape)}"
        )
    _check_sizes("filters", filters)
    if not is_count(blocks):
        raise ValueError(f"blocks must be an int >= 1, got {blocks!r}")


def _check_groups(groups, filters):
    if groups is None:
        return
    if not is_count(groups) or any(n % groups for n in filters):
        raise ValueError(
            "normalization_groups must be None or an int >= 1 that divides "
            f"each of filters {tuple(filters)}, got {groups!r}"
        )


def _check_sizes(name, sizes):
    if (
        not isinstance(sizes, (tuple, list))
        or not sizes
        or not all(map(is_count, sizes))
    ):
        raise ValueError(
            f"{name} must be a tuple of one or more ints >= 1, got {sizes!r}"
        )
