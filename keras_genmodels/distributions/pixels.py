"""Distributions that TensorFlow Probability lacks, or has slower."""

import math

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

NUM_LEVELS = 256


def _on_support(supported, log_prob, message):
    """Refuses values off the support; XLA, which can't, gives them -inf."""
    check = tf.debugging.Assert(tf.reduce_all(supported), [message])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.where(
            supported, log_prob, tf.constant(-math.inf, log_prob.dtype)
        )


class GreyBernoulli(tfd.Bernoulli):
    """A Bernoulli whose `log_prob` also takes grey values, if asked.

    For x in {0, 1} it is a Bernoulli. For grey x in [0, 1] it is the cross
    entropy `x log p + (1 - x) log(1 - p)`, which is not a likelihood of
    anything. `log_prob` of other values raises `tf.errors
    .InvalidArgumentError`; within XLA it is minus infinity.

    Args:
        logits: float tensor of log odds.
        grey_values: whether values between 0 and 1 are taken.
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
        logits = self._logits_parameter_no_checks()
        smaller = tf.where(logits >= 0, -logits, logits)
        return self.linear_part(event) - tf.math.log1p(tf.exp(smaller))

    def linear_part(self, event):
        """Gives event * logits - max(logits, 0), after a check of the event.

        `log_prob` is this less log(1 + exp(-abs(logits))).
        """
        logits = self._logits_parameter_no_checks()
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
            "a Bernoulli likelihood takes pixels in {0, 1}: binarise them, or "
            "ask for grey_values=True (a cross entropy, not a likelihood)",
        )


class IndependentGreyBernoulli(tfd.Independent):
    """Independent `GreyBernoulli` entries, whose `log_prob` is fast.

    A sum over entries of log(1 + exp(-abs(logits))) is the logarithm of a
    product, and logarithms are what `log_prob` spends its time on: it takes
    one for 16 entries. Up to rounding it is the sum of theirs.

    Args:
        distribution: `GreyBernoulli`.
        reinterpreted_batch_ndims: int, how many of its axes are the event.
    """

    def _log_prob(self, event):
        linear = self._in_groups(self.distribution.linear_part(event))
        logits = self._in_groups(self.distribution.logits_parameter())
        # XLA makes one loop of sums over so short an axis and the rest.
        parts = tf.reduce_sum(linear, -1) - _sum_log1p_exp(logits)
        return tf.reduce_sum(parts, -1)

    def _in_groups(self, values):
        """Reshapes an event to groups of equal size, of at most 16 entries."""
        size = self.event_shape.num_elements()
        length = max(n for n in range(1, 17) if size % n == 0)
        batch = tf.shape(values)[: values.shape.rank - self.event_shape.rank]
        shape = tf.concat([batch, [size // length, length]], axis=0)
        return tf.reshape(values, shape)


@tf.custom_gradient
def _sum_log1p_exp(logits):
    """Sums log(1 + exp(-abs(logits))) over the last axis.

    It is one logarithm of a product, whose factors are at most 2: up to 127
    of them don't overflow.
    """
    smaller = -tf.abs(logits)
    value = tf.math.log(tf.reduce_prod(1 + tf.exp(smaller), -1))

    def gradient(upstream):
        sign = tf.where(logits >= 0, -tf.ones_like(logits), 1)
        return upstream[..., tf.newaxis] * sign * tf.sigmoid(smaller)

    return value, gradient


class DiscretizedLogistic(tfd.Distribution):
    """A logistic distribution rounded to the 256 levels k/255 of 8-bit images.

    With S the logistic function and h = 1/510 half a level,

        P(k/255) = S((k/255 + h - loc) / scale) - S((k/255 - h - loc) / scale)

    where the tails beyond the outermost levels belong to them, so that the
    256 probabilities add up to one. `log_prob` uses

        log(S(u) - S(l)) = log S(u) + log S(-l) + log(1 - exp(l - u)),

    which is exact for every u > l, however far out. Values that are not on a
    level (within 1e-3 of a level's width) have probability zero.

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
        # log(1 - exp(-width)) for the width of a level in scales.
        width = 2 * half / self._scale
        both = below_upper + above_lower + tfp.math.log1mexp(width)
        log_prob = tf.where(
            level <= 0,
            below_upper,
            tf.where(level >= NUM_LEVELS - 1, above_lower, both),
        )
        on_level = tf.abs(value * (NUM_LEVELS - 1) - level) <= 1e-3
        inside = (level >= 0) & (level <= NUM_LEVELS - 1)
        return _on_support(
            on_level & inside,
            log_prob,
            "a discretized logistic likelihood takes pixels k/255",
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
