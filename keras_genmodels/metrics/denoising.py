"""How well a denoiser removes noise."""

import numpy as np

from keras_genmodels.core.arrays import as_float, map_batches
from keras_genmodels.metrics.estimates import average
from keras_genmodels.metrics.image_quality import psnr
from keras_genmodels.sampling.restoration import denoise_once

# The noise levels that denoisers are compared at, in units of pixels.
NOISE_LEVELS = (0.1, 0.25, 0.5, 1.0)

# Images that are denoised at once.
_BATCH_SIZE = 128


def noise_levels(denoiser):
    """Returns the levels of `NOISE_LEVELS` within a denoiser's range.

    If there are none, as for a model of a single level, they are the ends of
    its range.
    """
    lowest, highest = denoiser.sigma_range
    levels = [s for s in NOISE_LEVELS if lowest <= s <= highest]
    return levels or sorted({lowest, highest})


def add_noise(images, sigma, *, seed=0, first_row=0):
    """Adds Gaussian noise: sigma times `default_rng(seed).standard_normal`.

    The draw is the same for every sigma and easy to repeat; nothing is
    clipped.

    Args:
        images: floating array `[n, ...]`.
        sigma: standard deviation of the noise.
        seed: int.
        first_row: int, number of the first image, for images that are a part
            of those that noise is drawn for.

    Returns:
        array like `images`.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, first_row, _BATCH_SIZE):
        skipped = min(_BATCH_SIZE, first_row - start)
        generator.standard_normal((skipped, *images.shape[1:]))
    noise = generator.standard_normal(images.shape)
    return (images + sigma * noise).astype(images.dtype)


def denoise(denoiser, noisy, sigma, condition=None):
    """Computes D(noisy, sigma) batch by batch.

    Args:
        denoiser: as in `restoration.restore`.
        noisy: floating array `[n, ...]`.
        sigma: noise level > 0.
        condition: array `[n]` for a conditional denoiser, else None.

    Returns:
        array like `noisy`.
    """
    return map_batches(
        lambda images, part: denoise_once(denoiser, images, sigma, part),
        noisy,
        condition,
        batch_size=_BATCH_SIZE,
    )


def denoising_psnr(denoiser, images, sigmas, condition=None, *, seed=0):
    """Computes the PSNR of denoised images at several noise levels.

    Args:
        denoiser: as in `restoration.restore`.
        images: array `[n, ...]` in [0, 1], or uint8, read as value / 255.
        sigmas: the noise levels, each > 0.
        condition: as in `denoise`.
        seed: int, as in `add_noise`.

    Returns:
        dict of each level to an `Estimate` in dB.
    """
    clean = as_float(images)

    def at(sigma):
        noisy = add_noise(clean, sigma, seed=seed)
        return average(psnr(denoise(denoiser, noisy, sigma, condition), clean))

    return {sigma: at(sigma) for sigma in sigmas}
