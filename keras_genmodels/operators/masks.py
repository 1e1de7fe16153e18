"""Masks of the pixels of an image that are observed."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation
from keras_genmodels.core.validation import check


def observed_quadrants(image_shape, num_quadrants):
    """Returns the mask of the quadrants of an image that are observed.

    Args:
        image_shape: (height, width, channels), both sides >= 2. If a side is
            odd, its upper or left part is the smaller one.
        num_quadrants: 1, the lower left one; 2, the left half; 3, all but the
            upper right one.

    Returns:
        bool array of `image_shape`, for `ConditionalVAE(observed_mask=...)`.

    Raises:
        ValueError: for another number, or sides below 2.

    #### References

    Sohn, Lee and Yan (2015), Learning structured output representation using
    deep conditional generative models, NeurIPS, section 5.1.
    """
    check(
        num_quadrants in (1, 2, 3),
        f"num_quadrants must be 1, 2 or 3, got {num_quadrants}",
    )
    height, width, _ = image_shape
    check(
        min(height, width) >= 2,
        f"quadrants need an image_shape with sides of at least 2, got "
        f"{height}x{width} pixels",
    )
    observed = np.zeros(image_shape, bool)
    observed[height // 2 :, : width // 2] = True
    if num_quadrants >= 2:
        observed[:, : width // 2] = True
    if num_quadrants == 3:
        observed[height // 2 :] = True
    return observed


def known_quadrants(image_shape, num_quadrants):
    """Deprecated alias of `observed_quadrants`."""
    deprecation.warn("known_quadrants", "observed_quadrants")
    return observed_quadrants(image_shape, num_quadrants)


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
