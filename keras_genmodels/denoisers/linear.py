"""Linear denoisers: projection on singular vectors, and the Wiener filter."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import event_batches
from keras_genmodels.denoisers.fitted import AdaptedDenoiser

# The covariance takes 8 M^2 bytes and its decomposition about three times
# that, 2 GB here, and minutes.
MAX_PIXELS = 8192


@keras.saving.register_keras_serializable("keras_genmodels")
class LinearDenoiser(AdaptedDenoiser):
    """The linear denoisers of the data's mean m and principal axes V.

    With `rank=r` events are projected on the affine subspace of the r first
    axes (the lecture's "SVD diffusion"), whatever the noise level:

        D(x) = m + V_r V_r' (x - m).

    With `rank=None` it is the Wiener filter, the best linear denoiser at the
    noise level of the call, and the best of all on Gaussian data:

        D(x, sigma) = m + V diag(lambda / (lambda + sigma^2)) V' (x - m),

    with lambda the variances along the axes.

    Args:
        rank: int in [1, M], M the number of values of an event; or None.
        center: False takes m = 0, and for V the right singular vectors of the
            data as they are, for lambda the second moments along these: the
            lecture's V V' x to the letter.
        name: name of the model.

    Raises:
        UserError: for a bad rank.

    #### References

    Wiener (1949), Extrapolation, interpolation, and smoothing of stationary
    time series. Chan, Golub and LeVeque (1983), Algorithms for computing the
    sample variance, The American Statistician 37 (`adapt`).
    """

    weight_names = ("eigenvalues", "eigenvectors")

    def __init__(self, rank=None, center=True, name=None):
        super().__init__(name=name)
        if rank is not None and not _is_count(rank):
            raise UserError(f"rank must be an int >= 1 or None, got {rank!r}")
        self.rank = rank
        self.center = center

    @property
    def needs_sigma(self):
        """Whether it has to be told the noise level: where `rank` is None."""
        return self.rank is None

    @property
    def eigenvalues(self):
        """Variances of the data along the axes, `[k]`, falling, >= 0.

        k is `rank`, or M where that is None. They are population variances
        (1 / N); with `center=False`, second moments.
        """
        return self._weight("eigenvalues")

    @property
    def eigenvectors(self):
        """The axes, `[*event_shape, k]`: `[..., j]` is one like an event.

        Orthonormal; of each, the value that is largest in size is positive.
        """
        vectors = tf.convert_to_tensor(self._weight("eigenvectors"))
        return tf.reshape(vectors, (*self.event_shape, -1))

    def adapt(self, data):
        """Computes mean and axes, in float64, in one pass over the data.

        Args:
            data: array `[n, *event_shape]`, or `tf.data.Dataset` of batches
                of such, or of dicts with a batch under `image`; floating, or
                uint8, read as value / 255.

        Raises:
            UserError: for data that are empty, not finite or of another type,
                for events of more than 8192 values, and for a rank above that
                of the data.
        """
        count, mean, covariance = 0, 0.0, 0.0
        for batch in _blocks(event_batches(data)):
            if not count:
                self._check_size(batch.shape[1:])
            values = as_float(batch, "float64").reshape(len(batch), -1)
            count, mean, covariance = _merge(count, mean, covariance, values)
        self._set_moments(batch.shape[1:], mean, covariance)

    def with_rank(self, rank):
        """Gives the projection on the first of this denoiser's axes.

        It is what `LinearDenoiser(rank, center)` adapted to the same data is,
        without reading them again.

        Args:
            rank: int >= 1, at most as many axes as there are here.

        Returns:
            `LinearDenoiser`, adapted.

        Raises:
            UserError: for a bad rank, or before `adapt`.
        """
        eigenvalues = np.asarray(self.eigenvalues)
        if not _is_count(rank):
            raise UserError(f"rank must be an int >= 1, got {rank!r}")
        if rank > len(eigenvalues):
            raise UserError(
                f"rank must be at most {len(eigenvalues)}, that of this "
                f"denoiser, got {rank}"
            )
        other = type(self)(rank, self.center)
        other._check_rank(eigenvalues[::-1])
        values = {
            "mean": np.asarray(self.data_mean),
            "eigenvalues": eigenvalues[:rank],
            "eigenvectors": np.asarray(self._eigenvectors)[:, :rank],
        }
        other._set_weights(self.event_shape, values)
        other._highest_sigma = self._highest_sigma
        return other

    def get_config(self):
        """Returns the constructor's arguments and the format of the file."""
        return {
            **super().get_config(),
            "rank": self.rank,
            "center": self.center,
        }

    def _check_size(self, event_shape):
        size = int(np.prod(event_shape))
        if size > MAX_PIXELS:
            raise UserError(
                f"the covariance of events of {size} values is too large: "
                f"adapt takes at most {MAX_PIXELS}; make the images smaller"
            )

    def _check_rank(self, eigenvalues):
        """Refuses directions in which the data don't differ: any would do."""
        rounding = len(eigenvalues) * np.finfo(np.float64).eps
        rank = int(np.sum(eigenvalues > eigenvalues[-1] * rounding))
        if self.rank is not None and self.rank > rank:
            raise UserError(
                f"rank must be at most {rank}, that of the data, got "
                f"{self.rank}"
            )

    def _set_moments(self, event_shape, mean, covariance):
        total_variance = np.trace(covariance)
        if not self.center:
            covariance += np.outer(mean, mean)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        self._check_rank(eigenvalues)
        eigenvalues = np.maximum(eigenvalues[::-1], 0)[: self.rank]
        vectors = vectors[:, ::-1][:, : self.rank]
        largest = np.abs(vectors).argmax(0)
        vectors = vectors * np.sign(vectors[largest, range(len(largest))])
        values = {
            "mean": mean.reshape(event_shape),
            "eigenvalues": eigenvalues,
            "eigenvectors": vectors,
        }
        dtype = self._float_dtype
        self._set_data(
            event_shape,
            float(total_variance),
            {name: value.astype(dtype) for name, value in values.items()},
        )

    def _denoise(self, x, sigma):
        axes = tf.cast(self._eigenvectors, x.dtype)
        flat = tf.reshape(x, (-1, axes.shape[0]))
        mean = tf.reshape(tf.cast(self._mean, x.dtype), (-1,))
        if not self.center:
            mean = tf.zeros_like(mean)
        along = tf.matmul(flat - mean, axes)
        if self.rank is None:
            variances = tf.cast(self._eigenvalues, x.dtype)
            noise = tf.square(sigma)[:, None]
            # No noise and no variance either: 0, not NaN.
            along *= tf.math.divide_no_nan(variances, variances + noise)
        result = mean + tf.matmul(along, axes, transpose_b=True)
        return tf.reshape(result, (-1, *self.event_shape))


def _blocks(batches, rows=2048):
    """Joins small batches: each merge costs M^2, however few its rows."""
    waiting = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= rows:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _merge(count, mean, covariance, values):
    """Merges a batch into mean and covariance of what came before it.

    Chan's update of sums about a mean, divided by the count all along. The
    textbook's E[xx'] - mm' cancels where the mean is large.
    """
    total = count + len(values)
    share = len(values) / total
    batch_mean = values.mean(0)
    centred = values - batch_mean
    shift = batch_mean - mean
    covariance = (
        (1 - share) * covariance
        + (share / len(values)) * (centred.T @ centred)
        + share * (1 - share) * np.outer(shift, shift)
    )
    return total, mean + share * shift, covariance


def _is_count(value):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return value >= 1
