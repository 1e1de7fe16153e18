"""Where a denoiser leads to: its fixed points, and what holds around them."""

import math
from typing import NamedTuple

import numpy as np

from keras_genmodels.attractors.jacobian import (
    JacobianSpectrum,
    LocalDimension,
    jacobian_eigenvalues,
    local_dimension,
    read_arrays,
)
from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.metrics.memorization import Memorization, memorization
from keras_genmodels.sampling.restoration import restore

__all__ = [
    "BasinRadius",
    "FixedPoints",
    "JacobianSpectrum",
    "LocalDimension",
    "Memorization",
    "basin_radius",
    "fixed_points",
    "jacobian_eigenvalues",
    "local_dimension",
    "memorization",
]


class FixedPoints(NamedTuple):
    """What `fixed_points` returns.

    Args:
        points: float `[num_points, ...]`, the distinct fixed points, those
            that most starts went to first; may be none.
        counts: int `[num_points]`, how many starts went to each.
        assignments: int `[num_starts]`, which point each start went to; -1
            where it did not settle.
        ends: float `[num_starts, ...]`, where each start came to.
        num_steps: int `[num_starts]`, how many updates it took.
        residuals: float `[num_starts]`, root mean square of D(x) - x there;
            one update earlier where `max_steps` ended the way.
    """

    points: np.ndarray
    counts: np.ndarray
    assignments: np.ndarray
    ends: np.ndarray
    num_steps: np.ndarray
    residuals: np.ndarray

    @property
    def num_unsettled(self):
        """How many starts did not settle, int."""
        return int(np.sum(self.assignments < 0))


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


def fixed_points(
    denoiser,
    starts,
    *,
    sigma=None,
    step_size=1.0,
    max_steps=1000,
    tolerance=1e-5,
    merge_distance=1e-2,
    batch_size=256,
):
    """Follows many starts to the fixed points that they go to.

    They go by the update of `restore`, x <- x + eta (D(x, sigma) - x) with
    eta = `step_size`, whose fixed points are the x with D(x, sigma) = x,
    whatever eta.

    A start settles where the root mean square of D(x) - x falls to
    `tolerance`. Near a fixed point with spectral radius rho (see
    `jacobian_eigenvalues`, at `step_size` 1) it may then still be about
    tolerance / (1 - rho) away from it, so `merge_distance` should be well
    above `tolerance`. Of ends that are merged, the one with the smallest
    residual stands for all.

    Args:
        denoiser: as in `restore`; it treats each event of a batch by itself.
        starts: floating tensor or array `[num_starts, ...]`.
        sigma: noise level > 0 told to the denoiser, scalar or `[num_starts]`;
            None where it needs none.
        step_size: eta in (0, 2). 1 is a whole denoising at each step.
        max_steps: int >= 1, after which a start has not settled.
        tolerance: >= 0, root mean square, in units of x.
        merge_distance: >= 0, root mean square difference up to which two ends
            are the same fixed point, in units of x.
        batch_size: int >= 1, how many starts are followed at a time.

    Returns:
        FixedPoints.

    Raises:
        UserError: if an argument is out of range or the denoiser does not
            take such `starts` and `sigma`.

    #### References

    Alain and Bengio (2014), What regularized auto-encoders learn from the
    data-generating distribution, JMLR 15. Radhakrishnan, Belkin and Uhler
    (2020), Overparameterized neural networks implement associative memory,
    PNAS 117.
    """
    check_count("batch_size", batch_size)
    check(
        merge_distance >= 0,
        f"merge_distance must be >= 0, got {merge_distance}",
    )
    starts, sigma = read_arrays(denoiser, starts, sigma)
    follow = _follower(denoiser, step_size, max_steps, tolerance, batch_size)
    ends, num_steps, residuals = follow(starts, sigma)
    # NaN, of a D(x) that is not finite, is no rest either.
    settled = residuals <= tolerance
    leaders, assignments = _merge(ends, residuals, settled, merge_distance)
    counts = np.bincount(assignments[settled], minlength=len(leaders))
    order = np.argsort(-counts, kind="stable")
    assignments[settled] = np.argsort(order)[assignments[settled]]
    points = ends[leaders][order]
    return FixedPoints(
        points, counts[order], assignments, ends, num_steps, residuals
    )


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
    follow = _follower(denoiser, step_size, max_steps, tolerance, batch_size)
    attractors, _, residuals = follow(x, sigma)

    def comes_back(rows, columns, radii):
        push = units[rows, columns] * radii.reshape(-1, *[1] * (x.ndim - 1))
        told = None if sigma is None else sigma[rows]
        ends, _, _ = follow((x[rows] + push).astype(x.dtype), told)
        return _rms_distance(ends, attractors[rows]) <= return_distance

    resting = residuals <= tolerance
    radii, upper = _bisect(
        comes_back, resting, units.shape[1], max_radius, num_bisections
    )
    return BasinRadius(
        radii.min(1), np.median(radii, 1), radii, upper, attractors
    )


def _follower(denoiser, step_size, max_steps, tolerance, batch_size):
    """Gives the loop, for more events than are followed at a time."""
    # Of 0 steps `restore` gives the residual 0, as if all had settled.
    check_count("max_steps", max_steps)

    def follow(x, sigma):
        parts = [
            slice(start, start + batch_size)
            for start in range(0, len(x), batch_size)
        ]
        runs = [
            restore(
                denoiser,
                x[part],
                sigma=None if sigma is None else sigma[part],
                step_size=step_size,
                max_steps=max_steps,
                tolerance=tolerance,
            )
            for part in parts
        ]
        return [
            np.concatenate([value.numpy() for value in values])
            for values in zip(*(run[:3] for run in runs), strict=True)
        ]

    return follow


def _merge(ends, residuals, settled, merge_distance):
    """Gives which ends stand for all, and which of these each belongs to."""
    leaders, assignments = [], np.full(len(ends), -1)
    for index in np.argsort(residuals, kind="stable"):
        if not settled[index]:
            continue
        distances = _rms_distance(ends[leaders], ends[index][None])
        if not leaders or distances.min() > merge_distance:
            assignments[index] = len(leaders)
            leaders.append(index)
        else:
            assignments[index] = distances.argmin()
    return np.array(leaders, int), assignments


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
        return math.sqrt(_num_values(x))
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


def _num_values(x):
    return math.prod(x.shape[1:])


def _rms_distance(x, y):
    difference = (x.astype(np.float64) - y).reshape(len(x), _num_values(x))
    return np.sqrt(np.square(difference).mean(1))
