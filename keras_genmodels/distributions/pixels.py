"""Distributions of pixels that TFP lacks, or computes more slowly."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import assertions

tfd = tfp.distributions

NUM_LEVELS = 256


def _on_support(supported, log_prob, message):
    """Raises for values off the support; under XLA, log_prob is -inf there."""
    check = assertions.require(tf.reduce_all(supported), message)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.where(
            supported, log_prob, tf.constant(-math.inf, log_prob.dtype)
        )


class GreyBernoulli(tfd.Bernoulli):
    """A Bernoulli whose `log_prob` optionally accepts grey values.

    For x in {0, 1} it is a Bernoulli. For grey x in [0, 1] it is the cross
    entropy `x log p + (1 - x) log(1 - p)`, which is not a likelihood.
    `log_prob` of other values raises `tf.errors.InvalidArgumentError`; under
    XLA it is minus infinity.

    Args:
        logits: float tensor of log odds.
        grey_values: whether values between 0 and 1 are allowed.
    """

    def __init__(self, logits, grey_values=False, name="GreyBernoulli"):
        parameters = dict(locals())
        logits = tf.convert_to_tensor(logits)
        super().__init__(logits=logits, dtype=logits.dtype, name=name)
        self._parameters = parameters
        self.grey_values = grey_values

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"logits": tfp.util.ParameterProperties()}

    def _log_prob(self, event):
        # event * logits - softplus(logits), without its cancellation and
        # with the right gradient at 0.
        logits = self.logits
        smaller = tf.where(logits >= 0, -logits, logits)
        return self.linear_part(event) - tf.math.log1p(tf.exp(smaller))

    def linear_part(self, event):
        """Returns event * logits - max(logits, 0), and checks the event.

        `log_prob` is this minus log(1 + exp(-abs(logits))).
        """
        logits = self.logits
        log_prob = event * logits - tf.where(
            logits >= 0, logits, tf.zeros_like(logits)
        )
        if self.grey_values:
            return _on_support(
                (event >= 0) & (event <= 1),
                log_prob,
                "grey values must lie in [0, 1]",
            )
        return _on_support(
            (event == 0) | (event == 1),
            log_prob,
            "a Bernoulli likelihood requires pixels in {0, 1}: binarise them, "
            "or set grey_values=True (a cross entropy, not a likelihood)",
        )


class IndependentGreyBernoulli(tfd.Independent):
    """Independent `GreyBernoulli` entries with a faster `log_prob`.

    `log_prob` spends its time on log(1 + exp(-abs(logits))). Its sum over
    entries is the logarithm of a product, so that one logarithm is taken per
    16 entries. Up to rounding it equals the sum of the entries' `log_prob`.

    Args:
        distribution: `GreyBernoulli`.
        reinterpreted_batch_ndims: int, number of axes that make up the event.
    """

    def _log_prob(self, event):
        linear = self._in_groups(self.distribution.linear_part(event))
        logits = self._in_groups(self.distribution.logits_parameter())
        # Over so short an axis XLA fuses the sums with what precedes them.
        parts = tf.reduce_sum(linear, -1) - _sum_log1p_exp(logits)
        return tf.reduce_sum(parts, -1)

    def _in_groups(self, values):
        """Reshapes events to `[batch, groups, n]` with the largest n <= 16."""
        size = self.event_shape.num_elements()
        length = max(n for n in range(1, 17) if size % n == 0)
        batch = tf.shape(values)[: values.shape.rank - self.event_shape.rank]
        shape = tf.concat([batch, [size // length, length]], axis=0)
        return tf.reshape(values, shape)


@tf.custom_gradient
def _sum_log1p_exp(logits):
    """Sums log(1 + exp(-abs(logits))) over the last axis.

    It is the logarithm of a product of factors of at most 2, of which up to
    127 do not overflow float32.
    """
    smaller = -tf.abs(logits)
    value = tf.math.log(tf.reduce_prod(1 + tf.exp(smaller), -1))

    def gradient(upstream):
        sign = tf.where(logits >= 0, -tf.ones_like(logits), 1)
        return upstream[..., tf.newaxis] * sign * tf.sigmoid(smaller)

    return value, gradient


class DiscretizedLogistic(tfd.Distribution):
    """A logistic distribution rounded to the 256 levels k/255 of 8-bit images.

    With S the logistic function and h = 1/510 half the width of a level,

        P(k/255) = S((k/255 + h - loc) / scale) - S((k/255 - h - loc) / scale)

    The two outermost levels include the tails beyond them, so that the 256
    probabilities sum to one. `log_prob` uses

        log(S(u) - S(l)) = log S(u) + log S(-l) + log(1 - exp(l - u)),

    which is accurate for every u > l, also far in the tails. Values that are
    further than 1e-3 of a level's width from a level raise an error.

    Args:
        loc: centre, float tensor; levels lie in [0, 1].
        scale: positive float tensor of the same shape.

    #### References

    Kingma et al. (2016), Improving variational inference with inverse
    autoregressive flow, arXiv:1606.04934, section 5.1 (the likelihood).
    """

    def __init__(
        self,
        loc,
        scale,
        validate_args=False,
        allow_nan_stats=True,
        name="DiscretizedLogistic",
    ):
        parameters = dict(locals())
        with tf.name_scope(name):
            self._loc = tf.convert_to_tensor(loc, name="loc")
            self._scale = tf.convert_to_tensor(
                scale, dtype=self._loc.dtype, name="scale"
            )
        super().__init__(
            dtype=self._loc.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        properties = tfp.util.ParameterProperties
        return {"loc": properties(), "scale": properties()}

    @property
    def loc(self):
        """Centre of the logistic before rounding."""
        return self._loc

    @property
    def scale(self):
        """Scale of the logistic before rounding."""
        return self._scale

    def _event_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _log_prob(self, value):
        half = 0.5 / (NUM_LEVELS - 1)
        level = tf.round(value * (NUM_LEVELS - 1))
        centred = level / (NUM_LEVELS - 1) - self._loc
        below_upper = tf.math.log_sigmoid((centred + half) / self._scale)
        above_lower = tf.math.log_sigmoid((half - centred) / self._scale)
        # The width of a level, in units of the scale.
        width = 2 * half / self._scale
        # The outermost levels lack an end; a product is faster than a choice.
        has_lower = tf.cast(level > 0, level.dtype)
        has_upper = tf.cast(level < NUM_LEVELS - 1, level.dtype)
        log_prob = (
            tf.math.multiply_no_nan(below_upper, has_upper)
            + tf.math.multiply_no_nan(above_lower, has_lower)
            + tf.math.multiply_no_nan(
                tfp.math.log1mexp(width), has_lower * has_upper
            )
        )
        on_level = tf.abs(value * (NUM_LEVELS - 1) - level) <= 1e-3
        inside = (level >= 0) & (level <= NUM_LEVELS - 1)
        return _on_support(
            on_level & inside,
            log_prob,
            "a discretized logistic likelihood requires pixels k/255",
        )

    def _sample_n(self, n, seed=None):
        logistic = tfd.Logistic(self._loc, self._scale).sample(n, seed=seed)
        levels = tf.round(logistic * (NUM_LEVELS - 1))
        return tf.clip_by_value(levels, 0, NUM_LEVELS - 1) / (NUM_LEVELS - 1)

    def _mean(self):
        # E[k] is the sum over levels of P(k > level).
        def add_level(level, total):
            middle = (tf.cast(level, self.dtype) + 0.5) / (NUM_LEVELS - 1)
            above = tf.sigmoid((self._loc - middle) / self._scale)
            return level + 1, total + above

        _, total = tf.while_loop(
            lambda level, _: level < NUM_LEVELS - 1,
            add_level,
            (0, tf.zeros_like(self._loc + self._scale)),
            maximum_iterations=NUM_LEVELS - 1,
        )
        return total / (NUM_LEVELS - 1)
