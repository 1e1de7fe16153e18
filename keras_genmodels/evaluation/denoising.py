"""How well a denoiser removes noise, compared with closed-form denoisers."""

import dataclasses
import math

import numpy as np

from keras_genmodels.core import arrays
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser
from keras_genmodels.denoisers.linear import MAX_PIXELS
from keras_genmodels.evaluation import noise_level
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics import denoising, image_quality
from keras_genmodels.metrics.estimates import average

# Images whose noise level is estimated, each by about a hundred D.
_LEVEL_IMAGES = 32
_REFERENCES = {
    "noisy": "the noisy input",
    "V V'": "the projection V V' of the rank that is best at the level",
    "Wiener": "the Wiener filter",
    "exact": "the exact posterior mean of the training images",
}

# Label, function of images and the truth to values `[n]`, meaning and unit of
# each quantity that is measured of denoised images.
_IMAGE_MEASURES = {
    "psnr": (
        "PSNR",
        image_quality.psnr,
        "10 log10(1 / mean squared error) of each image, averaged: higher is "
        "better.",
        "dB",
    ),
    "ssim": (
        "SSIM",
        image_quality.ssim,
        "Structural similarity to the clean image, at most 1: higher is "
        "better.",
    ),
}


def brief_section(denoiser, images, condition=None, *, seed=0):
    """Measures the PSNR of denoised images at several noise levels.

    Args:
        denoiser, images, condition, seed: as in `section`.

    Returns:
        `Section` of `psnr/S` for each level S of `denoising.noise_levels`.
    """
    images = arrays.as_float(images)
    measures = {}
    for sigma in denoising.noise_levels(denoiser):
        level = _denoise_all({"": denoiser}, images, condition, sigma, seed)
        label, *description = _IMAGE_MEASURES["psnr"]
        measures |= level.measure(f"psnr/{sigma:g}", label, *description)
    return Section("Denoising", measures, [_note(images)])


def section(denoiser, train, images, condition=None, *, seed):
    """Measures how well a denoiser removes noise, and how harmlessly.

    The references are adapted to `train`: V V' keeps the axes along which the
    variance of the data is above sigma^2, which is the best rank (an axis
    adds sigma^2 to the squared error if kept, its variance if not); the
    Wiener filter; and the exact posterior mean.

    The noise is that of `denoising.add_noise`, the same for each level.

    Args:
        denoiser: a `Denoiser` of images.
        train: array `[num_train, height, width, channels]`, the images for
            training and validation, floating in [0, 1], or uint8, read as
            value / 255.
        images: the same, `[n, height, width, channels]`, not trained on.
        condition: array `[n]`, the true labels, for a conditional denoiser.
        seed: int.

    Returns:
        `Section` of, for each level S of `levels_of(denoiser)`, `psnr/S`,
        `ssim/S`, `noise_level/S`, estimated from the first 32 images, and
        `harm/S`.
    """
    images = arrays.as_float(images)
    levels = levels_of(denoiser)
    references = _References(denoiser, train, levels)
    by_level = {
        sigma: _at_level(
            {"": denoiser, **references.at(sigma)},
            images,
            condition,
            sigma,
            seed,
        )
        for sigma in levels
    }
    shown = ["noisy", *references.at(levels[0])]
    # The table is sorted by quantity, not by level.
    return Section(
        "Denoising",
        {
            f"{name}/{sigma:g}": by_level[sigma].measures[name]
            for name in by_level[levels[0]].measures
            for sigma in levels
        },
        [_note(images), *by_level[levels[0]].notes],
        [
            "References: " + "; ".join(_REFERENCES[k] for k in shown) + ".",
            "They were adapted to the images for training and validation.",
            *references.notes,
        ],
    )


def levels_of(denoiser):
    """Returns the common noise levels and the denoiser's lowest one."""
    lowest, _ = denoiser.sigma_range
    return sorted({lowest, *denoising.noise_levels(denoiser)})


def best_rank(eigenvalues, sigma):
    """Returns the rank of V V' with the least squared error on its own data.

    Args:
        eigenvalues: array `[k]`, variances along the axes.
        sigma: noise level > 0.

    Returns:
        int in [1, k], the number of variances above sigma^2.
    """
    return max(1, int(np.sum(np.asarray(eigenvalues) > sigma**2)))


class _References:
    """The closed-form denoisers to compare with, by noise level.

    Attributes:
        notes: list of str.
    """

    def __init__(self, denoiser, train, levels):
        self.notes, self._projections, self._same = [], {}, {}
        size = math.prod(train.shape[1:])
        if size > MAX_PIXELS:
            self.notes.append(
                f"Without V V' and Wiener: the covariance of {size} values is "
                f"too large, {MAX_PIXELS} are the most."
            )
        else:
            self._adapt_linear(train, levels)
        # It would be compared with itself.
        if not isinstance(denoiser, EmpiricalDenoiser):
            self._same["exact"] = EmpiricalDenoiser()
            self._same["exact"].adapt(train)

    def at(self, sigma):
        """Returns a dict of names to denoisers."""
        return {**self._projections.get(sigma, {}), **self._same}

    def _adapt_linear(self, train, levels):
        wiener = LinearDenoiser()
        wiener.adapt(train)
        ranks = {s: best_rank(wiener.eigenvalues, s) for s in levels}
        by_rank = {r: wiener.with_rank(r) for r in {*ranks.values()}}
        self._projections = {s: {"V V'": by_rank[r]} for s, r in ranks.items()}
        self._same["Wiener"] = wiener
        listed = ", ".join(f"{rank} at {s:g}" for s, rank in ranks.items())
        self.notes.append(f"Ranks of V V': {listed}.")


@dataclasses.dataclass(frozen=True)
class _Level:
    """Images at one noise level.

    Args:
        sigma: float.
        truth, noisy: arrays `[n, height, width, channels]`.
        condition: array `[n]` for a conditional model, else None.
        denoised: dict of names of denoisers to arrays like these; "" is the
            model that is evaluated.
    """

    sigma: float
    truth: np.ndarray
    noisy: np.ndarray
    condition: np.ndarray | None
    denoised: dict[str, np.ndarray]

    def measure(self, name, label, function, meaning, unit=""):
        """Returns a dict of a name to the `Measure` of an image function."""
        estimates = {
            kind: average(function(images, self.truth))
            for kind, images in {"noisy": self.noisy, **self.denoised}.items()
        }
        measure = Measure(
            f"{label} at sigma {self.sigma:g}",
            estimates.pop(""),
            meaning,
            unit,
            estimates,
        )
        return {name: measure}


def _denoise_all(denoisers, images, condition, sigma, seed):
    noisy = denoising.add_noise(images, sigma, seed=seed)
    denoised = {
        name: denoising.denoise(
            denoiser, noisy, sigma, None if name else condition
        )
        for name, denoiser in denoisers.items()
    }
    return _Level(sigma, images, noisy, condition, denoised)


def _at_level(denoisers, images, condition, sigma, seed):
    """Returns a `Section` of one level, with measures by quantity."""
    level = _denoise_all(denoisers, images, condition, sigma, seed)
    found = Section("")
    for name, (label, *description) in _IMAGE_MEASURES.items():
        found.add(label, level.measure, name, label, *description)
    found.add("Noise level", _noise_level, denoisers, level, seed)
    found.add("Images made worse", _harm, level)
    return found


def _harm(level):
    before = image_quality.psnr(level.noisy, level.truth)
    found = level.measure(
        "harm",
        "Images made worse",
        # NaN is worse, too.
        lambda images, truth: ~(image_quality.psnr(images, truth) >= before),
        "Share of the images that are further from the clean one after "
        "denoising than before: lower is better.",
    )
    del found["harm"].references["noisy"]
    return found


def _noise_level(denoisers, level, seed):
    noisy = level.noisy[:_LEVEL_IMAGES]
    labels = None
    if level.condition is not None:
        labels = level.condition[:_LEVEL_IMAGES]
    levels = {
        name: average(
            noise_level.estimate_levels(
                denoiser, noisy, None if name else labels, seed=seed
            )
        )
        for name, denoiser in denoisers.items()
    }
    measure = Measure(
        f"Estimated noise level at sigma {level.sigma:g}",
        levels.pop(""),
        f"Maximum likelihood estimate from each of at most {_LEVEL_IMAGES} "
        "images, averaged. No denoiser is given sigma; only the rank of V V' "
        "depends on it.",
        references=levels,
    )
    return {"noise_level": measure}


def _note(images):
    return (
        f"{len(images)} test images; sigma is the standard deviation of the "
        "noise, for pixels in [0, 1]."
    )
