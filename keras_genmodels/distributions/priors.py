"""Keras layers that hold the prior p(z) of a latent-variable model.

A new kind of prior is one more subclass of `PriorLayer`. The layer has the
weights and builds the distribution at each use, as one that is kept would not
follow the weights.
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.events import clean_batches, event_batches
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.distributions import couplings, latents
from keras_genmodels.distributions.gaussian_mixture import (
    GaussianMixture,
    uniform_mixture,
)
from keras_genmodels.distributions.layers import MIN_SCALE, statistics_dtype
from keras_genmodels.distributions.vectors import VectorDistribution

tfd = tfp.distributions

# Keeps the choice of a component apart from the noise of the same seed.
_COMPONENT_STREAM = 3
# Of the initial components of a mixture; with their own variance it is 1.
_INITIAL_SPREAD = 0.5


class PriorLayer(keras.layers.Layer):
    """Base class of the layers that hold a prior p(z).

    A subclass has all its weights after the constructor, and defines
    `distribution`. Its distribution has `log_prob` of tensors `[..., L]`; it
    is a Gaussian, or has a method `transform` (`distributions.vectors`), or
    the subclass also defines `draw`.

    Args:
        dtype: dtype of p(z) and of the weights; by default float64 under a
            float64 policy, else float32.

    Attributes:
        latent_size: int, L; None if it is that of the encoder.
        adapted: whether the weights are ready for training, or `adapt(data,
            seed)` must set them first.
    """

    latent_size = None
    adapted = True

    def __init__(self, dtype=None, **kwargs):
        super().__init__(dtype=dtype or statistics_dtype(), **kwargs)
        self.built = True

    def distribution(self, encode=None):
        """Returns p(z).

        Args:
            encode: function of events to q(z|x), that of the model; only
                `VampPrior` calls it.

        Returns:
            `tfd.Distribution`, batch `[]`, event `[latent_size]`.
        """
        raise NotImplementedError

    def draw(self, rows, encode=None):
        """Draws z from p(z).

        Args:
            rows: int32 tensor `[n, 2]`, a seed per row; row i of the draws
                depends on seed i alone.
            encode: as in `distribution`.

        Returns:
            float tensor `[n, latent_size]`.
        """
        prior = self.distribution(encode)
        return latents.transform(prior, _noise(rows, prior))


@keras.saving.register_keras_serializable("keras_genmodels")
class StandardNormal(PriorLayer):
    """p(z) = N(0, I), without weights.

    Args:
        latent_size: int >= 1, length of z.
    """

    def __init__(self, latent_size, **kwargs):
        super().__init__(**kwargs)
        check_count("latent_size", latent_size)
        self.latent_size = latent_size

    def distribution(self, encode=None):
        return latents.standard_normal(self.latent_size, self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "latent_size": self.latent_size}


@keras.saving.register_keras_serializable("keras_genmodels")
class RealNVPPrior(PriorLayer):
    """A normalizing flow: affine couplings map z to standard normal noise.

    It starts as N(0, I).

    Args:
        latent_size: int >= 2, length of z.
        num_couplings: int >= 1.
        hidden_sizes: widths of the hidden layers of each coupling's network.

    #### References

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP,
    arXiv:1605.08803.
    """

    def __init__(
        self, latent_size, num_couplings=8, hidden_sizes=(128, 128), **kwargs
    ):
        super().__init__(**kwargs)
        check(
            latent_size >= 2,
            f"a RealNVPPrior needs a latent_size of 2 or more, got "
            f"{latent_size}",
        )
        check_count("num_couplings", num_couplings)
        self.latent_size = latent_size
        self.num_couplings = num_couplings
        self.hidden_sizes = tuple(hidden_sizes)
        self.couplings = [
            couplings.AffineCoupling(
                latent_size,
                moved,
                self.hidden_sizes,
                dtype=self.dtype_policy,
                name=f"coupling_{i}",
            )
            for i, moved in enumerate(
                couplings.alternating(latent_size, num_couplings)
            )
        ]

    def distribution(self, encode=None):
        return CouplingFlow(
            self.couplings, self.latent_size, self.compute_dtype
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "latent_size": self.latent_size,
            "num_couplings": self.num_couplings,
            "hidden_sizes": self.hidden_sizes,
        }


class CouplingFlow(VectorDistribution):
    """The distribution of a `RealNVPPrior`.

    Args:
        couplings: list of layers as `AffineCoupling`, from z to noise.
        size: int, length of z.
        dtype: of z.
    """

    def __init__(self, couplings, size, dtype):
        parameters = dict(couplings=couplings, size=size, dtype=dtype)
        self._couplings = couplings
        super().__init__(size, dtype, parameters)

    def to_noise(self, z):
        """Maps z to noise.

        Args:
            z: float tensor `[..., size]`.

        Returns:
            the noise, like z, and the log-determinant of its derivative with
            respect to z, `[...]`.
        """
        y = tf.reshape(z, (-1, self._size))
        log_det = tf.zeros_like(y[:, 0])
        for coupling in self._couplings:
            y, part = coupling(y)
            log_det += part
        shape = tf.shape(z)
        return tf.reshape(y, shape), tf.reshape(log_det, shape[:-1])

    def transform(self, noise):
        y = tf.reshape(noise, (-1, self._size))
        for coupling in reversed(self._couplings):
            y = coupling.inverse(y)
        return tf.reshape(y, tf.shape(noise))

    def _log_prob(self, z):
        noise, log_det = self.to_noise(z)
        normal = latents.standard_normal(self._size, self.dtype)
        return normal.log_prob(noise) + log_det


class _MixtureLayer(PriorLayer):
    """Base class of the layers whose p(z) is a `GaussianMixture`."""

    def draw(self, rows, encode=None):
        prior = self.distribution(encode)
        chosen = seeds.fold_in(rows, _COMPONENT_STREAM)
        uniform = seeds.uniform(chosen, prior.dtype)
        return latents.transform(prior.select(uniform), _noise(rows, prior))


@keras.saving.register_keras_serializable("keras_genmodels")
class MixturePrior(_MixtureLayer):
    """A mixture of Gaussians with diagonal covariances.

    Weights, means and standard deviations (at least 1e-4) are trained. The
    means start at random, so that the mixture has about variance 1.

    Args:
        latent_size: int >= 1, length of z.
        num_components: int >= 1.
    """

    def __init__(self, latent_size, num_components=100, **kwargs):
        super().__init__(**kwargs)
        check_count("latent_size", latent_size)
        check_count("num_components", num_components)
        self.latent_size = latent_size
        self.num_components = num_components
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

    def _weight(self, name, shape, initializer):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=self.compute_dtype,
        )

    def distribution(self, encode=None):
        logits, loc, raw_scale = map(
            tf.convert_to_tensor, (self.logits, self.loc, self.raw_scale)
        )
        scale = MIN_SCALE + tf.nn.softplus(raw_scale)
        return GaussianMixture(
            tfd.Categorical(logits=logits),
            tfd.MultivariateNormalDiag(loc, scale),
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "latent_size": self.latent_size,
            "num_components": self.num_components,
        }


@keras.saving.register_keras_serializable("keras_genmodels")
class VampPrior(_MixtureLayer):
    """A mixture of the posteriors of trained pseudo-inputs, all as likely.

        p(z) = 1/K sum_k q(z|u_k),   u_1 ... u_K trained

    The layer holds the pseudo-inputs only: the model passes its encoder to
    `distribution`. They start at random; before its training a model calls
    `adapt`, which replaces them by events.

    Args:
        event_shape: shape of one event.
        num_pseudo_inputs: int >= 1, K.
        value_range: (lowest, highest) value of pseudo-inputs, to which they
            are clipped, [0, 1] for images; None for no limits.

    #### References

    Tomczak and Welling (2018), VAE with a VampPrior, arXiv:1705.07120.
    """

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
            f"num_pseudo_inputs={num} is more than the {len(chosen)} events",
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


def _noise(rows, prior):
    return seeds.normal(rows, tuple(prior.event_shape), prior.dtype)
