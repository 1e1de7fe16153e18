"""Where a denoiser leads to: its fixed points, and what holds around them.

All of it is about the update of `restore` at one noise level,

    T(x) = (1 - eta) x + eta D(x, sigma),      eta = `step_size`,

whose fixed points are the x with D(x) = x, whatever eta. A fixed point
attracts its surroundings if the spectral radius (the largest modulus of an
eigenvalue) of the Jacobian of T there is below 1, and repels in some
direction if it is above 1; exactly 1 decides nothing.

A denoiser is an object with `denoise(x, sigma)` or a function of both, called
by position as by `restore`; it treats each event of a batch by itself. Its
Jacobian is never formed: it is multiplied with vectors, in a function that is
compiled once for a denoiser and a shape of events. Events may have any shape;
M is the number of their values. Results are NumPy arrays.

#### References

Alain and Bengio (2014), What regularized auto-encoders learn from the
data-generating distribution, JMLR 15. Radhakrishnan, Belkin and Uhler (2020),
Overparameterized neural networks implement associative memory, PNAS 117.
Kadkhodaie et al. (2024), Generalization in diffusion models arises from
geometry-adaptive harmonic representations, arXiv:2310.02557.
"""

import math
import numbers
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.sparse import linalg
from sklearn.metrics import pairwise_distances_argmin_min

from keras_genmodels import _compiled as compiled
from keras_genmodels import seeds
from keras_genmodels._arguments import read_events
from keras_genmodels.denoisers.base import event_batches
from keras_genmodels.errors import UserError
from keras_genmodels.restoration import restore

# Events at a time in `memorization`: in float64 25 MB of 784 values each.
_BLOCK = 4096


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
        residuals: float `[num_starts]`, root mean square of D(x) - x there.
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


class JacobianSpectrum(NamedTuple):
    """What `jacobian_eigenvalues` returns.

    Args:
        eigenvalues: complex128 `[batch, k]`, the k largest in modulus, falling.
        spectral_radius: float64 `[batch]`, the modulus of the first.
        num_products: int `[batch]`, products with the Jacobian that it took.
    """

    eigenvalues: np.ndarray
    spectral_radius: np.ndarray
    num_products: np.ndarray


class BasinRadius(NamedTuple):
    """What `basin_radius` returns; distances are Euclidean.

    Args:
        smallest: float64 `[batch]`, the least of `radii` over the directions.
        median: float64 `[batch]`, their median.
        radii: float64 `[batch, num_directions]`, the largest push of an image
            that was seen to come back; 0 if none was. NaN for an image that
            does not come to rest by itself.
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


class LocalDimension(NamedTuple):
    """What `local_dimension` returns.

    Args:
        dimension: float64 `[batch]`, estimate of the trace.
        standard_error: float64 `[batch]`, its standard error.
    """

    dimension: np.ndarray
    standard_error: np.ndarray


class Memorization(NamedTuple):
    """What `memorization` returns; distances are Euclidean.

    Args:
        rate: float in [0, 1], the share of images that are memorised.
        memorized: bool `[n]`, whether each image is.
        threshold: float, below which distance to the nearest training image
            one counts as memorised.
        nearer_train_rate: float in [0, 1], the share of images whose nearest
            training image is nearer than their nearest held-out image. An
            image that is new has the larger set on its side: compare it with
            num_train / (num_train + num_held_out).
        train_distances: float64 `[n]`, to the nearest training image.
        train_indices: int `[n]`, which that is.
        held_out_distances: float64 `[n]`, to the nearest held-out image.
        held_out_indices: int `[n]`, which that is.
    """

    rate: float
    memorized: np.ndarray
    threshold: float
    nearer_train_rate: float
    train_distances: np.ndarray
    train_indices: np.ndarray
    held_out_distances: np.ndarray
    held_out_indices: np.ndarray


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

    A start settles where the root mean square of D(x) - x falls to
    `tolerance`. Near a fixed point with spectral radius rho it may then still
    be about tolerance / (1 - rho) away from it, so `merge_distance` should be
    well above `tolerance`. Of ends that are merged, the one with the smallest
    residual stands for all.

    Args:
        denoiser: see the top of this module.
        starts: floating tensor or array `[num_starts, ...]`.
        sigma: noise level > 0 told to the denoiser, scalar or `[num_starts]`;
            None where it needs none.
        step_size: eta in (0, 2). 1 is a whole denoising at each step.
        max_steps: int >= 0, after which a start has not settled.
        tolerance: >= 0, root mean square, in units of x.
        merge_distance: >= 0, root mean square difference up to which two ends
            are the same fixed point, in units of x.
        batch_size: int >= 1, how many starts are followed at a time.

    Returns:
        FixedPoints.

    Raises:
        UserError: if an argument is out of range or the denoiser does not
            take such `starts` and `sigma`.
    """
    _check_count("batch_size", batch_size)
    _check(
        merge_distance >= 0,
        f"merge_distance must be >= 0, got {merge_distance}",
    )
    starts, sigma = _read_events(denoiser, starts, sigma)
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


def jacobian_eigenvalues(
    denoiser,
    x,
    *,
    seed,
    sigma=None,
    step_size=1.0,
    num_eigenvalues=6,
    tolerance=1e-5,
    max_restarts=100,
):
    """Gives the leading eigenvalues of the update's Jacobian at each image.

    The Jacobian of T is (1 - eta) I + eta J, with J that of D at x. Of its
    eigenvalues, implicitly restarted Arnoldi iteration (ARPACK) finds those
    of largest modulus from products with vectors. J need not be symmetric
    (that of a learned D is not), so they may be complex. With `step_size` 1
    they are the eigenvalues of J.

    Products are J v, in forward mode. Where TensorFlow has no forward mode
    for a denoiser (control flow over variables, as in `EmpiricalDenoiser`)
    they are J' v, in reverse mode: J' has the same eigenvalues. The same seed
    gives the same eigenvalues but for the rounding of the products, which is
    not the same in every run where TensorFlow convolves on several cores.

    Args:
        denoiser: see the top of this module.
        x: floating tensor or array `[batch, ...]`; fixed points, to tell
            whether they attract.
        seed: int, int32 `[2]` or `[batch, 2]`, of the vectors to start from.
        sigma: noise level > 0 told to the denoiser, scalar or `[batch]`; None
            where it needs none.
        step_size: eta in (0, 2).
        num_eigenvalues: int >= 1, how many; all M where that is fewer.
        tolerance: > 0, of the eigenvalues, relative to their modulus. Products
            in float32 support about 1e-6.
        max_restarts: int >= 1, after which the iteration gives up.

    Returns:
        JacobianSpectrum.

    Raises:
        UserError: if an argument is out of range, if the denoiser does not
            take such `x` and `sigma` or has no derivative, and if the
            iteration has not converged after `max_restarts`.

    #### References

    Lehoucq, Sorensen and Yang (1998), ARPACK users' guide, SIAM.
    """
    _check(
        0 < step_size < 2,
        f"step_size must be in (0, 2), got {step_size}",
    )
    _check(tolerance > 0, f"tolerance must be > 0, got {tolerance}")
    _check_count("num_eigenvalues", num_eigenvalues)
    _check_count("max_restarts", max_restarts)
    x, sigma = _read_events(denoiser, x, sigma)
    multiply = _jacobian(denoiser, x, sigma)
    starts = seeds.normal(seeds.row_seeds(seed, len(x)), x.shape[1:]).numpy()
    spectra, counts = [], []
    for row in range(len(x)):
        updater = _Updater(multiply, row, x.shape[1:], step_size)
        spectra.append(
            updater.leading(
                starts[row].ravel(), num_eigenvalues, tolerance, max_restarts
            )
        )
        counts.append(updater.num_products)
    eigenvalues = np.stack(spectra)
    return JacobianSpectrum(
        eigenvalues, np.abs(eigenvalues[:, 0]), np.array(counts)
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

    Pushed by r along a unit vector u, x + r u comes back if the loop takes it
    to where it takes x itself. The largest such r is bisected for along each
    direction. A radius is a lower bound, less than `max_radius` /
    2^`num_bisections` below the end of the basin; where the basin has holes
    along u, the end found need not be the first.

    In many dimensions random directions are nearly orthogonal to the one that
    leads to another image, so that the smallest of a few radii is not the
    distance to the edge of the basin: give such `directions` to measure that.

    Where the fixed points are a continuum (V V') a push within it stays: the
    radius is then as small as `return_distance`, not 0.

    Args:
        denoiser: see the top of this module.
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
    _check_count("batch_size", batch_size)
    _check_count("num_bisections", num_bisections, least=0)
    _check(
        return_distance > 0,
        f"return_distance must be > 0, got {return_distance}",
    )
    x, sigma = _read_events(denoiser, x, sigma)
    if max_radius is None:
        max_radius = math.sqrt(_num_values(x))
    _check(
        0 < max_radius < np.inf,
        f"max_radius must be > 0 and finite, got {max_radius}",
    )
    if directions is None:
        _check_count("num_directions", num_directions)
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


def local_dimension(
    denoiser, x, *, seed, sigma=None, num_probes=64, batch_size=256
):
    """Estimates how many directions a denoiser keeps at each image.

    It is the trace of D's Jacobian J at x: r for the projection V V', sum_j
    lambda_j / (lambda_j + sigma^2) for the Wiener filter, and for the exact
    denoiser the trace of Cov[clean | x] over sigma^2. Hutchinson's
    estimator averages z' J z over random signs z, in expectation the trace.

    Products are as in `jacobian_eigenvalues`; z' J z = z' J' z.

    Args:
        denoiser: see the top of this module.
        x: floating tensor or array `[batch, ...]`, any images.
        seed: int, int32 `[2]` or `[batch, 2]`, of the signs.
        sigma: noise level > 0 told to the denoiser, scalar or `[batch]`; None
            where it needs none.
        num_probes: int >= 2, how many z an image.
        batch_size: int >= 1, how many products are computed at a time.

    Returns:
        LocalDimension.

    Raises:
        UserError: if an argument is out of range, or if the denoiser does not
            take such `x` and `sigma` or has no derivative.

    #### References

    Hutchinson (1990), A stochastic estimator of the trace of the influence
    matrix for Laplacian smoothing splines, Comm. Statist. Simula. 19.
    Mohan et al. (2020), Robust and interpretable blind image denoising via
    bias-free convolutional neural networks, arXiv:1906.05478 (the effective
    dimensionality of a denoiser).
    """
    _check_count("num_probes", num_probes, least=2)
    _check_count("batch_size", batch_size)
    x, sigma = _read_events(denoiser, x, sigma)
    multiply = _jacobian(denoiser, x, sigma)
    rows = seeds.row_seeds(seed, len(x))
    traces = np.concatenate(
        [
            _quadratic_forms(multiply, x, images, rows, num_probes, batch_size)
            for images in _parts(len(x), max(1, batch_size // num_probes))
        ]
    )
    return LocalDimension(
        traces.mean(1), traces.std(1, ddof=1) / math.sqrt(num_probes)
    )


def memorization(images, train, held_out, *, quantile=0.0):
    """Tells how many fixed points or samples repeat the training set.

    An image is memorised if it is closer to a training image than any
    held-out image is: its distance to the nearest training image is below
    `threshold`, the smallest distance from a held-out image to the nearest
    training image. New images of the same distribution are that close with
    probability at most 1 / (num_held_out + 1), however large the training
    set is. An image that is itself in both sets makes the threshold 0, so
    that nothing counts as memorised: a small `quantile` passes over such.

    The training set is read in blocks, and never in memory as floats.
    Neighbours are found and distances computed in float64.

    Args:
        images: array `[n, ...]`, fixed points or samples. These and the
            others may be floating, or uint8, read as value / 255.
        train: array `[num_train, ...]`, or a `tf.data.Dataset` of batches of
            such, or of dicts with a batch under `image`; at best with
            batches of some thousand. It is read more than once: a data set
            must have a fixed order for the indices to mean something.
        held_out: the same, images that were not trained on.
        quantile: in [0, 1), how many of the held-out images may be closer to
            a training image than `threshold`; 0 is none.

    Returns:
        Memorization.

    Raises:
        UserError: if there are no data, if they are not finite, of another
            type or of differing shapes, or if `quantile` is out of range.

    #### References

    Meehan, Chaudhuri and Dasgupta (2020), A non-parametric test to detect
    data-copying in generative models, arXiv:2004.05675.
    """
    _check(
        0 <= quantile < 1,
        f"quantile must be in [0, 1), got {quantile}",
    )
    images = np.concatenate(list(event_batches(images, "images")))
    held_out = np.concatenate(list(event_batches(held_out, "held_out")))
    distances, indices = _nearest(images, "train", train)
    reference, _ = _nearest(held_out, "train", train)
    held_out_distances, held_out_indices = _nearest(
        images, "held_out", held_out
    )
    threshold = float(np.quantile(reference, quantile, method="lower"))
    memorized = distances < threshold
    return Memorization(
        rate=float(memorized.mean()),
        memorized=memorized,
        threshold=threshold,
        nearer_train_rate=float((distances < held_out_distances).mean()),
        train_distances=distances,
        train_indices=indices,
        held_out_distances=held_out_distances,
        held_out_indices=held_out_indices,
    )


class _Updater:
    """The Jacobian of the update T at one image, as it multiplies vectors."""

    def __init__(self, multiply, row, event_shape, step_size):
        self._multiply = multiply
        self._row = row
        self._event_shape = tuple(event_shape)
        self._size = math.prod(event_shape)
        self._step_size = step_size
        self.num_products = 0

    def leading(self, start, num_eigenvalues, tolerance, max_restarts):
        """Gives the leading eigenvalues, complex `[k]`, modulus falling."""
        count = min(num_eigenvalues, self._size)
        # ARPACK's range ends there.
        if count >= self._size - 1:
            values = np.linalg.eigvals(self._times(np.eye(self._size)).T)
        elif not self._times(start[None]).any():
            # ARPACK refuses the matrix 0: a finite set at small sigma.
            values = np.zeros(count)
        else:
            values = self._arnoldi(start, count, tolerance, max_restarts)
        order = np.argsort(-np.abs(values), kind="stable")
        return values[order][:count].astype(np.complex128)

    def _arnoldi(self, start, count, tolerance, max_restarts):
        size = self._size
        operator = linalg.LinearOperator(
            (size, size),
            matvec=lambda v: self._times(v.reshape(1, -1))[0],
            dtype=np.float64,
        )
        try:
            return linalg.eigs(
                operator,
                count,
                v0=start.astype(np.float64),
                tol=tolerance,
                maxiter=max_restarts,
                return_eigenvectors=False,
                # Of the vectors that it goes on with in an invariant space.
                rng=np.random.default_rng(0),
            )
        except linalg.ArpackNoConvergence as error:
            raise UserError(
                f"after {max_restarts} restarts only {len(error.eigenvalues)} "
                f"of {count} eigenvalues of image {self._row} are known to "
                f"{tolerance:g}: raise max_restarts or tolerance"
            ) from error

    def _times(self, vectors):
        """Multiplies each of `[n, M]`."""
        self.num_products += len(vectors)
        rows = np.full(len(vectors), self._row)
        shaped = vectors.reshape(-1, *self._event_shape)
        products = self._multiply(rows, shaped).astype(np.float64)
        eta = self._step_size
        return (1 - eta) * vectors + eta * products.reshape(vectors.shape)


def _jacobian(denoiser, x, sigma):
    """Gives the function that multiplies J at `x[rows]` with vectors."""
    run = compiled.loop_of(
        denoiser, _jacobian_product, tf.constant(x), told=sigma is not None
    )

    def multiply(rows, vectors):
        told = [] if sigma is None else [sigma[rows]]
        return run(x[rows], vectors.astype(x.dtype), *told).numpy()

    return multiply


def _jacobian_product(denoise, spec, told):
    """Makes the compiled product, of J if it can be, else of J'.

    Args:
        denoise: function of `x` and sigma.
        spec: of `x`.
        told: whether there is a sigma to tell.

    Returns:
        function of `x`, vectors like `x`, and sigma `[batch]` if `told`.
    """

    def forward(x, vectors, sigma=None):
        with tf.autodiff.ForwardAccumulator(x, vectors) as accumulator:
            denoised = tf.cast(denoise(x, sigma), x.dtype)
        return _connected(accumulator.jvp(denoised))

    def reverse(x, vectors, sigma=None):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            denoised = tf.cast(denoise(x, sigma), x.dtype)
        return _connected(tape.gradient(denoised, x, vectors))

    row = tf.TensorSpec([None], spec.dtype)
    signature = [spec, spec, *[row] * told]
    run = tf.function(forward, input_signature=signature, autograph=False)
    try:
        run.get_concrete_function()
    except (LookupError, NotImplementedError, TypeError, ValueError):
        # What else is wrong with the denoiser shows again in reverse.
        run = tf.function(reverse, input_signature=signature, autograph=False)
    return run


def _connected(product):
    _check(
        product is not None,
        "the denoiser has no derivative: nothing that TensorFlow can "
        "differentiate leads from x to D(x)",
    )
    return product


def _follower(denoiser, step_size, max_steps, tolerance, batch_size):
    """Gives the loop, for more events than are followed at a time."""

    def follow(x, sigma):
        runs = [
            restore(
                denoiser,
                x[part],
                sigma=None if sigma is None else sigma[part],
                step_size=step_size,
                max_steps=max_steps,
                tolerance=tolerance,
            )
            for part in _parts(len(x), batch_size)
        ]
        return [
            np.concatenate([part.numpy() for part in parts])
            for parts in zip(*(run[:3] for run in runs), strict=True)
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


def _random_directions(seed, x, num_directions):
    shape = (num_directions, *x.shape[1:])
    rows = seeds.row_seeds(seed, len(x))
    return seeds.normal(rows, shape, "float64").numpy()


def _unit_vectors(directions, x):
    """Gives float64 `[batch, num_directions, ...]`."""
    directions = np.asarray(directions, np.float64)
    if directions.ndim == x.ndim:
        directions = np.broadcast_to(directions, (len(x), *directions.shape))
    right = (len(x), *directions.shape[1:2], *x.shape[1:])
    _check(
        directions.shape == right and directions.size,
        "directions must have shape [num_directions, *event_shape] or [batch, "
        f"num_directions, *event_shape], got {directions.shape} for images "
        f"of {x.shape}",
    )
    axes = tuple(range(2, directions.ndim))
    lengths = np.sqrt(np.square(directions).sum(axes, keepdims=True))
    _check(
        np.all((lengths > 0) & np.isfinite(lengths)),
        "directions must be finite and not 0",
    )
    return directions / lengths


def _quadratic_forms(multiply, x, images, rows, num_probes, batch_size):
    """Gives z' J z of some images, for random signs z `[images, probes]`."""
    shape = (num_probes, *x.shape[1:])
    normal = seeds.normal(rows[images], shape).numpy()
    signs = np.where(normal < 0, -1, 1).reshape(-1, *x.shape[1:])
    which = np.repeat(np.arange(len(x))[images], num_probes)
    forms = []
    for part in _parts(len(signs), batch_size):
        terms = signs[part] * multiply(which[part], signs[part])
        forms.append(terms.reshape(len(terms), -1).sum(1, dtype=np.float64))
    return np.concatenate(forms).reshape(-1, num_probes)


def _nearest(queries, name, data):
    """Finds the nearest of `data` to each query: distances, and which."""
    parts = [
        _nearest_of_block(
            _as_rows(queries[part]), queries.shape[1:], name, data
        )
        for part in _parts(len(queries), _BLOCK)
    ]
    distances, indices = zip(*parts, strict=True)
    return np.concatenate(distances), np.concatenate(indices)


def _nearest_of_block(queries, event_shape, name, data):
    best = np.full(len(queries), np.inf)
    indices = np.zeros(len(queries), int)
    start = 0
    for batch in event_batches(data, name):
        _check(
            batch.shape[1:] == event_shape,
            f"{name} has events of shape {batch.shape[1:]}, and it is "
            f"compared with events of shape {event_shape}",
        )
        rows = _as_rows(batch)
        nearest, _ = pairwise_distances_argmin_min(queries, rows)
        # |a|^2 - 2 a'b + |b|^2 leaves 1e-7 between equal images.
        distances = np.linalg.norm(queries - rows[nearest], axis=1)
        closer = distances < best
        best[closer] = distances[closer]
        indices[closer] = start + nearest[closer]
        start += len(batch)
    return best, indices


def _as_rows(batch):
    scale = 255.0 if batch.dtype == np.uint8 else 1.0
    return batch.reshape(len(batch), -1).astype(np.float64) / scale


def _read_events(denoiser, x, sigma):
    """Checks x and sigma; gives arrays `[batch, ...]`, `[batch]` or None."""
    x, sigma = read_events(denoiser, x, sigma)
    _check(x.shape[0], f"there must be at least one image, got {x.shape}")
    return x.numpy(), None if sigma is None else sigma.numpy()


def _num_values(x):
    return math.prod(x.shape[1:])


def _rms_distance(x, y):
    difference = (x.astype(np.float64) - y).reshape(len(x), _num_values(x))
    return np.sqrt(np.square(difference).mean(1))


def _parts(count, size):
    return [slice(start, start + size) for start in range(0, count, size)]


def _check_count(name, value, least=1):
    _check(
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and value >= least,
        f"{name} must be an int >= {least}, got {value!r}",
    )


def _check(is_right, message):
    if not is_right:
        raise UserError(message)
