"""Principal axes of data, in one pass and bounded memory."""

from typing import NamedTuple

import numpy as np

from keras_genmodels.core.arrays import as_float

# Up to this many values per event the covariance is exact: 8 MB.
_MAX_EXACT = 1024
# Otherwise, number of random directions that its products are kept for.
_SKETCH_SIZE = 256
# Number of values of the events that are float64 at a time: 32 MB.
_VALUES = 2**22


class Moments(NamedTuple):
    """Mean m and covariance V diag(lambda) V' + v (I - V V') of data.

    Args:
        mean: float64 `[M]`, m.
        variance: float, the mean of the variances of the M values.
        eigenvalues: float64 `[k]`, lambda >= 0, largest first.
        eigenvectors: float64 `[M, k]`, V, orthonormal.
        remainder: float >= 0, v.
    """

    mean: np.ndarray
    variance: float
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    remainder: float


def moments(batches, rank):
    """Computes mean, variance and the first principal axes of data.

    Events of at most 1024 values have an exact covariance. For larger ones the
    axes are those of a Nystrom approximation from the products of the
    covariance with 256 fixed random directions.

    Args:
        batches: iterable of arrays `[n, *event_shape]`, at least one.
        rank: int >= 1, k; at most M.

    Returns:
        `Moments`.

    #### References

    Tropp, Yurtsever, Udell and Cevher (2017), Fixed-rank approximation of a
    positive-semidefinite matrix from streaming data, NeurIPS, algorithm 3.
    """
    # Sums about the first event: exact for constant data, and without
    # cancellation for a large mean.
    count, total, squares, products, first = 0, 0.0, 0.0, 0.0, None
    for values in _blocks(batches):
        if first is None:
            first, directions = values[0], _directions(values.shape[1])
        values = values - first
        count += len(values)
        total = total + values.sum(0)
        squares = squares + (values**2).sum(0)
        seen = values if directions is None else values @ directions
        products = products + values.T @ seen
    shift = total / count
    variance = np.maximum(squares / count - shift**2, 0).mean()
    seen = shift if directions is None else shift @ directions
    products = products / count - np.outer(shift, seen)
    eigenvalues, vectors = _axes(products, directions, rank)
    size = len(shift)
    rest = max(variance * size - eigenvalues.sum(), 0)
    remainder = rest / (size - rank) if rank < size else 0.0
    return Moments(
        first + shift, float(variance), eigenvalues, vectors, remainder
    )


def _blocks(batches):
    """Yields float64 `[rows, M]`, of a bounded number of values."""
    for batch in batches:
        batch = batch.reshape(len(batch), -1)
        rows = max(1, _VALUES // batch.shape[1])
        for start in range(0, len(batch), rows):
            yield as_float(batch[start : start + rows], "float64")


def _directions(size):
    """Returns orthonormal columns, or None for all axes."""
    if size <= _MAX_EXACT:
        return None
    normal = np.random.default_rng(0).standard_normal((size, _SKETCH_SIZE))
    return np.linalg.qr(normal)[0]


def _axes(products, directions, rank):
    """Returns the first eigenvalues and eigenvectors of the covariance C.

    Args:
        products: C times the directions.
    """
    if directions is None:
        eigenvalues, vectors = np.linalg.eigh((products + products.T) / 2)
    else:
        inner = directions.T @ products
        inner, turn = np.linalg.eigh((inner + inner.T) / 2)
        is_kept = inner > inner[-1] * len(inner) * np.finfo(np.float64).eps
        # C is about F F' with these columns F.
        factor = products @ turn[:, is_kept] / np.sqrt(inner[is_kept])
        vectors, scales, _ = np.linalg.svd(factor, full_matrices=False)
        missing = max(rank - len(scales), 0)
        eigenvalues = np.append(scales**2, np.zeros(missing))[::-1]
        vectors = np.pad(vectors, ((0, 0), (0, missing)))[:, ::-1]
    eigenvalues = np.maximum(eigenvalues[::-1][:rank], 0)
    return eigenvalues, vectors[:, ::-1][:, :rank]
