"""Mean, variance and principal axes of the data of a learned denoiser."""

import math

import tensorflow as tf

from keras_genmodels.core.events import clean_batches, has_shape, is_any_size
from keras_genmodels.core.validation import check
from keras_genmodels.denoisers._principal_axes import moments
from keras_genmodels.sampling.noisy_data import NoisyGaussian

# Principal axes of the data that a model keeps.
_MAX_AXES = 64


class DataMoments:
    """Mixin of a `Denoiser` that keeps moments of its data as weights.

    The constructor calls `_add_moments` once `event_shape` is known, before
    it builds other weights of its own. For images of any size the mean is one
    number for each channel, and there are no axes.
    """

    # Whether they were found to have been computed.
    _has_data = False

    def _add_moments(self):
        self._is_any_size = is_any_size(self.event_shape)
        sides = (1, 1) if self._is_any_size else self.event_shape[:2]
        shape = (*sides, *self.event_shape[2:])
        self._mean = self._constant("data_mean", shape)
        self._variance = self._constant("data_variance", ())
        if self._is_any_size:
            self._sides = self._constant("data_sides", (2,), "int32")
            return
        size = math.prod(self.event_shape)
        self._rank = min(size, _MAX_AXES)
        self._eigenvalues = self._constant("data_eigenvalues", (self._rank,))
        self._eigenvectors = self._constant(
            "data_eigenvectors", (size, self._rank)
        )
        self._remainder = self._constant("data_remainder", ())

    @property
    def data_mean(self):
        """Mean of the data, float tensor `[*event_shape]`.

        For images of any size it is `[1, 1, channels]`.
        """
        return tf.convert_to_tensor(self._mean)

    @property
    def sample_shape(self):
        """Shape of a sample: of images of any size, that of the data."""
        if not self._is_any_size:
            return self.event_shape
        self._check_adapted()
        with tf.init_scope():
            sides = self._sides.numpy().tolist()
        return (*sides, self.event_shape[2])

    @property
    def data_stddev(self):
        """Standard deviation of the data about their mean, float scalar."""
        return tf.sqrt(tf.convert_to_tensor(self._variance))

    @property
    def adapted(self):
        """Whether mean and variance of the data have been computed."""
        with tf.init_scope():
            return bool(self._variance.numpy() > 0)

    def adapt(self, data):
        """Computes mean, variance and principal axes of the data, in one pass.

        Args:
            data: array `[n, *event_shape]` or a finite `tf.data.Dataset` of
                batches of such, or of dicts with a batch under `image`;
                floating, or uint8, read as value / 255.

        Raises:
            ValueError: if there are no data, if all are the same, or if they
                are not finite or of another shape.
        """
        batches = self._checked(clean_batches(data))
        if self._is_any_size:
            batches = self._pixels(batches)
        found = moments(batches, 1 if self._is_any_size else self._rank)
        check(found.variance > 0, "adapt got data that are all the same")
        self._mean.assign(found.mean.reshape(self._mean.shape))
        self._variance.assign(found.variance)
        if self._is_any_size:
            return
        self._eigenvalues.assign(found.eigenvalues)
        self._eigenvectors.assign(found.eigenvectors)
        self._remainder.assign(found.remainder)

    def noisy_data(self, sigma, shape=None):
        """Returns p_sigma, N(m, S + sigma^2 I), S the covariance of the data.

        S is exact along its first 64 principal axes, and isotropic in all
        other directions. A model of images of any size, and one of a file of
        format 1 or 2, lack the axes and have S = s^2 I.

        Args:
            sigma: noise level, > 0, scalar or `[batch]`.
            shape: shape of one event, for a model of images of any size; by
                default that of its data.
        """
        self._check_adapted()
        if self._is_any_size:
            shape = tuple(shape or self.sample_shape)
            check(
                len(shape) == 3 and shape[2] == self.event_shape[2],
                f"shape must be (height, width, {self.event_shape[2]}), got "
                f"{shape}",
            )
            mean = tf.broadcast_to(self.data_mean, shape)
            return NoisyGaussian(mean, sigma, remainder=self._variance)
        return NoisyGaussian(
            self.data_mean,
            sigma,
            self._eigenvalues,
            self._eigenvectors,
            self._remainder,
        )

    def load_own_variables(self, store):
        """Loads mean, variance and axes; files may lack the axes."""
        self._has_data = False
        if self._is_any_size or "2" in store.keys():  # noqa: SIM118
            super().load_own_variables(store)
            return
        self._mean.assign(store["0"])
        self._variance.assign(store["1"])
        self._remainder.assign(store["1"])
        # The same variance along no axes at all.
        self._eigenvalues.assign(tf.fill([self._rank], self._variance.value))
        self._eigenvectors.assign(tf.zeros_like(self._eigenvectors))

    def _pixels(self, batches):
        """Yields the pixels of images, `[n, channels]`, and keeps the size."""
        for batch in batches:
            self._sides.assign(batch.shape[1:3])
            yield batch.reshape(-1, batch.shape[3])

    def _checked(self, batches):
        for batch in batches:
            check(
                has_shape(batch.shape[1:], self.event_shape),
                f"the network takes events of {self.event_shape}, adapt got "
                f"{batch.shape[1:]}",
            )
            yield batch

    def _check_adapted(self):
        # Read from the device until there are data, and not at each call.
        if not self._has_data:
            self._has_data = self.adapted
        check(
            self._has_data,
            f"this {type(self).__name__} has no data yet: call adapt(data) or "
            "fit(data) first",
        )

    def _constant(self, name, shape, dtype=None):
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            trainable=False,
        )
