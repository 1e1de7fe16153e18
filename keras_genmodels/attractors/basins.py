"""Basins of attraction: from how far the loop returns to a fixed point."""

import math
from typing import NamedTuple

import numpy as np

from keras_genmodels.attractors.fixed_points import (
    follower,
    num_values,
    rms_distance,
)
from keras_genmodels.attractors.jacobian import (
    read_arrays,
)
from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check, check_count


class BasinRadius(NamedTuple):
    """What `basin_radius` returns.

    Distances are Euclidean, and NaN for an image that does not come to rest
    by itself.

    Args:
        smallest: float64 `[batch]`, the least of `radii` over the directions.
        median: float64 `[batch]`, their median.
        radii: float64 `[batch, num_directions]`, the largest push of an image
            that was seen to come back; 0 if none was.
        upper: float64 `[batch, num_directions]`, the smallest push beyond it
            that was seen to go elsewhere, so that the basin ends between the
            two; inf where even the largest push came back.
        attractors: float `[batch, ...]`, where each image goes by itself.
    """

    smallest: np.ndarray
    median: np.ndarray
    radii: np.ndarray
    upper: np.ndarray
    attractors: np.ndarray


def basin_radius(
    denoiser,
    x,
    *,
    seed=None,
    sigma=None,
    step_size=1.0,
    num_directions=16,
    directions=None,
    max_radius=None,
    num_bisections=10,
    max_steps=1000,
    tolerance=1e-5,
    return_distance=1e-2,
    batch_size=256,
):
    """Measures how far an image can be pushed before it goes elsewhere.

    Pushed by r along a unit vector u, x + r u comes back if the update of
    `restore` takes it to where it takes x itself. The largest such r is
    bisected for along each direction. A radius is a lower bound, at most
    `max_radius` / 2^`num_bisections` below the end of the basin (or
    `max_radius`, where even that came back); where the basin has holes along
    u, the end found need not be the first.

    In many dimensions random directions are nearly orthogonal to the one that
    leads to another image, so that the smallest of a few radii is not the
    distance to the edge of the basin: give such `directions` to measure that.

    Where the fixed points are a continuum (V V') a push within it stays: the
    radius is then only what `return_distance` allows, times sqrt(M), not 0.
    M is the number of values of an image.

    Args:
        denoiser: as in `restore`; it treats each event of a batch by itself.
        x: floating tensor or array `[batch, ...]`, fixed points or images
            near one.
        seed: int, int32 `[2]` or `[batch, 2]`, of the random directions; not
            needed with `directions`.
        sigma: noise level > 0 told to the denoiser, scalar or `[batch]`; None
            where it needs none.
        step_size: eta in (0, 2).
        num_directions: int >= 1, how many random directions an image.
        directions: float `[num_directions, ...]` or `[batch, num_directions,
            ...]`, to push along instead; of any length but 0.
        max_radius: > 0, the largest push, Euclidean; by default sqrt(M), the
            distance of a white image from a black one.
        num_bisections: int >= 0.
        max_steps: int >= 1; a push that has not settled by then counts as
            come back if it is within `return_distance`.
        tolerance: >= 0, root mean square of D(x) - x at which the loop rests.
        return_distance: > 0, root mean square difference from where x itself
            goes, up to which a push has come back.
        batch_size: int >= 1, how many pushes are followed at a time.

    Returns:
        BasinRadius.

    Raises:
        UserError: if an argument is out of range or the denoiser does not
            take such `x` and `sigma`.
    """
    check_count("batch_size", batch_size)
    check_count("num_bisections", num_bisections, least=0)
    check(
        return_distance > 0,
        f"return_distance must be > 0, got {return_distance}",
    )
    x, sigma = read_arrays(denoiser, x, sigma)
    max_radius = _read_radius(max_radius, x)
    if directions is None:
        directions = _random_directions(seed, x, num_directions)
    units = _unit_vectors(directions, x)
    follow = follower(denoiser, step_size, max_steps, tolerance, batch_size)
    attractors, _, residuals = follow(x, sigma)

    def comes_back(rows, columns, radii):
        push = units[rows, columns] * radii.reshape(-1, *[1] * (x.ndim - 1))
        told = None if sigma is None else sigma[rows]
        ends, _, _ = follow((x[rows] + push).astype(x.dtype), told)
        return rms_distance(ends, attractors[rows]) <= return_distance

    resting = residuals <= tolerance
    radii, upper = _bisect(
        comes_back, resting, units.shape[1], max_radius, num_bisections
    )
    return BasinRadius(
        radii.min(1), np.median(radii, 1), radii, upper, attractors
    )


def _bisect(comes_back, resting, num_directions, max_radius, num_bisections):
    """Gives the largest pushes that came back, the smallest that did not."""
    shape = (len(resting), num_directions)
    lower = np.where(resting[:, None], np.zeros(shape), np.nan)
    upper = np.where(resting[:, None], np.full(shape, max_radius), np.nan)
    rows, columns = np.nonzero(np.isfinite(lower))
    if not len(rows):
        return lower, upper
    back = comes_back(rows, columns, upper[rows, columns])
    lower[rows[back], columns[back]] = max_radius
    upper[rows[back], columns[back]] = np.inf
    rows, columns = rows[~back], columns[~back]
    for _ in range(num_bisections if len(rows) else 0):
        middle = (lower[rows, columns] + upper[rows, columns]) / 2
        back = comes_back(rows, columns, middle)
        lower[rows[back], columns[back]] = middle[back]
        upper[rows[~back], columns[~back]] = middle[~back]
    return lower, upper


def _read_radius(max_radius, x):
    if max_radius is None:
        return math.sqrt(num_values(x))
    check(
        0 < max_radius < np.inf,
        f"max_radius must be > 0 and finite, got {max_radius}",
    )
    return max_radius


def _random_directions(seed, x, num_directions):
    check_count("num_directions", num_directions)
    shape = (num_directions, *x.shape[1:])
    rows = seeds.row_seeds(seed, len(x))
    return seeds.normal(rows, shape, "float64").numpy()


def _unit_vectors(directions, x):
    """Gives float64 `[batch, num_directions, ...]`."""
    directions = np.asarray(directions, np.float64)
    if directions.ndim == x.ndim:
        directions = np.broadcast_to(directions, (len(x), *directions.shape))
    right = (len(x), *directions.shape[1:2], *x.shape[1:])
    check(
        directions.shape == right and directions.size,
        "directions must have shape [num_directions, *event_shape] or [batch, "
        f"num_directions, *event_shape], got {directions.shape} for images "
        f"of {x.shape}",
    )
    axes = tuple(range(2, directions.ndim))
    lengths = np.sqrt(np.square(directions).sum(axes, keepdims=True))
    check(
        np.all((lengths > 0) & np.isfinite(lengths)),
        "directions must be finite and not 0",
    )
    return directions / lengths
