"""How noisy images are, as a denoiser finds without being told."""

import math

import numpy as np

from keras_genmodels.attractors import local_dimension
from keras_genmodels.core import seeds
from keras_genmodels.sampling.restoration import denoise_once

# Directions that are not kept, at least: of the identity there would be none.
_LEAST_FREE = 1.0


def estimate_levels(denoiser, noisy, *, seed, num_steps=8, num_probes=4):
    """Estimates the level of the noise on images, each by itself.

    With p_s the density of data with noise of level s, d p_s / d s^2 is half
    the Laplacian of p_s, and D(y, s) = y + s^2 grad log p_s(y). So the level
    at which y is likeliest solves

        |y - D(y, s)|^2 = s^2 (M - div D(y, s)),

    M being the number of values: noise is taken off along the M - div D
    directions that D does not keep. A D that is not told s tells it at once;
    else s <- |y - D(y, s)| / sqrt(M - div D(y, s)) is repeated, from the
    highest level that the denoiser knows. For the Wiener filter with w_j =
    s^2 / (lambda_j + s^2) each step leaves 1 - sum w_j^2 / sum w_j of what is
    off: much only where nearly all of the noise is hidden by the data. With M
    alone in place of M - div D it would come to rest too low.

    Args:
        denoiser: a `Denoiser`.
        noisy: floating array `[n, *event_shape]`.
        seed: int, of the random signs that the divergence is estimated by.
        num_steps: int >= 1.
        num_probes: int >= 2, of these an image.

    Returns:
        float64 array `[n]` >= 0; NaN where D is not finite. It may be out of
        the denoiser's range, within which D is told s.

    Raises:
        UserError: as `attractors.local_dimension`.

    #### References

    Miyasawa (1961), An empirical Bayes estimator of the mean of a normal
    population, Bull. Inst. Internat. Statist. 38.
    """
    rows = seeds.row_seeds(seed, len(noisy))
    found = np.full(len(noisy), np.inf)
    for _ in range(num_steps if denoiser.needs_sigma else 1):
        told = _told(denoiser, found)
        removed = noisy - denoise_once(denoiser, noisy, told).numpy()
        kept = local_dimension(
            denoiser, noisy, seed=rows, sigma=told, num_probes=num_probes
        )[0]
        free = np.maximum(math.prod(noisy.shape[1:]) - kept, _LEAST_FREE)
        flat = removed.reshape(len(noisy), -1).astype(np.float64)
        found = np.sqrt(np.square(flat).sum(1) / free)
    return found


def _told(denoiser, levels):
    """Gives what to tell a denoiser of levels that may be beyond its range."""
    if not denoiser.needs_sigma:
        return None
    lowest, highest = denoiser.sigma_range
    # Of NaN, which stays NaN, anything.
    known = np.nan_to_num(levels, nan=highest, posinf=highest)
    return np.clip(known, lowest, highest)
