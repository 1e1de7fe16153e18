"""Arrays of images."""

import numpy as np


def as_float(images):
    """Reads uint8 images as value / 255, float32."""
    if images.dtype == np.uint8:
        return images / np.float32(255)
    return images
