"""What every denoiser has: D(x, sigma), and all that follows from it."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.errors import UserError


class Denoiser(keras.Model):
    """An estimate D(x, sigma) of the clean event behind a noisy one.

    x = clean + sigma eps with eps ~ N(0, I); the best D is the posterior mean
    E[clean | x] = x + sigma^2 grad log p_sigma(x), so that the same D is also
    the predictor of the noise and of the score.

    A kind of denoiser defines `_denoise` and the properties `event_shape` and
    `data_mean`; `sigma_range`, and `needs_sigma` where it needs none.

    #### References

    Miyasawa (1961), An empirical Bayes estimator of the mean of a normal
    population, Bull. Inst. Internat. Statist. 38. Efron (2011), Tweedie's
    formula and selection bias, JASA 106.
    """

    def __init__(self, name=None):
        # Autocasting would round the pixels before they are denoised.
        super().__init__(name=name, autocast=False)

    @property
    def event_shape(self):
        """Shape of one event; None before `adapt`."""
        raise NotImplementedError

    @property
    def data_mean(self):
        """Mean of the data, float tensor `[*event_shape]`."""
        raise NotImplementedError

    @property
    def sigma_range(self):
        """`(lowest, highest)` noise level that it is made for, floats > 0."""
        raise NotImplementedError

    @property
    def needs_sigma(self):
        """Whether it has to be told the noise level."""
        return True

    def denoise(self, x, sigma=None):
        """Gives D(x, sigma).

        Args:
            x: floating tensor or array `[batch, *event_shape]`, noisy.
            sigma: noise level, standard deviation of the noise in units of
                `x`, > 0: scalar or `[batch]`. None only where `needs_sigma`
                is false; such a denoiser does the same at every sigma.

        Returns:
            float tensor like `x`, the posterior mean.

        Raises:
            UserError: for events of another shape or of integer type, for a
                sigma that is missing, of another shape, or not > 0, and
                before `adapt`.
        """
        return self._denoise(*self.read(x, sigma))

    def read(self, x, sigma=None):
        """Checks and converts the arguments of `denoise`.

        Returns:
            `x` as a float tensor `[batch, *event_shape]` and `sigma` as one
            `[batch]` of the same dtype, or None.

        Raises:
            UserError: as `denoise`.
        """
        x = self._as_events(x)
        if sigma is not None:
            return x, as_sigma(sigma, x)
        if self.needs_sigma:
            raise UserError(
                f"this {type(self).__name__} has to be told the noise level: "
                "give sigma"
            )
        return x, None

    def noise(self, x, sigma=None):
        """Gives the predicted noise, x - D(x, sigma); as `denoise`."""
        x, sigma = self.read(x, sigma)
        return x - self._denoise(x, sigma)

    def score(self, x, sigma=None):
        """Gives grad log p_sigma(x) = (D(x, sigma) - x) / sigma^2.

        Args:
            x, sigma: as in `denoise`; None only where the model was made for
                a single level, which it then is.

        Returns:
            float tensor like `x`.

        Raises:
            UserError: as `denoise`, and where sigma is not known.
        """
        if sigma is None:
            lowest, highest = self.sigma_range
            if lowest != highest:
                raise UserError("a score needs sigma: score(x, sigma)")
            sigma = lowest
        x, sigma = self.read(x, sigma)
        return (self._denoise(x, sigma) - x) / per_event(sigma, x) ** 2

    def _denoise(self, x, sigma):
        """Gives D for a checked float `x` and a sigma `[batch]` or None."""
        raise NotImplementedError

    def _check_adapted(self):
        if self.event_shape is None:
            raise UserError(
                f"this {type(self).__name__} knows no data yet: call "
                "adapt(data) first"
            )

    def _as_events(self, x):
        self._check_adapted()
        x = as_floating(x)
        shape = self.event_shape
        if not x.shape.rank or not x.shape[1:].is_compatible_with(shape):
            raise UserError(
                f"x must have shape [batch, {', '.join(map(str, shape))}], "
                f"got {x.shape}"
            )
        return tf.cast(x, self.variable_dtype)


def as_floating(x):
    """Reads x as a floating tensor.

    Raises:
        UserError: if it is of another type.
    """
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise UserError(
            "x must be of floating type (images: uint8 / 255), got "
            f"{x.dtype.name}"
        )
    return x


def as_sigma(sigma, x):
    """Reads a noise level as one number per event.

    Args:
        sigma: > 0, scalar or `[batch]`.
        x: float tensor `[batch, ...]`.

    Returns:
        tensor `[batch]` of x's dtype.

    Raises:
        UserError: if it has another shape; if it is known now and not > 0.
    """
    if not tf.is_tensor(sigma):
        # By way of NumPy, as TensorFlow would round Python's floats.
        sigma = np.asarray(sigma, x.dtype.as_numpy_dtype)
    sigma = tf.cast(sigma, x.dtype)
    if sigma.shape.rank not in (0, 1) or (
        sigma.shape.rank == 1
        and not sigma.shape.is_compatible_with(x.shape[:1])
    ):
        raise UserError(
            f"sigma must be a scalar or [batch], got {sigma.shape} for "
            f"{x.shape[0]} events"
        )
    value = tf.get_static_value(sigma)
    if value is not None and not np.all((value > 0) & np.isfinite(value)):
        raise UserError(f"sigma must be > 0 and finite, got {value}")
    return tf.broadcast_to(sigma, tf.shape(x)[:1])


def per_event(values, x):
    """Reshapes `[batch]` so that it goes with `x` `[batch, ...]`."""
    return tf.reshape(values, (-1,) + (1,) * (x.shape.rank - 1))


def event_batches(data, name="adapt"):
    """Reads the data that a denoiser is adapted to, batch by batch.

    Args:
        data: array or tensor `[n, *event_shape]`, or a `tf.data.Dataset` of
            batches of such, or of dicts with a batch under `image`; floating,
            or uint8, read as value / 255.
        name: who asks, for the messages.

    Yields:
        arrays `[batch, *event_shape]`, uint8 or floating, finite.

    Raises:
        UserError: if there are no data, if they are not finite, of another
            type, or if the shapes or types of the batches differ.
    """
    first, found = None, False
    for batch in _batches(data, name):
        if batch.dtype != np.uint8 and batch.dtype.kind != "f":
            raise UserError(
                f"{name} takes floating data or uint8 (read as value / 255), "
                f"got {batch.dtype}"
            )
        if batch.ndim < 2:
            raise UserError(
                f"{name} takes batches [batch, ...], got shape {batch.shape}"
            )
        first = batch if first is None else first
        if (batch.shape[1:], batch.dtype) != (first.shape[1:], first.dtype):
            raise UserError(
                f"{name} got events of {batch.shape[1:]} ({batch.dtype}) after "
                f"such of {first.shape[1:]} ({first.dtype})"
            )
        if batch.dtype != np.uint8 and not np.isfinite(batch).all():
            raise UserError(f"{name} got data that are not finite (NaN or inf)")
        if batch.size:
            found = True
            yield batch
    if not found:
        raise UserError(f"{name} got no data")


_ROWS = 4096


def _batches(data, name):
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise UserError(f"{name} got a data set without end: take(n) of it")
        for batch in data.as_numpy_iterator():
            yield batch["image"] if isinstance(batch, dict) else batch
        return
    data = np.asarray(data)
    if data.ndim == 0:
        raise UserError(f"{name} takes batches [batch, ...], got {data!r}")
    for start in range(0, max(1, len(data)), _ROWS):
        yield data[start : start + _ROWS]
