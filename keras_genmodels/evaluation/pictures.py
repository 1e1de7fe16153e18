"""How well a denoiser restores pictures, compared with classical denoisers."""

import contextlib

import numpy as np

from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.validation import check
from keras_genmodels.evaluation.classical import CLASSICAL
from keras_genmodels.evaluation.denoising import IMAGE_MEASURES
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics import denoising, noise_level
from keras_genmodels.metrics.estimates import average
from keras_genmodels.sampling.tiles import MAX_PIXELS, denoise_in_tiles

# Usual noise levels of pictures with 255 grey levels.
LEVELS = (15 / 255, 25 / 255, 50 / 255)
_NOISY = "noisy"
# Digits of a level that is written as a decimal number.
_SHORT = 5


def measure(
    denoiser,
    image,
    levels=LEVELS,
    peers=(),
    *,
    seed=0,
    max_pixels=MAX_PIXELS,
    self_ensemble=False,
    estimate_sigma=False,
):
    """Adds noise to a picture, denoises it and compares it with the clean one.

    The noise is `sigma * np.random.default_rng(seed).standard_normal(shape)`
    in float64, the same for all levels. The noisy picture is not clipped, the
    denoised ones are clipped to [0, 1].

    Args:
        denoiser: a `DenoisingAutoencoder` of images of any size.
        image: array `[height, width, channels]` in [0, 1], or uint8, read as
            value / 255.
        levels: the noise levels, each > 0.
        peers: names of `classical.CLASSICAL` to compare with.
        seed: int.
        max_pixels, self_ensemble: as of `denoise_in_tiles`.
        estimate_sigma: whether D receives the level that is estimated from the
            noisy picture, instead of that of the noise. Peers receive the
            latter.

    Returns:
        dict of levels to dicts of `psnr` and `ssim` to dicts of names to
        floats: "" for the denoiser, "noisy", and labels of the peers. There
        is no `ssim` of a picture that is smaller than its window.

    Raises:
        ValueError: as `denoise_in_tiles`.
    """
    clean = as_float(image, "float64")[np.newaxis]
    found = {}
    for sigma in levels:
        noisy = denoising.add_noise(clean, sigma, seed=seed)
        given = sigma if denoiser.needs_sigma else None
        if estimate_sigma:
            given = noise_level.estimate_within(noisy[0], denoiser.sigma_range)
        denoised = denoise_in_tiles(
            denoiser,
            noisy.astype(np.float32),
            given,
            max_pixels=max_pixels,
            self_ensemble=self_ensemble,
        )
        images = {"": denoised, _NOISY: noisy}
        for name in peers:
            peer = CLASSICAL[name]
            images[peer.label] = peer.denoise(noisy[0], sigma)[np.newaxis]
        found[sigma] = _quality(images, clean)
    return found


def sections(found, denoiser, peers, self_ensemble=False, estimate_sigma=False):
    """Returns the tables of the averages and of each picture.

    Args:
        found: non-empty dict of names of pictures to what `measure` returned
            of them.
        denoiser: the `DenoisingAutoencoder`.
        peers: names of `classical.CLASSICAL` that were compared with.
        self_ensemble, estimate_sigma: as of `measure`.

    Returns:
        dict of `pictures` and `each_picture` to `Section`s: of `psnr/S` and
        `ssim/S` for each level S, and of `psnr/S/NAME` and `ssim/S/NAME`.

    Raises:
        ValueError: if there is no picture.
    """
    check(found, "there are no pictures to average over")
    levels = [*next(iter(found.values()))]
    each = {
        name: _measures({name: numbers}, levels, f"{name}, ")
        for name, numbers in found.items()
    }
    return {
        "pictures": Section(
            "Denoising of pictures",
            _measures(found, levels),
            _notes(len(found), levels, denoiser, self_ensemble, estimate_sigma),
            _peer_notes(peers),
        ),
        "each_picture": Section(
            "Denoising of each picture",
            {
                f"{key}/{name}": measure
                for kind in IMAGE_MEASURES
                for name, measures in each.items()
                for key, measure in measures.items()
                if key.startswith(f"{kind}/")
            },
        ),
    }


def level_as_text(sigma):
    """Formats a noise level, such as 0.1 or 25/255."""
    grey = round(255 * sigma)
    is_fraction = grey and abs(255 * sigma - grey) < 1e-9 * grey
    text = f"{sigma:g}"
    return f"{grey}/255" if is_fraction and len(text) > _SHORT else text


def _quality(images, clean):
    """Returns a dict of measures to dicts of names to numbers."""
    images = {
        name: x if name == _NOISY else np.clip(x, 0, 1)
        for name, x in images.items()
    }
    found = {}
    for kind, (_, function, *_) in IMAGE_MEASURES.items():
        with contextlib.suppress(NotMeasured):
            found[kind] = {
                name: float(function(x, clean)[0]) for name, x in images.items()
            }
    return found


def _measures(found, levels, prefix=""):
    """Returns the averages over pictures: a dict of names to `Measure`s."""
    measures = {}
    for kind, (label, _, *description) in IMAGE_MEASURES.items():
        for sigma in levels:
            numbers = [
                of_picture[sigma][kind]
                for of_picture in found.values()
                if kind in of_picture[sigma]
            ]
            if numbers:
                estimates = {
                    name: average([it[name] for it in numbers])
                    for name in numbers[0]
                }
                measures[f"{kind}/{sigma:g}"] = Measure(
                    f"{prefix}{label} at sigma {level_as_text(sigma)}",
                    estimates.pop(""),
                    *description,
                    references=estimates,
                )
    return measures


def _notes(count, levels, denoiser, self_ensemble, estimate_sigma):
    notes = [
        f"{count} picture{'s' * (count > 1)}, each at its own size; sigma is "
        "the standard deviation of the noise, for pixels in [0, 1]. Noisy "
        "pictures are not clipped, denoised ones are clipped to [0, 1]."
    ]
    low, high = denoiser.sigma_range
    outside = [s for s in levels if not 0.999 * low <= s <= 1.001 * high]
    if outside:
        listed = ", ".join(map(level_as_text, outside))
        notes.append(
            f"Trained for a sigma of {low:g} to {high:g}, without {listed}."
        )
    if self_ensemble:
        notes.append(
            "This denoiser is averaged over the 8 flips and quarter turns of "
            "each picture (a self-ensemble)."
        )
    if estimate_sigma:
        notes.append(
            "This denoiser receives the noise level that is estimated from the "
            "noisy picture, within the range of its training."
        )
    return notes


def _peer_notes(peers):
    if not peers:
        return []
    listed = "; ".join(CLASSICAL[name].description for name in peers)
    return [
        f"References, which receive sigma: {listed}. The settings of those of "
        "scikit-image are the best ones of a grid, on average over its ten "
        "pictures."
    ]
