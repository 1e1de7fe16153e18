"""Priors that are mixtures of Gaussians: free ones, and a VampPrior."""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.events import clean_batches, event_batches
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.distributions import dense, latents
from keras_genmodels.distributions.gaussian_mixture import (
    GaussianMixture,
    uniform_mixture,
)
from keras_genmodels.distributions.layers import MIN_SCALE
from keras_genmodels.distributions.priors import PriorLayer, row_noise

tfd = tfp.distributions

# Keeps the choice of a component apart from the noise of the same seed.
_COMPONENT_STREAM = 3
# Of the initial components of a mixture; with their own variance it is 1.
_INITIAL_SPREAD = 0.5


class _MixtureLayer(PriorLayer):
    """Base class of the layers whose p(z) is a `GaussianMixture`."""

    def draw(self, rows, encode=None, **condition):
        prior = self.distribution(encode, **condition)
        chosen = seeds.fold_in(rows, _COMPONENT_STREAM)
        uniform = seeds.uniform(chosen, prior.dtype)
        return latents.transform(prior.select(uniform), row_noise(rows, prior))


@keras.saving.register_keras_serializable("keras_genmodels")
class MixturePrior(_MixtureLayer):
    """A mixture of Gaussians with diagonal covariances.

    Weights, means and standard deviations (at least 1e-4) are trained. The
    means start at random, so that the mixture has about variance 1. With a
    `condition_size` it is p(z|c): a fully connected network of the features of
    c shifts all of them, before the softmax and softplus, and starts at 0.

    Args:
        latent_size: int >= 1, length of z.
        num_components: int >= 1.
        condition_size: int >= 0, width of the features of a condition; 0: no
            condition.
        hidden_sizes: with a `condition_size`, widths of the hidden layers of
            the network; by default (128,).
    """

    def __init__(
        self,
        latent_size,
        num_components=100,
        condition_size=0,
        hidden_sizes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count("latent_size", latent_size)
        check_count("num_components", num_components)
        check_count("condition_size", condition_size, 0)
        check(
            condition_size or hidden_sizes is None,
            "hidden_sizes requires a condition_size",
        )
        self.latent_size = latent_size
        self.num_components = num_components
        self.condition_size = condition_size
        self.hidden_sizes = hidden_sizes and tuple(hidden_sizes)
        scale = np.sqrt(1 - _INITIAL_SPREAD**2)
        raw_scale = np.log(np.expm1(scale - MIN_SCALE))
        shape = (num_components, latent_size)
        self.logits = self._weight("logits", shape[:1], "zeros")
        self.loc = self._weight(
            "loc",
            shape,
            keras.initializers.RandomNormal(stddev=_INITIAL_SPREAD),
        )
        # Before a softplus.
        self.raw_scale = self._weight(
            "raw_scale", shape, keras.initializers.Constant(float(raw_scale))
        )
        self._dense = self._build_network() if condition_size else []

    def _weight(self, name, shape, initializer):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=self.compute_dtype,
        )

    def _build_network(self):
        sizes = (128,) if self.hidden_sizes is None else self.hidden_sizes
        return dense.layers_from_zero(
            self.condition_size,
            sizes,
            self.num_components * (1 + 2 * self.latent_size),
            self.dtype_policy,
            # The weights of the layer are the bias.
            use_bias=False,
        )

    def distribution(self, encode=None, features=None):
        features = self._as_features(features)
        params = [*map(tf.convert_to_tensor, self._params())]
        if features is not None:
            params = [
                param + shift
                for param, shift in zip(
                    params, self._shifts(features), strict=True
                )
            ]
        logits, loc, raw_scale = params
        scale = MIN_SCALE + tf.nn.softplus(raw_scale)
        return GaussianMixture(
            tfd.Categorical(logits=logits),
            tfd.MultivariateNormalDiag(loc, scale),
        )

    def _params(self):
        return self.logits, self.loc, self.raw_scale

    def _shifts(self, features):
        """Returns what the network adds to each parameter, `[batch, ...]`."""
        shapes = [tuple(weight.shape) for weight in self._params()]
        parts = tf.split(
            dense.apply(self._dense, features),
            [*map(math.prod, shapes)],
            axis=-1,
        )
        return [
            tf.reshape(part, (-1, *shape))
            for part, shape in zip(parts, shapes, strict=True)
        ]

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "latent_size": self.latent_size,
            "num_components": self.num_components,
            "condition_size": self.condition_size,
            "hidden_sizes": self.hidden_sizes,
        }


@keras.saving.register_keras_serializable("keras_genmodels")
class VampPrior(_MixtureLayer):
    """A mixture of the posteriors of trained pseudo-inputs, all as likely.

        p(z) = 1/K sum_k q(z|u_k),   u_1 ... u_K trained

    The layer holds the pseudo-inputs only: the model passes its encoder to
    `distribution`. They start at random; before its training a model calls
    `adapt`, which replaces them by events. In a `ConditionalVAE` of class
    labels it is p(z|c) = 1/K sum_k q(z|u_k, c), with the same u_k for all c.

    Args:
        event_shape: shape of one event.
        num_pseudo_inputs: int >= 1, K.
        value_range: (lowest, highest) value of pseudo-inputs, to which they
            are clipped, [0, 1] for images; None for no limits.

    #### References

    Tomczak and Welling (2018), VAE with a VampPrior, arXiv:1705.07120.
    """

    uses_encoder = True

    def __init__(
        self,
        event_shape,
        num_pseudo_inputs=500,
        value_range=(0.0, 1.0),
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count("num_pseudo_inputs", num_pseudo_inputs)
        check(
            value_range is None or value_range[0] < value_range[1],
            f"value_range must be (lowest, highest) or None, got {value_range}",
        )
        self.event_shape = tuple(event_shape)
        self.num_pseudo_inputs = num_pseudo_inputs
        self.value_range = value_range and tuple(map(float, value_range))
        self.pseudo_inputs = self.add_weight(
            name="pseudo_inputs",
            shape=(num_pseudo_inputs, *self.event_shape),
            initializer=keras.initializers.RandomUniform(
                *(self.value_range or (-1.0, 1.0))
            ),
            # A value beyond the range would get no gradient any more.
            constraint=self.value_range and InRange(*self.value_range),
            dtype=self.compute_dtype,
        )
        self._adapted = self.add_weight(
            name="adapted",
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype=self.compute_dtype,
        )

    @property
    def adapted(self):
        """Whether the pseudo-inputs were drawn from events."""
        return bool(self._adapted.numpy())

    def adapt(self, data, seed=0):
        """Replaces the pseudo-inputs by events of the data, drawn at random.

        Args:
            data: as of `core.events.event_batches`; all of it is read.
            seed: int in [0, 2**31).

        Raises:
            ValueError: if there are fewer events than pseudo-inputs, and for
                events of another shape or, with a `value_range`, on another
                scale.
        """
        rng, num = np.random.default_rng(seed), self.num_pseudo_inputs
        keys, chosen = np.zeros(0), None
        read = clean_batches if self.value_range else event_batches
        for batch in read(data):
            keys = np.concatenate([keys, rng.random(len(batch))])
            batch = as_float(batch)
            chosen = batch if chosen is None else np.append(chosen, batch, 0)
            first = np.argsort(keys)[:num]
            keys, chosen = keys[first], chosen[first]
        check(
            len(chosen) == num,
            f"num_pseudo_inputs must be at most {len(chosen)}, the number of "
            f"training events, got {num}",
        )
        check(
            chosen.shape[1:] == self.event_shape,
            f"the events must have shape {self.event_shape}, got "
            f"{chosen.shape[1:]}",
        )
        self.pseudo_inputs.assign(chosen)
        self._adapted.assign(1)

    def distribution(self, encode=None):
        check(encode is not None, "a VampPrior needs the encoder of its model")
        x = tf.convert_to_tensor(self.pseudo_inputs)
        if self.value_range is not None:
            x = tf.clip_by_value(x, *self.value_range)
        components = encode(x)
        check(
            latents.is_gaussian(components),
            f"a VampPrior needs a Gaussian posterior, got {components}",
        )
        return uniform_mixture(components)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "event_shape": self.event_shape,
            "num_pseudo_inputs": self.num_pseudo_inputs,
            "value_range": self.value_range,
        }


class InRange(keras.constraints.Constraint):
    """Clips a weight to an interval after each step.

    Args:
        lowest: float.
        highest: float.
    """

    def __init__(self, lowest, highest):
        self.lowest = lowest
        self.highest = highest

    def __call__(self, weight):
        return keras.ops.clip(weight, self.lowest, self.highest)
