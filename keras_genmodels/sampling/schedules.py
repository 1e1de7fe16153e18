"""Noise levels and step sizes of generating."""

import numpy as np
from scipy.optimize import brentq

# Stands for log(0): brentq needs finite values.
_LOG_OF_ZERO = -1e4
# For levels that do not fall, so that no step size is 0.
_LEAST_STEP = 2.0**-60


def falling_levels(sigma_max, sigma_min, num_steps):
    """Returns noise levels that fall by a constant factor, and then 0.

    Args:
        sigma_max: first level, > 0.
        sigma_min: last level above 0, in (0, sigma_max].
        num_steps: int >= 1, number of levels above 0.

    Returns:
        float64 array `[num_steps + 1]`.
    """
    return np.append(np.geomspace(sigma_max, sigma_min, num_steps), 0.0)


def growing_steps(sigma_max, sigma_min, num_steps, stochasticity=0.0):
    """Returns h_t = h_0 t / (1 + h_0 (t - 1)) for t = 1, ..., num_steps - 1.

    h_0 is such that the level, which each step multiplies by 1 - beta h_t,
    falls from `sigma_max` to `sigma_min`. If `num_steps` are too few for that,
    all h_t are 1.

    Args:
        sigma_max, sigma_min, num_steps: as in `falling_levels`.
        stochasticity: 1 - beta, in [0, 1).

    Returns:
        float64 array `[num_steps]`; the last is 1, a whole denoising step.
    """
    t = np.arange(1, num_steps)
    beta = 1 - stochasticity

    def steps(h_0):
        return h_0 * t / (1 + h_0 * (t - 1))

    def excess(h_0):
        fall = np.log1p(-beta * steps(h_0)).sum()
        return max(fall, _LOG_OF_ZERO) - np.log(sigma_min / sigma_max)

    with np.errstate(divide="ignore"):
        if excess(1.0) >= 0:
            return np.ones(num_steps)
        h_0 = brentq(excess, 0.0, 1.0, xtol=1e-300, maxiter=1000)
    return np.append(steps(max(h_0, _LEAST_STEP)), 1.0)
