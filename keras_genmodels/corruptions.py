"""What is done to clean events: seeded noise, and parts cut away."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import as_floating, as_sigma, per_event


def gaussian(x, sigma, *, seed):
    """Adds Gaussian noise, x + sigma eps.

    Args:
        x: floating tensor or array `[batch, ...]`.
        sigma: standard deviation of the noise, > 0: scalar or `[batch]`.
        seed: int, int32 `[2]` or `[batch, 2]`; row i depends on the i-th row
            seed alone.

    Returns:
        tensor like `x`; not clipped.

    Raises:
        UserError: for x of integer type, and for a sigma of another shape or
            not > 0.
    """
    x = as_floating(x)
    rows = seeds.row_seeds(seed, tf.shape(x)[0])
    eps = seeds.normal(rows, x.shape[1:], x.dtype)
    return x + per_event(as_sigma(sigma, x), x) * eps


def known_quadrants(image_shape, num_quadrants):
    """Marks the quadrants of an image that are given; a model has the rest.

    Args:
        image_shape: (height, width, channels), both sides >= 2. Of an odd
            side the upper or left part is the smaller one.
        num_quadrants: 1, the lower left one; 2, the left half; 3, all but the
            upper right one.

    Returns:
        bool array of `image_shape`, for `ConditionalVAE(known=...)`.

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
