"""Basins of attraction: how far an event can be moved and still return."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import elementwise

from keras_genmodels.attractors.fixed_points import (
    num_values,
    restorer,
    rms_distance,
)
from keras_genmodels.attractors.jacobian import validate_arrays
from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check, check_count


class BasinRadius(NamedTuple):
    """The result of `basin_radius`.

    Distances are Euclidean, and NaN for an event that does not converge.

    Args:
        smallest: float64 `[batch]`, minimum of `radii` over the directions.
        median: float64 `[batch]`, their median.
        radii: float64 `[batch, num_directions]`, largest tested distance from
            which the event returns; 0 if there is none.
        upper: float64 `[batch, num_directions]`, smallest tested distance
            above it from which the event does not return: the basin ends
            between the two. inf if it returns even from `max_radius`.
        attractors: float `[batch, ...]`, where each event itself converges.
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
    """Measures how far an event can be moved before it converges elsewhere.

    x moved by r along a unit vector u returns if the update of `restore` takes
    x + r u to the same point as x itself. The largest such r is found by
    bisection along each direction. A radius is a lower bound, at most
    `max_radius` / 2^`num_bisections` below the end of the basin (or it is
    `max_radius`, if x returns even from there). If the basin has holes along
    u, the end that is found need not be the first.

    In many dimensions random directions are nearly orthogonal to the direction
    of another attractor, so that the smallest of a few radii overestimates the
    distance to the edge of the basin: pass such `directions` to measure it.

    If the fixed points are a continuum, as of a projection, any move within it
    is kept: the radius is then only sqrt(M) times `return_distance`, not 0,
    with M the number of values of an event.

    Args:
        denoiser: as in `restore`; row i of its result must depend on row i of
            its arguments alone.
        x: floating tensor or array `[batch, ...]`, fixed points or events
            near one.
        seed: int, int32 `[2]` or `[batch, 2]`, of the random directions; not
            needed with `directions`.
        sigma: noise level > 0 passed to the denoiser, scalar or `[batch]`;
            None if it needs none.
        step_size: eta in (0, 2).
        num_directions: int >= 1, number of random directions per event.
        directions: float `[num_directions, ...]` or `[batch, num_directions,
            ...]`, to use instead; of any length except 0.
        max_radius: > 0, largest distance, Euclidean; by default sqrt(M), the
            distance of a white image from a black one.
        num_bisections: int >= 0.
        max_steps: int >= 1; what has not converged by then has returned if it
            is within `return_distance`.
        tolerance: >= 0, root mean square of D(x) - x at convergence.
        return_distance: > 0, largest root mean square difference from where x
            itself converges that counts as returned.
        batch_size: int >= 1, number of events that are restored at once.

    Returns:
        BasinRadius.

    Raises:
        ValueError: if an argument is out of range or the denoiser does not
            accept `x` and `sigma`.
    """
    check_count("batch_size", batch_size)
    check_count("num_bisections", num_bisections, least=0)
    check(
        return_distance > 0,
        f"return_distance must be > 0, got {return_distance}",
    )
    x, sigma = validate_arrays(denoiser, x, sigma)
    max_radius = _as_radius(max_radius, x)
    if directions is None:
        directions = _random_directions(seed, x, num_directions)
    units = _unit_vectors(directions, x)
    converge = restorer(denoiser, step_size, max_steps, tolerance, batch_size)
    attractors, _, residuals = converge(x, sigma)

    def returns(radii, rows, columns):
        moves = units[rows, columns] * radii.reshape(-1, *[1] * (x.ndim - 1))
        sigmas = None if sigma is None else sigma[rows]
        ends, _, _ = converge((x[rows] + moves).astype(x.dtype), sigmas)
        return rms_distance(ends, attractors[rows]) <= return_distance

    radii, upper = _bisect(
        returns,
        residuals <= tolerance,
        units.shape[1],
        max_radius,
        num_bisections,
    )
    return BasinRadius(
        radii.min(1), np.median(radii, 1), radii, upper, attractors
    )


def _bisect(returns, converged, num_directions, max_radius, num_bisections):
    """Returns the largest radii with return, and the smallest without.

    `brentq` solves one equation at a time; `find_root` evaluates all rows and
    directions together. On a function of +1 and -1 its method, Chandrupatla's,
    takes a step of bisection each time.
    """
    shape = (len(converged), num_directions)
    radii = np.where(converged[:, None], np.zeros(shape), np.nan)
    upper = np.where(converged[:, None], np.full(shape, max_radius), np.nan)
    rows, columns = np.nonzero(np.isfinite(radii))
    if not len(rows):
        return radii, upper
    far = returns(upper[rows, columns], rows, columns)
    radii[rows[far], columns[far]] = max_radius
    upper[rows[far], columns[far]] = np.inf
    rows, columns = rows[~far], columns[~far]
    if not len(rows) or not num_bisections:
        return radii, upper

    def sign(tested, rows, columns):
        # The ends of the interval are known.
        result = np.where(tested > 0, -1.0, 1.0)
        inner = (tested > 0) & (tested < max_radius)
        if inner.any():
            is_back = returns(tested[inner], rows[inner], columns[inner])
            result[inner] = np.where(is_back, 1.0, -1.0)
        return result

    ends = (np.zeros(len(rows)), np.full(len(rows), float(max_radius)))
    found = elementwise.find_root(
        sign, ends, args=(rows, columns), maxiter=num_bisections
    )
    radii[rows, columns], upper[rows, columns] = found.bracket
    return radii, upper


def _as_radius(max_radius, x):
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
    """Returns `directions` at length 1, float64 `[batch, n, ...]`."""
    directions = np.asarray(directions, np.float64)
    if directions.ndim == x.ndim:
        directions = np.broadcast_to(directions, (len(x), *directions.shape))
    right = (len(x), *directions.shape[1:2], *x.shape[1:])
    check(
        directions.shape == right and directions.size,
        "directions must have shape [num_directions, *event_shape] or [batch, "
        f"num_directions, *event_shape], got {directions.shape} for x of shape "
        f"{x.shape}",
    )
    axes = tuple(range(2, directions.ndim))
    lengths = np.sqrt(np.square(directions).sum(axes, keepdims=True))
    check(
        np.all((lengths > 0) & np.isfinite(lengths)),
        "directions must be finite and not 0",
    )
    return directions / lengths
