"""How well a denoiser removes noise, compared with closed-form denoisers."""

import dataclasses
import functools
import math

import numpy as np

from keras_genmodels.core import arrays, memory, seeds
from keras_genmodels.core.disk_arrays import DiskArray
from keras_genmodels.core.errors import NotMeasured
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
IMAGE_MEASURES = {
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
# Label, meaning and unit of the other quantities.
_OTHER_MEASURES = {
    "noise_level": (
        "Estimated noise level",
        f"Maximum likelihood estimate from each of at most {_LEVEL_IMAGES} "
        "images, averaged. No denoiser is given sigma; only the rank of V V' "
        "depends on it.",
    ),
    "harm": (
        "Images made worse",
        "Share of the images that are further from the clean one after "
        "denoising than before: lower is better.",
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
    label, psnr, *description = IMAGE_MEASURES["psnr"]
    measures = {}
    for sigma in denoising.noise_levels(denoiser):
        level = _denoise_all({"": denoiser}, images, condition, sigma, seed)
        measures[f"psnr/{sigma:g}"] = _measure(
            level.numbers(psnr), sigma, label, *description
        )
    return Section("Denoising", measures, [_note(images)])


def terms(denoiser, train, images, condition=None, *, seed, rows=None):
    """Computes the numbers of each image that `section` averages.

    Args:
        denoiser, train, images, condition, seed: as in `section`.
        rows: `range` of the images; by default all.

    Returns:
        dict of `QUANTITY/S/NAME` to arrays, for each level S: NAME is that of
        a denoiser, "" for `denoiser` and "noisy" for the images with noise.
        Of a quantity that cannot be measured there is only `QUANTITY/S`, a
        `NotMeasured`.
    """
    rows = range(len(images)) if rows is None else rows
    part = slice(rows.start, rows.stop)
    images = arrays.as_float(images[part])
    condition = None if condition is None else condition[part]
    levels = levels_of(denoiser)
    references = _References(denoiser, train, levels)
    found = {}
    for sigma in levels:
        denoisers = {"": denoiser, **references.at(sigma)}
        level = _denoise_all(
            denoisers, images, condition, sigma, seed, rows.start
        )
        found |= _terms_at(denoisers, level, seed)
    return found


def section(denoiser, train, images, condition=None, *, seed, computed=None):
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
        computed: what `terms` returns for these arguments, if it is known.

    Returns:
        `Section` of, for each level S of `levels_of(denoiser)`, `psnr/S`,
        `ssim/S`, `noise_level/S`, estimated from the first 32 images, and
        `harm/S`.
    """
    if computed is None:
        computed = terms(denoiser, train, images, condition, seed=seed)
    levels = levels_of(denoiser)
    references = _References(denoiser, train, levels)
    by_level = {sigma: _at_level(computed, sigma) for sigma in levels}
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
            self._adapt_exact(train)

    def at(self, sigma):
        """Returns a dict of names to denoisers."""
        return {**self._projections.get(sigma, {}), **self._same}

    def _adapt_exact(self, train):
        excess = memory.excess(train.shape, train.dtype)
        if isinstance(train, DiskArray) and excess:
            self.notes.append(f"Without the exact posterior mean: {excess}.")
        else:
            self._same["exact"] = EmpiricalDenoiser()
            self._same["exact"].adapt(train)

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
        first_row: int, number of the first image.
    """

    sigma: float
    truth: np.ndarray
    noisy: np.ndarray
    condition: np.ndarray | None
    denoised: dict[str, np.ndarray]
    first_row: int

    def numbers(self, function):
        """Returns a dict of names to a function of noisy or denoised images.

        Args:
            function: of images and the truth to an array `[n]`.
        """
        images = {"noisy": self.noisy, **self.denoised}
        return {
            name: function(denoised, self.truth)
            for name, denoised in images.items()
        }


def _denoise_all(denoisers, images, condition, sigma, seed, first_row=0):
    noisy = denoising.add_noise(images, sigma, seed=seed, first_row=first_row)
    denoised = {
        name: denoising.denoise(
            denoiser, noisy, sigma, None if name else condition
        )
        for name, denoiser in denoisers.items()
    }
    return _Level(sigma, images, noisy, condition, denoised, first_row)


def _terms_at(denoisers, level, seed):
    """Returns the part of `terms` for one level."""
    computations = {
        **{
            name: functools.partial(level.numbers, function)
            for name, (_, function, *_) in IMAGE_MEASURES.items()
        },
        "noise_level": functools.partial(
            _estimated_levels, denoisers, level, seed
        ),
        "harm": functools.partial(_harm, level),
    }
    found = {}
    for name, compute in computations.items():
        key = f"{name}/{level.sigma:g}"
        try:
            numbers = compute()
        except NotMeasured as error:
            found[key] = error
        else:
            found |= {f"{key}/{kind}": n for kind, n in numbers.items()}
    return found


def _harm(level):
    before = image_quality.psnr(level.noisy, level.truth)
    # NaN is worse, too.
    found = level.numbers(
        lambda images, truth: ~(image_quality.psnr(images, truth) >= before)
    )
    del found["noisy"]
    return found


def _estimated_levels(denoisers, level, seed):
    """Estimates the noise level of those of the images that are the first."""
    count = min(len(level.noisy), _LEVEL_IMAGES - level.first_row)
    if count <= 0:
        return {}
    labels = None if level.condition is None else level.condition[:count]
    rows = seeds.row_seeds(seed, count, level.first_row)
    return {
        name: noise_level.estimate_levels(
            denoiser, level.noisy[:count], None if name else labels, seed=rows
        )
        for name, denoiser in denoisers.items()
    }


def _at_level(terms, sigma):
    """Returns a `Section` of one level, with measures by quantity."""
    found = Section("")
    descriptions = {
        name: (label, *description)
        for name, (label, _, *description) in IMAGE_MEASURES.items()
    }
    for name, (label, *description) in (descriptions | _OTHER_MEASURES).items():
        found.add(label, _measured, terms, name, sigma, label, *description)
    return found


def _measured(terms, name, sigma, *description):
    """Returns a dict of a name to its `Measure`.

    Raises:
        NotMeasured: if the terms could not be computed.
    """
    key = f"{name}/{sigma:g}"
    if key in terms:
        raise terms[key]
    numbers = {
        term.removeprefix(f"{key}/"): values
        for term, values in terms.items()
        if term.startswith(f"{key}/")
    }
    return {name: _measure(numbers, sigma, *description)}


def _measure(numbers, sigma, label, meaning, unit=""):
    """Returns the `Measure` of a dict of names to arrays `[n]`."""
    estimates = {name: average(values) for name, values in numbers.items()}
    return Measure(
        f"{label} at sigma {sigma:g}",
        estimates.pop(""),
        meaning,
        unit,
        estimates,
    )


def _note(images):
    return (
        f"{len(images)} test images; sigma is the standard deviation of the "
        "noise, for pixels in [0, 1]."
    )
