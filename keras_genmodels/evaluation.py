"""(model, data) in, numbers with standard errors out."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels import seeds
from keras_genmodels.restoration import denoise_once

# The noise levels that denoisers are compared at, in units of pixels.
NOISE_LEVELS = (0.1, 0.25, 0.5, 1.0)


def evaluate_bound(model, batches, *, seed):
    """Measures the evidence lower bound over a data set.

    Args:
        model: a `VAE`.
        batches: iterable of float tensors `[batch, *event_shape]`.
        seed: int or int32 `[2]`. The draw for example i depends on i alone,
            so that the figures do not depend on the batch size.

    Returns:
        dict of floats, nats per example: `elbo`, `rate` and `distortion`,
        each with its `..._standard_error`; and the int `num_examples`.

    Raises:
        ValueError: if there is no example.
    """
    seed = seeds.as_seed(seed)
    terms = tf.function(
        lambda x, rows: _without_image(model.elbo_terms(x, seed=rows)),
        reduce_retracing=True,
        autograph=False,
    )
    parts, start = [], 0
    for x in batches:
        parts.append(terms(x, seeds.row_seeds(seed, len(x), start)))
        start += len(x)
    if not start:
        raise ValueError("there is nothing to evaluate: no batches")
    values = {
        name: np.concatenate([part[name] for part in parts]).astype(np.float64)
        for name in parts[0]
    }
    values = {"elbo": -(values["rate"] + values["distortion"]), **values}
    return {**_averages(values), "num_examples": start}


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
        f"{sigma:g}": _averages(
            _denoising(denoiser, images, sigma, seed, batch_size)
        )
        for sigma in sigmas
    }


def _denoising(denoiser, images, sigma, seed, batch_size):
    """Gives the PSNR of each image, denoised and noisy, as arrays `[n]`."""
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, len(images), batch_size):
        clean = as_float(images[start : start + batch_size])
        noise = generator.standard_normal(clean.shape)
        noisy = (clean + sigma * noise).astype(clean.dtype)
        denoised = denoise_once(denoiser, noisy, sigma)
        parts.append(
            {"psnr": psnr(denoised, clean), "noisy_psnr": psnr(noisy, clean)}
        )
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def as_float(images):
    """Reads uint8 images as value / 255, float32."""
    if images.dtype == np.uint8:
        return images / np.float32(255)
    return images


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


def bits_per_dimension(nats, event_size):
    """Turns nats per event into bits per entry of the event."""
    return nats / (event_size * math.log(2))


def _without_image(terms):
    return {name: terms[name] for name in ("rate", "distortion")}


def _averages(values):
    """Averages `[n]` arrays, with the standard errors of the averages."""
    averages = {}
    for name, value in values.items():
        averages[name] = float(np.mean(value))
        averages[f"{name}_standard_error"] = float(
            np.std(value) / math.sqrt(len(value))
        )
    return averages
