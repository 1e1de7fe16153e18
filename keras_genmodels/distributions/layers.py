"""Keras layers that read a parameter tensor as a distribution.

They stand between a plain Keras network and the loss: an encoder's output
becomes a posterior q(z|x), a decoder's output a likelihood p(x|z). They are
used inside subclassed models; Functional models take no distributions.
"""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.distributions import pixels

tfd = tfp.distributions

_MIN_SCALE = 1e-4


def _statistics_dtype():
    """float64 under a float64 policy, else float32 (also for bfloat16)."""
    policy = keras.config.dtype_policy()
    return "float64" if policy.variable_dtype == "float64" else "float32"


def _event_shape(shape):
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
        raise ValueError(
            f"event_shape must hold positive integers, got {shape!r}"
        )
    return tuple(int(n) for n in shape)


class DistributionLayer(keras.layers.Layer):
    """Reads a parameter tensor as a distribution over events of one shape.

    Base of this module's layers: a subclass sets `params_per_entry` and turns
    parameters into a distribution in `call`.

    Args:
        event_shape: int or tuple of positive ints, shape of one event (an
            int n is `(n,)`).
        dtype: dtype of the distribution; by default float32, whatever the
            precision of the networks, or float64 under a float64 policy.

    Call arguments:
        params: float tensor `[batch, params_size]`, or any shape with so many
            numbers per example in the order of `params_shape`.

    Call returns:
        `tfd.Distribution` with batch shape `[batch]` and event shape
        `event_shape`.
    """

    params_per_entry = 1

    def __init__(self, event_shape, dtype=None, **kwargs):
        super().__init__(dtype=dtype or _statistics_dtype(), **kwargs)
        self.event_shape = _event_shape(event_shape)
        self.built = True

    @property
    def params_shape(self):
        """Shape of the parameters of one event: more of the last axis."""
        *rest, last = self.event_shape or (1,)
        return (*rest, self.params_per_entry * last)

    @property
    def params_size(self):
        """How many numbers describe the distribution of one event."""
        return math.prod(self.params_shape)

    def split_params(self, params):
        """Splits parameters into `params_per_entry` tensors of events."""
        params = tf.reshape(
            tf.cast(params, self.compute_dtype), (-1, *self.params_shape)
        )
        return [
            tf.reshape(part, (-1, *self.event_shape))
            for part in tf.split(params, self.params_per_entry, axis=-1)
        ]

    def independent(self, distribution):
        """Makes one event of all axes but the batch."""
        return tfd.Independent(distribution, len(self.event_shape))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "event_shape": self.event_shape}


class MultivariateNormalLayer(DistributionLayer):
    """Reads parameters as a Gaussian vector: what a posterior can be.

    Its distribution has `loc` and a linear operator `scale`, as the normals
    of TFP have, so that z = loc + scale eps.
    """

    def __init__(self, event_shape, **kwargs):
        super().__init__(event_shape, **kwargs)
        if len(self.event_shape) != 1:
            raise ValueError(
                f"{type(self).__name__} is a distribution of vectors: "
                f"event_shape must be one number, got {self.event_shape}"
            )


@keras.saving.register_keras_serializable("keras_genmodels")
class MultivariateNormalDiag(MultivariateNormalLayer):
    """Reads 2 L numbers as a Gaussian with diagonal covariance.

    The posterior `diagonal`. Mean and softplus-transformed standard deviation
    (at least 1e-4).

    Args:
        event_shape: L, the size of the vector.

    Call arguments:
        params: float tensor `[batch, 2 L]`: mean, raw standard deviation.

    Call returns:
        `tfd.MultivariateNormalDiag`, batch `[batch]`, event `[L]`.
    """

    params_per_entry = 2

    def call(self, params):
        loc, raw_scale = self.split_params(params)
        return tfd.MultivariateNormalDiag(
            loc, _MIN_SCALE + tf.nn.softplus(raw_scale)
        )


@keras.saving.register_keras_serializable("keras_genmodels")
class MultivariateNormalTriL(MultivariateNormalLayer):
    """Reads L + L (L + 1) / 2 numbers as a Gaussian with full covariance.

    The posterior `full`. Mean and lower-triangular Cholesky factor of the
    covariance, whose diagonal is softplus-transformed (at least 1e-4).

    The other entries of the factor are read in proportion to the diagonal's
    of their row, and over the root of L. An untrained encoder then has about
    the variance of a diagonal posterior, whatever L; with entries as they are
    it starts with so much more that many latents are given up for good.

    Args:
        event_shape: L, the size of the vector.
        relative: whether entries are read so, or as they are.

    Call arguments:
        params: float tensor `[batch, L + L (L + 1) / 2]`: mean, then the
            factor's entries in the order of `tfp.math.fill_triangular`.

    Call returns:
        `tfd.MultivariateNormalTriL`, batch `[batch]`, event `[L]`.
    """

    def __init__(self, event_shape, relative=True, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.relative = relative

    @property
    def params_shape(self):
        """Shape of the parameters of one event: a vector."""
        size = self.event_shape[0]
        return (size + size * (size + 1) // 2,)

    def call(self, params):
        params = tf.cast(params, self.compute_dtype)
        size = self.event_shape[0]
        loc, raw_scale = params[..., :size], params[..., size:]
        scale_tril = tfp.math.fill_triangular(raw_scale)
        # Not by `set_diag`, whose gradient XLA takes for fixed batches alone.
        on_diagonal = np.eye(size, dtype=bool)
        diagonal = tf.where(on_diagonal, scale_tril, 0)
        diagonal = _MIN_SCALE + tf.nn.softplus(
            tf.reduce_sum(diagonal, -1, keepdims=True)
        )
        if self.relative:
            scale_tril *= diagonal / math.sqrt(size)
        return tfd.MultivariateNormalTriL(
            loc, tf.where(on_diagonal, diagonal, scale_tril)
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "relative": self.relative}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer; those of format 1 took entries as they are."""
        return super().from_config({"relative": False, **config})


@keras.saving.register_keras_serializable("keras_genmodels")
class IndependentBernoulli(DistributionLayer):
    """Reads logits as independent Bernoulli pixels.

    Args:
        event_shape: shape of one event, such as `(height, width, channels)`.
        grey_values: whether pixels between 0 and 1 are taken as well; their
            `log_prob` is a cross entropy and not a likelihood. Otherwise they
            are refused by `tf.errors.InvalidArgumentError` (within XLA: -inf).

    Call arguments:
        params: float tensor `[batch, params_size]` of logits.

    Call returns:
        `tfd.Independent` over Bernoulli, event `event_shape`, dtype float.
    """

    def __init__(self, event_shape, grey_values=False, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.grey_values = grey_values

    def call(self, params):
        (logits,) = self.split_params(params)
        return pixels.IndependentGreyBernoulli(
            pixels.GreyBernoulli(logits, self.grey_values),
            len(self.event_shape),
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "grey_values": self.grey_values}


@keras.saving.register_keras_serializable("keras_genmodels")
class IndependentNormal(DistributionLayer):
    """Reads means as independent Gaussian pixels of one standard deviation.

    Args:
        event_shape: shape of one event, such as `(height, width, channels)`.
        stddev: the standard deviation of every entry, > 0. None: one
            trainable number for all entries (at least 1e-3), started at 0.2.
            It is one number for all, as a deviation for each pixel would make
            the density of a constant pixel grow without bound.

    Call arguments:
        params: float tensor `[batch, params_size]` of means.

    Call returns:
        `tfd.Independent` over Normal, event `event_shape`.

    #### References

    Rybkin, Daniilidis and Levine (2021), Simple and effective VAE training
    with calibrated decoders, arXiv:2006.13202 (the shared deviation).
    """

    min_stddev = 1e-3

    def __init__(self, event_shape, stddev=None, **kwargs):
        super().__init__(event_shape, **kwargs)
        if stddev is not None and not stddev > 0:
            raise ValueError(f"stddev must be > 0, got {stddev}")
        self.stddev = stddev
        self.log_stddev = None
        if stddev is None:
            self.log_stddev = self.add_weight(
                name="log_stddev",
                shape=(),
                initializer=keras.initializers.Constant(math.log(0.2)),
                dtype=self.compute_dtype,
            )

    def call(self, params):
        (loc,) = self.split_params(params)
        if self.stddev is None:
            stddev = self.min_stddev + tf.exp(
                tf.convert_to_tensor(self.log_stddev)
            )
        else:
            stddev = tf.constant(self.stddev, loc.dtype)
        return self.independent(tfd.Normal(loc, stddev))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "stddev": self.stddev}


@keras.saving.register_keras_serializable("keras_genmodels")
class IndependentDiscretizedLogistic(DistributionLayer):
    """Reads centres and scales as independent 8-bit pixels.

    A proper probability of the 256 levels k/255: nats divided by
    `size * log(2)` are bits per dimension. Values off the levels are refused
    by `tf.errors.InvalidArgumentError` (within XLA: -inf).

    Args:
        event_shape: shape of one event, such as `(height, width, channels)`.

    Call arguments:
        params: float tensor `[batch, params_size]`; along the last axis first
            the centres (0 is mid-grey, 0.5), then the raw scales.

    Call returns:
        `tfd.Independent` over `DiscretizedLogistic`, event `event_shape`.
    """

    params_per_entry = 2

    def call(self, params):
        loc, raw_scale = self.split_params(params)
        # About a tenth of the range at the start, at least a 50th of a level.
        scale = 0.02 / 255 + 0.1 * tf.nn.softplus(raw_scale)
        return self.independent(pixels.DiscretizedLogistic(0.5 + loc, scale))


POSTERIORS = {
    "diagonal": MultivariateNormalDiag,
    "full": MultivariateNormalTriL,
}
