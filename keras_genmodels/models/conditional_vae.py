"""The conditional variational autoencoder."""

import functools
import math

import keras
import tensorflow as tf

from keras_genmodels.core import class_labels, deprecation
from keras_genmodels.core.keras_verbs import is_symbolic
from keras_genmodels.core.validation import check
from keras_genmodels.distributions.layers import MultivariateNormalLayer
from keras_genmodels.distributions.priors import StandardNormal
from keras_genmodels.models import conditions, label_priors
from keras_genmodels.models.arguments import (
    build_decoder,
    build_network,
    check_free_bits,
    check_layer,
    zeros,
)
from keras_genmodels.models.latent_variable import (
    OLD_NAMES,
    LatentVariableModel,
)
from keras_genmodels.models.prior_layers import WithPriorLayer
from keras_genmodels.models.vae import OLD_ORDER
from keras_genmodels.networks.outputs import NUM_ROWS, check_output

_PAIR = '{"image": x, "condition": c}'


@keras.saving.register_keras_serializable("keras_genmodels")
class ConditionalVAE(WithPriorLayer, LatentVariableModel):
    """A variational autoencoder of p(x|c), c a class label or anything else.

    A network turns the condition into features, which are a second input of
    the encoder, the decoder and, if there is one, the prior network:
    q(z|x, c) = posterior(encoder([x, features])), p(x|z, c) =
    likelihood(decoder([z, features])), and p(z|c) = N(0, I),
    posterior(prior_network(features)) or the distribution of the layer
    `prior`. It is trained on

        mean over examples of  distortion + beta * rate,

    `distortion` = -log p(x|z, c) at one reparameterised draw and `rate` =
    KL(q(z|x, c) || p(z|c)), in closed form if p(z|c) is Gaussian, else
    log q(z|x, c) - log p(z|c) at that draw; for `beta = 1` this is -elbo, an
    upper bound of -log p(x|c) in expectation. With `num_importance_samples`
    above 1 it is trained on the importance-weighted bound, as a `VAE`.

    Conditions are class labels, integers in [0, num_classes), or any other
    input of the condition network: floats or integers of one shape. With
    `observed_mask`, the condition is the observed part of the event, which the
    model completes: only the observed entries of the condition are used, the
    distortion covers the other entries, and samples and reconstructions have
    the observed entries unchanged.

    `fit`, `evaluate` and `predict` take dicts of `image` and `condition`;
    otherwise they are as for `VAE`. If there is no `condition`, it is the
    `label` for a model of labels, and the image for one with `observed_mask`.

    Args:
        encoder: Keras network of `[x, features]`, `[batch, *event_shape]` and
            `[batch, ...]`, to the parameters of the posterior, as of `VAE`.
        decoder: Keras network of `[z, features]`, `[batch, latent_size]` and
            `[batch, ...]`, to the parameters of the likelihood, as of `VAE`.
        posterior: distribution layer over vectors, as of `VAE`.
        likelihood: distribution layer over events, as of `VAE`.
        condition_network: Keras network, condition to features. For labels
            its input is integers `[batch]`, with label dropout up to and
            including `num_classes`, which is "no label". For other conditions
            its input must have a shape and a dtype: a Functional network, or
            a Sequential one with `keras.Input`.
        prior_network: Keras network, features to the parameters of the prior,
            `posterior.params_size` numbers per example. None: p(z|c) =
            `prior`.
        prior: layer of p(z|c), which is trained as well and kept as
            `prior_layer`: a `RealNVPPrior` or `MixturePrior` whose
            `condition_size` is the width of the features (with 0, p(z|c) is
            the same for all c), or, for class labels, a `VampPrior`. None:
            `StandardNormal`, N(0, I), unless there is a `prior_network`.
        num_classes: int >= 1 if conditions are class labels, else None.
        observed_mask: bool array of `event_shape`, or None.
        label_dropout: in [0, 1), probability of dropping the label in
            training, which enables samples without a label and guidance.
            Above 0 a condition may be None.
        **settings: `beta`, `seed`, `rate_warmup_steps`,
            `num_importance_samples`, `doubly_reparameterized`, `free_bits` and
            `name`, as of `LatentVariableModel`.

    Call arguments:
        inputs: dict of `image`, float tensor `[batch, *event_shape]`, and
            `condition`.
        training: as of `VAE`.

    Call returns:
        dict of float tensors: `reconstruction` `[batch, *event_shape]`, the
        mean of p(x|z, c) of the first draw; `rate`, `distortion` and, with
        several draws, `importance_weighted` `[batch]`, nats: as of `VAE`.

    Raises:
        ValueError: if the networks and layers do not fit together, for a bad
            argument, and for events, labels or conditions of another shape or
            dtype.

    #### References

    Sohn, Lee and Yan (2015), Learning structured output representation using
    deep conditional generative models, NeurIPS (p(z|c)). Doersch (2016),
    Tutorial on variational autoencoders, arXiv:1606.05908 (N(0, I)). Ho and
    Salimans (2022), Classifier-free diffusion guidance, arXiv:2207.12598
    (label dropout and guidance).
    """

    _old_names = OLD_NAMES
    _targets_as_inputs = _PAIR

    @deprecation.accept_old_arguments(
        old_names=OLD_NAMES,
        old_order=("num_classes", "observed_mask", "label_dropout", *OLD_ORDER),
    )
    def __init__(
        self,
        encoder,
        decoder,
        posterior,
        likelihood,
        condition_network,
        prior_network=None,
        *,
        prior=None,
        num_classes=None,
        observed_mask=None,
        label_dropout=0.0,
        **settings,
    ):
        check_layer("posterior", posterior, MultivariateNormalLayer)
        super().__init__(likelihood, *posterior.event_shape, **settings)
        class_labels.check_label_arguments(num_classes, label_dropout)
        check(
            num_classes is None or observed_mask is None,
            "observed_mask excludes num_classes",
        )
        check(
            observed_mask is None or likelihood.is_factorized,
            "observed_mask requires a likelihood whose entries are "
            f"independent, but the channels of {type(likelihood).__name__} "
            "depend on each other",
        )
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.condition_network = condition_network
        self.prior_network = prior_network
        self.num_classes = num_classes
        self.label_dropout = label_dropout
        if num_classes is not None:
            self._conditions = class_labels.ClassLabels(
                num_classes, label_dropout
            )
        else:
            self._conditions = conditions.NetworkInputs(
                condition_network, observed_mask, self.statistics_dtype
            )
        if observed_mask is not None:
            self.observed_mask = conditions.check_observed_mask(
                observed_mask, self.event_shape, self._conditions.shape
            )
        features = self._build_condition_network()
        self._set_conditional_prior(prior, features)
        self._build_networks(features)
        self.built = True

    def prior(self, condition=None):
        if condition is None:
            if not self._has_conditional_prior:
                return self._prior(None)
            condition = self._missing_condition(1)
        return super().prior(condition)

    def call(self, inputs, training=False):
        x = self._as_events("image", inputs["image"])
        condition = labels = self._as_condition(inputs["condition"], x)
        if training and self.label_dropout:
            condition = self._conditions.drop(condition, self._step_seed())
        terms = self._call_terms(x, self._features(condition), training)
        if self.num_classes is None:
            return terms
        # XLA drops the check of the labels: the bound is infinite instead.
        is_label = self._conditions.is_label(labels)
        for name, value in (
            ("distortion", math.inf),
            ("importance_weighted", -math.inf),
        ):
            if name in terms:
                terms[name] = tf.where(is_label, terms[name], value)
        return terms

    def _as_inputs(self, inputs):
        # Data sets have labels, or the image whose parts are observed.
        keys = {"label": "label", "observed": "image"}
        found = class_labels.image_and_condition(
            inputs, type(self).__name__, keys.get(self.condition_kind)
        )
        x, condition = found["image"], found["condition"]
        x = self._as_events("image", x)
        if not is_symbolic(condition):
            # Within `call` Keras surrounds errors with lines of its own.
            condition = self._as_condition(condition, x)
        return {"image": x, "condition": condition}

    def _input_signature(self):
        return {
            "image": super()._input_signature(),
            "condition": self._conditions.input_spec(),
        }

    def _encode(self, x, features):
        vectors = label_priors.vectors_of(features)
        return self.posterior(self.encoder([x, vectors]))

    def _decode(self, z, features):
        vectors = label_priors.vectors_of(features)
        return self.likelihood(self.decoder([z, vectors]))

    def _prior(self, features):
        if self.prior_layer is None:
            return self.posterior(self.prior_network(features))
        return self.prior_layer.distribution(**self._prior_inputs(features))

    def _draw_prior(self, rows, features):
        if self.prior_layer is None:
            return super()._draw_prior(rows, features)
        return self.prior_layer.draw(rows, **self._prior_inputs(features))

    def _prior_inputs(self, features):
        """Returns the arguments of the prior layer."""
        inputs = {}
        if self.prior_layer.uses_encoder:
            inputs["encode"] = functools.partial(
                label_priors.encode_with_labels, self, features
            )
        if self.prior_layer.condition_size:
            inputs["features"] = label_priors.vectors_of(features)
        return inputs

    @property
    def _has_conditional_prior(self):
        """Whether p(z|c) depends on c."""
        layer = self.prior_layer
        return layer is None or layer.uses_encoder or layer.condition_size > 0

    def _guided_likelihood(self, z, features, guidance):
        if not guidance:
            return self._decode(z, features)
        without = self._features(self._missing_condition(tf.shape(z)[0]))
        params, plain = (
            tf.cast(
                self.decoder([z, label_priors.vectors_of(f)]),
                self.statistics_dtype,
            )
            for f in (features, without)
        )
        return self.likelihood(params + guidance * (params - plain))

    def _features(self, condition):
        features = self.condition_network(condition)
        if self.prior_layer is not None and self.prior_layer.uses_encoder:
            return label_priors.LabelFeatures(features, condition)
        return features

    def _as_condition(self, condition, like=None):
        if condition is None:
            return self._missing_condition(tf.shape(like)[0])
        condition = self._conditions.validate(condition)
        if self.observed_mask is not None:
            self._check_scale("condition", condition)
        if like is not None and not like.shape[:1].is_compatible_with(
            condition.shape[:1]
        ):
            raise ValueError(
                f"got {condition.shape[0]} conditions for {like.shape[0]} rows"
            )
        return condition

    def _missing_condition(self, num):
        if self.num_classes is None:
            raise ValueError("this model needs a condition")
        return self._conditions.missing(num)

    def _set_conditional_prior(self, prior, features):
        """Keeps and checks `prior`, given the features of some examples."""
        check(
            prior is None or self.prior_network is None,
            "prior excludes prior_network",
        )
        self.prior_layer = None
        if self.prior_network is None:
            self._set_prior(
                prior,
                self.latent_size,
                features_shape=tuple(features.shape[1:]),
            )
            check(
                self.num_classes is not None
                or not self.prior_layer.uses_encoder,
                f"a {type(self.prior_layer).__name__} requires num_classes: "
                "with conditions other than class labels all its "
                "pseudo-inputs would be encoded for each example",
            )
        check_free_bits(
            self.free_bits,
            self.posterior,
            isinstance(self.prior_layer, StandardNormal),
        )

    def _build_networks(self, features):
        """Builds all weights and checks the sizes of the outputs."""
        posterior = self.posterior
        x = zeros(self.event_shape, self.encoder.compute_dtype)
        z = zeros((self.latent_size,), self.decoder.compute_dtype)
        build_network("encoder", self.encoder, [x, features], posterior)
        build_decoder(self.decoder, z, self.likelihood, features)
        if self.prior_network is not None:
            build_network(
                "prior_network", self.prior_network, features, posterior
            )

    def _build_condition_network(self):
        """Returns the features of as many examples as `zeros`."""
        features = self._example_features()
        check_output(
            "condition_network",
            features,
            None,
            "encoder and decoder take it as their second input",
        )
        return features

    def _example_features(self):
        example = self._conditions.examples(NUM_ROWS)
        if self.num_classes is None:
            return self.condition_network(example)
        try:
            return self.condition_network(example)
        except tf.errors.InvalidArgumentError as error:
            highest = self._conditions.highest
            raise ValueError(
                f"condition_network has no row for label {highest}: it needs "
                f"{highest + 1} rows"
            ) from error
