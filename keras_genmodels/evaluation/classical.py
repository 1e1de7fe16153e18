"""Denoisers of pictures without training, which receive the noise level."""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import skimage.restoration

_BM3D = "bm3d"


class Classical(NamedTuple):
    """A denoiser of pictures without training.

    Args:
        label: str, its name in tables.
        description: str, what it is and its settings.
        denoise: function of a noisy picture, float array `[height, width,
            channels]`, and its noise level to an array like the picture.
        packages: tuple of str, the distributions that compute it, of which
            only bm3d may be missing.
        least_side: int >= 1, height and width from which on it takes pictures.
    """

    label: str
    description: str
    denoise: Callable
    packages: tuple[str, ...] = ("scikit-image",)
    least_side: int = 1

    def is_installed(self):
        """Returns whether its packages are installed."""
        return (
            _BM3D not in self.packages
            or importlib.util.find_spec(_BM3D) is not None
        )

    def versions(self):
        """Returns a dict of its packages to their versions."""
        return {name: _version(name) for name in self.packages}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # A folder on Python's path.


def _nlm(image, sigma):
    found = skimage.restoration.denoise_nl_means(
        image,
        patch_size=7,
        patch_distance=6,
        h=0.6 * sigma,
        sigma=sigma,
        fast_mode=True,
        channel_axis=-1,
    )
    return found.reshape(image.shape)  # It drops the axis of one channel.


def _tv(image, sigma):
    return skimage.restoration.denoise_tv_chambolle(
        image, weight=0.9 * sigma, channel_axis=-1
    )


def _wavelets(image, sigma):
    with warnings.catch_warnings():
        # Of pictures that are small for so many levels.
        warnings.simplefilter("ignore", UserWarning)
        return skimage.restoration.denoise_wavelet(
            image,
            sigma=sigma,
            wavelet="sym8",
            wavelet_levels=5,
            method="BayesShrink",
            mode="soft",
            rescale_sigma=True,
            channel_axis=-1,
        )


def _bm3d(image, sigma):
    import bm3d

    channels = np.moveaxis(image, -1, 0)
    return np.stack([bm3d.bm3d(x, sigma) for x in channels], -1)


# By the name that users give. The settings are those of the highest PSNR,
# averaged over the ten pictures of `datasets.standard_pictures` in grey and
# sigma = 15/255, 25/255 and 50/255.
CLASSICAL = {
    "nlm": Classical(
        "non-local means",
        "non-local means (Buades et al. 2005) of 7x7 patches at a distance of "
        "at most 6 pixels, h = 0.6 sigma",
        _nlm,
    ),
    "tv": Classical(
        "total variation",
        "total variation (Chambolle 2004) of weight 0.9 sigma",
        _tv,
    ),
    "wavelets": Classical(
        "wavelets",
        "BayesShrink (Chang et al. 2000) of sym8 wavelets, 5 levels",
        _wavelets,
        ("scikit-image", "PyWavelets"),
    ),
    "bm3d": Classical(
        "BM3D",
        "BM3D (Dabov et al. 2007; package bm3d) of each channel",
        _bm3d,
        (_BM3D,),
        # Its blocks are 8x8, and a picture of a single one ends the process.
        least_side=9,
    ),
}
