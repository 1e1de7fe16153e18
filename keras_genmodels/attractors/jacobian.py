"""What a denoiser's Jacobian says, from its products with vectors alone."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.sparse import linalg

from keras_genmodels.core import loop_cache as compiled
from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.sampling._inputs import read_events


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


class LocalDimension(NamedTuple):
    """What `local_dimension` returns.

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
    """Gives the leading eigenvalues of the update's Jacobian at each image.

    The update of `restore` is T(x) = (1 - eta) x + eta D(x, sigma), eta =
    `step_size`; its Jacobian is (1 - eta) I + eta J, with J that of D at x.
    A fixed point attracts its surroundings if the spectral radius there (the
    largest modulus of an eigenvalue) is below 1, and repels in some direction
    if it is above 1; exactly 1 decides nothing.

    Implicitly restarted Arnoldi iteration (ARPACK) finds the eigenvalues of
    largest modulus from products with vectors; the matrix is formed only
    where all of them, or all but one, are asked for. J need not be symmetric
    (that of a learned D is not), so they may be complex. With `step_size` 1
    they are the eigenvalues of J.

    Products are J' v, in reverse mode: J' has the same eigenvalues. They are
    compiled once for a denoiser and a shape of events. The same seed gives
    the same eigenvalues but for rounding, which is not the same in every run
    where TensorFlow convolves on several cores, nor where ARPACK comes upon
    an invariant subspace (as of a J of low rank), which it leaves by a random
    vector of its own.

    Args:
        denoiser: as in `restore`; it treats each event of a batch by itself.
        x: floating tensor or array `[batch, ...]`; fixed points, to tell
            whether they attract.
        seed: int, int32 `[2]` or `[batch, 2]`, of the vectors to start from.
        sigma: noise level > 0 told to the denoiser, scalar or `[batch]`; None
            where it needs none.
        step_size: eta in (0, 2).
        num_eigenvalues: int >= 1, how many; all where an event has no more
            values than that.
        tolerance: > 0, of the eigenvalues, relative to their modulus; they
            may be further off where J is far from symmetric. Products in
            float32 support about 1e-6.
        max_restarts: int >= 1, after which the iteration gives up.

    Returns:
        JacobianSpectrum.

    Raises:
        UserError: if an argument is out of range, if the denoiser does not
            take such `x` and `sigma` or has no finite derivative, and if the
            iteration has not converged after `max_restarts`.

    #### References

    Lehoucq, Sorensen and Yang (1998), ARPACK users' guide, SIAM.
    Radhakrishnan, Belkin and Uhler (2020), Overparameterized neural networks
    implement associative memory, PNAS 117 (attractors by spectral radius).
    """
    check(0 < step_size < 2, f"step_size must be in (0, 2), got {step_size}")
    check(tolerance > 0, f"tolerance must be > 0, got {tolerance}")
    check_count("num_eigenvalues", num_eigenvalues)
    check_count("max_restarts", max_restarts)
    x, sigma = read_arrays(denoiser, x, sigma)
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
    """Estimates how many directions a denoiser keeps at each image.

    It is the trace of D's Jacobian J at x: r for the projection V V', sum_j
    lambda_j / (lambda_j + sigma^2) for the Wiener filter, and for the exact
    denoiser the trace of Cov[clean | x] over sigma^2. Hutchinson's
    estimator averages z' J z over random signs z, in expectation the trace.

    Products are as in `jacobian_eigenvalues`: z' J' z = z' J z.

    Args:
        denoiser: as in `restore`; it treats each event of a batch by itself.
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
    dimensionality of a denoiser). Kadkhodaie et al. (2024), Generalization in
    diffusion models arises from geometry-adaptive harmonic representations,
    arXiv:2310.02557.
    """
    check_count("num_probes", num_probes, least=2)
    check_count("batch_size", batch_size)
    x, sigma = read_arrays(denoiser, x, sigma)
    multiply = _jacobian(denoiser, x, sigma)
    rows = seeds.row_seeds(seed, len(x))
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


def read_arrays(denoiser, x, sigma):
    """Checks x and sigma; gives arrays `[batch, ...]`, `[batch]` or None."""
    x, sigma = read_events(denoiser, x, sigma)
    check(x.shape[0], f"there must be at least one image, got {x.shape}")
    return x.numpy(), None if sigma is None else sigma.numpy()


class _UpdateJacobian:
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
        # ARPACK gives at most all but two.
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
        operator = linalg.LinearOperator(
            (self._size, self._size),
            matvec=lambda v: self._times(v.reshape(1, -1))[0],
            dtype=np.float64,
        )
        try:
            # Not `rng`, new in SciPy 1.17: `v0` fixes all but rounding.
            return linalg.eigs(
                operator,
                count,
                v0=start.astype(np.float64),
                tol=tolerance,
                maxiter=max_restarts,
                return_eigenvectors=False,
            )
        except linalg.ArpackNoConvergence as error:
            raise UserError(
                f"after {max_restarts} restarts only {len(error.eigenvalues)} "
                f"of {count} eigenvalues of image {self._row} are known to "
                f"{tolerance:g}: raise max_restarts or tolerance"
            ) from error
        except linalg.ArpackError as error:
            raise UserError(
                f"ARPACK gives up on image {self._row}: {error}; ask for other "
                "num_eigenvalues"
            ) from error

    def _times(self, vectors):
        """Multiplies each of `[n, M]`."""
        self.num_products += len(vectors)
        rows = np.full(len(vectors), self._row)
        shaped = vectors.reshape(-1, *self._event_shape)
        products = self._multiply(rows, shaped).astype(np.float64)
        check(
            np.isfinite(products).all(),
            f"the denoiser's derivative at image {self._row} is not finite",
        )
        eta = self._step_size
        return (1 - eta) * vectors + eta * products.reshape(vectors.shape)


def _jacobian(denoiser, x, sigma):
    """Gives the function that multiplies J' at `x[rows]` with vectors."""
    run = compiled.loop_of(
        denoiser, _jacobian_product, tf.constant(x), told=sigma is not None
    )

    def multiply(rows, vectors):
        told = [] if sigma is None else [sigma[rows]]
        return run(x[rows], vectors.astype(x.dtype), *told).numpy()

    return multiply


def _jacobian_product(denoise, spec, told):
    """Makes the compiled product of J'.

    Args:
        denoise: function of `x` and sigma.
        spec: of `x`.
        told: whether there is a sigma to tell.

    Returns:
        function of `x`, vectors like `x`, and sigma `[batch]` if `told`.
    """

    def product(x, vectors, sigma=None):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            denoised = _denoised(denoise, x, sigma)
        products = tape.gradient(denoised, x, vectors)
        check(
            products is not None,
            "the denoiser has no derivative: nothing that TensorFlow can "
            "differentiate leads from x to D(x)",
        )
        return products

    row = tf.TensorSpec([None], spec.dtype)
    signature = [spec, spec, *[row] * told]
    return tf.function(product, input_signature=signature, autograph=False)


def _denoised(denoise, x, sigma):
    denoised = tf.cast(denoise(x, sigma), x.dtype)
    check(
        denoised.shape.is_compatible_with(x.shape),
        "the denoiser must give what has the shape of x, "
        f"{x.shape}, got {denoised.shape}",
    )
    return tf.ensure_shape(denoised, x.shape)


def _quadratic_forms(multiply, x, images, rows, num_probes, batch_size):
    """Gives z' J z of some images, for random signs z `[images, probes]`."""
    shape = (num_probes, *x.shape[1:])
    normal = seeds.normal(tf.gather(rows, images), shape).numpy()
    signs = np.where(normal < 0, -1, 1).reshape(-1, *x.shape[1:])

    def forms(which, signs):
        terms = signs * multiply(which, signs)
        return terms.reshape(len(terms), -1).sum(1, dtype=np.float64)

    which = np.repeat(images, num_probes)
    found = map_batches(forms, which, signs, batch_size=batch_size)
    return found.reshape(-1, num_probes)
