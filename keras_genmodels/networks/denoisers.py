"""Networks of denoisers, from noisy events to events of the same shape.

They are plain Keras models. The meaning of their output is up to the caller:
a `DenoisingAutoencoder` takes it as the noise, or preconditions it.
"""

import math

import keras

from keras_genmodels.core import deprecation
from keras_genmodels.core.validation import check, check_count, is_count
from keras_genmodels.networks import unet_parts
from keras_genmodels.networks.embeddings import embedded_inputs, modulations
from keras_genmodels.networks.encoders import (
    CHANNELS_LAST,
    input_layer,
    weights_dtype,
)
from keras_genmodels.networks.layers import FiLM

_OLD_NAMES = {"conditional": "noise_conditional"}


@deprecation.accept_old_arguments(
    _OLD_NAMES,
    ("noise_conditional", "filters", "blocks", "normalization_groups"),
)
def unet(
    image_shape,
    *,
    noise_conditional=True,
    num_classes=None,
    filters=(32, 64, 128),
    blocks=2,
    stem_stride=1,
    attention_levels=0,
    normalization_groups=None,
):
    """Builds a residual U-Net for images of any size.

    Each of `filters` is a level of half the size of the one before; levels
    smaller than 2 pixels are left out. A residual block is two 3x3
    convolutions with a scale and shift by noise level and label and a ReLU
    between them. The way up adds the activations of the way down.

    Args:
        image_shape: (height, width, channels), each >= 1; or (None, None,
            channels) for images of any size whose sides are at least the
            total stride, 2 to the number of levels less one, times
            `stem_stride`. Others are padded by reflection to multiples of it,
            and cropped back.
        noise_conditional: whether the noise level is an input.
        num_classes: int >= 1 if class labels are an input, else None.
        filters: channels of each level, from the first down, each >= 1.
        blocks: int >= 1, residual blocks per level, both down and up.
        stem_stride: a power of 2, side of the squares of pixels that are one
            pixel of the first level: the first convolution has this stride,
            and the last one returns all pixels of a square as channels. With
            2 the same `filters` are about three times as fast.
        attention_levels: int >= 0, number of levels, from the smallest up,
            with self-attention after each residual block, one head for every
            32 channels; 0 for images of any size.
        normalization_groups: deprecated; None, or the number of groups of a
            `ChannelNormalization` in each block, a divisor of all `filters`.

    Returns:
        Functional `keras.Model`. It maps `x`, or a list of `x`, the level if
        `noise_conditional` and the label with `num_classes`, to an image: `x`
        and the image `[batch, height, width, channels]`; the level `[batch]`,
        ln(sigma) / 4 of the noise's standard deviation sigma; the label
        `[batch]`, integers in [0, `num_classes`], the last of which is "no
        label". A new model returns zeros. The image is float32 under a mixed
        dtype policy.

    Raises:
        ValueError: for an argument out of range.

    #### References

    Ronneberger et al. (2015), U-Net, arXiv:1505.04597. Zhang et al. (2021),
    Plug-and-play image restoration with deep denoiser prior (residual blocks
    without normalisation), arXiv:2008.13751. Karras et al. (2022),
    Elucidating the design space of diffusion-based generative models
    (the level), arXiv:2206.00364. Zhang, Zuo and Zhang (2018), FFDNet (squares
    of pixels as channels), arXiv:1710.04026.
    """
    _check_image_arguments(image_shape, filters, blocks, stem_stride)
    if normalization_groups is not None:
        deprecation.warn(
            "normalization_groups", "unet without it", stacklevel=4
        )
        _check_groups(normalization_groups, filters)
    inputs, embedding = embedded_inputs(
        image_shape, noise_conditional, num_classes
    )

    check_count("attention_levels", attention_levels, least=0)
    check(
        attention_levels == 0 or None not in image_shape,
        "attention_levels requires images of one size, got image_shape="
        f"{tuple(image_shape)}",
    )
    sizes = unet_parts.level_sizes(image_shape[:2], len(filters), stem_stride)
    attentive = sizes[::-1][:attention_levels]
    channels = unet_parts.channels_of_blocks(filters[: len(sizes)], blocks)
    modulation = iter(modulations(embedding, channels))

    def block(h, name):
        size = tuple(h.shape[1:3])
        h = unet_parts.residual_block(
            h, next(modulation), normalization_groups, name
        )
        return unet_parts.attention(h, name) if size in attentive else h

    y = unet_parts.u_shape(
        inputs[0], filters, blocks, stem_stride, block, use_bias=True
    )
    return _network(inputs, y, "unet")


def bias_free_unet(
    image_shape, filters=(32, 64, 128), blocks=2, *, stem_stride=1
):
    """Builds a U-Net F without additive constants: F(a x) = a F(x), a > 0.

    So is the denoiser x - F(x), which does not need the noise level and
    generalises to levels other than those of training. It is `unet` without
    biases and modulation; ReLU is homogeneous.

    Args:
        image_shape: as for `unet`.
        filters: channels of each level, from the first down, each >= 1.
        blocks: int >= 1, residual blocks per level, both down and up.
        stem_stride: as for `unet`.

    Returns:
        Functional `keras.Model`, `[batch, height, width, channels]` to the
        same shape, float32 under a mixed dtype policy. A new model returns
        zeros.

    Raises:
        ValueError: for an argument out of range.

    #### References

    Mohan et al. (2020), Robust and interpretable blind image denoising via
    bias-free convolutional neural networks, arXiv:1906.05478.
    """
    _check_image_arguments(image_shape, filters, blocks, stem_stride)
    x = input_layer(image_shape)
    y = unet_parts.u_shape(
        x,
        filters,
        blocks,
        stem_stride,
        unet_parts.bias_free_block,
        use_bias=False,
    )
    return keras.Model(x, y, name="bias_free_unet")


@deprecation.accept_old_arguments(
    _OLD_NAMES, ("noise_conditional", "hidden_sizes")
)
def mlp_denoiser(
    event_shape,
    *,
    noise_conditional=True,
    num_classes=None,
    hidden_sizes=(512, 512),
):
    """Builds a fully connected network from events to events of any rank.

    Each hidden layer is scaled and shifted by noise level and label, then
    SiLU.

    Args:
        event_shape: shape of one event, each side >= 1.
        noise_conditional, num_classes: as for `unet`.
        hidden_sizes: widths of the hidden layers, each >= 1.

    Returns:
        Functional `keras.Model` with the inputs of `unet`; `x` and the result
        are `[batch, *event_shape]`. A new model returns zeros. The event is
        float32 under a mixed dtype policy.

    Raises:
        ValueError: for an argument out of range.
    """
    _check_sizes("event_shape", event_shape)
    _check_sizes("hidden_sizes", hidden_sizes)
    inputs, embedding = embedded_inputs(
        event_shape, noise_conditional, num_classes
    )
    h = keras.layers.Flatten(data_format=CHANNELS_LAST)(inputs[0])
    modulation = modulations(embedding, hidden_sizes)
    for i, size in enumerate(hidden_sizes):
        h = _hidden_layer(size, f"hidden_{i}")(h)
        if embedding is not None:
            h = FiLM(name=f"hidden_{i}_modulated")([h, modulation[i]])
        h = keras.layers.Activation("silu")(h)
    h = keras.layers.Dense(
        math.prod(event_shape),
        kernel_initializer="zeros",
        dtype=weights_dtype(),
        name="output",
    )(h)
    y = keras.layers.Reshape(tuple(event_shape), dtype=weights_dtype())(h)
    return _network(inputs, y, "mlp_denoiser")


def _hidden_layer(size, name):
    # Keras' default also divides by the outputs and has zero biases: wide
    # layers of few inputs would start nearly linear.
    return keras.layers.Dense(
        size,
        kernel_initializer=keras.initializers.VarianceScaling(2.0),
        bias_initializer=keras.initializers.RandomNormal(stddev=0.5),
        name=name,
    )


def _network(inputs, y, name):
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], y, name=name)


def _check_image_arguments(image_shape, filters, blocks, stem_stride):
    check(
        isinstance(image_shape, tuple | list)
        and len(image_shape) == 3
        and is_count(image_shape[2])
        and (
            tuple(image_shape[:2]) == (None, None)
            or all(map(is_count, image_shape[:2]))
        ),
        "image_shape must be (height, width, channels) or (None, None, "
        f"channels), each an int >= 1, got {image_shape!r}",
    )
    _check_sizes("filters", filters)
    check_count("blocks", blocks)
    check(
        is_count(stem_stride) and stem_stride.bit_count() == 1,
        f"stem_stride must be a power of 2, got {stem_stride!r}",
    )


def _check_groups(groups, filters):
    check(
        is_count(groups) and all(n % groups == 0 for n in filters),
        "normalization_groups must be None or an int >= 1 that divides each "
        f"of filters {tuple(filters)}, got {groups!r}",
    )


def _check_sizes(name, sizes):
    check(
        isinstance(sizes, tuple | list) and sizes and all(map(is_count, sizes)),
        f"{name} must be a tuple of one or more ints >= 1, got {sizes!r}",
    )
