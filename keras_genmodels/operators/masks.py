"""Masks: which pixels of an image are observed."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.errors import UserError


def known_quadrants(image_shape, num_quadrants):
    """Marks the quadrants of an image that are given; a model has the rest.

    Args:
        image_shape: (height, width, channels), both sides >= 2. Of an odd
            side the upper or left part is the smaller one.
        num_quadrants: 1, the lower left one; 2, the left half; 3, all but the
            upper right one.

    Returns:
        bool array of `image_shape`, for `ConditionalVAE(observed_mask=...)`.

    Raises:
        UserError: for another number, or an image without quadrants.

    #### References

    Sohn, Lee and Yan (2015), Learning structured output representation using
    deep conditional generative models, NeurIPS, section 5.1.
    """
    if num_quadrants not in (1, 2, 3):
        raise UserError(f"num_quadrants must be 1, 2 or 3, got {num_quadrants}")
    height, width, _ = image_shape
    if min(height, width) < 2:
        raise UserError(
            f"an image of {height}x{width} pixels has no quadrants: both "
            "sides must be at least 2"
        )
    known = np.zeros(image_shape, bool)
    known[height // 2 :, : width // 2] = True
    if num_quadrants >= 2:
        known[:, : width // 2] = True
    if num_quadrants == 3:
        known[height // 2 :] = True
    return known


def fill_unobserved(x, mask, values):
    """Replaces the entries of events that are not observed.

    Args:
        x: array or tensor `[batch, *event_shape]`.
        mask: bool array, which entries of x are kept; None for none.
        values: array, tensor or number that broadcasts to x.

    Returns:
        x where `mask` is true, else `values`: a tensor, of the dtype of
        `values`, if one of them is a tensor.
    """
    if mask is None:
        return values
    if tf.is_tensor(values):
        return tf.where(mask, tf.cast(x, values.dtype), values)
    if tf.is_tensor(x):
        return tf.where(mask, x, tf.cast(values, x.dtype))
    return np.where(mask, x, values)
