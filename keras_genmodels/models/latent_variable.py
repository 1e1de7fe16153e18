"""What the VAE and the conditional VAE share: the bound and its terms."""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels.core import seeds
from keras_genmodels.core.file_format import FORMAT, check_format
from keras_genmodels.core.self_supervised import SelfSupervised
from keras_genmodels.core.validation import check_count
from keras_genmodels.distributions.layers import (
    DistributionLayer,
    MultivariateNormalLayer,
)
from keras_genmodels.models.importance_sampling import (
    Draws,
    differentiate_doubly,
    for_each_draw,
)

tfd = tfp.distributions


class VariationalModel(SelfSupervised, keras.Model):
    """A latent-variable model, trained on a lower bound of log p(x).

    A kind builds its networks, names them in `_networks`, and defines
    `_as_condition`, which checks a condition, `_features`, which turns it into
    what the networks take, or None, and `_encode`, `_decode` and `_prior`,
    which take that.

    Args:
        posterior: distribution layer over vectors; its size is
            `latent_size`.
        likelihood: distribution layer over events.
        beta: weight of the rate in the loss, >= 0.
        rate_warmup_steps: over so many first training steps the rate's weight
            grows linearly from 0 to `beta`.
        num_importance_samples: draws of z for each example, >= 1; from 2 on
            it is trained on the importance-weighted bound.
        doubly_reparameterized: how that bound is differentiated.
        seed: int in [0, 2**31).
        name: name of the model.
    """

    # Constructor arguments that are Keras objects, and those that are not.
    _networks = ("encoder", "decoder", "posterior", "likelihood")
    _settings = (
        "beta",
        "seed",
        "rate_warmup_steps",
        "num_importance_samples",
        "doubly_reparameterized",
    )

    def __init__(
        self,
        posterior,
        likelihood,
        *,
        beta,
        seed,
        rate_warmup_steps,
        num_importance_samples,
        doubly_reparameterized,
        name,
    ):
        # Autocasting would round the pixels before the likelihood sees them.
        super().__init__(name=name, autocast=False)
        _check_layer("posterior", posterior, MultivariateNormalLayer)
        _check_layer("likelihood", likelihood, DistributionLayer)
        if not beta >= 0:
            raise ValueError(f"beta must be >= 0, got {beta}")
        if not rate_warmup_steps >= 0:
            raise ValueError(
                f"rate_warmup_steps must be >= 0, got {rate_warmup_steps}"
            )
        seeds.as_seed(seed)
        check_count("num_importance_samples", num_importance_samples)
        if not isinstance(doubly_reparameterized, bool):
            raise ValueError(
                "doubly_reparameterized must be True or False, got "
                f"{doubly_reparameterized!r}"
            )
        if num_importance_samples == 1:
            if doubly_reparameterized:
                raise ValueError(
                    "doubly_reparameterized goes with num_importance_samples "
                    "of 2 or more, got 1"
                )
        elif beta != 1:
            raise ValueError(
                "what is bounded by importance weighting has no other weight "
                f"of the rate: num_importance_samples={num_importance_samples} "
                f"goes with beta=1, got {beta}"
            )
        self.posterior = posterior
        self.likelihood = likelihood
        self.beta = beta
        self.seed = seed
        self.rate_warmup_steps = rate_warmup_steps
        self.num_importance_samples = num_importance_samples
        self.doubly_reparameterized = doubly_reparameterized
        self._track("elbo", "rate", "distortion")

    @property
    def latent_size(self):
        """Width of the latent."""
        return self.posterior.event_shape[0]

    @property
    def event_shape(self):
        """Shape of one event."""
        return self.likelihood.event_shape

    def get_config(self):
        """Returns the constructor's arguments and the format of the file."""
        return {
            "name": self.name,
            "format": FORMAT,
            **{
                name: keras.saving.serialize_keras_object(getattr(self, name))
                for name in self._networks
            },
            **{name: getattr(self, name) for name in self._settings},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the model from `get_config`.

        Raises:
            ValueError: if the file was written by a newer format.
        """
        config = check_format(config)
        for name in cls._networks:
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)

    def read(self, x, condition=None):
        """Checks events and their conditions.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: as in `encode`.

        Returns:
            (x, condition), tensors; the condition of a model without one is
            None, and "no label" is the number after the last label.

        Raises:
            ValueError: as `encode`.
        """
        x = self._as_batch("x", x, self.event_shape)
        return x, self._as_condition(condition, x)

    def encode(self, x, condition=None):
        """Gives q(z|x), or q(z|x, c).

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: None for a model without conditions; integer labels
                `[batch]`, or other conditions `[batch, ...]`. None is "no
                label" where label dropout was trained.

        Returns:
            `tfd.MultivariateNormalDiag` or `tfd.MultivariateNormalTriL`,
            batch `[batch]`, event `[latent_size]`.

        Raises:
            ValueError: for arguments of another shape or type, for an unknown
                label, and for a condition too many or missing.
        """
        x, condition = self.read(x, condition)
        return self._encode(x, self._features(condition))

    def decode(self, z, condition=None):
        """Gives p(x|z), or p(x|z, c), the known entries of x included.

        Args:
            z: float tensor or array `[batch, latent_size]`.
            condition: as in `encode`.

        Returns:
            `tfd.Distribution`, batch `[batch]`, event `event_shape`.

        Raises:
            ValueError: as `encode`.
        """
        z = self._as_batch("z", z, self.posterior.event_shape)
        condition = self._as_condition(condition, z)
        return self._decode(z, self._features(condition))

    def elbo(self, x, condition=None, *, seed):
        """Estimates the evidence lower bound with one draw of z per example.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: as in `encode`.
            seed: int, int32 `[2]` or `[batch, 2]`.

        Returns:
            float tensor `[batch]`, nats; in expectation at most log p(x), or
            log p(x|c) of the entries that are not known. Its parts are those
            of `elbo_terms`.
        """
        terms = self.elbo_terms(x, condition, seed=seed)
        return -(terms["rate"] + terms["distortion"])

    def elbo_terms(self, x, condition=None, *, seed):
        """Gives the terms of `elbo` and the reconstruction they belong to.

        Args:
            x, condition, seed: as in `elbo`.

        Returns:
            dict of `reconstruction`, `rate` and `distortion`, as from calling
            the model.
        """
        x, condition = self.read(x, condition)
        rows = seeds.row_seeds(seed, tf.shape(x)[0])
        noise = self._row_noise(rows)[tf.newaxis]
        return self._terms(x, self._draw(x, noise, self._features(condition)))

    def monte_carlo(self, x, condition=None, *, seed):
        """Estimates log p(x|c) with one draw of z from the prior per example.

        It is log p(x|z, c), z ~ p(z|c), whose exponential is p(x|c) in
        expectation: of one draw far below `elbo`, unless the prior knows as
        much as the posterior.

        Args:
            x, condition, seed: as in `elbo`.

        Returns:
            float tensor `[batch]`, nats; in expectation at most log p(x|c).

        #### References

        Sohn, Lee and Yan (2015), Learning structured output representation
        using deep conditional generative models, NeurIPS, equation 7.
        """
        x, condition = self.read(x, condition)
        rows = seeds.row_seeds(seed, tf.shape(x)[0])
        features = self._features(condition)
        z = self._draw_latents(self._prior(features), rows)
        return -self._distortion(self._decode(z, features), x)

    def log_weights(self, x, condition=None, *, noise):
        """Weighs draws of z: log p(x, z|c) / q(z|x, c).

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            condition: as `encode` takes it.
            noise: float tensor `[num_samples, batch, latent_size]`; each draw
                is z = mu + Sigma^(1/2) noise, mu and Sigma those of q(z|x, c).

        Returns:
            float tensor `[num_samples, batch]`, nats. For standard normal
            noise the mean of the exponentials is p(x|c) in expectation, and
            that of the values themselves the elbo.

        Raises:
            ValueError: for arguments of another shape or type.

        #### References

        Burda, Grosse and Salakhutdinov (2015), Importance weighted
        autoencoders, arXiv:1509.00519, equation 8.
        """
        x, condition = self.read(x, condition)
        return self._draw(x, noise, self._features(condition)).log_weights()

    def _call_terms(self, x, features, training):
        """Gives what calling the model gives."""
        noise = self._call_noise(x, training)
        if self.num_importance_samples == 1:
            return self._terms(x, self._draw(x, noise, features))
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
            noise: as of `log_weights`.
            features: of the condition, or None.
            doubly: for doubly reparameterised gradients, the rate's weight.

        Returns:
            `Draws`.
        """
        posterior = self._encode(x, features)
        z = posterior.loc + for_each_draw(posterior.scale, "matvec", noise)
        log_posterior = (
            self._standard_prior().log_prob(noise)
            - posterior.scale.log_abs_determinant()
        )
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
        )

    def _terms(self, x, draws):
        """Gives the terms of the elbo; the reconstruction is of one draw."""
        return {
            "reconstruction": draws.likelihood.mean()[: tf.shape(x)[0]],
            "rate": tfd.kl_divergence(draws.posterior, draws.prior),
            "distortion": tf.reduce_mean(draws.distortion, axis=0),
        }

    def _distortion(self, likelihood, x):
        return -likelihood.log_prob(x)

    def _draw_latents(self, prior, rows):
        """Draws z from a prior, row i from seed i alone."""
        return prior.loc + prior.scale.matvec(self._row_noise(rows))

    def _standard_prior(self):
        """Gives N(0, I)."""
        dtype = self.posterior.compute_dtype
        return tfd.MultivariateNormalDiag(
            tf.zeros(self.latent_size, dtype), tf.ones(self.latent_size, dtype)
        )

    def _row_noise(self, rows):
        return seeds.normal(
            rows, self.posterior.event_shape, self.posterior.compute_dtype
        )

    def _call_noise(self, x, training):
        """Draws from (seed, step), or in inference from (seed, values).

        Returns:
            float tensor `[num_importance_samples, batch, latent_size]`.
        """
        count, dtype = self.num_importance_samples, self.posterior.compute_dtype
        if not training:
            rows = seeds.content_seeds(self.seed, x)
            noise = seeds.normal(rows, (count, self.latent_size), dtype)
            return tf.transpose(noise, (1, 0, 2))
        shape = (count, tf.shape(x)[0], self.latent_size)
        return tf.random.stateless_normal(shape, self._step_seed(), dtype=dtype)

    def _per_example_loss(self, terms, training):
        if self.num_importance_samples > 1:
            return -terms["importance_weighted"]
        return terms["distortion"] + self._rate_weight(training) * terms["rate"]

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
        done = self.optimizer.iterations / self.rate_warmup_steps
        dtype = self.posterior.compute_dtype
        return self.beta * tf.minimum(tf.cast(done, dtype), 1)

    def _as_batch(self, name, value, shape):
        value = tf.convert_to_tensor(value)
        if not value.dtype.is_floating:
            raise ValueError(
                f"{name} must be of floating type (images: uint8 / 255), got "
                f"{value.dtype.name}"
            )
        if (
            not value.shape[1:].is_compatible_with(shape)
            or not value.shape.rank
        ):
            raise ValueError(
                f"{name} must have shape [batch, {', '.join(map(str, shape))}]"
                f", got {value.shape}"
            )
        return tf.cast(value, self.posterior.compute_dtype)


def build_network(name, network, inputs, output_size):
    """Builds a network's weights and checks the size of its output.

    Args:
        name: of the network, for the message.
        network: a Keras network.
        inputs: what it takes, of one example.
        output_size: how many numbers its distribution layer takes.

    Raises:
        ValueError: if it gives another number.
    """
    size = tf.size(network(inputs)).numpy()
    if size != output_size:
        raise ValueError(
            f"the {name} gives {size} numbers per example where its "
            f"distribution layer takes {output_size} (params_size)"
        )


def _repeat(rows, num):
    """Repeats a batch as a whole, `[batch, ...]` to `[num * batch, ...]`."""
    if rows is None or (isinstance(num, int) and num == 1):
        return rows
    return tf.tile(rows, (num,) + (1,) * (rows.shape.rank - 1))


def _check_layer(name, layer, kind):
    if not isinstance(layer, kind):
        raise ValueError(
            f"{name} must be a distribution layer ({kind.__name__} of "
            f"keras_genmodels), got {layer!r}"
        )
