"""Sheets of images that show what a denoiser of images does."""

import numpy as np

from keras_genmodels import plots
from keras_genmodels.core.events import is_any_size
from keras_genmodels.metrics import denoising
from keras_genmodels.models import batched_sampling
from keras_genmodels.plots.attractors import singular_images
from keras_genmodels.plots.latent import MOST_LABELS, label_sheet
from keras_genmodels.sampling.restoration import denoise_once

_COLUMNS = 8
_OF_EACH_LABEL = 8
# Noise level that hides an image with pixels in [0, 1].
_HIDING_NOISE = 1.0
_GAP = 6  # white pixels between blocks of rows


def denoiser_pictures(
    denoiser,
    images,
    condition=None,
    *,
    seed,
    num_steps=None,
    label_names=None,
    labels=None,
):
    """Draws denoised images and samples of a denoiser of images.

    Args:
        denoiser: a `Denoiser` of images.
        images: float array `[n, height, width, channels]` in [0, 1]; the
            first 8 are shown.
        condition: array `[n]` of labels for a conditional denoiser, else None.
        seed: int, seed of the noise.
        num_steps: int, maximum number of steps to generate a sample; None
            for the default of `generate`.
        label_names, labels: as of `latent.pictures`.

    Returns:
        dict of names to uint8 pictures `[height, width, 3]`: `denoising`,
        `samples` (with labels a row for each of the first 20; none of a
        denoiser of images of any size whose noise does not hide them) and, for
        a denoiser with `eigenvectors`, `singular_images`.
    """
    pictures = {
        "denoising": _denoising(
            denoiser,
            images[:_COLUMNS],
            None if condition is None else condition[:_COLUMNS],
            seed,
        )
    }
    if not only_restores(denoiser):
        pictures["samples"] = (
            _samples(denoiser, seed, num_steps)
            if denoiser.condition_kind is None
            else _samples_by_label(
                denoiser, seed, num_steps, label_names, labels
            )
        )
    if hasattr(denoiser, "eigenvectors"):
        pictures["singular_images"] = singular_images(denoiser)
    return pictures


def only_restores(denoiser):
    """Returns whether a denoiser was trained for too little noise to generate.

    Args:
        denoiser: a `Denoiser`.

    Returns:
        bool, True for one of images of any size whose highest noise level does
        not hide them.
    """
    return (
        is_any_size(denoiser.event_shape)
        and denoiser.sigma_range[1] < _HIDING_NOISE
    )


def _denoising(denoiser, clean, condition, seed):
    """Draws a row of clean images, then noisy and denoised per level."""
    rows = [clean]
    for sigma in denoising.noise_levels(denoiser):
        noise = np.random.default_rng(seed).standard_normal(clean.shape)
        noisy = (clean + sigma * noise).astype(clean.dtype)
        rows += [noisy, denoise_once(denoiser, noisy, sigma, condition)]
    levels = ", ".join(f"{s:g}" for s in denoising.noise_levels(denoiser))
    return plots.titled(
        plots.image_grid(np.concatenate(rows), len(clean)),
        f"Clean; then noisy above denoised for each sigma: {levels}",
    )


def _samples(denoiser, seed, num_steps):
    images = denoiser.sample(64, seed=seed, num_steps=num_steps)
    return plots.titled(
        plots.image_grid(images),
        "Generated from noise",
    )


def _samples_by_label(denoiser, seed, num_steps, names, labels):
    labels = (labels or range(denoiser.num_classes))[:MOST_LABELS]
    images = batched_sampling.sample_each_label(
        denoiser,
        _OF_EACH_LABEL,
        seed=seed,
        labels=labels,
        num_steps=num_steps,
    )
    return label_sheet(images, names, labels, "starts from the same noise")


def before_and_after(rows):
    """Draws versions of the same images below one another.

    Args:
        rows: dict of names to float arrays `[n, height, width, channels]`,
            such as the noisy, the restored and the original images.

    Returns:
        uint8 picture `[height, width, 3]`: a block with one row per version
        for the first 8 images, a block for the next 8, and so on.
    """
    total = len(next(iter(rows.values())))
    blocks = []
    for start in range(0, total, _COLUMNS):
        parts = [images[start : start + _COLUMNS] for images in rows.values()]
        count = min(_COLUMNS, total)
        padding = [(0, count - len(parts[0])), *[(0, 0)] * 3]
        tiles = [np.pad(part, padding, constant_values=1) for part in parts]
        block = plots.image_grid(np.concatenate(tiles), count)
        blocks.append(
            np.pad(block, [(0, _GAP), (0, 0), (0, 0)], constant_values=255)
        )
    return plots.titled(
        np.concatenate(blocks)[:-_GAP],
        f"Rows of each block: {', '.join(rows)}",
    )
