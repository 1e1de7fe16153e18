"""Restores images and writes files and figures for a person to look at."""

import numpy as np

from keras_genmodels import plots
from keras_genmodels.core import arrays as arrays_lib
from keras_genmodels.core import files, seeds, wording
from keras_genmodels.datasets import pictures
from keras_genmodels.metrics import estimates, image_quality
from keras_genmodels.metrics.estimates import average
from keras_genmodels.operators import noise
from keras_genmodels.plots import denoiser as denoiser_plots
from keras_genmodels.plots.attractors import restoration_rows
from keras_genmodels.sampling.restoration import TOLERANCE, restore

# Images, and their pixels, that are restored at once.
_BATCH_SIZE = 256
_MOST_PIXELS = 2**20
# Images in the figures.
_NUM_SHOWN = 32
_NUM_TRAJECTORIES = 6
# Sides of the part of an image whose trajectory is shown.
_LARGEST_SHOWN = 256


def restore_images(
    denoiser,
    images,
    output,
    *,
    condition=None,
    names=None,
    truth_known=False,
    add_noise=0.0,
    seed=0,
    first_row=0,
    suffix="",
    extra=None,
    tolerance=TOLERANCE,
    **settings,
):
    """Restores images and writes the results to a folder.

    Args:
        denoiser: a `Denoiser` of images.
        images: array `[n, height, width, channels]` in [0, 1], or uint8 (read
            as value / 255).
        output: pathlib.Path of the folder.
        condition: array `[n]` for a conditional denoiser, else None.
        names: for each image a relative path ending in .png, under which it
            is written, with 8 bits if `images` are uint8, else 16; None for no
            such files.
        truth_known: whether `images`, before noise is added, are clean.
        add_noise: standard deviation of the noise to add first, >= 0.
        seed: int, of that noise.
        first_row: int, number of the first image, for images that are part of
            a larger job: the noise of image i depends on `seed` and
            `first_row` + i.
        suffix: str, added to the names of the files, but for images/.
        extra: dict of further arrays of the .npz file.
        tolerance: as in `restore`.
        **settings: other arguments of `restore`.

    Returns:
        str, a summary in a few lines.

    Raises:
        ValueError: as `restore`.
    """
    clean = arrays_lib.as_float(images)
    noisy = clean
    if add_noise:
        rows = seeds.row_seeds(seed, len(clean), first_row)
        noisy = noise.gaussian(clean, add_noise, seed=rows).numpy()
    settings["tolerance"] = tolerance
    arrays = _restore_all(denoiser, noisy, condition, settings)
    restored = arrays["image"]
    files.write_arrays(
        output / f"restored{suffix}.npz", **arrays, **(extra or {})
    )
    bits = 8 if images.dtype == np.uint8 else 16
    for name, image in zip(names or [], restored, strict=False):
        pictures.write(output / "images" / name, np.array(image), bits)
    truth = clean if truth_known and add_noise else None
    sheet, steps = _draw(denoiser, noisy, condition, restored, truth, settings)
    plots.save_png(output / f"before_after{suffix}.png", sheet)
    plots.save_png(output / f"steps{suffix}.png", steps)
    lines = [_convergence(arrays, tolerance)]
    if truth_known:
        lines += _quality(noisy, restored, clean)
    count = wording.count_of(len(restored), "image")
    lines.append(
        f"{count} in {output}: before_after{suffix}.png, "
        f"steps{suffix}.png, restored{suffix}.npz"
        + (", images/" if names else "")
    )
    return "\n".join(lines)


def images_at_once(shape):
    """Returns how many images are restored at once.

    Args:
        shape: `(height, width, channels)` of the images.
    """
    return min(_BATCH_SIZE, max(1, _MOST_PIXELS // (shape[0] * shape[1])))


def _restore_all(denoiser, noisy, condition, settings):
    """Restores in batches; returns the arrays of restored.npz."""

    def restored(noisy, condition):
        result = restore(denoiser, noisy, condition=condition, **settings)
        return {
            "image": result.x,
            "num_steps": result.num_steps,
            "residual": result.residual,
        }

    return arrays_lib.map_batches(
        restored, noisy, condition, batch_size=images_at_once(noisy.shape[1:])
    )


def _draw(denoiser, noisy, condition, restored, truth, settings):
    """Draws a figure of many images, and one of a few trajectories."""
    rows = {"input": noisy, "restored": restored}
    if truth is not None:
        rows = {"with noise": noisy, "restored": restored, "clean": truth}
    rows = {name: images[:_NUM_SHOWN] for name, images in rows.items()}
    sheet = denoiser_plots.before_and_after(rows)
    few = slice(_NUM_TRAJECTORIES)
    noisy, truth = map(_middle, (noisy[few], truth))
    restored = restore(
        denoiser,
        noisy,
        condition=None if condition is None else condition[few],
        trajectory=True,
        **settings,
    )
    clean = None if truth is None else truth[few]
    steps = restoration_rows(restored.trajectory.numpy(), clean=clean)
    return sheet, steps


def _middle(images):
    """Cuts out the middle of large images, whose trajectories take memory."""
    if images is None:
        return None
    starts = [max(0, side - _LARGEST_SHOWN) // 2 for side in images.shape[1:3]]
    rows, columns = (slice(i, i + _LARGEST_SHOWN) for i in starts)
    return images[:, rows, columns]


def _convergence(arrays, tolerance):
    """Formats the number of steps and the fraction that converged."""
    steps, residual = arrays["num_steps"], arrays["residual"]
    converged = np.mean(residual <= tolerance)
    return (
        f"{np.median(steps):.0f} steps (median; at most {steps.max()}), "
        f"{converged:.0%} of the images converged, residual "
        f"{np.median(residual):.2g} (median)"
    )


def _quality(noisy, restored, clean):
    """Formats PSNR and SSIM before and after, with standard errors."""
    measures = {"PSNR": (image_quality.psnr, "dB")}
    if min(clean.shape[1:3]) >= image_quality.SSIM_WINDOW:
        measures["SSIM"] = (image_quality.ssim, "")
    lines = []
    for name, (measure, unit) in measures.items():
        before, after = (
            estimates.as_text(*average(measure(images, clean)), unit)
            for images in (noisy, restored)
        )
        lines.append(f"{name} before {before}, after {after}")
    return lines
