"""What the denoisers that read their data with `adapt` share."""

import math

import keras
import numpy as np

from keras_genmodels.core.file_format import FORMAT, check_format
from keras_genmodels.denoisers.base import Denoiser

_LOWEST_SIGMA = 0.01


class AdaptedDenoiser(Denoiser):
    """A denoiser whose weights `adapt` computes, rather than training.

    A kind lists its weights in `weight_names`, next to `mean`, and ends its
    `adapt` with `_set_data`. The weights' shapes are known only then, so a
    file holds them beside the values (`get_build_config`).

    `adapt` again replaces what was there. A `tf.function` traced before goes
    on with the data that it was traced with.
    """

    weight_names = ()

    def __init__(self, name=None):
        super().__init__(name=name)
        self._event_shape = None
        self._highest_sigma = None

    @property
    def event_shape(self):
        """Shape of one event, a tuple; None before `adapt`."""
        return self._event_shape

    @property
    def data_mean(self):
        """Mean of the data, `[*event_shape]`."""
        return self._weight("mean")

    @property
    def sigma_range(self):
        """`(0.01, 2 sqrt(total variance))`, floats.

        The total variance is the trace of the covariance of the data. Where
        it is next to nothing the upper end is 0.1.
        """
        self._check_adapted()
        return _LOWEST_SIGMA, self._highest_sigma

    def get_config(self):
        """Returns the constructor's arguments and the format of the file."""
        return {"name": self.name, "format": FORMAT}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the denoiser from `get_config`, not adapted.

        Raises:
            ValueError: if the file was written by a newer format.
        """
        return cls(**check_format(config))

    def get_build_config(self):
        """Returns what recreates the weights; None before `adapt`."""
        if self.event_shape is None:
            return None
        weights = {name: self._weight(name) for name in self._names()}
        return {
            "event_shape": list(self.event_shape),
            "highest_sigma": self._highest_sigma,
            "weights": {
                name: {"shape": list(weight.shape), "dtype": weight.dtype}
                for name, weight in weights.items()
            },
        }

    def build_from_config(self, config):
        """Recreates the weights, for their values to be loaded."""
        if not config:
            return
        values = {
            name: np.zeros(spec["shape"], spec["dtype"])
            for name, spec in config["weights"].items()
        }
        self._set_weights(config["event_shape"], values)
        self._highest_sigma = config["highest_sigma"]

    def _set_data(self, event_shape, total_variance, values):
        """Ends `adapt`: `values` are arrays, one for each weight."""
        self._set_weights(event_shape, values)
        # So far out the mean and the data behind it look alike: N(mean,
        # sigma^2 I) is close to the data with noise of that level.
        self._highest_sigma = max(
            2 * math.sqrt(total_variance), 10 * _LOWEST_SIGMA
        )

    def _set_weights(self, event_shape, values):
        for name in self._names():
            if hasattr(self, f"_{name}"):
                # Takes it off Keras' list of weights, too.
                delattr(self, f"_{name}")
            weight = self.add_weight(
                shape=values[name].shape,
                dtype=str(values[name].dtype),
                initializer=_constant(values[name]),
                trainable=False,
                autocast=False,
                name=name,
            )
            setattr(self, f"_{name}", weight)
        self._event_shape = tuple(event_shape)
        self.built = True

    def _names(self):
        return ("mean", *self.weight_names)

    def _weight(self, name):
        self._check_adapted()
        return getattr(self, f"_{name}")

    @property
    def _float_dtype(self):
        """What floating weights are kept in: 16 bits would be too few."""
        return "float64" if self.variable_dtype == "float64" else "float32"


def _constant(values):
    def initializer(shape, dtype):
        return keras.ops.convert_to_tensor(values, dtype)

    return initializer
