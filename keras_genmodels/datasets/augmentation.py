"""Flips and quarter turns of square images: the symmetries of a square."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.validation import check

# Element 4 f + k is k counter-clockwise quarter turns, and before them, if
# f = 1, a flip of left and right.
NUM_SYMMETRIES = 8
# For each turn, the steps (down, right) in the image when one goes one pixel
# down, and one to the right, in the turned image.
_OF_TURNS = (
    ((1, 0), (0, 1)),
    ((0, -1), (1, 0)),
    ((-1, 0), (0, -1)),
    ((0, 1), (-1, 0)),
)
_STEPS = np.concatenate([_OF_TURNS, np.multiply(_OF_TURNS, (1, -1))])


def flip_and_turn(images, elements):
    """Flips and turns square images, each by its own symmetry of a square.

    Args:
        images: tensor or array `[batch, side, side, channels]`.
        elements: integer tensor `[batch]` in [0, 8). Element k turns an image
            by k quarters, counter-clockwise; 4 + k flips left and right first.

    Returns:
        tensor like `images`, with the same pixels at other places.

    Raises:
        ValueError: for images of another shape.
    """
    images = tf.convert_to_tensor(images)
    sides = images.shape[1:3] if images.shape.rank == 4 else [None]
    check(
        None not in sides and len({*sides}) == 1,
        f"images must be [batch, side, side, channels], got {images.shape}",
    )
    _, height, width, channels = images.shape
    elements = tf.convert_to_tensor(elements)
    zeros = tf.zeros_like(elements, tf.int32)
    moved = tf.gather(
        tf.reshape(images, [-1, height * width, channels]),
        sources(elements, height, zeros, zeros + width),
        batch_dims=1,
    )
    return tf.reshape(moved, [-1, height, width, channels])


def sources(elements, side, corners, widths):
    """Returns where the pixels of flipped and turned squares come from.

    Each square is a part of an image whose pixels are numbered row by row.

    Args:
        elements: integer tensor `[batch]`, as of `flip_and_turn`.
        side: int, of the squares.
        corners: int32 or int64 tensor `[batch]`, numbers of the upper left
            pixels.
        widths: tensor like `corners`, of the images.

    Returns:
        tensor `[batch, side, side]` of the dtype of `corners`: number of the
        pixel that comes to each place.
    """
    dtype = corners.dtype
    strides = tf.stack([widths, tf.ones_like(widths)], axis=1)
    # An axis that is read backwards starts at its end.
    starts = (side - 1) * np.any(_STEPS < 0, axis=1)
    starts = tf.gather(tf.constant(starts, dtype), elements)
    steps = tf.gather(tf.constant(_STEPS, dtype), elements)
    firsts = corners + tf.reduce_sum(starts * strides, axis=1)
    steps = tf.reduce_sum(steps * strides[:, tf.newaxis], axis=2)
    numbers = tf.range(side, dtype=dtype)
    down, right = tf.unstack(steps[:, :, tf.newaxis] * numbers, axis=1)
    down += firsts[:, tf.newaxis]
    return down[:, :, tf.newaxis] + right[:, tf.newaxis]
