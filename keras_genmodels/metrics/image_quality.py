"""PSNR and SSIM of images against the truth."""

import numpy as np
import skimage.metrics

from keras_genmodels.core.errors import NotMeasured

# Side in pixels of SSIM's sliding window.
SSIM_WINDOW = 7


def psnr(images, truth):
    """Computes the PSNR of each image, 10 log10(1 / mean squared error).

    Args:
        images: array or tensor `[n, ...]`.
        truth: the same, in [0, 1].

    Returns:
        float64 array `[n]`, dB; infinite where there is no error.
    """
    difference = np.asarray(images, np.float64) - np.asarray(truth, np.float64)
    errors = (difference.reshape(len(difference), -1) ** 2).mean(1)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(errors)


def ssim(images, truth):
    """Computes the structural similarity of each image to the truth.

    With scikit-image's defaults: windows of 7 x 7 pixels.

    Args:
        images: float array `[n, height, width, channels]`.
        truth: the same, in [0, 1].

    Returns:
        float64 array `[n]`, at most 1.

    Raises:
        NotMeasured: if an image is smaller than the window.

    #### References

    Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment, IEEE
    Transactions on Image Processing 13.
    """
    height, width = truth.shape[1:3]
    if min(height, width) < SSIM_WINDOW:
        raise NotMeasured(
            f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} "
            f"pixels, got {height} x {width}"
        )
    return np.array(
        [
            skimage.metrics.structural_similarity(
                image, true, data_range=1.0, channel_axis=-1
            )
            for image, true in zip(images, truth, strict=True)
        ]
    )
