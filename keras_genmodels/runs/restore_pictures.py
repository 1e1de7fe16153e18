"""Restores picture files one by one, each at its own size."""

import math
import sys
from typing import NamedTuple

import numpy as np
import tqdm

from keras_genmodels import plots
from keras_genmodels.core import arrays, seeds, wording
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.validation import check
from keras_genmodels.datasets import notes, pictures
from keras_genmodels.metrics import image_quality, noise_level
from keras_genmodels.metrics.estimates import as_text, average
from keras_genmodels.operators import noise
from keras_genmodels.plots import crops
from keras_genmodels.sampling.restoration import TOLERANCE
from keras_genmodels.sampling.tiles import (
    MAX_PIXELS,
    check_sizes,
    denoise_in_tiles,
)

# Pictures in before_after.png.
_NUM_SHOWN = 6
AUTO = "auto"


class Loop(NamedTuple):
    """Settings of the iteration x <- x + step_size (D(x, sigma) - x).

    Args:
        step_size: in (0, 2).
        max_steps: int >= 1.
        tolerance: >= 0, root mean square of D(x) - x at convergence.
        max_pixels: int >= 1, pixels that the network takes at a time.
        self_ensemble: bool, whether D is averaged over flips and turns.
    """

    step_size: float = 1.0
    max_steps: int = 1
    tolerance: float = TOLERANCE
    max_pixels: int = MAX_PIXELS
    self_ensemble: bool = False


class Restored(NamedTuple):
    """What `restore_pictures` did.

    Args:
        summary: str, a few lines.
        unreadable: tuple of str, why a picture could not be read, for each
            that was left out.
    """

    summary: str
    unreadable: tuple = ()


def restore_pictures(
    denoiser,
    paths,
    names,
    output,
    *,
    condition=None,
    sigma=None,
    add_noise=0.0,
    seed=0,
    first_row=0,
    suffix="",
    white_level=None,
    loop=None,
):
    """Restores picture files and writes each under its own name and size.

    Args:
        denoiser: a `DenoisingAutoencoder` of images of any size, grey or RGB.
        paths: picture files.
        names: for each a relative path ending in .png.
        output: pathlib.Path of the folder. It gets `images/<name>`, of 16 bits
            if the picture has 16, with white at 65535, and before_after.png.
        condition: label of all pictures, for a conditional denoiser.
        sigma: noise level > 0, "auto" to estimate that of each picture, or
            None for a denoiser that takes none.
        add_noise: standard deviation of the noise to add first, >= 0.
        seed: int, of that noise.
        first_row, suffix: as in `restore.restore_images`.
        white_level: as in `datasets.load`.
        loop: `Loop`; by default one denoising.

    Returns:
        `Restored`. Pictures whose pixels cannot be read are left out, and a
        note on each that is suspiciously dark is printed.

    Raises:
        UserError: if no picture can be read, if a file is none, and as
            `tiles.check_sizes` and `denoise_in_tiles` raise.
    """
    loop = loop or Loop()
    # Refuses other files, and such sizes, before any work.
    headers = pictures.read_headers(paths)
    sizes = {
        path: header.size for path, header in zip(paths, headers, strict=True)
    }
    with user_errors():
        check_sizes(denoiser, sizes, loop.max_pixels)
    rows = seeds.row_seeds(seed, len(paths), first_row).numpy()
    shown, results, unreadable = [], {}, []
    megapixels = {path: math.prod(size) / 1e6 for path, size in sizes.items()}
    bar = _progress_bar(sum(megapixels.values()))
    restorer = _Restorer(denoiser, condition, sigma, add_noise, loop, bar)
    done = 0.0
    for path, name, row in zip(paths, names, rows, strict=True):
        bar.set_postfix_str(str(name))
        done += megapixels[path]
        try:
            image = pictures.read_own_size(
                path, denoiser.event_shape[-1], white_level
            )
        except UserError as error:
            unreadable.append(str(error))
            continue
        for note in notes.on_dark_picture(image, path, white_level):
            bar.write(note)
        bits = 8 if image.dtype == np.uint8 else 16
        clean = arrays.as_float(image)
        del image
        with user_errors(f"{path}: "):
            versions, results[name] = restorer.restore(clean, row)
        bar.update(done - bar.n)
        if len(shown) < _NUM_SHOWN:
            shown.append(crops.Comparison.of(str(name), versions))
        restored = versions["restored"]
        del clean, versions  # Before the file is encoded in memory.
        pictures.write(output / "images" / name, restored, bits)
        del restored
    bar.close()
    if not results:
        raise UserError(unreadable[0])
    sheet = output / f"before_after{suffix}.png"
    plots.save_png(sheet, crops.sheet(shown))
    lines = _summary(results, loop)
    count = wording.count_of(len(results), "picture")
    lines.append(f"{count} in {output}: {sheet.name}, images/")
    return Restored("\n".join(lines), tuple(unreadable))


def _progress_bar(megapixels):
    return tqdm.tqdm(
        total=megapixels,
        unit="MP",
        bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}"
        "{postfix}]",
        file=sys.stdout,
        disable=not sys.stdout.isatty(),
    )


class _Restorer(NamedTuple):
    """How each picture is restored; arguments as of `restore_pictures`."""

    denoiser: object
    condition: int | None
    sigma: float | str | None
    add_noise: float
    loop: Loop
    bar: tqdm.tqdm

    def restore(self, clean, row):
        """Returns the versions of a picture by their names, and a `_Result`.

        Args:
            clean: float array `[height, width, channels]`.
            row: int32 `[2]`, seed of the noise.
        """
        noisy = clean
        if self.add_noise:
            noisy = _with_noise(clean, self.add_noise, row)
        level = self.sigma
        if level == AUTO:
            within = self.denoiser.sigma_range
            level = noise_level.estimate_within(noisy, within)
        restored, steps = _restore(
            self.denoiser, noisy, level, self.condition, self.loop, self.bar
        )
        check(np.isfinite(restored).all(), "D(x) is not finite")
        versions = {"input": noisy, "restored": restored}
        if self.add_noise:
            versions["clean"] = clean
        return versions, _Result(level, steps, *_quality(**versions))


class _Result(NamedTuple):
    level: float | None
    num_steps: int
    psnr: tuple | None = None
    ssim: tuple | None = None


def _with_noise(clean, sigma, row):
    noisy = noise.gaussian(clean[np.newaxis], sigma, seed=row[np.newaxis])
    return noisy.numpy()[0]


def _restore(denoiser, x, sigma, condition, loop, bar):
    """Returns the restored picture, and the number of steps."""

    def progress(pixels):
        bar.update(pixels / 1e6 / loop.max_steps)

    for step in range(loop.max_steps):
        denoised = denoise_in_tiles(
            denoiser,
            x[np.newaxis],
            sigma,
            condition,
            max_pixels=loop.max_pixels,
            any_scale=step > 0,
            self_ensemble=loop.self_ensemble,
            progress=progress,
        )[0]
        if loop.max_steps == 1 and loop.step_size == 1:
            return denoised, 1
        denoised -= x
        if _root_mean_square(denoised) <= loop.tolerance:
            return x, step
        denoised *= loop.step_size
        denoised += x
        x = denoised
    return x, loop.max_steps


def _root_mean_square(x):
    return math.sqrt(np.vdot(x, x) / x.size)


def _quality(input, restored, clean=None):
    """Returns PSNR and SSIM before and after, each a pair or None."""
    if clean is None:
        return None, None
    measures = [image_quality.psnr]
    if min(clean.shape[:2]) >= image_quality.SSIM_WINDOW:
        measures.append(image_quality.ssim)
    found = [
        tuple(
            measure(image[np.newaxis], clean[np.newaxis])[0]
            for image in (input, np.clip(restored, 0, 1))
        )
        for measure in measures
    ]
    return found[0], found[1] if len(found) > 1 else None


def _summary(results, loop):
    """Returns a line for each picture, and the average PSNR and SSIM."""
    lines = []
    for name, result in results.items():
        parts = []
        if result.level is not None:
            parts.append(f"sigma {result.level:.3g}")
        if loop.max_steps > 1:
            parts.append(f"{result.num_steps} steps")
        if result.psnr is not None:
            before, after = result.psnr
            parts.append(f"PSNR {before:.2f} to {after:.2f} dB")
        if result.ssim is not None:
            before, after = result.ssim
            parts.append(f"SSIM {before:.4f} to {after:.4f}")
        lines.append(f"{name}: {', '.join(parts)}" if parts else str(name))
    for title, unit, pairs in (
        ("PSNR", "dB", [r.psnr for r in results.values() if r.psnr]),
        ("SSIM", "", [r.ssim for r in results.values() if r.ssim]),
    ):
        if pairs:
            before, after = (
                as_text(*average(np.array(values)), unit)
                for values in zip(*pairs, strict=True)
            )
            lines.append(f"{title} before {before}, after {after}")
    return lines
