"""What a denoiser of images does, as pictures for a person."""

import numpy as np

from keras_genmodels import evaluation, plots
from keras_genmodels.restoration import generate, restore

_COLUMNS = 8


def denoiser_pictures(denoiser, images, *, seed, num_steps=100):
    """Draws what a denoiser of images does.

    Args:
        denoiser: a `Denoiser` of images.
        images: float array `[n, height, width, channels]` in [0, 1]; the
            first 8 are shown.
        seed: int, of the noise.
        num_steps: steps of the walks from noise.

    Returns:
        dict of names to uint8 pictures: `denoising` and `samples`.
    """
    return {
        "denoising": _denoising(denoiser, images[:_COLUMNS], seed),
        "samples": _samples(denoiser, images.shape[1:], seed, num_steps),
    }


def _denoising(denoiser, clean, seed):
    """Rows of images: clean, then noisy and denoised at each level."""
    rows = [clean]
    for sigma in evaluation.noise_levels(denoiser):
        noise = np.random.default_rng(seed).standard_normal(clean.shape)
        noisy = (clean + sigma * noise).astype(clean.dtype)
        rows += [noisy, denoise(denoiser, noisy, sigma)]
    levels = ", ".join(f"{s:g}" for s in evaluation.noise_levels(denoiser))
    return plots.titled(
        plots.image_grid(np.concatenate(rows), len(clean)),
        f"Images, then each noisy above denoised: sigma {levels}",
    )


def _samples(denoiser, shape, seed, num_steps):
    images = generate(denoiser, shape, 64, seed=seed, num_steps=num_steps)
    return plots.titled(
        plots.image_grid(images), f"From noise, in at most {num_steps} steps"
    )


def before_and_after(rows):
    """Tiles images so that those of one column belong together.

    Args:
        rows: list of float arrays `[n, height, width, channels]`, such as the
            truth, the noisy and the restored images.

    Returns:
        uint8 picture: the rows of the first 8 images, those of the next...
    """
    count = min(_COLUMNS, len(rows[0]))
    missing = -len(rows[0]) % count
    padding = [(0, missing), *[(0, 0)] * (rows[0].ndim - 1)]
    shape = (-1, 1, count, *rows[0].shape[1:])
    blocks = [
        np.pad(row, padding, constant_values=1).reshape(shape) for row in rows
    ]
    tiles = np.concatenate(blocks, axis=1)
    return plots.image_grid(tiles.reshape(-1, *rows[0].shape[1:]), count)


def denoise(denoiser, noisy, sigma):
    """Denoises once, in the compiled loop: an array like `noisy`."""
    return restore(
        denoiser, noisy, sigma=sigma, step_size=1.0, max_steps=1
    ).x.numpy()
