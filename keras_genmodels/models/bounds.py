"""The elbo and the importance-weighted bound, and training on them."""

import math

import keras
import tensorflow as tf

from keras_genmodels.core import replicas, seeds
from keras_genmodels.core.events import num_events
from keras_genmodels.core.self_supervised import SelfSupervised
from keras_genmodels.distributions import latents
from keras_genmodels.models.importance_sampling import (
    Draws,
    differentiate_doubly,
)


class Bounds(SelfSupervised):
    """Mixin of `LatentVariableModel`: its bounds of log p(x) and its loss.

    Calling the model returns per-example tensors; `_per_example_loss` combines
    them, and Keras averages over the batch.
    """

    def elbo(self, x, condition=None, *, seed):
        """Estimates the evidence lower bound with one draw of z per example.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: as in `encode`.
            seed: int, int32 `[2]` or `[batch, 2]`. Not the one that x was
                sampled with: its z would be drawn with the same noise.

        Returns:
            float tensor `[batch]`, nats; in expectation at most log p(x), or
            log p(x|c) of the unobserved entries. `elbo_terms` has its parts.
        """
        terms = self.elbo_terms(x, condition, seed=seed)
        return -(terms["rate"] + terms["distortion"])

    def elbo_terms(self, x, condition=None, *, seed):
        """Computes the terms of `elbo` and the reconstruction.

        Args:
            x, condition, seed: as in `elbo`.

        Returns:
            dict of `reconstruction`, `rate` and `distortion`, as from calling
            the model.
        """
        x, condition = self.validate_inputs(x, condition)
        rows = seeds.row_seeds(seed, tf.shape(x)[0])
        noise = self._row_noise(rows)[tf.newaxis]
        return self._terms(x, self._draw(x, noise, self._features(condition)))

    def draw_latents(self, x, condition=None, *, seed):
        """Draws z from q(z|x), or q(z|x, c): the draws of `elbo` for a seed.

        Args:
            x, condition, seed: as in `elbo`.

        Returns:
            float tensor `[batch, latent_size]`.
        """
        x, condition = self.validate_inputs(x, condition)
        noise = self._row_noise(seeds.row_seeds(seed, tf.shape(x)[0]))
        posterior = self._encode(x, self._features(condition))
        return latents.transform(posterior, noise)

    def monte_carlo(self, x, condition=None, *, seed):
        """Estimates log p(x|c) with one draw of z from the prior per example.

        It is log p(x|z, c), z ~ p(z|c), whose exponential is p(x|c) in
        expectation. With a single draw it lies far below `elbo`, unless the
        prior is as informative as the posterior.

        Args:
            x, condition, seed: as in `elbo`.

        Returns:
            float tensor `[batch]`, nats; in expectation at most log p(x|c).

        #### References

        Sohn, Lee and Yan (2015), Learning structured output representation
        using deep conditional generative models, NeurIPS, equation 7.
        """
        x, condition = self.validate_inputs(x, condition)
        rows = seeds.row_seeds(seed, tf.shape(x)[0])
        features = self._features(condition)
        z = self._draw_prior(rows, features)
        return -self._distortion(self._decode(z, features), x)

    def log_weights(self, x, condition=None, *, noise):
        """Computes the log importance weights log p(x, z|c) / q(z|x, c).

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: as in `encode`.
            noise: float tensor `[num_samples, batch, latent_size]`; z is the
                draw of q(z|x, c) that belongs to it (`latents.transform`).

        Returns:
            float tensor `[num_samples, batch]`, nats. For standard normal
            noise the mean of the exponentials is p(x|c) in expectation, and
            the mean of the values themselves is the elbo.

        Raises:
            ValueError: for arguments of a wrong shape or dtype.

        #### References

        Burda, Grosse and Salakhutdinov (2015), Importance weighted
        autoencoders, arXiv:1509.00519, equation 8.
        """
        x, condition = self.validate_inputs(x, condition)
        noise = tf.convert_to_tensor(noise, x.dtype)
        return self._draw(x, noise, self._features(condition)).log_weights()

    def call(self, x, training=False):
        x, condition = self.validate_inputs(x)
        return self._call_terms(x, self._features(condition), training)

    def _call_terms(self, x, features, training):
        """Returns what calling the model returns."""
        noise = self._call_noise(x, training)
        if self.num_importance_samples == 1:
            draws = self._draw(x, noise, features)
            terms = self._terms(x, draws)
            if training and self.free_bits:
                terms["rate_of_loss"] = draws.rate_with_free(self.free_bits)
            return terms
        weight = self._rate_weight(training)
        doubly = weight if training and self.doubly_reparameterized else None
        draws = self._draw(x, noise, features, doubly)
        log_sum = tf.reduce_logsumexp(draws.log_weights(weight), axis=0)
        return {
            **self._terms(x, draws),
            "importance_weighted": log_sum
            - math.log(self.num_importance_samples),
        }

    def _draw(self, x, noise, features, doubly=None):
        """Draws z from q(z|x, c) and decodes it.

        Args:
            x: checked events.
            noise: as in `log_weights`.
            features: of the condition, or None.
            doubly: weight of the rate, for doubly reparameterised gradients;
                else None.

        Returns:
            `Draws`.
        """
        posterior = self._encode(x, features)
        z, log_posterior, layers = latents.draw(posterior, noise)
        if doubly is not None:
            z, log_posterior = differentiate_doubly(
                posterior, noise, z, log_posterior, doubly
            )
        num_samples = noise.shape[0] or tf.shape(noise)[0]
        likelihood = self._decode(
            tf.reshape(z, (-1, self.latent_size)),
            _repeat(features, num_samples),
        )
        distortion = self._distortion(likelihood, _repeat(x, num_samples))
        return Draws(
            posterior,
            self._prior(features),
            z,
            log_posterior,
            likelihood,
            tf.reshape(distortion, (num_samples, -1)),
            layers,
        )

    def _terms(self, x, draws):
        """Returns the terms of the elbo; the reconstruction is of one draw."""
        reconstruction = draws.likelihood.mean()[: tf.shape(x)[0]]
        return {
            "reconstruction": self.keep_observed(x, reconstruction),
            "rate": draws.rate(),
            "distortion": tf.reduce_mean(draws.distortion, axis=0),
        }

    def _distortion(self, likelihood, x):
        """Returns -log p(x|z, c) of the entries that are not observed."""
        if self.observed_mask is None:
            return -likelihood.log_prob(x)
        # Its entries are independent, which the model requires of it.
        log_probs = likelihood.distribution.log_prob(x)
        counted = tf.where(self.observed_mask, tf.zeros_like(x), log_probs)
        return -tf.reduce_sum(counted, list(range(1, x.shape.rank)))

    def _call_noise(self, x, training):
        """Draws noise from (seed, step), in inference from (seed, values).

        Returns:
            float tensor `[num_importance_samples, batch, latent_size]`.
        """
        count, dtype = self.num_importance_samples, self.statistics_dtype
        if not training:
            rows = seeds.content_seeds(self.seed, x)
            noise = seeds.normal(rows, (count, self.latent_size), dtype)
            return tf.transpose(noise, (1, 0, 2))
        shape = (count, num_events(x), self.latent_size)
        return replicas.normal(shape, self._step_seed(), dtype, axis=1)

    def _per_example_loss(self, terms, training):
        if self.num_importance_samples > 1:
            return -terms["importance_weighted"]
        rate = terms.get("rate_of_loss", terms["rate"])
        return terms["distortion"] + self._rate_weight(training) * rate

    def _per_example_metrics(self, terms):
        rate, distortion = terms["rate"], terms["distortion"]
        return {
            "elbo": -(rate + distortion),
            "rate": rate,
            "distortion": distortion,
        }

    def _rate_weight(self, training):
        if not training or not self.rate_warmup_steps:
            return self.beta
        done = keras.ops.true_divide(self._step(), self.rate_warmup_steps)
        return self.beta * tf.minimum(tf.cast(done, self.statistics_dtype), 1)


def _repeat(rows, num):
    """Repeats a batch as a whole, `[batch, ...]` to `[num * batch, ...]`.

    Args:
        rows: tensor, a named tuple of such, or None.
        num: int, or scalar tensor.
    """
    if rows is None or (isinstance(num, int) and num == 1):
        return rows
    return tf.nest.map_structure(
        lambda each: tf.tile(each, (num,) + (1,) * (each.shape.rank - 1)), rows
    )
