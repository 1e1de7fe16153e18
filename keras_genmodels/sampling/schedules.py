"""How the noise level falls while an image is generated: pure functions."""

import numpy as np


def falling_levels(sigma_max, sigma_min, num_steps):
    """Gives noise levels that fall by a constant factor, and a last one of 0.

    Args:
        sigma_max: first level, > 0.
        sigma_min: last level above 0, in (0, sigma_max].
        num_steps: int >= 1, how many levels above 0.

    Returns:
        float64 array `[num_steps + 1]`.
    """
    return np.append(np.geomspace(sigma_max, sigma_min, num_steps), 0.0)


def growing_steps(sigma_max, sigma_min, num_steps, stochasticity=0.0):
    """Gives h_t = h_0 t / (1 + h_0 (t - 1)) for t = 1, ..., num_steps - 1.

    h_0 is solved for: the level, which a step multiplies by 1 - beta h_t, is
    to fall from `sigma_max` to `sigma_min`. Where that takes more steps, as
    little is left of it as can be: all h_t are 1.

    Args:
        sigma_max, sigma_min, num_steps: as in `falling_levels`.
        stochasticity: 1 - beta, in [0, 1).

    Returns:
        float64 array `[num_steps]`; the last is 1, a whole denoising.
    """
    t = np.arange(1, num_steps)
    wanted = np.log(sigma_min / sigma_max)

    def steps(h_0):
        return h_0 * t / (1 + h_0 * (t - 1))

    low, high = 0.0, 1.0
    for _ in range(60):
        h_0 = (low + high) / 2
        fallen = np.log1p(-(1 - stochasticity) * steps(h_0)).sum()
        low, high = (low, h_0) if fallen < wanted else (h_0, high)
    return np.append(steps(high), 1.0)
