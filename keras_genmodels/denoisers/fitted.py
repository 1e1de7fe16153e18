"""Base class of the denoisers that are computed from data, not trained."""

import math

import keras
import numpy as np

from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import kind_of
from keras_genmodels.denoisers.base import Denoiser

_LOWEST_SIGMA = 0.01


class AdaptedDenoiser(Denoiser):
    """A denoiser whose weights `adapt` computes from data.

    A subclass names its weights, besides `mean`, in `weight_names`, and ends
    its `adapt` with `_set_data`. As shapes of weights are known only then, the
    file stores them next to the values (`get_build_config`). `fit` raises.

    A second `adapt` replaces the weights. A `tf.function` traced before it
    keeps using the first data.
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
        """`(0.01, max(0.1, 2 sqrt(total variance)))`, floats.

        The total variance is the trace of the covariance of the data.
        """
        self._check_adapted()
        return _LOWEST_SIGMA, self._highest_sigma

    def fit(self, *args, **kwargs):
        """Raises, as this denoiser is computed by `adapt`."""
        self._refuse_training()

    def train_on_batch(self, *args, **kwargs):
        """Raises, as this denoiser is computed by `adapt`."""
        self._refuse_training()

    def _check_batch(self, verb, x, y):
        check(
            y is not None or verb == "predict",
            f"{verb} of {kind_of(self)} takes noisy events and clean targets: "
            f"{verb}(x, y)",
        )
        super()._check_batch(verb, x, y)

    def load_weights(self, filepath, *args, **kwargs):
        """Loads a `.weights.h5` file, also before `adapt`."""
        # Keras requires weights; `load_own_variables` creates them.
        self.built = True
        try:
            super().load_weights(filepath, *args, **kwargs)
        finally:
            self.built = self.event_shape is not None

    def save_own_variables(self, store):
        """Saves the weights and the highest noise level."""
        super().save_own_variables(store)
        if self.event_shape is not None:
            store["highest_sigma"] = self._highest_sigma

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved, creating weights if needed.

        Files of formats 1 to 3 may lack the noise level, which `.keras` files
        also have in the build config.
        """
        if "0" not in store.keys():  # noqa: SIM118 (no mapping)
            return
        values = {
            name: np.asarray(store[str(i)])
            for i, name in enumerate(self._names())
        }
        self._check_values(values)
        if self._has_shapes_of(values):
            for name, value in values.items():
                getattr(self, f"_{name}").assign(value)
        else:
            self._set_weights(values["mean"].shape, values)
        if "highest_sigma" in store.keys():  # noqa: SIM118
            self._highest_sigma = float(np.asarray(store["highest_sigma"]))

    def get_build_config(self):
        """Returns shapes and dtypes of the weights; None before `adapt`."""
        if self.event_shape is None:
            return None
        return {
            "event_shape": list(self.event_shape),
            "highest_sigma": self._highest_sigma,
            "weights": {
                name: {"shape": list(value.shape), "dtype": str(value.dtype)}
                for name, value in self._stored().items()
            },
        }

    def build_from_config(self, config):
        """Creates the weights, whose values Keras then loads."""
        if not config:
            return
        values = {
            name: np.zeros(spec["shape"], spec["dtype"])
            for name, spec in config["weights"].items()
        }
        self._set_weights(config["event_shape"], values)
        self._highest_sigma = config["highest_sigma"]

    def _set_data(self, event_shape, total_variance, values):
        """Sets all that `adapt` computes.

        Args:
            event_shape: shape of one event.
            total_variance: float, trace of the covariance of the data.
            values: dict of `mean` and the `weight_names` to arrays.
        """
        self._set_weights(event_shape, values)
        # Even if all of the variance lies along one axis, noise of this level
        # has four times as much.
        self._highest_sigma = max(
            2 * math.sqrt(total_variance), 10 * _LOWEST_SIGMA
        )

    def _stored(self):
        """Returns what a file holds, a dict of names to weights or arrays."""
        return {name: self._weight(name) for name in self._names()}

    def _set_weights(self, event_shape, values):
        for name in filter(values.__contains__, self._names()):
            if hasattr(self, f"_{name}"):
                # Also removes it from Keras' list of weights.
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

    def _has_shapes_of(self, values):
        return self.event_shape is not None and all(
            tuple(self._weight(name).shape) == value.shape
            for name, value in values.items()
        )

    def _check_values(self, values):
        """Raises for weights of another kind of this denoiser; a hook."""

    def _refuse_training(self):
        raise ValueError(
            f"{kind_of(self)} is not trained: adapt(data) computes it; "
            "evaluate takes noisy events and clean targets"
        )

    def _names(self):
        return ("mean", *self.weight_names)

    def _weight(self, name):
        self._check_adapted()
        return getattr(self, f"_{name}")

    @property
    def _float_dtype(self):
        """Dtype of floating weights: float32 unless the policy is float64."""
        return "float64" if self.variable_dtype == "float64" else "float32"


def _constant(values):
    def initializer(shape, dtype):
        return keras.ops.convert_to_tensor(values, dtype)

    return initializer
