"""How like the truth images are: PSNR and SSIM."""

import numpy as np
import skimage.metrics

# The least side of an image that SSIM's window fits into.
SSIM_WINDOW = 7


def psnr(images, truth):
    """Gives 10 log10(1 / mean squared error) of each image, in dB.

    Args:
        images: array or tensor `[n, ...]`.
        truth: the same, in [0, 1].

    Returns:
        float64 array `[n]`; infinite where there is no error.
    """
    difference = np.asarray(images, np.float64) - np.asarray(truth, np.float64)
    errors = (difference.reshape(len(difference), -1) ** 2).mean(1)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(errors)


def ssim(images, truth):
    """Gives the structural similarity of each image to the truth.

    With scikit-image's defaults: windows of 7 x 7 pixels.

    Args:
        images: float array `[n, height, width, channels]`, sides >= 7.
        truth: the same, in [0, 1].

    Returns:
        float64 array `[n]`, at most 1.

    #### References

    Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment, IEEE
    Transactions on Image Processing 13.
    """
    return np.array(
        [
            skimage.metrics.structural_similarity(
                image, true, data_range=1.0, channel_axis=-1
            )
            for image, true in zip(images, truth, strict=True)
        ]
    )
