"""The variational autoencoder."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_genmodels import seeds
from keras_genmodels.distribution_layers import (
    DistributionLayer,
    MultivariateNormalLayer,
)
from keras_genmodels.formats import FORMAT, check_format
from keras_genmodels.models.self_supervised import SelfSupervised

tfd = tfp.distributions


@keras.saving.register_keras_serializable("keras_genmodels")
class VAE(SelfSupervised, keras.Model):
    """A variational autoencoder over events of any shape.

    p(z) = N(0, I), q(z|x) = posterior(encoder(x)), p(x|z) =
    likelihood(decoder(z)). It is trained on

        mean over examples of  distortion + beta * rate,

    with `distortion` = -log p(x|z) at one reparameterised draw of z and
    `rate` = KL(q(z|x) || p(z)) in closed form; for `beta = 1` this is -elbo,
    an upper bound of -log p(x) in expectation.

    All of its weights exist once it is constructed. `fit`, `evaluate` and
    `predict` take the events alone, without targets; `compile` takes no loss.
    `evaluate` reports `loss`, `elbo`, `rate` and `distortion` in nats per
    example. Keras' `fit` and `evaluate` drop `sample_weight` where there are
    no targets; `train_on_batch` and `test_on_batch` take it.

    Args:
        encoder: Keras network, `[batch, *event_shape]` to the posterior's
            parameters, `posterior.params_size` numbers per example.
        decoder: Keras network, `[batch, latent_size]` to the likelihood's
            parameters, `likelihood.params_size` numbers per example.
        posterior: distribution layer over vectors, `MultivariateNormalDiag`
            or `MultivariateNormalTriL`; its size is `latent_size`.
        likelihood: distribution layer over events, such as
            `IndependentBernoulli`; its `event_shape` is the shape of `x`.
        beta: weight of the rate in the loss, >= 0.
        rate_warmup_steps: over so many first training steps the rate's weight
            grows linearly from 0 to `beta`.
        seed: int in [0, 2**31). Training draws from (seed, step), `evaluate`
            and `predict` from (seed, values of the example).
        name: name of the model.

    Call arguments:
        x: float tensor `[batch, *event_shape]`; images in [0, 1].
        training: whether to draw from (seed, step), the step being that of
            the compiled optimizer.

    Call returns:
        dict of float tensors: `reconstruction` `[batch, *event_shape]`, the
        mean of p(x|z); `rate` and `distortion` `[batch]`, nats.

    Raises:
        ValueError: if the pieces do not fit together, for a bad argument, and
            for events of another shape or of integer type.

    #### References

    Kingma and Welling (2013), Auto-encoding variational Bayes,
    arXiv:1312.6114, equations 7 and 10. Higgins et al. (2017), beta-VAE,
    ICLR (`beta`).
    """

    def __init__(
        self,
        encoder,
        decoder,
        posterior,
        likelihood,
        beta=1.0,
        seed=0,
        rate_warmup_steps=0,
        name=None,
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
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.likelihood = likelihood
        self.beta = beta
        self.seed = seed
        self.rate_warmup_steps = rate_warmup_steps
        _build(
            "encoder", encoder, likelihood.event_shape, posterior.params_size
        )
        _build(
            "decoder", decoder, posterior.event_shape, likelihood.params_size
        )
        self._track("elbo", "rate", "distortion")
        self.built = True

    @property
    def latent_size(self):
        """Width of the latent."""
        return self.posterior.event_shape[0]

    @property
    def event_shape(self):
        """Shape of one event."""
        return self.likelihood.event_shape

    def encode(self, x):
        """Gives q(z|x).

        Args:
            x: float tensor or array `[batch, *event_shape]`.

        Returns:
            `tfd.MultivariateNormalDiag` or `tfd.MultivariateNormalTriL`,
            batch `[batch]`, event `[latent_size]`.

        Raises:
            ValueError: for events of another shape or of integer type.
        """
        x = self._as_batch("x", x, self.event_shape)
        return self.posterior(self.encoder(x))

    def decode(self, z):
        """Gives p(x|z).

        Args:
            z: float tensor or array `[batch, latent_size]`.

        Returns:
            `tfd.Distribution`, batch `[batch]`, event `event_shape`.

        Raises:
            ValueError: for latents of another shape or of integer type.
        """
        z = self._as_batch("z", z, self.posterior.event_shape)
        return self.likelihood(self.decoder(z))

    def prior(self):
        """Gives p(z) = N(0, I), a `tfd.MultivariateNormalDiag`."""
        return tfd.MultivariateNormalDiag(
            tf.zeros(self.latent_size, self.posterior.compute_dtype),
            tf.ones(self.latent_size, self.posterior.compute_dtype),
        )

    def sample(self, num, *, seed):
        """Draws z from the prior and gives the means of p(x|z).

        Args:
            num: int, how many.
            seed: int, int32 `[2]` or `[num, 2]`; event i depends on the i-th
                row seed alone.

        Returns:
            float tensor `[num, *event_shape]`; in [0, 1] unless the
            likelihood is Gaussian, whose mean has no bounds.
        """
        prior = self.prior()
        noise = self._row_noise(seeds.row_seeds(seed, num))
        return self.decode(prior.loc + prior.scale.matvec(noise)).mean()

    def elbo(self, x, *, seed):
        """Estimates the evidence lower bound with one draw of z per example.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            seed: int, int32 `[2]` or `[batch, 2]`.

        Returns:
            float tensor `[batch]`, nats; in expectation at most log p(x). Its
            parts are those of `elbo_terms`.
        """
        terms = self.elbo_terms(x, seed=seed)
        return -(terms["rate"] + terms["distortion"])

    def elbo_terms(self, x, *, seed):
        """Gives the terms of `elbo` and the reconstruction they belong to.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            seed: int, int32 `[2]` or `[batch, 2]`.

        Returns:
            dict as from calling the model.
        """
        x = self._as_batch("x", x, self.event_shape)
        rows = seeds.row_seeds(seed, tf.shape(x)[0])
        return self._terms(x, self._row_noise(rows))

    def call(self, x, training=False):
        x = self._as_batch("x", x, self.event_shape)
        return self._terms(x, self._call_noise(x, training))

    def get_config(self):
        """Returns the constructor's arguments and the format of the file."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "format": FORMAT,
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "posterior": serialize(self.posterior),
            "likelihood": serialize(self.likelihood),
            "beta": self.beta,
            "seed": self.seed,
            "rate_warmup_steps": self.rate_warmup_steps,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the model from `get_config`.

        Raises:
            ValueError: if the file was written by a newer format.
        """
        config = check_format(config)
        for name in ("encoder", "decoder", "posterior", "likelihood"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)

    def _terms(self, x, noise):
        posterior = self.encode(x)
        # Reparameterised, z = mu + Sigma^(1/2) eps.
        z = posterior.loc + posterior.scale.matvec(noise)
        likelihood = self.decode(z)
        return {
            "reconstruction": likelihood.mean(),
            "rate": tfd.kl_divergence(posterior, self.prior()),
            "distortion": -likelihood.log_prob(x),
        }

    def _row_noise(self, rows):
        return seeds.normal(
            rows, self.posterior.event_shape, self.posterior.compute_dtype
        )

    def _call_noise(self, x, training):
        """Draws from (seed, step), or in inference from (seed, values)."""
        if not training:
            return self._row_noise(seeds.content_seeds(self.seed, x))
        return tf.random.stateless_normal(
            (tf.shape(x)[0], self.latent_size),
            self._step_seed(),
            dtype=self.posterior.compute_dtype,
        )

    def _per_example_loss(self, terms, training):
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


def _check_layer(name, layer, kind):
    if not isinstance(layer, kind):
        raise ValueError(
            f"{name} must be a distribution layer ({kind.__name__} of "
            f"keras_genmodels), got {layer!r}"
        )


def _build(name, network, input_shape, output_size):
    """Builds a network's weights and checks the size of its output."""
    output = network(tf.zeros((1, *input_shape), network.compute_dtype))
    size = tf.size(output).numpy()
    if size != output_size:
        raise ValueError(
            f"the {name} gives {size} numbers per example where its "
            f"distribution layer takes {output_size} (params_size)"
        )
