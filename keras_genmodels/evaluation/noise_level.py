"""The noise level of images, estimated with a denoiser."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.attractors import local_dimension
from keras_genmodels.core import seeds
from keras_genmodels.sampling.restoration import denoise_once

# Lower bound of M - div D, which the identity would make 0.
_MIN_FREE = 1.0


def estimate_levels(
    denoiser, noisy, condition=None, *, seed, num_steps=8, num_probes=4
):
    """Estimates the noise level of each image by maximum likelihood.

    With p_s the density of data with noise of level s, d p_s / d s^2 is half
    the Laplacian of p_s, and D(y, s) = y + s^2 grad log p_s(y). So the
    likelihood of y has its maximum where

        |y - D(y, s)|^2 = s^2 (M - div D(y, s)),

    M being the number of values: noise is removed along the M - div D
    directions that D does not keep. A D without sigma gives the solution
    directly. Otherwise s <- |y - D(y, s)| / sqrt(M - div D(y, s)) is iterated
    from the denoiser's highest level. For the Wiener filter with w_j = s^2 /
    (lambda_j + s^2) each step leaves 1 - sum w_j^2 / sum w_j of the error:
    much only where nearly all of the noise is hidden by the data. With M
    in place of M - div D the iteration would converge to a level too low.

    Args:
        denoiser: a `Denoiser`.
        noisy: floating array `[n, *event_shape]`.
        condition: array `[n]` for a conditional denoiser, else None.
        seed: int, int32 `[2]` or `[n, 2]`, of the random signs that estimate
            the divergence.
        num_steps: int >= 1.
        num_probes: int >= 2, random sign vectors for each image.

    Returns:
        float64 array `[n]` >= 0; NaN where D is not finite. It may leave the
        denoiser's range, to which the sigma passed to D is clipped.

    Raises:
        ValueError: as `attractors.local_dimension`.

    #### References

    Miyasawa (1961), An empirical Bayes estimator of the mean of a normal
    population, Bull. Inst. Internat. Statist. 38.
    """
    rows = seeds.row_seeds(seed, len(noisy))
    if condition is not None:
        levels = np.zeros(len(noisy))
        for label in np.unique(condition):
            (own,) = np.nonzero(condition == label)
            levels[own] = estimate_levels(
                denoiser.with_condition(label),
                noisy[own],
                seed=tf.gather(rows, own),
                num_steps=num_steps,
                num_probes=num_probes,
            )
        return levels
    levels = np.full(len(noisy), np.inf)
    for _ in range(num_steps if denoiser.needs_sigma else 1):
        sigma = _sigma(denoiser, levels)
        removed = noisy - denoise_once(denoiser, noisy, sigma).numpy()
        kept = local_dimension(
            denoiser, noisy, seed=rows, sigma=sigma, num_probes=num_probes
        )[0]
        free = np.maximum(math.prod(noisy.shape[1:]) - kept, _MIN_FREE)
        flat = removed.reshape(len(noisy), -1).astype(np.float64)
        levels = np.sqrt(np.square(flat).sum(1) / free)
    return levels


def _sigma(denoiser, levels):
    """Clips levels to the denoiser's range; None if it needs none."""
    if not denoiser.needs_sigma:
        return None
    lowest, highest = denoiser.sigma_range
    # NaN comes back as NaN, whatever is passed.
    finite = np.nan_to_num(levels, nan=highest, posinf=highest)
    return np.clip(finite, lowest, highest)
