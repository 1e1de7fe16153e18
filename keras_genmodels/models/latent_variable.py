"""The base class of latent-variable models: their verbs and bounds."""

import functools
import types
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import deprecation, seeds
from keras_genmodels.core.class_labels import check_guidance
from keras_genmodels.core.events import check_num
from keras_genmodels.core.keras_verbs import (
    as_one_tensor,
    image_of,
    is_symbolic,
)
from keras_genmodels.core.model_config import ConfigFromArguments
from keras_genmodels.core.pixel_scale import check_clean, require_clean
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.core.wording import kind_of
from keras_genmodels.distributions import latents
from keras_genmodels.distributions.layers import DistributionLayer
from keras_genmodels.models.arguments import (
    as_batch,
    check_layer,
    check_weighting,
)
from keras_genmodels.models.bounds import Bounds
from keras_genmodels.operators.masks import fill_unobserved

# Of arguments and attributes of version 0.2.
OLD_NAMES = {"num_labels": "num_classes", "known": "observed_mask"}


def accept_old_order(sample):
    """Lets `sample` take a condition first, as version 0.2 did."""

    @functools.wraps(sample)
    def accepting(self, *args, **kwargs):
        if args and not _is_count(args[0], kwargs):
            deprecation.warn(
                "sample(condition, ...)", "sample(condition=condition, ...)"
            )
            kwargs["condition"], *args = args
        return sample(self, *args, **kwargs)

    return accepting


def _is_count(first, kwargs):
    if first is None:
        return "num" not in kwargs
    return (
        np.ndim(first) == 0 if not tf.is_tensor(first) else not first.shape.rank
    )


class LatentVariableModel(ConfigFromArguments, Bounds, keras.Model):
    """A model p(x|z) p(z) of events x with a latent vector z, and q(z|x).

    It is trained on -elbo, or on an importance-weighted bound, and may be
    conditional: then all distributions depend on a condition c. Everything
    that the package does with a latent-variable model follows from its verbs
    `encode`, `decode`, `prior` and `sample`.

    To add a model, write one file with a subclass that

    1. is decorated with `keras.saving.register_keras_serializable`;
    2. has a constructor that calls this one with `likelihood`, `latent_size`
       and its remaining keyword arguments, keeps every argument of its own as
       an attribute of that name (for `get_config`), builds all weights (see
       `models.arguments.build_network`), and ends with `self.built = True`;
    3. defines `_encode(x, features)`, `_decode(z, features)` and
       `_prior(features)`, which return q(z|x), p(x|z) and p(z) for checked
       arguments. `features` is None for a model without conditions. `z` has
       shape `[batch, latent_size]`; the layers of a hierarchical latent are
       concatenated to one vector. q(z|x) and p(z) are Gaussians of TFP with
       `loc` and `scale`, or `tfd.TransformedDistribution`s of such, or both
       are `distributions.layered.LayeredDistribution`s, so that every draw
       is a function of standard normal noise; p(z) may also be
       another distribution with a method `transform` of such noise, or any,
       if `_draw_prior(rows, features)` is defined as well. p(x|z) comes from
       `likelihood`.

    A conditional model also sets the attributes below, and defines as
    `ConditionalVAE` does

    - `_as_condition(condition, like)`, which checks a condition;
    - `_missing_condition(num)`, the condition of samples without one;
    - `_features(condition)`, the features of a checked condition;
    - `_as_inputs(inputs)` and `_input_signature()`, the inputs of `fit`, and
      `call(inputs, training)`, the terms of the loss for them;
    - `_guided_likelihood(z, features, guidance)`, with label dropout.

    Args:
        likelihood: distribution layer over events, such as
            `IndependentBernoulli`; its `event_shape` is the shape of x.
        latent_size: int >= 1, length of z.
        beta: weight of the rate in the loss, >= 0.
        seed: int in [0, 2**31). Training draws from (seed, step), `evaluate`
            and `predict` from (seed, values of the example).
        rate_warmup_steps: int >= 0, number of training steps over which the
            weight of the rate is annealed linearly from 0 to `beta`; runs
            refuse as many as they have, or more.
        num_importance_samples: int >= 1, draws of z per example and step.
            From 2 on the loss is minus the importance-weighted bound, which
            requires `beta=1` (during the warm-up, the weight applies to
            log p(z) / q(z|x)); a step decodes as many times.
        doubly_reparameterized: whether that bound is differentiated by the
            doubly reparameterised estimator: the same expected gradient, with
            less variance in the encoder. It covers the bound only, not losses
            that layers of the decoder add. It requires a Gaussian q(z|x), or
            Gaussian layers of one.
        free_bits: nats of each latent's rate, averaged over a batch, below
            which training does not reduce it any further: in the training
            loss, the rate of a latent is at least this. It keeps latents from
            collapsing to the prior. `elbo` and `rate` are without it, and so
            is the loss of `evaluate`. It requires a diagonal q(z|x), p(z) =
            N(0, I) and `num_importance_samples=1`. Of a `HierarchicalVAE` it
            is of the rate of each layer, for any q and p. It requires a `beta`
            above 0.
        name: name of the model.

    Attributes:
        num_classes: int if conditions are class labels, else None.
        observed_mask: bool array of `event_shape` if the condition is the
            observed part of the event itself, else None.
        label_dropout: probability of dropping the label in training, which
            enables samples without a label; 0 if never.
        condition_network: Keras network from conditions to features, or None.

    #### References

    Kingma and Welling (2013), Auto-encoding variational Bayes,
    arXiv:1312.6114, equations 7 and 10. Higgins et al. (2017), beta-VAE,
    ICLR (`beta`). Burda, Grosse and Salakhutdinov (2015), Importance weighted
    autoencoders, arXiv:1509.00519, equation 8. Tucker et al. (2018), Doubly
    reparameterized gradient estimators for Monte Carlo objectives,
    arXiv:1810.04152. Kingma et al. (2016), Improving variational inference
    with inverse autoregressive flow, arXiv:1606.04934, section C.8
    (`free_bits`).
    """

    metric_units: ClassVar = {"elbo": "nats", "rate": "nats"}
    # What `_per_example_metrics` returns.
    _metric_names = ("elbo", "rate", "distortion")
    # Whether log p(z) takes many evaluations of a network, as by the ODE of
    # `LatentDiffusion`.
    has_costly_prior = False
    # Whether the model is ready for training, or `adapt(data)` comes first.
    adapted = True

    num_classes = None
    observed_mask = None
    label_dropout = 0.0
    condition_network = None

    def __init__(
        self,
        likelihood,
        latent_size,
        *,
        beta=1.0,
        seed=0,
        rate_warmup_steps=0,
        num_importance_samples=1,
        doubly_reparameterized=False,
        free_bits=0.0,
        name=None,
    ):
        # Autocasting would round the pixels before the likelihood sees them.
        super().__init__(name=name, autocast=False)
        check_layer("likelihood", likelihood, DistributionLayer)
        check_count("latent_size", latent_size)
        check_weighting(
            beta,
            rate_warmup_steps,
            num_importance_samples,
            doubly_reparameterized,
            free_bits,
        )
        seeds.as_seed(seed)
        self.likelihood = likelihood
        self.latent_size = latent_size
        self.beta = beta
        self.seed = seed
        self.rate_warmup_steps = rate_warmup_steps
        self.num_importance_samples = num_importance_samples
        self.doubly_reparameterized = doubly_reparameterized
        self.free_bits = free_bits
        self._track(*self._metric_names)

    @property
    def event_shape(self):
        """Shape of one event."""
        return self.likelihood.event_shape

    @property
    def statistics_dtype(self):
        """Dtype of latents, bounds and samples: "float32" or "float64"."""
        return self.likelihood.compute_dtype

    @property
    def condition_kind(self):
        """What a condition is: "label", "observed", "other", or None.

        "observed" is the observed part of the event; None means that the
        model takes no condition.
        """
        if self.num_classes is not None:
            return "label"
        if self.observed_mask is not None:
            return "observed"
        return None if self.condition_network is None else "other"

    def __getattr__(self, name):
        # Not properties: Keras reads every property when it saves a model.
        if name in OLD_NAMES:
            deprecation.warn(name, OLD_NAMES[name])
            return getattr(self, OLD_NAMES[name])
        return super().__getattribute__(name)

    def validate_inputs(self, x, condition=None):
        """Checks events and conditions.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: as in `encode`.

        Returns:
            (x, condition) as tensors. The condition is None for a model
            without conditions; "no label" is `num_classes`.

        Raises:
            ValueError: as `encode`.
        """
        x = as_batch("x", x, self.event_shape, self.statistics_dtype)
        self._check_scale("x", x)
        return x, self._as_condition(condition, x)

    def read(self, x, condition=None):
        """Deprecated name of `validate_inputs`."""
        deprecation.warn("read", "validate_inputs")
        return self.validate_inputs(x, condition)

    def encode(self, x, condition=None):
        """Returns the posterior q(z|x), or q(z|x, c).

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: None for a model without conditions; integer labels
                `[batch]`, or other conditions `[batch, ...]`. None stands for
                "no label" in a model trained with label dropout.

        Returns:
            `tfd.Distribution`, batch `[batch]`, event `[latent_size]`.

        Raises:
            ValueError: for arguments of a wrong shape or dtype, an unknown
                label, and a missing or superfluous condition; for images
                below -1 or above 2, unless the likelihood is over the reals.
        """
        x, condition = self.validate_inputs(x, condition)
        return self._encode(x, self._features(condition))

    def decode(self, z, condition=None):
        """Returns the likelihood p(x|z), or p(x|z, c), of all entries of x.

        Args:
            z: float tensor or array `[batch, latent_size]`.
            condition: as in `encode`.

        Returns:
            `tfd.Distribution`, batch `[batch]`, event `event_shape`.

        Raises:
            ValueError: as `encode`.
        """
        z = as_batch("z", z, (self.latent_size,), self.statistics_dtype)
        condition = self._as_condition(condition, z)
        return self._decode(z, self._features(condition))

    def prior(self, condition=None):
        """Returns the prior p(z), or p(z|c).

        Args:
            condition: as in `encode`; not required if the prior does not
                depend on it.

        Returns:
            `tfd.Distribution`, event `[latent_size]`; batch `[batch]` if it
            depends on the condition, else `[]`.

        Raises:
            ValueError: as `encode`.
        """
        return self._prior(self._features(self._as_condition(condition)))

    @accept_old_order
    def sample(self, num=None, condition=None, *, seed, guidance=0.0):
        """Draws z from the prior and returns the means of p(x|z).

        Args:
            num: int or integer tensor, number of samples, for a model without
                conditions or for samples without a label; else None.
            condition: as in `encode`, one sample per row; else None.
            seed: int, int32 `[2]` or `[batch, 2]`; sample i depends on the
                i-th row seed and condition only.
            guidance: g >= 0, strength of classifier-free guidance, for a model
                trained with label dropout: the parameters of the likelihood
                (for Bernoulli pixels the logits) become (1 + g) times those
                with the label minus g times those without. Large values drive
                pixels to black and white.

        Returns:
            float tensor `[batch, *event_shape]`; in [0, 1] unless the
            likelihood is Gaussian, whose mean is unbounded. Observed entries
            are those of the condition, bit for bit.

        Raises:
            ValueError: as `encode`; unless exactly one of `num` and
                `condition` is given; for a negative guidance, or a positive
                one without a label or without label dropout.
        """
        check(
            tf.is_tensor(guidance) or np.ndim(guidance) == 0,
            f"guidance must be one number for all samples, got {guidance!r}",
        )
        check_guidance(guidance, condition, self.label_dropout)
        if (condition is None) == (num is None):
            raise ValueError("give either num or condition, and not both")
        if num is not None:
            check_num(num)
            condition = self._missing_condition(num)
        else:
            condition = self._as_condition(condition)
            check(condition.shape[0] != 0, "condition has no rows")
            num = tf.shape(condition)[0]
        features = self._features(condition)
        z = self._draw_prior(seeds.row_seeds(seed, num), features)
        mean = self._guided_likelihood(z, features, guidance).mean()
        return self.keep_observed(condition, mean)

    def keep_observed(self, x, images):
        """Puts observed entries back into generated or decoded images.

        Args:
            x: array or tensor `[batch, *event_shape]` with the observed
                entries; looked at only if the model has an `observed_mask`.
            images: array or tensor of the same shape.

        Returns:
            `images` with the observed entries of x; unchanged for a model
            without an `observed_mask`.
        """
        return fill_unobserved(x, self.observed_mask, images)

    def _as_inputs(self, inputs):
        kind = type(self).__name__
        return self._as_events("x", as_one_tensor(image_of(inputs, kind), kind))

    def _before_fit(self, x, y):
        if not self.adapted:
            check(
                not isinstance(x, types.GeneratorType),
                "a generator can be read only once: call adapt(data) before "
                "fit",
            )
            self.adapt(x)

    def train_on_batch(self, x, *args, **kwargs):
        """Trains as `keras.Model.train_on_batch`, after `adapt(data)`.

        Raises:
            ValueError: if the prior has weights to be read off the data first.
        """
        check(
            self.adapted,
            "call adapt(data) before train_on_batch, as fit does: weights of "
            "the prior are read off the data",
        )
        return super().train_on_batch(x, *args, **kwargs)

    def _check_batch(self, verb, x, y):
        if verb != "predict":
            self._check_targets(y)
        inputs = self._as_inputs(x)
        is_real = self.likelihood.support == "real"
        require_clean(
            inputs["image"] if isinstance(inputs, dict) else inputs,
            None if is_real else self.event_shape,
        )

    def _as_events(self, name, x):
        if is_symbolic(x):
            return x
        x = as_batch(name, x, self.event_shape, self.statistics_dtype)
        self._check_scale(name, x)
        return x

    def _check_scale(self, name, x):
        """Raises for images that are not on the scale of [0, 1]."""
        if self.likelihood.support != "real":
            check_clean(x, self.event_shape, name)

    def _input_signature(self):
        return keras.InputSpec(
            shape=(None, *self.event_shape), dtype=self.statistics_dtype
        )

    def _encode(self, x, features):
        """Returns q(z|x, c) for checked x and the features of c, or None."""
        raise NotImplementedError

    def _decode(self, z, features):
        """Returns p(x|z, c)."""
        raise NotImplementedError

    def _prior(self, features):
        """Returns p(z|c); by default N(0, I)."""
        return latents.standard_normal(self.latent_size, self.statistics_dtype)

    def _draw_prior(self, rows, features):
        """Draws z from p(z|c), row i from the row seed i alone."""
        return latents.transform(self._prior(features), self._row_noise(rows))

    def _as_condition(self, condition, like=None):
        """Checks a condition, which must have as many rows as `like`."""
        if condition is not None:
            raise ValueError(f"{kind_of(self)} takes no condition, only events")

    def _missing_condition(self, num):
        """Returns the condition of `num` samples without one."""

    def _features(self, condition):
        """Returns the features of a condition."""

    def _guided_likelihood(self, z, features, guidance):
        """Returns p(x|z, c) with its parameters extrapolated from p(x|z)."""
        return self._decode(z, features)

    def _row_noise(self, rows):
        return seeds.normal(rows, (self.latent_size,), self.statistics_dtype)


def __getattr__(name):
    if name != "VariationalModel":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    deprecation.warn(name, "LatentVariableModel")
    return LatentVariableModel
