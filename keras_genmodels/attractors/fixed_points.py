"""Where a denoiser leads to: its fixed points, and what holds around them."""

import math
from typing import NamedTuple

import numpy as np

from keras_genmodels.attractors.jacobian import (
    read_arrays,
)
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling.restoration import restore


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
    follow = follower(denoiser, step_size, max_steps, tolerance, batch_size)
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


def follower(denoiser, step_size, max_steps, tolerance, batch_size):
    """Gives the loop, for more events than are followed at a time."""
    # Of 0 steps `restore` gives the residual 0, as if all had settled.
    check_count("max_steps", max_steps)

    def follow(x, sigma):
        restored = restore(
            denoiser,
            x,
            sigma=sigma,
            step_size=step_size,
            max_steps=max_steps,
            tolerance=tolerance,
        )
        return restored[:3]

    return lambda x, sigma: map_batches(follow, x, sigma, batch_size=batch_size)


def _merge(ends, residuals, settled, merge_distance):
    """Gives which ends stand for all, and which of these each belongs to."""
    leaders, assignments = [], np.full(len(ends), -1)
    for index in np.argsort(residuals, kind="stable"):
        if not settled[index]:
            continue
        distances = rms_distance(ends[leaders], ends[index][None])
        if not leaders or distances.min() > merge_distance:
            assignments[index] = len(leaders)
            leaders.append(index)
        else:
            assignments[index] = distances.argmin()
    return np.array(leaders, int), assignments


def num_values(x):
    """Returns the number of values of one event of `x`, `[batch, ...]`."""
    return math.prod(x.shape[1:])


def rms_distance(x, y):
    """Returns the root mean square of x - y for each event, `[batch]`."""
    difference = (x.astype(np.float64) - y).reshape(len(x), num_values(x))
    return np.sqrt(np.square(difference).mean(1))
