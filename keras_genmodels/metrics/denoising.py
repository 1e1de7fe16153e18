"""How well a denoiser takes noise off."""

import numpy as np

from keras_genmodels.core.arrays import as_float, map_batches
from keras_genmodels.metrics.estimates import averages
from keras_genmodels.metrics.image_quality import psnr
from keras_genmodels.sampling.restoration import denoise_once

# The noise levels that denoisers are compared at, in units of pixels.
NOISE_LEVELS = (0.1, 0.25, 0.5, 1.0)


def noise_levels(denoiser):
    """Gives the levels of `NOISE_LEVELS` that a denoiser is made for.

    Where there are none, as for a model of a single level, the ends of its
    range.
    """
    lowest, highest = denoiser.sigma_range
    levels = [s for s in NOISE_LEVELS if lowest <= s <= highest]
    return levels or sorted({lowest, highest})


def evaluate_denoiser(denoiser, images, *, sigmas, seed=0, batch_size=128):
    """Measures how well noise is taken off, as PSNR.

    The noise is sigma times the draw of `numpy.random.default_rng(seed)`, the
    same for each sigma, so that anyone can repeat it; nothing is clipped.

    Args:
        denoiser: as in `restoration.restore`.
        images: array `[n, ...]` in [0, 1], or uint8, read as value / 255.
        sigmas: the noise levels, each > 0.
        seed: int.
        batch_size: images at a time.

    Returns:
        dict of the levels as text to dicts of floats: `psnr` and
        `noisy_psnr`, 10 log10(1 / mean squared error) of each image, averaged,
        in dB; each with its `..._standard_error`.

    Raises:
        ValueError: if there are no images.
    """
    if not len(images):
        raise ValueError("there is nothing to evaluate: no images")
    return {
        f"{sigma:g}": averages(
            _denoising(denoiser, images, sigma, seed, batch_size)
        )
        for sigma in sigmas
    }


def _denoising(denoiser, images, sigma, seed, batch_size):
    """Gives the PSNR of each image, denoised and noisy, as arrays `[n]`."""
    generator = np.random.default_rng(seed)

    def measure(images):
        clean = as_float(images)
        noise = generator.standard_normal(clean.shape)
        noisy = (clean + sigma * noise).astype(clean.dtype)
        denoised = denoise_once(denoiser, noisy, sigma)
        return {
            "psnr": psnr(denoised, clean),
            "noisy_psnr": psnr(noisy, clean),
        }

    return map_batches(measure, images, batch_size=batch_size)
