"""The noise level of a picture, estimated from the picture alone."""

import numpy as np
import pywt
import scipy.special

_WAVELET = "db2"
# Rows that are transformed at once, an even number.
_ROWS = 256
# Rows of the previous part that the wavelet's first coefficient depends on.
_CONTEXT = 2


def estimate(image):
    """Estimates the standard deviation of the noise of each channel.

    The median absolute value of the finest diagonal wavelet coefficients that
    are not 0, divided by that of N(0, 1). `skimage.restoration.estimate_sigma`
    returns the same numbers, with several times the memory.

    Args:
        image: float array `[height, width, channels]`.

    Returns:
        float64 array `[channels]`, in units of the pixels; NaN for a channel
        without such coefficients, such as one of a single value.

    #### References

    Donoho and Johnstone (1994), Ideal spatial adaptation by wavelet shrinkage,
    Biometrika 81.3, section 4.2.
    """
    channels = np.moveaxis(image, -1, 0)
    return np.array([_estimate(channel) for channel in channels])


def estimate_within(image, sigma_range):
    """Estimates the noise level of a picture for a denoiser.

    Args:
        image: as of `estimate`.
        sigma_range: `(lowest, highest)` level of the denoiser.

    Returns:
        float, the mean over the channels, within that range; the lowest level
        if no channel has an estimate.
    """
    levels = estimate(image)
    known = levels[np.isfinite(levels)]
    level = known.mean() if known.size else 0
    return float(np.clip(level, *sigma_range))


def _estimate(channel):
    found = np.concatenate([*_parts_of(channel)])
    if not found.size:
        return np.nan
    median = np.median(found, overwrite_input=True)
    return median / scipy.special.ndtri(0.75)


def _parts_of(channel):
    """Yields the absolute coefficients other than 0 of some rows at a time."""
    for start in range(0, len(channel), _ROWS):
        context = _CONTEXT if start else 0
        stop = start + _ROWS
        found = _diagonal(channel[start - context : stop])[context // 2 :]
        if stop < len(channel):
            # The others depend on the next rows.
            found = found[: _ROWS // 2]
        yield np.abs(found[found != 0])


def _diagonal(x):
    """Returns the coefficients of details along both axes."""
    for axis in (0, 1):
        _, x = pywt.dwt(x, _WAVELET, axis=axis)
    return x
