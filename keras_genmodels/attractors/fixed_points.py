"""Fixed points of a denoiser: where the update of `restore` converges."""

import math
from typing import NamedTuple

import numpy as np

from keras_genmodels.attractors.jacobian import validate_arrays
from keras_genmodels.core import deprecation
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling import restoration


class FixedPoints(NamedTuple):
    """The result of `fixed_points`.

    Args:
        points: float `[num_points, ...]`, the distinct fixed points, sorted
            by falling `counts`; there may be none.
        counts: int `[num_points]`, number of starts that converge to each.
        assignments: int `[num_starts]`, index of the point that each start
            converges to; -1 if it does not converge.
        ends: float `[num_starts, ...]`, last iterate of each start.
        num_steps: int `[num_starts]`, number of updates.
        residuals: float `[num_starts]`, root mean square of D(x) - x at the
            end; one update earlier if `max_steps` was reached.
    """

    points: np.ndarray
    counts: np.ndarray
    assignments: np.ndarray
    ends: np.ndarray
    num_steps: np.ndarray
    residuals: np.ndarray

    @property
    def num_not_converged(self):
        """Number of starts that do not converge, int."""
        return int(np.sum(self.assignments < 0))

    @property
    def num_unsettled(self):
        """Deprecated alias of `num_not_converged`."""
        deprecation.warn("num_unsettled", "num_not_converged")
        return self.num_not_converged


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
    """Finds the fixed points to which many starting points converge.

    The update is that of `restore`, x <- x + eta (D(x, sigma) - x) with eta =
    `step_size`. Its fixed points are the x with D(x, sigma) = x, for any eta.

    A start has converged when the root mean square of D(x) - x is at most
    `tolerance`. Near a fixed point with spectral radius rho (see
    `jacobian_eigenvalues`, for `step_size` 1) it may still be about
    tolerance / (1 - rho) away from it, so `merge_distance` should be well
    above `tolerance`. Ends within that distance are merged into the one with
    the smallest residual.

    Args:
        denoiser: as in `restore`; row i of its result must depend on row i of
            its arguments alone.
        starts: floating tensor or array `[num_starts, ...]`.
        sigma: noise level > 0 passed to the denoiser, scalar or
            `[num_starts]`; None if it needs none.
        step_size: eta in (0, 2). 1 is a whole denoising in each step.
        max_steps: int >= 1, maximum number of updates.
        tolerance: >= 0, root mean square, in units of x.
        merge_distance: >= 0, largest root mean square difference of ends that
            are the same fixed point, in units of x.
        batch_size: int >= 1, number of events that are restored at once.

    Returns:
        FixedPoints.

    Raises:
        ValueError: if an argument is out of range or the denoiser does not
            accept `starts` and `sigma`.

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
    starts, sigma = validate_arrays(denoiser, starts, sigma)
    converge = restorer(denoiser, step_size, max_steps, tolerance, batch_size)
    ends, num_steps, residuals = converge(starts, sigma)
    # False for NaN, the residual of a D(x) that is not finite.
    converged = residuals <= tolerance
    leaders, assignments = _merge(ends, residuals, converged, merge_distance)
    counts = np.bincount(assignments[converged], minlength=len(leaders))
    order = np.argsort(-counts, kind="stable")
    assignments[converged] = np.argsort(order)[assignments[converged]]
    points = ends[leaders][order]
    return FixedPoints(
        points, counts[order], assignments, ends, num_steps, residuals
    )


def restorer(denoiser, step_size, max_steps, tolerance, batch_size):
    """Returns a function that restores events in batches.

    Returns:
        function of x `[n, ...]` and sigma `[n]` or None that returns arrays
        `x`, `num_steps` and `residual` as `restore` does.
    """
    # For 0 steps `restore` returns the residual 0, as if all had converged.
    check_count("max_steps", max_steps)

    def converge(x, sigma):
        return restoration.converge(
            denoiser,
            x,
            sigma,
            step_size=step_size,
            max_steps=max_steps,
            tolerance=tolerance,
        )[:3]

    return lambda x, sigma: map_batches(
        converge, x, sigma, batch_size=batch_size
    )


def _merge(ends, residuals, converged, merge_distance):
    """Merges ends that are close to each other.

    Returns:
        indices of the ends that are kept, int `[num_points]`, and for each end
        the number of the one it is merged into, int `[num_starts]`, or -1.
    """
    leaders, assignments = [], np.full(len(ends), -1)
    for index in np.argsort(residuals, kind="stable"):
        if not converged[index]:
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
