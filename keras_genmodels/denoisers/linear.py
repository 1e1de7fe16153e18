"""Linear denoisers: projection on singular vectors, and the Wiener filter."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.events import clean_batches
from keras_genmodels.core.validation import check, is_count
from keras_genmodels.denoisers.fitted import AdaptedDenoiser
from keras_genmodels.sampling.noisy_data import NoisyGaussian

# The covariance takes 8 M^2 bytes and its decomposition about three times
# that: 2 GB and minutes for this many values.
MAX_PIXELS = 8192


@keras.saving.register_keras_serializable("keras_genmodels")
class LinearDenoiser(AdaptedDenoiser):
    """The linear denoisers: projection on principal axes, and Wiener filter.

    With m the mean of the data and V their principal axes, `rank=r` projects
    events on the affine subspace of the first r axes, at any noise level:

        D(x) = m + V_r V_r' (x - m).

    `rank=None` is the Wiener filter, the best linear denoiser at the noise
    level of the call, and the posterior mean if the data are Gaussian:

        D(x, sigma) = m + V diag(lambda / (lambda + sigma^2)) V' (x - m),

    where lambda are the variances along the axes.

    Args:
        rank: int in [1, M], M the number of values of an event; or None.
        center: whether to subtract the mean. False sets m = 0; V are then the
            right singular vectors of the data, and lambda the second moments
            along them.
        name: name of the model.

    Raises:
        ValueError: for a bad rank.

    #### References

    Wiener (1949), Extrapolation, interpolation, and smoothing of stationary
    time series. Chan, Golub and LeVeque (1983), Algorithms for computing the
    sample variance, The American Statistician 37 (`adapt`).
    """

    weight_names = ("eigenvalues", "eigenvectors")

    @deprecation.accept_old_arguments(old_order=("rank", "center", "name"))
    def __init__(self, *, rank=None, center=True, name=None):
        super().__init__(name=name)
        check(
            rank is None or is_count(rank),
            f"rank must be an int >= 1 or None, got {rank!r}",
        )
        self.rank = rank
        self.center = center

    @property
    def needs_sigma(self):
        """Whether D depends on sigma: True if `rank` is None."""
        return self.rank is None

    @property
    def eigenvalues(self):
        """Variances of the data along the axes, `[k]`, >= 0, largest first.

        k is `rank`, or M if that is None. They are population variances
        (1 / N); with `center=False`, second moments.
        """
        return self._weight("eigenvalues")

    @property
    def eigenvectors(self):
        """The orthonormal axes, `[*event_shape, k]`; `[..., j]` is the j-th.

        The entry of each that is largest in modulus is positive.
        """
        vectors = tf.convert_to_tensor(self._weight("eigenvectors"))
        return tf.reshape(vectors, (*self.event_shape, -1))

    def adapt(self, data):
        """Computes mean and axes, in float64 and one pass over the data.

        Args:
            data: array `[n, *event_shape]`, or `tf.data.Dataset` of batches
                of such, or of dicts with a batch under `image`; floating, or
                uint8, read as value / 255.

        Raises:
            ValueError: for data that are empty, not finite or of another
                type, for events of more than 8192 values, and for a rank
                above that of the data.
        """
        count, mean, covariance = 0, 0.0, 0.0
        for batch in _blocks(clean_batches(data)):
            if not count:
                self._check_size(batch.shape[1:])
            values = as_float(batch, "float64").reshape(len(batch), -1)
            count, mean, covariance = _merge(count, mean, covariance, values)
        self._set_moments(batch.shape[1:], mean, covariance)

    def noisy_data(self, sigma):
        """Returns p_sigma of Gaussian data, N(m, V diag(lambda + sigma^2) V').

        With `center=False`, N(0, second moments + sigma^2 I). A projection
        (`rank`) knows no distribution of the data, as every point of its
        subspace is as likely: N(mean of the data, sigma^2 I).
        """
        mean = tf.cast(self.data_mean, self.variable_dtype)
        if self.rank is not None:
            return NoisyGaussian(mean, sigma)
        mean = mean if self.center else tf.zeros_like(mean)
        return NoisyGaussian(
            mean, sigma, self._weight("eigenvalues"), self._eigenvectors
        )

    def with_rank(self, rank):
        """Returns the projection on the first of this denoiser's axes.

        It equals `LinearDenoiser(rank=rank, center=center)` adapted to the
        same data, without reading them again.

        Args:
            rank: int >= 1, at most the number of axes here.

        Returns:
            `LinearDenoiser`, adapted.

        Raises:
            ValueError: for a bad rank, or before `adapt`.
        """
        eigenvalues = np.asarray(self.eigenvalues)
        check(is_count(rank), f"rank must be an int >= 1, got {rank!r}")
        check(
            rank <= len(eigenvalues),
            f"rank must be at most {len(eigenvalues)}, that of this denoiser, "
            f"got {rank}",
        )
        other = type(self)(rank=rank, center=self.center)
        other._check_rank(eigenvalues[::-1])
        values = {
            "mean": np.asarray(self.data_mean),
            "eigenvalues": eigenvalues[:rank],
            "eigenvectors": np.asarray(self._eigenvectors)[:, :rank],
        }
        other._set_weights(self.event_shape, values)
        other._highest_sigma = self._highest_sigma
        return other

    def _check_size(self, event_shape):
        size = int(np.prod(event_shape))
        check(
            size <= MAX_PIXELS,
            f"adapt takes events of at most {MAX_PIXELS} values, because of "
            f"the size of their covariance, got {size}: make the images "
            "smaller",
        )

    def _check_rank(self, eigenvalues):
        """Raises if axes of zero variance, which are arbitrary, are kept."""
        rounding = len(eigenvalues) * np.finfo(np.float64).eps
        rank = int(np.sum(eigenvalues > eigenvalues[-1] * rounding))
        check(
            self.rank is None or self.rank <= rank,
            f"rank must be at most {rank}, that of the data, got {self.rank}",
        )

    def _check_values(self, values):
        size = values["mean"].size if self.rank is None else self.rank
        check(
            len(values["eigenvalues"]) == size,
            f"the weights are those of rank {len(values['eigenvalues'])}, "
            f"this denoiser has rank={self.rank}",
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
            # 0, not NaN, if noise and variance are both 0.
            along *= tf.math.divide_no_nan(variances, variances + noise)
        result = mean + tf.matmul(along, axes, transpose_b=True)
        return tf.reshape(result, (-1, *self.event_shape))


def _blocks(batches, rows=2048):
    """Joins small batches: each merge costs M^2, for any number of rows."""
    pending = []
    for batch in batches:
        pending.append(batch)
        if sum(map(len, pending)) >= rows:
            yield np.concatenate(pending)
            pending = []
    if pending:
        yield np.concatenate(pending)


def _merge(count, mean, covariance, values):
    """Merges a batch into the mean and covariance of the batches before it.

    Chan, Golub and LeVeque's update, divided by the count. E[xx'] - mm' would
    cancel for a large mean.
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
