"""Keras layers that turn a tensor of parameters into a distribution.

They turn the output of a plain Keras network into the posterior q(z|x) or the
likelihood p(x|z) of a model. They work inside subclassed models; Functional
models cannot hold distributions.
"""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import deprecation
from keras_genmodels.distributions import pixels

tfd = tfp.distributions

MIN_SCALE = 1e-4


def statistics_dtype():
    """Returns float64 under a float64 policy, else float32 (for bfloat16)."""
    policy = keras.config.dtype_policy()
    return "float64" if policy.variable_dtype == "float64" else "float32"


def logistic_scale(raw_scale):
    """Returns the scale of a logistic that is rounded to 256 levels.

    It is 0.07 of the range for 0, and at least a 50th of a level.
    """
    return 0.02 / 255 + 0.1 * tf.nn.softplus(raw_scale)


def _event_shape(shape):
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
        raise ValueError(
            f"event_shape must be positive integers, got {shape!r}"
        )
    return tuple(int(n) for n in shape)


class DistributionLayer(keras.layers.Layer):
    """Base class of layers from parameters to a distribution of events.

    A subclass sets `params_per_entry`, returns the distribution from `call`
    and, for a likelihood, says what it is over:

    - `support`: which values have a probability or density: "binary" (0 and
      1), "unit_interval" ([0, 1]), "levels" (k / 255, k = 0 ... 255) or
      "real".
    - `is_normalized`: whether `log_prob` is normalised, so that it bounds and
      compares as a log-likelihood; False for a cross entropy.
    - `is_factorized`: whether the entries of an event are independent, as a
      model of the unobserved ones requires.

    `params_meaning` says in messages what the parameters are, in their order.

    Args:
        event_shape: int or tuple of positive ints, shape of one event (an
            int n is `(n,)`).
        dtype: dtype of the distribution; by default float64 under a float64
            policy, else float32 whatever the precision of the networks.

    Call arguments:
        params: float tensor `[batch, params_size]` or
            `[batch, *params_shape]`, in the same order.

    Call returns:
        `tfd.Distribution` with batch shape `[batch]` and event shape
        `event_shape`.
    """

    params_per_entry = 1
    params_meaning = "see the class"
    support = "real"
    is_normalized = True
    is_factorized = True

    def __init__(self, event_shape, dtype=None, **kwargs):
        super().__init__(dtype=dtype or statistics_dtype(), **kwargs)
        self.event_shape = _event_shape(event_shape)
        self.built = True

    @property
    def params_shape(self):
        """Shape of the parameters of one event: its last axis is longer."""
        *rest, last = self.event_shape or (1,)
        return (*rest, self.params_per_entry * last)

    @property
    def params_size(self):
        """Number of parameters of the distribution of one event."""
        return math.prod(self.params_shape)

    def split_params(self, params):
        """Splits parameters into `params_per_entry` tensors like events."""
        params = tf.reshape(
            tf.cast(params, self.compute_dtype), (-1, *self.params_shape)
        )
        return [
            tf.reshape(part, (-1, *self.event_shape))
            for part in tf.split(params, self.params_per_entry, axis=-1)
        ]

    def independent(self, distribution):
        """Makes all axes but the batch one event."""
        return tfd.Independent(distribution, len(self.event_shape))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "event_shape": self.event_shape}


class MultivariateNormalLayer(DistributionLayer):
    """Base class of the layers that return a Gaussian over vectors.

    Their distribution has `loc` and a linear operator `scale`, so that
    z = loc + scale eps, eps ~ N(0, I).
    """

    is_factorized = False

    def __init__(self, event_shape, **kwargs):
        super().__init__(event_shape, **kwargs)
        if len(self.event_shape) != 1:
            raise ValueError(
                f"{type(self).__name__} is a distribution of vectors: "
                f"event_shape must be one number, got {self.event_shape}"
            )


@keras.saving.register_keras_serializable("keras_genmodels")
class MultivariateNormalDiag(MultivariateNormalLayer):
    """Returns a Gaussian with diagonal covariance, of 2 L parameters.

    Args:
        event_shape: L, the size of the vector.

    Call arguments:
        params: float tensor `[batch, 2 L]`: the mean, then the standard
            deviation before a softplus (plus 1e-4, the least one).

    Call returns:
        `tfd.MultivariateNormalDiag`, batch `[batch]`, event `[L]`.
    """

    params_per_entry = 2
    params_meaning = (
        "all means, then all standard deviations before a softplus (a "
        "log-variance head works too, but is read and trained as that)"
    )

    def call(self, params):
        loc, raw_scale = self.split_params(params)
        return tfd.MultivariateNormalDiag(
            loc, MIN_SCALE + tf.nn.softplus(raw_scale)
        )


@keras.saving.register_keras_serializable("keras_genmodels")
class MultivariateNormalTriL(MultivariateNormalLayer):
    """Returns a Gaussian with full covariance, of L + L (L + 1) / 2 parameters.

    They are the mean and the lower-triangular Cholesky factor of the
    covariance, whose diagonal is softplus-transformed (plus 1e-4, the least).

    Args:
        event_shape: L, the size of the vector.
        scale_rows_by_diagonal: whether the entries below the diagonal are
            multiplied by the diagonal entry of their row over sqrt(L). The
            posterior of an untrained encoder then has about the variance of a
            diagonal one, whatever L; without it the variance is much larger,
            and many latents collapse to the prior early in training.

    Call arguments:
        params: float tensor `[batch, L + L (L + 1) / 2]`: mean, then the
            factor's entries in the order of `tfp.math.fill_triangular`.

    Call returns:
        `tfd.MultivariateNormalTriL`, batch `[batch]`, event `[L]`.
    """

    params_meaning = (
        "all means, then the entries of the Cholesky factor in the order of "
        "tfp.math.fill_triangular, its diagonal before a softplus"
    )

    @deprecation.accept_old_arguments({"relative": "scale_rows_by_diagonal"})
    def __init__(self, event_shape, scale_rows_by_diagonal=True, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.scale_rows_by_diagonal = scale_rows_by_diagonal

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
        # XLA has the gradient of `set_diag` for fixed batch sizes only.
        on_diagonal = np.eye(size, dtype=bool)
        diagonal = tf.where(on_diagonal, scale_tril, 0)
        diagonal = MIN_SCALE + tf.nn.softplus(
            tf.reduce_sum(diagonal, -1, keepdims=True)
        )
        if self.scale_rows_by_diagonal:
            scale_tril *= diagonal / math.sqrt(size)
        return tfd.MultivariateNormalTriL(
            loc, tf.where(on_diagonal, diagonal, scale_tril)
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "scale_rows_by_diagonal": self.scale_rows_by_diagonal,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds the layer from `get_config`, also of formats 1 and 2.

        Format 2 called the argument `relative`; format 1 did not scale rows.
        """
        config = dict(config)
        old = config.pop("relative", False)
        return super().from_config({"scale_rows_by_diagonal": old, **config})


@keras.saving.register_keras_serializable("keras_genmodels")
class IndependentBernoulli(DistributionLayer):
    """Returns independent Bernoulli pixels, from logits.

    Args:
        event_shape: shape of one event, such as `(height, width, channels)`.
        grey_values: whether pixels between 0 and 1 are allowed; their
            `log_prob` is a cross entropy and not a likelihood. Otherwise they
            raise `tf.errors.InvalidArgumentError` (under XLA: -inf).

    Call arguments:
        params: float tensor `[batch, params_size]` of logits.

    Call returns:
        `tfd.Independent` over Bernoulli, event `event_shape`, dtype float.
    """

    params_meaning = "a logit per entry"

    def __init__(self, event_shape, grey_values=False, **kwargs):
        super().__init__(event_shape, **kwargs)
        self.grey_values = grey_values

    @property
    def support(self):
        """Is "unit_interval" with grey values, else "binary"."""
        return "unit_interval" if self.grey_values else "binary"

    @property
    def is_normalized(self):
        """Is False with grey values: a cross entropy is no likelihood."""
        return not self.grey_values

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
    """Returns independent Gaussian pixels of one standard deviation.

    Args:
        event_shape: shape of one event, such as `(height, width, channels)`.
        stddev: standard deviation of every entry, > 0. None: one trainable
            number for all entries (at least 1e-3), initially 0.2. It is
            shared, as with one per pixel the density of a constant pixel
            would grow without bound.

    Call arguments:
        params: float tensor `[batch, params_size]` of means.

    Call returns:
        `tfd.Independent` over Normal, event `event_shape`.

    #### References

    Rybkin, Daniilidis and Levine (2021), Simple and effective VAE training
    with calibrated decoders, arXiv:2006.13202 (the shared standard deviation).
    """

    min_stddev = 1e-3
    params_meaning = "a mean per entry"

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
    """Returns independent 8-bit pixels, logistic distributions rounded.

    Probabilities of the 256 levels k / 255: nats divided by `size * log(2)`
    are bits per dimension. Other values raise
    `tf.errors.InvalidArgumentError` (under XLA: -inf).

    Args:
        event_shape: shape of one event, such as `(height, width, channels)`.

    Call arguments:
        params: float tensor `[batch, params_size]`; along the last axis first
            the centres (0 is mid-grey, 0.5), then the scales before a
            softplus.

    Call returns:
        `tfd.Independent` over `DiscretizedLogistic`, event `event_shape`.
    """

    params_per_entry = 2
    params_meaning = (
        "along the last axis first all centres (0 is mid-grey), then all "
        "scales before a softplus"
    )
    support = "levels"

    def call(self, params):
        loc, raw_scale = self.split_params(params)
        return self.independent(
            pixels.DiscretizedLogistic(0.5 + loc, logistic_scale(raw_scale))
        )
