"""Images restored for a person: files, pictures, and how well it went."""

import numpy as np

from keras_genmodels import plots
from keras_genmodels.core import arrays as arrays_lib
from keras_genmodels.core import files
from keras_genmodels.metrics import estimates, image_quality
from keras_genmodels.metrics.estimates import average
from keras_genmodels.operators import noise
from keras_genmodels.plots import denoiser as denoiser_plots
from keras_genmodels.plots.attractors import restoration_rows
from keras_genmodels.sampling.restoration import restore

# So many images are restored at once, and so many shown.
_PART = 256
_SHOWN = 32
_SHOWN_WAYS = 6


def restore_images(
    denoiser,
    images,
    output,
    *,
    names=None,
    truth_known=False,
    add_noise=0.0,
    seed=0,
    tolerance=1e-3,
    **settings,
):
    """Restores images and writes what came out to a folder.

    Args:
        denoiser: a `Denoiser` of images.
        images: array `[n, height, width, channels]` in [0, 1], or uint8, read
            as value / 255.
        output: pathlib.Path of the folder.
        names: a relative path ending in .png for each image, for a picture
            file each; None for none.
        truth_known: whether `images`, before noise is added, are the truth.
        add_noise: standard deviation of the noise to add first, >= 0.
        seed: int, of that noise.
        tolerance: as of `restoration.restore`.
        **settings: others of `restoration.restore`.

    Returns:
        str, lines that tell how it went.

    Raises:
        UserError: as `restore`.
    """
    clean = arrays_lib.as_float(images)
    noisy = clean
    if add_noise:
        noisy = noise.gaussian(clean, add_noise, seed=seed).numpy()
    settings["tolerance"] = tolerance
    arrays = _restore_all(denoiser, noisy, settings)
    restored = arrays["image"]
    files.write_arrays(output / "restored.npz", **arrays)
    for name, image in zip(names or [], restored, strict=False):
        picture = plots.image_grid(image[np.newaxis], smallest_tile=1)
        plots.save_png(output / "images" / name, picture)
    truth = clean if truth_known and add_noise else None
    _draw(denoiser, noisy, restored, truth, output, settings)
    lines = [_on_the_loop(arrays, tolerance)]
    if truth_known:
        lines += _quality(noisy, restored, clean)
    lines.append(
        f"{len(restored)} images in {output}: before_after.png, "
        "steps.png, restored.npz" + (", images/" if names else "")
    )
    return "\n".join(lines)


def _restore_all(denoiser, noisy, settings):
    def restored(noisy):
        found = restore(denoiser, noisy, **settings)
        return {
            "image": found.x,
            "num_steps": found.num_steps,
            "residual": found.residual,
        }

    return arrays_lib.map_batches(restored, noisy, batch_size=_PART)


def _draw(denoiser, noisy, restored, truth, output, settings):
    """Draws a sheet of many images, and the way of a few."""
    rows = {"as given": noisy, "restored": restored}
    if truth is not None:
        rows = {"with noise": noisy, "restored": restored, "the truth": truth}
    rows = {name: images[:_SHOWN] for name, images in rows.items()}
    sheet = denoiser_plots.before_and_after(rows)
    plots.save_png(output / "before_after.png", sheet)
    few = slice(_SHOWN_WAYS)
    way = restore(denoiser, noisy[few], trajectory=True, **settings).trajectory
    clean = None if truth is None else truth[few]
    steps = restoration_rows(way.numpy(), clean=clean)
    plots.save_png(output / "steps.png", steps)


def _on_the_loop(arrays, tolerance):
    steps, residual = arrays["num_steps"], arrays["residual"]
    rest = np.mean(residual <= tolerance)
    return (
        f"{np.median(steps):.0f} steps (median; at most {steps.max()}), "
        f"{rest:.0%} of the images at rest, residual {np.median(residual):.2g} "
        "(median)"
    )


def _quality(noisy, restored, clean):
    """Tells PSNR and SSIM before and after, with standard errors."""
    measures = {"PSNR": (image_quality.psnr, "dB")}
    if min(clean.shape[1:3]) >= image_quality.SSIM_WINDOW:
        measures["SSIM"] = (image_quality.ssim, "")
    lines = []
    for name, (measure, unit) in measures.items():
        before, after = (
            estimates.as_text(*average(measure(images, clean)), unit, 3)
            for images in (noisy, restored)
        )
        lines.append(f"{name} before {before}, after {after}")
    return lines
