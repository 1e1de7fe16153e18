"""Mixtures of rounded logistics whose channels depend on each other."""

import itertools
import math
import typing

import keras
import numpy as np
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core.validation import check, check_count
from keras_genmodels.distributions.layers import (
    DistributionLayer,
    logistic_scale,
)
from keras_genmodels.distributions.pixels import DiscretizedLogistic

tfd = tfp.distributions

# Points over which the mean averages the channels before.
_NUM_POINTS = 64
# Each channel has coefficients of all before it.
_MOST_CHANNELS = 4


class DiscretizedLogisticMixture(tfd.Distribution):
    """A pixel of C channels: K logistics, rounded to 256 levels.

    The channels are drawn in their order, all from one component k:

        P(x) = sum_k p_k prod_c P(x_c | k, x_1, ..., x_{c-1}),

    where x_c is `DiscretizedLogistic`, with scale s_kc and the centre
    m_kc + sum_{j < c} a_kcj (x_j - m_kj). The probabilities of the 256^C
    values sum to one. As in `DiscretizedLogistic`, values that are no levels
    raise an error.

    `mean` is that of the values before they are rounded, clipped to [0, 1]:
    at most half a level (1/510) away from that of the levels. The channels
    before a channel are averaged over a grid of 64 points. Where they are
    clipped, that is exact to about 1e-3, and to 1e-2 for coefficients of
    several.

    Args:
        logits: float tensor `[..., K]`, of the components.
        loc: float tensor `[..., C, K]`, the centres m.
        scale: positive float tensor `[..., C, K]`.
        coefficients: float tensor `[..., C (C - 1) / 2, K]`: a_kcj in the
            order (c, j) = (2, 1), (3, 1), (3, 2), (4, 1), ...

    #### References

    Salimans, Karpathy, Chen and Kingma (2017), PixelCNN++, arXiv:1701.05517,
    equations 2 and 3, where the centres are those for x_j = 0.
    """

    def __init__(
        self,
        logits,
        loc,
        scale,
        coefficients,
        validate_args=False,
        allow_nan_stats=True,
        name="DiscretizedLogisticMixture",
    ):
        parameters = dict(locals())
        with tf.name_scope(name):
            self.loc = tf.convert_to_tensor(loc, name="loc")
            dtype = self.loc.dtype
            self.logits = tf.convert_to_tensor(logits, dtype, name="logits")
            self.scale = tf.convert_to_tensor(scale, dtype, name="scale")
            self.coefficients = tf.convert_to_tensor(
                coefficients, dtype, name="coefficients"
            )
        self.num_channels = self.loc.shape[-2]
        super().__init__(
            dtype=dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        def properties(rank):
            return tfp.util.ParameterProperties(event_ndims=rank)

        return {
            "logits": properties(1),
            "loc": properties(2),
            "scale": properties(2),
            "coefficients": properties(2),
        }

    def _event_shape(self):
        return tf.TensorShape([self.num_channels])

    def _event_shape_tensor(self):
        return tf.constant([self.num_channels], tf.int32)

    def _log_prob(self, value):
        values = tf.unstack(value[..., tf.newaxis], axis=-2)
        offsets, log_prob = [], tf.nn.log_softmax(self.logits)
        for value, part in zip(values, self._channels(), strict=True):
            channel = DiscretizedLogistic(part.centre(offsets), part.scale)
            log_prob += channel.log_prob(value)
            offsets.append(value - part.loc)
        return tf.reduce_logsumexp(log_prob, -1)

    def _sample_n(self, n, seed=None):
        first, *rest = tfp.random.split_seed(seed, 1 + self.num_channels)
        size = self.logits.shape[-1]
        shape = tf.concat([self.batch_shape_tensor(), [size]], axis=0)
        logits = tf.broadcast_to(self.logits, shape)
        component = tfd.Categorical(logits).sample(n, seed=first)
        chosen = tf.one_hot(component, size, dtype=self.dtype)

        def of_chosen(values):
            return tf.reduce_sum(values * chosen, -1)

        channels, offsets = [], []
        for part, seed in zip(self._channels(), rest, strict=True):
            centre = of_chosen(part.centre(offsets))
            channel = DiscretizedLogistic(centre, of_chosen(part.scale))
            channels.append(channel.sample(seed=seed))
            offsets.append(channels[-1][..., tf.newaxis] - part.loc)
        return tf.stack(channels, axis=-1)

    def _mean(self):
        weights = tf.nn.softmax(self.logits)
        if self.num_channels == 1:
            means = _clipped_mean(self.loc, self.scale)
            return tf.reduce_sum(weights[..., tf.newaxis, :] * means, -1)
        logistic = tf.constant(_logistic_points(self.num_channels - 1))
        shape = tf.concat(
            [self.batch_shape_tensor(), [self.num_channels]], axis=0
        )

        parts = self._channels()

        def add_point(i, total):
            point = tf.cast(logistic[i], self.dtype)
            means, offsets = [], []
            for c, part in enumerate(parts):
                centre = part.centre(offsets)
                means.append(_clipped_mean(centre, part.scale))
                if c < self.num_channels - 1:
                    drawn = centre + part.scale * point[c]
                    offsets.append(tf.clip_by_value(drawn, 0, 1) - part.loc)
            pixel = weights[..., tf.newaxis, :] * tf.stack(means, axis=-2)
            return i + 1, total + tf.reduce_sum(pixel, -1)

        _, total = tf.while_loop(
            lambda i, _: i < _NUM_POINTS,
            add_point,
            (0, tf.zeros(shape, self.dtype)),
            maximum_iterations=_NUM_POINTS,
        )
        return total / _NUM_POINTS

    def _channels(self):
        """Returns the parameters of each channel, a list of `_Channel`."""
        # Unstacked, as the gradient of each of many slices is a whole tensor.
        coefficients = iter(tf.unstack(self.coefficients, axis=-2))
        parameters = (tf.unstack(it, axis=-2) for it in (self.loc, self.scale))
        return [
            _Channel(loc, scale, [*itertools.islice(coefficients, c)])
            for c, (loc, scale) in enumerate(zip(*parameters, strict=True))
        ]


class _Channel(typing.NamedTuple):
    """Parameters of a channel of all components, float tensors `[..., K]`.

    Attributes:
        loc: the centre m.
        scale: positive.
        coefficients: list with one for each channel before.
    """

    loc: tf.Tensor
    scale: tf.Tensor
    coefficients: list

    def centre(self, offsets):
        """Returns the centre given x_j - m_j of the channels before."""
        centre = self.loc
        for coefficient, offset in zip(self.coefficients, offsets, strict=True):
            centre += coefficient * offset
        return centre


def _clipped_mean(loc, scale):
    """Returns the mean of logistic variables that are clipped to [0, 1].

    It is the integral of P(y > t) = S((loc - t) / scale) over [0, 1].
    """
    below, above = tf.nn.softplus(loc / scale), (loc - 1) / scale
    return scale * (below - tf.nn.softplus(above))


def _logistic_points(size):
    """Returns a grid of standard logistics, `[points, size]`.

    They are quantiles, in the middles of intervals of equal probability.
    """
    num = round(_NUM_POINTS ** (1 / size))
    quantiles = scipy.special.logit((np.arange(num) + 0.5) / num)
    return np.array([*itertools.product(quantiles, repeat=size)])


@keras.saving.register_keras_serializable("keras_genmodels")
class IndependentLogisticMixture(DistributionLayer):
    """Returns independent 8-bit pixels, whose channels depend on each other.

    Each pixel is a `DiscretizedLogisticMixture`: a mixture over all of its
    channels, each of which shifts the centres of those after it. Colours of
    photographs need far fewer bits so than with independent channels. Nats
    divided by `size * log(2)` are bits per dimension.

    Args:
        event_shape: `(height, width, channels)`, or any shape whose last axis
            is 1 to 4 channels.
        num_components: int >= 1, K, logistics of each mixture.

    Call arguments:
        params: float tensor `[batch, params_size]`; along the last axis, for
            each pixel of C channels: K logits, C K centres (0 is mid-grey,
            0.5), C K scales before a softplus, and K C (C - 1) / 2
            coefficients of the channels before; K is the fastest axis.

    Call returns:
        `tfd.Independent` over `DiscretizedLogisticMixture`, event
        `event_shape`.

    Raises:
        ValueError: for more than 4 channels, or no component.
    """

    params_meaning = (
        "along the last axis for each pixel first all logits, then all centres "
        "(0 is mid-grey), then all scales before a softplus, then all "
        "coefficients of the channels before"
    )
    support = "levels"
    is_factorized = False

    def __init__(self, event_shape, num_components=5, **kwargs):
        super().__init__(event_shape, **kwargs)
        check_count("num_components", num_components)
        check(
            self.event_shape and self.event_shape[-1] <= _MOST_CHANNELS,
            "the last axis of event_shape is the channels of a pixel, at most "
            f"{_MOST_CHANNELS}, got {self.event_shape}",
        )
        self.num_components = int(num_components)

    @property
    def params_shape(self):
        """Shape of the parameters of one event: its last axis is longer."""
        return (
            *self.event_shape[:-1],
            sum(self._sizes()) * self.num_components,
        )

    def _sizes(self):
        """Returns the numbers of logits, centres, scales and coefficients."""
        channels = self.event_shape[-1]
        return 1, channels, channels, math.comb(channels, 2)

    def call(self, params):
        shape = (
            *self.event_shape[:-1],
            sum(self._sizes()),
            self.num_components,
        )
        params = tf.cast(params, self.compute_dtype)
        params = tf.reshape(params, (-1, *shape))
        logits, loc, raw_scale, coefficients = tf.split(
            params, self._sizes(), axis=-2
        )
        mixture = DiscretizedLogisticMixture(
            logits[..., 0, :],
            0.5 + loc,
            logistic_scale(raw_scale),
            coefficients,
        )
        return tfd.Independent(mixture, len(self.event_shape) - 1)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_components": self.num_components}
