"""How far the pixels are that a pixel of a network's output depends on."""

import weakref
from typing import NamedTuple

import keras

from keras_genmodels.core.validation import check
from keras_genmodels.networks.layers import DepthToSpace, FiLM
from keras_genmodels.networks.sizes import (
    CropLike,
    PadToMultiple,
    smallest_side,
)

# Layers whose output has the pixels of their first input.
_OF_ONE_PIXEL = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dropout,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    CropLike,
    FiLM,
    PadToMultiple,
)


# By network: it is copied to find its reach, which takes as long as a tile.
_reaches = weakref.WeakKeyDictionary()


class Reach(NamedTuple):
    """The pixels of the input that a pixel of the output depends on.

    A pixel in row r depends on rows from r - `before` to r + `after` at most,
    and so for columns. Shifting the input by a multiple of `stride` shifts the
    output.

    Args:
        before, after: int >= 0.
        stride: int >= 1.
    """

    before: int
    after: int
    stride: int


class _Pixels(NamedTuple):
    """Pixel r of a tensor depends on [r scale - before, r scale + after]."""

    scale: int
    before: int
    after: int


def reach_of(network):
    """Computes how far the pixels are that a pixel of the output depends on.

    Images padded by reflection at the bottom and right count as if they were
    larger.

    Args:
        network: functional `keras.Model` whose first input is images
            `[batch, height, width, channels]`, such as `unet`.

    Returns:
        `Reach`, of the direction that reaches further.

    Raises:
        ValueError: for layers whose reach is not finite or not known, such as
            attention; for strides without a `PadToMultiple` of the total one;
            and for a network that is no functional model.
    """
    check(
        isinstance(network, keras.Model) and hasattr(network, "operations"),
        f"the reach of a {type(network).__name__} is not known: it must be a "
        "functional Keras model",
    )
    if network not in _reaches:
        _reaches[network] = _compute(network)
    return _reaches[network]


def _compute(network):
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), network.input
    )
    first = keras.tree.flatten(inputs)[0]
    # With the tensors, whose ids are only theirs as long as they live.
    known = {id(first): (first, _Pixels(1, 0, 0))}

    def follow(layer, *args, **kwargs):
        given = [
            known[id(x)][1]
            for x in keras.tree.flatten((args, kwargs))
            if id(x) in known
        ]
        output = layer(*args, **kwargs)
        if given:
            known[id(output)] = (output, _through(layer, given))
        return output

    clone = keras.models.clone_model(
        network, input_tensors=inputs, call_function=follow
    )
    _, end = known[id(clone.outputs[0])]
    check(
        end.scale == 1, "the network's output has another size than its input"
    )
    stride = max(pixels.scale for _, pixels in known.values())
    # Of other sides, TensorFlow's padding shifts strided convolutions.
    check(
        smallest_side(network) % stride == 0,
        f"the reach of a network with a total stride of {stride} is known only "
        f"if its images are padded by PadToMultiple({stride})",
    )
    return Reach(end.before, end.after, stride)


def _through(layer, given):
    """Returns what the pixels of a layer's output depend on."""
    scale, *others = {pixels.scale for pixels in given}
    _require(not others, layer)
    before = max(pixels.before for pixels in given)
    after = max(pixels.after for pixels in given)
    if isinstance(layer, keras.layers.Conv2D):
        return _through_convolution(layer, _Pixels(scale, before, after))
    if isinstance(layer, DepthToSpace):
        _require(scale % 2 == 0, layer)
        return _Pixels(scale // 2, before + scale // 2, after)
    _require(isinstance(layer, _OF_ONE_PIXEL), layer)
    if isinstance(layer, keras.layers.Concatenate):
        _require(layer.axis in (-1, 3), layer)
    return _Pixels(scale, before, after)


def _through_convolution(layer, pixels):
    (stride, *strides), extents = (
        {*layer.strides},
        {
            dilation * (size - 1) + 1
            for size, dilation in zip(
                layer.kernel_size, layer.dilation_rate, strict=True
            )
        },
    )
    extent = max(extents)
    _require(not strides and (layer.padding == "same" or extent == 1), layer)
    # As TensorFlow pads images whose sides are multiples of the stride.
    before = max(extent - stride, 0) // 2
    after = max(extent - 1 - before, 0)
    return _Pixels(
        pixels.scale * stride,
        pixels.before + pixels.scale * before,
        pixels.after + pixels.scale * after,
    )


def _require(condition, layer):
    check(
        condition,
        f"the reach of the layer {layer.name} ({type(layer).__name__}) is not "
        "finite or not known",
    )
