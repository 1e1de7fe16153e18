"""Noise levels and step sizes of generating, pure functions."""

import functools

import numpy as np
from scipy.optimize import brentq

# Stands for log(0): brentq needs finite values.
_LOG_OF_ZERO = -1e4
# For levels that do not fall, so that no step size is 0.
_LEAST_STEP = 2.0**-60


def geometric(position, sigma_max, sigma_min):
    """Returns noise levels that fall by a constant factor.

    Args:
        position: number, array or tensor in [0, 1]: 0 for `sigma_max`, 1 for
            `sigma_min`.
        sigma_max: first level, > 0.
        sigma_min: last level, in (0, sigma_max].
    """
    return sigma_max * (sigma_min / sigma_max) ** position


def karras(position, sigma_max, sigma_min):
    """Returns levels whose 7th root falls linearly; see `geometric`.

    They are denser at low levels.

    #### References

    Karras et al. (2022), arXiv:2206.00364, equation 5.
    """
    first, last = sigma_max ** (1 / 7), sigma_min ** (1 / 7)
    return (first + position * (last - first)) ** 7


SCHEDULES = {"geometric": geometric, "karras": karras}


def falling_levels(sigma_max, sigma_min, num_levels, schedule="geometric"):
    """Returns the noise levels of a walk, and then 0.

    Args:
        sigma_max, sigma_min: as of `geometric`.
        num_levels: int >= 1, number of levels above 0.
        schedule: "geometric" or "karras".

    Returns:
        float64 array `[num_levels + 1]`.
    """
    position = np.arange(num_levels) / max(num_levels - 1, 1)
    levels = SCHEDULES[schedule](position, sigma_max, sigma_min)
    return np.append(levels, 0.0)


def growing_steps(sigma_max, sigma_min, num_steps, stochasticity=0.0):
    """Returns h_t = h_0 t / (1 + h_0 (t - 1)) for t = 1, ..., num_steps - 1.

    h_0 is such that the level, which each step multiplies by 1 - beta h_t,
    falls from `sigma_max` to `sigma_min`. If `num_steps` are too few for that,
    all h_t are 1.

    Args:
        sigma_max, sigma_min: first and last level, as of `geometric`.
        num_steps: int >= 1.
        stochasticity: 1 - beta, in [0, 1).

    Returns:
        float64 array `[num_steps]`; the last is 1, a whole denoising step.
    """
    h_0 = first_step(sigma_max, sigma_min, num_steps, stochasticity)
    return np.append(growing_step(h_0, np.arange(1, num_steps)), 1.0)


def growing_step(h_0, t):
    """Returns h_t; see `growing_steps`. Numbers, arrays or tensors."""
    return h_0 * t / (1 + h_0 * (t - 1))


@functools.lru_cache(maxsize=10_000)
def first_step(sigma_max, sigma_min, num_steps, stochasticity=0.0):
    """Returns h_0, in (0, 1]; arguments as of `growing_steps`."""
    t, beta = np.arange(1, num_steps), 1 - stochasticity

    def excess(h_0):
        fall = np.log1p(-beta * growing_step(h_0, t)).sum()
        return max(fall, _LOG_OF_ZERO) - np.log(sigma_min / sigma_max)

    with np.errstate(divide="ignore"):
        if excess(1.0) >= 0:
            return 1.0
        h_0 = brentq(excess, 0.0, 1.0, xtol=1e-300, maxiter=1000)
    return max(h_0, _LEAST_STEP)
