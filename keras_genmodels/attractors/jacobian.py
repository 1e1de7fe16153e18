"""Eigenvalues and trace of a denoiser's Jacobian, from products with it."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.sparse import linalg

from keras_genmodels.core import loop_cache, seeds
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling._inputs import check_scale, validate_inputs
from keras_genmodels.sampling._jacobian import vector_product
from keras_genmodels.sampling.attributes import is_for_all_rows

# The signs of `local_dimension`, whose x may have noise of the same seeds.
_SIGNS_STREAM = 14


class JacobianSpectrum(NamedTuple):
    """The result of `jacobian_eigenvalues`.

    Args:
        eigenvalues: complex128 `[batch, k]`, the k largest in modulus, largest
            first.
        spectral_radius: float64 `[batch]`, the modulus of the first.
        num_products: int `[batch]`, number of products with the Jacobian.
    """

    eigenvalues: np.ndarray
    spectral_radius: np.ndarray
    num_products: np.ndarray


class LocalDimension(NamedTuple):
    """The result of `local_dimension`.

    Args:
        dimension: float64 `[batch]`, estimate of the trace.
        standard_error: float64 `[batch]`, its standard error.
    """

    dimension: np.ndarray
    standard_error: np.ndarray


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
    """Computes the leading eigenvalues of the update's Jacobian at each event.

    The update of `restore` is T(x) = (1 - eta) x + eta D(x, sigma), eta =
    `step_size`. Its Jacobian is (1 - eta) I + eta J, with J that of D at x.
    A fixed point is attracting if the spectral radius (largest modulus of an
    eigenvalue) is below 1, and repelling in some direction if it is above 1;
    a radius of exactly 1 is inconclusive.

    The eigenvalues of largest modulus are computed by implicitly restarted
    Arnoldi iteration (ARPACK) from products with vectors. The matrix is formed
    only if all of them, or all but one, are requested. J need not be symmetric
    (that of a learned D is not), so they may be complex. With `step_size` 1
    they are the eigenvalues of J.

    The products are J' v, in reverse mode; J' has the same eigenvalues. They
    are compiled once per denoiser and shape of events. The same seed gives the
    same eigenvalues up to rounding, which varies between runs if TensorFlow
    convolves on several cores, or if ARPACK meets an invariant subspace (as
    for a J of low rank), which it leaves by a random vector of its own.

    Args:
        denoiser: as in `restore`; row i of its result must depend on row i of
            its arguments alone.
        x: floating tensor or array `[batch, ...]`, such as fixed points.
        seed: int, int32 `[2]` or `[batch, 2]`, of the initial vectors.
        sigma: noise level > 0 passed to the denoiser, scalar or `[batch]`;
            None if it needs none.
        step_size: eta in (0, 2).
        num_eigenvalues: int >= 1, number of eigenvalues; all, if an event has
            no more values than that.
        tolerance: > 0, of the eigenvalues, relative to their modulus; the
            error may be larger if J is far from symmetric. Products in float32
            support about 1e-6.
        max_restarts: int >= 1, maximum number of restarts.

    Returns:
        JacobianSpectrum.

    Raises:
        NotMeasured: if the iteration does not converge in `max_restarts`, or
            the derivative is not finite.
        ValueError: if an argument is out of range, or if the denoiser does not
            accept `x` and `sigma` or has no derivative.

    #### References

    Lehoucq, Sorensen and Yang (1998), ARPACK users' guide, SIAM.
    Radhakrishnan, Belkin and Uhler (2020), Overparameterized neural networks
    implement associative memory, PNAS 117 (attractors by spectral radius).
    """
    check(0 < step_size < 2, f"step_size must be in (0, 2), got {step_size}")
    check(tolerance > 0, f"tolerance must be > 0, got {tolerance}")
    check_count("num_eigenvalues", num_eigenvalues)
    check_count("max_restarts", max_restarts)
    x, sigma = validate_arrays(denoiser, x, sigma)
    multiply = _jacobian(denoiser, x, sigma)
    starts = seeds.normal(seeds.row_seeds(seed, len(x)), x.shape[1:]).numpy()
    jacobians = [
        _UpdateJacobian(multiply, row, x.shape[1:], step_size)
        for row in range(len(x))
    ]
    eigenvalues = np.stack(
        [
            jacobian.leading(
                start.ravel(), num_eigenvalues, tolerance, max_restarts
            )
            for jacobian, start in zip(jacobians, starts, strict=True)
        ]
    )
    return JacobianSpectrum(
        eigenvalues,
        np.abs(eigenvalues[:, 0]),
        np.array([jacobian.num_products for jacobian in jacobians]),
    )


def local_dimension(
    denoiser, x, *, seed, sigma=None, num_probes=64, batch_size=256
):
    """Estimates the number of directions that a denoiser keeps at each event.

    It is the trace of D's Jacobian J at x: r for a projection on r axes, sum_j
    lambda_j / (lambda_j + sigma^2) for the Wiener filter, and the trace of
    Cov[clean | x] over sigma^2 for the exact denoiser. Hutchinson's estimator
    averages z' J z, whose expectation is the trace, over random signs z.

    The products are those of `jacobian_eigenvalues`: z' J' z = z' J z.

    Args:
        denoiser: as in `restore`; row i of its result must depend on row i of
            its arguments alone.
        x: floating tensor or array `[batch, ...]`.
        seed: int, int32 `[2]` or `[batch, 2]`, of the signs.
        sigma: noise level > 0 passed to the denoiser, scalar or `[batch]`;
            None if it needs none.
        num_probes: int >= 2, number of z per event.
        batch_size: int >= 1, number of products that are computed at once.

    Returns:
        LocalDimension.

    Raises:
        ValueError: if an argument is out of range, or if the denoiser does not
            accept `x` and `sigma` or has no derivative.

    #### References

    Hutchinson (1990), A stochastic estimator of the trace of the influence
    matrix for Laplacian smoothing splines, Comm. Statist. Simula. 19.
    Mohan et al. (2020), Robust and interpretable blind image denoising via
    bias-free convolutional neural networks, arXiv:1906.05478 (the effective
    dimensionality of a denoiser). Kadkhodaie et al. (2024), Generalization in
    diffusion models arises from geometry-adaptive harmonic representations,
    arXiv:2310.02557.
    """
    check_count("num_probes", num_probes, least=2)
    check_count("batch_size", batch_size)
    x, sigma = validate_arrays(denoiser, x, sigma)
    check_scale(denoiser, x, sigma)
    multiply = _jacobian(denoiser, x, sigma)
    rows = seeds.fold_in(seeds.row_seeds(seed, len(x)), _SIGNS_STREAM)
    traces = map_batches(
        lambda images: _quadratic_forms(
            multiply, x, images, rows, num_probes, batch_size
        ),
        np.arange(len(x)),
        batch_size=max(1, batch_size // num_probes),
    )
    return LocalDimension(
        traces.mean(1), traces.std(1, ddof=1) / math.sqrt(num_probes)
    )


def validate_arrays(denoiser, x, sigma):
    """Returns x and sigma as checked arrays `[batch, ...]`, `[batch]` or None.

    Raises:
        ValueError: if they are not arguments of the denoiser, or empty. They
            may be far from any image, which is where attractors end.
    """
    x, sigma = validate_inputs(denoiser, x, sigma)
    check(x.shape[0], f"x must have at least one event, got {x.shape}")
    check(
        is_for_all_rows(denoiser),
        "attractors take one condition for all events: with_condition(label)",
    )
    return x.numpy(), None if sigma is None else sigma.numpy()


class _UpdateJacobian:
    """Products of the Jacobian of the update T at one event."""

    def __init__(self, multiply, row, event_shape, step_size):
        self._multiply = multiply
        self._row = row
        self._event_shape = tuple(event_shape)
        self._size = math.prod(event_shape)
        self._step_size = step_size
        self.num_products = 0

    def leading(self, start, num_eigenvalues, tolerance, max_restarts):
        """Returns the leading eigenvalues, complex `[k]`, largest first."""
        count = min(num_eigenvalues, self._size)
        # ARPACK computes at most all but two.
        if count >= self._size - 1:
            values = np.linalg.eigvals(self._times(np.eye(self._size)).T)
        elif not self._times(start[None]).any():
            # ARPACK refuses J = 0, as of the exact denoiser at small sigma.
            values = np.zeros(count)
        else:
            values = self._arnoldi(start, count, tolerance, max_restarts)
        order = np.argsort(-np.abs(values), kind="stable")
        return values[order][:count].astype(np.complex128)

    def _arnoldi(self, start, count, tolerance, max_restarts):
        operator = linalg.LinearOperator(
            (self._size, self._size),
            matvec=lambda v: self._times(v.reshape(1, -1))[0],
            dtype=np.float64,
        )
        try:
            # `rng` is new in SciPy 1.17; `v0` fixes all but rounding.
            return linalg.eigs(
                operator,
                count,
                v0=start.astype(np.float64),
                tol=tolerance,
                maxiter=max_restarts,
                return_eigenvectors=False,
            )
        except linalg.ArpackNoConvergence as error:
            raise NotMeasured(
                f"after {max_restarts} restarts only {len(error.eigenvalues)} "
                f"of {count} eigenvalues of event {self._row} have converged "
                f"to {tolerance:g}: raise max_restarts or tolerance"
            ) from error
        except linalg.ArpackError as error:
            raise NotMeasured(
                f"ARPACK fails for event {self._row}: {error}; change "
                "num_eigenvalues"
            ) from error

    def _times(self, vectors):
        """Multiplies each of `[n, M]`."""
        self.num_products += len(vectors)
        rows = np.full(len(vectors), self._row)
        shaped = vectors.reshape(-1, *self._event_shape)
        products = self._multiply(rows, shaped).astype(np.float64)
        if not np.isfinite(products).all():
            raise NotMeasured(
                f"the denoiser's derivative at event {self._row} is not finite"
            )
        eta = self._step_size
        return (1 - eta) * vectors + eta * products.reshape(vectors.shape)


def _jacobian(denoiser, x, sigma):
    """Returns a function of rows and vectors, J' v at `x[rows]`."""
    run = loop_cache.loop_of(
        denoiser,
        _jacobian_product,
        tf.constant(x),
        has_sigma=sigma is not None,
    )

    def multiply(rows, vectors):
        sigmas = [] if sigma is None else [sigma[rows]]
        return run(x[rows], vectors.astype(x.dtype), *sigmas).numpy()

    return multiply


def _jacobian_product(denoise, spec, has_sigma):
    """Builds the compiled product with J'.

    Args:
        denoise: function of x and sigma.
        spec: `tf.TensorSpec` of x.
        has_sigma: whether sigma is an argument.

    Returns:
        `tf.function` of x, vectors like x, and sigma `[batch]` if `has_sigma`.
    """

    def product(x, vectors, sigma=None):
        return vector_product(denoise, x, sigma, vectors)

    row = tf.TensorSpec([None], spec.dtype)
    signature = [spec, spec, *[row] * has_sigma]
    return tf.function(product, input_signature=signature, autograph=False)


def _quadratic_forms(multiply, x, images, rows, num_probes, batch_size):
    """Returns z' J z at the events with some indices, `[indices, probes]`."""
    shape = (num_probes, *x.shape[1:])
    normal = seeds.normal(tf.gather(rows, images), shape).numpy()
    signs = np.where(normal < 0, -1, 1).reshape(-1, *x.shape[1:])

    def forms(which, signs):
        terms = signs * multiply(which, signs)
        return terms.reshape(len(terms), -1).sum(1, dtype=np.float64)

    which = np.repeat(images, num_probes)
    found = map_batches(forms, which, signs, batch_size=batch_size)
    return found.reshape(-1, num_probes)
