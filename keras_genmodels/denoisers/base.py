"""What every denoiser has: D(x, sigma), and all that follows from it."""

import keras
import tensorflow as tf

from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import as_floating, as_sigma, per_event


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

    def adapt(self, data):
        """Computes what D depends on from the data; nothing by default.

        Args:
            data: array `[n, *event_shape]`, floating or uint8 (read as value /
                255).
        """

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
            x, sigma: as in `denoise`. A model that was made for a single
                level takes x to be of that one, whatever sigma is or None.

        Returns:
            float tensor like `x`.

        Raises:
            UserError: as `denoise`, and where sigma is not known.
        """
        lowest, highest = self.sigma_range
        if sigma is None and lowest != highest:
            raise UserError("a score needs sigma: score(x, sigma)")
        x, sigma = self.read(x, lowest if lowest == highest else sigma)
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
