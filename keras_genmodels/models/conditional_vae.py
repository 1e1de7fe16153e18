"""The conditional variational autoencoder."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check_count
from keras_genmodels.models.latent_variable import (
    VariationalModel,
    build_network,
)

# Tag that keeps the draws of label dropout apart from the latents'.
_DROPOUT_STREAM = 2


@keras.saving.register_keras_serializable("keras_genmodels")
class ConditionalVAE(VariationalModel):
    """A variational autoencoder of P(x|c), c a label or anything else.

    A network turns the condition into features; encoder, decoder and, where
    there is one, the prior's network get them beside their own input:
    q(z|x, c) = posterior(encoder([x, features])), p(x|z, c) =
    likelihood(decoder([z, features])), and p(z|c) = N(0, I) or
    posterior(prior_network(features)). It is trained on

        mean over examples of  distortion + beta * rate,

    `distortion` = -log p(x|z, c) at one reparameterised draw and `rate` =
    KL(q(z|x, c) || p(z|c)) in closed form; for `beta = 1` this is -elbo, an
    upper bound of -log p(x|c) in expectation. With `num_importance_samples`
    above 1 it is trained on the importance-weighted bound, as a `VAE`.

    Conditions are labels, integers in [0, num_labels), or whatever else the
    condition network takes: floats or integers of one shape. With `known`,
    the condition is a part of the event itself, which the model completes: of
    the condition, an event, the known entries alone are looked at, the
    distortion counts the other entries alone, and whatever the model gives
    has the known ones as they are.

    `fit`, `evaluate` and `predict` take dicts of `image` and `condition`;
    the rest is as for `VAE`.

    Args:
        encoder: Keras network of `[x, features]`, `[batch, *event_shape]` and
            `[batch, ...]`, to the posterior's parameters.
        decoder: Keras network of `[z, features]`, `[batch, latent_size]` and
            `[batch, ...]`, to the likelihood's parameters.
        posterior: distribution layer over vectors, as of `VAE`.
        likelihood: distribution layer over events, as of `VAE`.
        condition_network: Keras network, condition to features. Of labels it
            takes integers `[batch]`, with label dropout up to and including
            `num_labels`, which is "no label". For other conditions its input
            must have a shape and a type: a Functional network, or a
            Sequential one with `keras.Input`.
        prior_network: Keras network, features to the prior's parameters,
            `posterior.params_size` numbers per example. None: p(z) = N(0, I)
            whatever the condition.
        num_labels: int >= 1, where conditions are labels; else None.
        known: bool array of `event_shape`, or None.
        label_dropout: in [0, 1), how often training takes the label away, so
            that the model also knows p(x). Above 0 a condition may be None.
        beta, seed, rate_warmup_steps, num_importance_samples,
            doubly_reparameterized, name: as of `VAE`.

    Call arguments:
        inputs: dict of `image`, float tensor `[batch, *event_shape]`, and
            `condition`.
        training: as of `VAE`.

    Call returns:
        dict of float tensors: `reconstruction` `[batch, *event_shape]`, the
        mean of p(x|z, c) of the first draw; `rate`, `distortion` and, of
        several draws, `importance_weighted` `[batch]`, nats: as of `VAE`.

    Raises:
        ValueError: if the pieces do not fit together, for a bad argument, and
            for events, labels or conditions of another shape or type.

    #### References

    Sohn, Lee and Yan (2015), Learning structured output representation using
    deep conditional generative models, NeurIPS (p(z|c)). Doersch (2016),
    Tutorial on variational autoencoders, arXiv:1606.05908 (N(0, I)). Ho and
    Salimans (2022), Classifier-free diffusion guidance, arXiv:2207.12598
    (label dropout and guidance).
    """

    _networks = (
        *VariationalModel._networks,
        "condition_network",
        "prior_network",
    )
    _settings = (
        *VariationalModel._settings,
        "num_labels",
        "label_dropout",
    )

    def __init__(
        self,
        encoder,
        decoder,
        posterior,
        likelihood,
        condition_network,
        prior_network=None,
        num_labels=None,
        known=None,
        label_dropout=0.0,
        beta=1.0,
        seed=0,
        rate_warmup_steps=0,
        num_importance_samples=1,
        doubly_reparameterized=False,
        name=None,
    ):
        super().__init__(
            posterior,
            likelihood,
            beta=beta,
            seed=seed,
            rate_warmup_steps=rate_warmup_steps,
            num_importance_samples=num_importance_samples,
            doubly_reparameterized=doubly_reparameterized,
            name=name,
        )
        self.encoder = encoder
        self.decoder = decoder
        self.condition_network = condition_network
        self.prior_network = prior_network
        self.num_labels = num_labels
        self.label_dropout = label_dropout
        self._check_label_arguments()
        self.known = self._as_known(known)
        self._build_networks()
        self.built = True

    def prior(self, condition=None):
        """Gives p(z|c).

        Args:
            condition: as in `encode`; not needed where the prior is N(0, I).

        Returns:
            N(0, I), or a distribution like `encode`'s, batch `[batch]`.

        Raises:
            ValueError: as `encode`.
        """
        if condition is not None:
            condition = self._as_condition(condition)
        elif self.prior_network is not None:
            condition = self._no_labels(1)
        if self.prior_network is None:
            return self._standard_prior()
        return self._prior(self._features(condition))

    def sample(self, condition=None, *, seed, num=None, guidance=0.0):
        """Draws z from p(z|c) and gives the means of p(x|z, c).

        Args:
            condition: as in `encode`, one image for each row; None for `num`
                images without a label.
            seed: int, int32 `[2]` or `[batch, 2]`; event i depends on the i-th
                row seed and condition alone.
            num: int, how many; if and only if `condition` is None.
            guidance: g >= 0, how much the condition is strengthened, where
                label dropout was trained: the decoder's parameters (for
                Bernoulli pixels the logits) become (1 + g) those with the
                label less g those without. 0 leaves them as they are; much
                more than 1 drives pixels to black and white.

        Returns:
            float tensor `[batch, *event_shape]`; in [0, 1] unless the
            likelihood is Gaussian, whose mean has no bounds. Known entries
            are those of the condition, bit for bit.

        Raises:
            ValueError: as `encode`, for a guidance below 0, without a label
                or without label dropout, and for both or neither of
                `condition` and `num`.
        """
        if not 0 <= guidance < math.inf or (
            guidance and (condition is None or not self.label_dropout)
        ):
            raise ValueError(
                "guidance must be >= 0 and finite, and 0 without a label or "
                f"for a model without label dropout, got {guidance}"
            )
        if (condition is None) == (num is None):
            raise ValueError(
                "give either condition or, for images without a label, num"
            )
        if condition is None:
            check_count("num", num)
            condition = self._no_labels(num)
        condition = self._as_condition(condition)
        features = self._features(condition)
        rows = seeds.row_seeds(seed, tf.shape(condition)[0])
        z = self._draw_latents(self._prior(features), rows)
        mean = self._guided(z, features, guidance).mean()
        if self.known is None:
            return mean
        return tf.where(self.known, tf.cast(condition, mean.dtype), mean)

    def call(self, inputs, training=False):
        for key in ("image", "condition"):
            if not isinstance(inputs, dict) or key not in inputs:
                raise ValueError(
                    "a ConditionalVAE takes dicts of image and condition, "
                    f"{key!r} is missing"
                )
        x = self._as_batch("image", inputs["image"], self.event_shape)
        condition = given = self._as_condition(inputs["condition"], x)
        if training and self.label_dropout:
            condition = self._drop_labels(condition)
        features = self._features(condition)
        terms = self._call_terms(x, features, training)
        if self.num_labels is not None:
            # XLA, which drops the check of the labels, gets infinity.
            impossible = {"distortion": math.inf}
            if "importance_weighted" in terms:
                impossible["importance_weighted"] = -math.inf
            for name, value in impossible.items():
                terms[name] = tf.where(
                    self._is_label(given), terms[name], value
                )
        return terms

    def get_config(self):
        """Returns the constructor's arguments and the format of the file."""
        known = None if self.known is None else self.known.tolist()
        return {**super().get_config(), "known": known}

    def _terms(self, x, draws):
        terms = super()._terms(x, draws)
        if self.known is not None:
            terms["reconstruction"] = tf.where(
                self.known, x, terms["reconstruction"]
            )
        return terms

    def _encode(self, x, features):
        return self.posterior(self.encoder([x, features]))

    def _decode(self, z, features):
        return self.likelihood(self.decoder([z, features]))

    def _prior(self, features):
        if self.prior_network is None:
            return self._standard_prior()
        return self.posterior(self.prior_network(features))

    def _distortion(self, likelihood, x):
        if self.known is None:
            return super()._distortion(likelihood, x)
        # Every likelihood is independent over its entries.
        log_probs = likelihood.distribution.log_prob(x)
        unseen = tf.where(self.known, tf.zeros_like(log_probs), log_probs)
        return -tf.reduce_sum(unseen, list(range(1, x.shape.rank)))

    def _guided(self, z, features, guidance):
        """Gives p(x|z, c), its parameters driven away from those of p(x|z)."""
        dtype = self.likelihood.compute_dtype
        params = tf.cast(self.decoder([z, features]), dtype)
        if guidance:
            no_labels = self._no_labels(tf.shape(z)[0])
            plain = self.decoder([z, self._features(no_labels)])
            params += guidance * (params - tf.cast(plain, dtype))
        return self.likelihood(params)

    def _features(self, condition):
        return self.condition_network(condition)

    def _no_labels(self, num):
        if not self.label_dropout:
            raise ValueError(
                "this model was trained without label dropout, so that it "
                "needs a condition"
            )
        return tf.fill([num], self.num_labels)

    def _drop_labels(self, labels):
        seed = seeds.fold_in(self._step_seed(), _DROPOUT_STREAM)
        dropped = (
            tf.random.stateless_uniform(tf.shape(labels), seed)
            < self.label_dropout
        )
        return tf.where(dropped, self.num_labels, labels)

    def _as_condition(self, condition, like=None):
        """Checks a condition, and that it has as many rows as `like`."""
        if condition is None:
            return self._no_labels(tf.shape(like)[0])
        if self.num_labels is not None:
            condition = self._as_labels(condition)
        else:
            condition = self._as_input(condition)
        if like is not None and not like.shape[:1].is_compatible_with(
            condition.shape[:1]
        ):
            raise ValueError(
                f"got {condition.shape[0]} conditions for {like.shape[0]} rows"
            )
        return condition

    def _as_labels(self, condition):
        labels = tf.convert_to_tensor(condition)
        if not labels.dtype.is_integer or labels.shape.rank != 1:
            raise ValueError(
                "condition must be integer labels [batch], got "
                f"{labels.dtype.name} {labels.shape}"
            )
        message = f"labels must be 0 to {self.num_labels - 1}, got"
        values = tf.get_static_value(labels)
        if values is not None:
            wrong = values[~self._is_label(values)]
            if wrong.size:
                raise ValueError(f"{message} {wrong[0]}")
            return tf.cast(labels, tf.int32)
        right = self._is_label(labels)
        wrong = tf.reduce_max(tf.where(right, labels.dtype.min, labels))
        check = tf.debugging.Assert(tf.reduce_all(right), [message, wrong])
        with tf.control_dependencies([check]):
            return tf.cast(labels, tf.int32)

    def _is_label(self, labels):
        return (labels >= 0) & (labels <= self._highest_label)

    @property
    def _highest_label(self):
        """The highest label: "no label" only where it was trained."""
        return self.num_labels - (0 if self.label_dropout else 1)

    def _as_input(self, condition):
        shape, dtype = self._condition_spec()
        if dtype.is_floating:
            condition = self._as_batch("condition", condition, shape)
        else:
            condition = tf.convert_to_tensor(condition)
            if (
                _kind(condition.dtype) != _kind(dtype)
                or not condition.shape[1:].is_compatible_with(shape)
                or not condition.shape.rank
            ):
                raise ValueError(
                    f"condition must be {dtype.name} [batch, "
                    f"{', '.join(map(str, shape))}], got "
                    f"{condition.dtype.name} {condition.shape}"
                )
        if self.known is not None:
            condition = tf.where(self.known, condition, 0)
        return condition

    def _condition_spec(self):
        """Gives shape and type of what the condition network takes."""
        inputs = getattr(self.condition_network, "inputs", None) or ()
        if len(inputs) != 1:
            raise ValueError(
                "condition_network must have one input of a given shape "
                "(keras.Input), or num_labels must be given"
            )
        return tuple(inputs[0].shape[1:]), tf.as_dtype(inputs[0].dtype)

    def _as_known(self, known):
        if known is None:
            return None
        known = np.asarray(known)
        if known.dtype != bool or known.shape != self.event_shape:
            raise ValueError(
                f"known must be bool {self.event_shape}, got {known.dtype} "
                f"{known.shape}"
            )
        if known.all():
            raise ValueError("known leaves nothing to complete")
        if self.num_labels is not None:
            raise ValueError("known goes with parts of events, not num_labels")
        if self._condition_spec()[0] != self.event_shape:
            raise ValueError(
                "with known the condition is a part of the event, of shape "
                f"{self.event_shape}; condition_network takes "
                f"{self._condition_spec()[0]}"
            )
        return known

    def _check_label_arguments(self):
        if self.num_labels is not None:
            check_count("num_labels", self.num_labels)
        if not 0 <= self.label_dropout < 1:
            raise ValueError(
                f"label_dropout must be in [0, 1), got {self.label_dropout}"
            )
        if self.label_dropout and self.num_labels is None:
            raise ValueError("label_dropout goes with num_labels")

    def _build_networks(self):
        """Builds all weights and checks the sizes of the outputs."""
        features = self._first_features()
        size = self.posterior.params_size
        x, z = (
            tf.zeros((1, *shape), network.compute_dtype)
            for network, shape in (
                (self.encoder, self.event_shape),
                (self.decoder, self.posterior.event_shape),
            )
        )
        build_network("encoder", self.encoder, [x, features], size)
        build_network(
            "decoder", self.decoder, [z, features], self.likelihood.params_size
        )
        if self.prior_network is not None:
            build_network("prior_network", self.prior_network, features, size)

    def _first_features(self):
        """Builds the condition network; gives features of one example."""
        if self.num_labels is None:
            shape, dtype = self._condition_spec()
            sides = [1 if side is None else side for side in shape]
            return self.condition_network(tf.zeros((1, *sides), dtype))
        label = self._highest_label
        try:
            return self.condition_network(tf.constant([label]))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"condition_network does not take label {label}: it needs "
                f"{label + 1} rows"
            ) from error


def _kind(dtype):
    """Groups types that a network takes for each other: of any width."""
    return "integer" if dtype.is_integer else dtype.name
