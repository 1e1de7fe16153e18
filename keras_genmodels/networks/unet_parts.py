"""The parts of the U-Nets of denoisers: their levels and residual blocks."""

import math

import keras

from keras_genmodels.networks.channel_normalization import ChannelNormalization
from keras_genmodels.networks.encoders import CHANNELS_LAST, weights_dtype
from keras_genmodels.networks.layers import DepthToSpace, FiLM, SelfAttention
from keras_genmodels.networks.sizes import CropLike, PadToMultiple

_SMALLEST_SIDE = 2
_CHANNELS_PER_HEAD = 32


def u_shape(x, filters, blocks, stem_stride, block, use_bias):
    """Builds the levels of a U-Net, down and up.

    Args:
        x: symbolic tensor `[batch, height, width, channels]`.
        filters, blocks, stem_stride: as of `denoisers.unet`.
        block: function of the activations and a name that builds a residual
            block, which keeps their shape.
        use_bias: whether the other layers have biases.

    Returns:
        symbolic tensor like `x`, in the precision of the weights.
    """
    sizes = level_sizes(x.shape[1:3], len(filters), stem_stride)
    h = x
    if is_free := None in x.shape[1:3]:
        total_stride = stem_stride * 2 ** (len(sizes) - 1)
        h = PadToMultiple(total_stride, name="padded")(x)
    elif any(missing := [-side % stem_stride for side in x.shape[1:3]]):
        # The stem would otherwise be shifted against its squares.
        h = keras.layers.ZeroPadding2D(
            [(0, n) for n in missing], data_format=CHANNELS_LAST, name="padded"
        )(x)
    h = _convolution(filters[0], use_bias, "stem", stride=stem_stride)(h)
    skips = []
    for i in range(len(sizes) - 1):
        h = _repeat(block, h, blocks, f"down_{i}")
        skips.append(h)
        h = keras.layers.Conv2D(
            filters[i + 1],
            2,
            strides=2,
            padding="same",
            data_format=CHANNELS_LAST,
            use_bias=use_bias,
            name=f"down_{i}",
        )(h)
    h = _repeat(block, h, blocks, "middle")
    for i in reversed(range(len(skips))):
        h = _upsample(h, filters[i], sizes[i], use_bias, f"up_{i}")
        h = keras.layers.Add(name=f"skip_{i}")([h, skips[i]])
        h = _repeat(block, h, blocks, f"up_{i}")
    # 1x1: a 3x3 convolution to 1 channel costs half of one to 32 channels.
    y = keras.layers.Conv2D(
        stem_stride**2 * x.shape[-1],
        1,
        data_format=CHANNELS_LAST,
        use_bias=use_bias,
        kernel_initializer="zeros",
        dtype=weights_dtype(),
        name="output",
    )(keras.layers.ReLU()(h))
    y = _to_pixels(y, stem_stride, x.shape[1:3], dtype=weights_dtype())
    if is_free:
        return CropLike(dtype=weights_dtype(), name="cropped")([y, x])
    return y


def _repeat(block, h, count, name):
    for j in range(count):
        h = block(h, f"{name}_block_{j}")
    return h


def channels_of_blocks(filters, blocks):
    """Returns the channels of each residual block, as `u_shape` builds them.

    Args:
        filters: channels of each level that the U-Net has.
        blocks: int >= 1, residual blocks per level, both down and up.
    """
    levels = [*filters, *reversed(filters[:-1])]
    return [channels for channels in levels for _ in range(blocks)]


def residual_block(h, modulation, groups, name):
    """Adds a residual: convolution, modulation and ReLU, convolution.

    Args:
        h: symbolic tensor, the activations.
        modulation: `[batch, 2 * channels]` by noise level and label, None
            without both.
        groups: of a `ChannelNormalization`, None for none.
        name: of the block.

    Returns:
        symbolic tensor like `h`.
    """
    filters = h.shape[-1]
    # Modulation and normalisation have a shift of their own.
    use_bias = modulation is None and groups is None
    y = _convolution(filters, use_bias, f"{name}_in")(h)
    if modulation is not None:
        y = [y, modulation]
    if groups is not None:
        config = {"groups": groups, "name": f"{name}_normalized"}
        y = ChannelNormalization.from_config(config)(y)
    elif modulation is not None:
        y = FiLM(name=f"{name}_modulated")(y)
    y = keras.layers.ReLU()(y)
    y = _convolution(filters, True, f"{name}_out", gain=0.1)(y)
    return keras.layers.Add(name=name)([h, y])


def attention(h, name):
    """Adds self-attention to activations, one head for every 32 channels."""
    heads = max(h.shape[-1] // _CHANNELS_PER_HEAD, 1)
    while h.shape[-1] % heads:
        heads -= 1
    return SelfAttention(heads, name=f"{name}_attention")(h)


def bias_free_block(h, name):
    """Adds a residual without biases: convolution, ReLU, convolution."""
    filters = h.shape[-1]
    y = _convolution(filters, False, f"{name}_in")(h)
    y = keras.layers.ReLU()(y)
    y = _convolution(filters, False, f"{name}_out", gain=0.1)(y)
    return keras.layers.Add(name=name)([h, y])


def _upsample(h, filters, size, use_bias, name):
    """Doubles the size of `h` and crops it to `size`."""
    h = keras.layers.Conv2D(
        4 * filters,
        1,
        data_format=CHANNELS_LAST,
        use_bias=use_bias,
        name=name,
    )(h)
    return _to_pixels(h, 2, size)


def _to_pixels(h, stride, size, **config):
    """Takes channels as `stride` x `stride` pixels, and crops to `size`."""
    if stride == 1:
        return h
    for _ in range(_log2(stride)):
        h = DepthToSpace(**config)(h)
    if None in size:
        return h
    excess = [(0, n - m) for n, m in zip(h.shape[1:3], size, strict=True)]
    if excess == [(0, 0), (0, 0)]:
        return h
    return keras.layers.Cropping2D(excess, data_format=CHANNELS_LAST, **config)(
        h
    )


def _log2(n):
    return n.bit_length() - 1


def _convolution(filters, use_bias, name, gain=1.0, stride=1):
    # Factor 2 for ReLU; a small gain makes residual blocks start near the
    # identity, so that no normalisation is needed.
    initializer = keras.initializers.VarianceScaling(2.0 * gain)
    return keras.layers.Conv2D(
        filters,
        3 * stride,
        strides=stride,
        padding="same",
        data_format=CHANNELS_LAST,
        use_bias=use_bias,
        kernel_initializer=initializer,
        name=name,
    )


def level_sizes(size, levels, stem_stride):
    """Returns the image sizes of the levels, each half of the one before."""
    if None in size:
        return [tuple(size)] * levels
    sizes = [tuple(math.ceil(side / stem_stride) for side in size)]
    while len(sizes) < levels and min(sizes[-1]) > _SMALLEST_SIDE:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes
