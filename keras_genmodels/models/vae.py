"""The variational autoencoder."""

import keras

from keras_genmodels.core import deprecation
from keras_genmodels.distributions.layers import MultivariateNormalLayer
from keras_genmodels.distributions.priors import StandardNormal
from keras_genmodels.models.arguments import (
    build_decoder,
    build_network,
    check_free_bits,
    check_layer,
    zeros,
)
from keras_genmodels.models.latent_variable import LatentVariableModel
from keras_genmodels.models.prior_layers import WithPriorLayer

# Positional in version 0.2.
OLD_ORDER = (
    "beta",
    "seed",
    "rate_warmup_steps",
    "num_importance_samples",
    "doubly_reparameterized",
    "name",
)


@keras.saving.register_keras_serializable("keras_genmodels")
class VAE(WithPriorLayer, LatentVariableModel):
    """A variational autoencoder over events of any shape.

    p(z) = N(0, I) or `prior`, q(z|x) = posterior(encoder(x)), p(x|z) =
    likelihood(decoder(z)). It is trained on

        mean over examples of  distortion + beta * rate,

    with `distortion` = -log p(x|z) at one reparameterised draw of z and
    `rate` = KL(q(z|x) || p(z)), in closed form for N(0, I), else log q(z|x) -
    log p(z) at that draw; for `beta = 1` this is -elbo,
    an upper bound of -log p(x) in expectation. With `num_importance_samples`
    k > 1 it is an importance-weighted autoencoder, trained on the bound

        log 1/k sum_j p(x, z_j) / q(z_j|x),   z_1 ... z_k ~ q(z|x),

    which in expectation lies between the elbo and log p(x), and rises with k.
    Then `loss` is minus this bound; `elbo`, `rate` and `distortion` are
    reported as well.

    `fit`, `evaluate` and `predict` take the events, or dicts with the events
    under `image`, without targets; `compile` takes no loss and no metrics.
    `evaluate` reports `loss`, `elbo`, `rate` and `distortion` in nats per
    example. `sample_weight` is an argument of `train_on_batch` and
    `test_on_batch` only, as Keras' `fit` drops it if there are no targets.

    Args:
        encoder: Keras network, `[batch, *event_shape]` to the parameters of
            the posterior, one tensor `[batch, posterior.params_size]`.
        decoder: Keras network, `[batch, latent_size]` to the parameters of
            the likelihood, one tensor `[batch, *likelihood.params_shape]` or
            `[batch, likelihood.params_size]`.
        posterior: distribution layer over vectors, `MultivariateNormalDiag`
            or `MultivariateNormalTriL`; its size is `latent_size`.
        likelihood: distribution layer over events, such as
            `IndependentBernoulli`; its `event_shape` is the shape of x.
        prior: layer of p(z), such as `RealNVPPrior`, `MixturePrior` or
            `VampPrior`, which is trained as well and kept as `prior_layer`.
            None: `StandardNormal`, N(0, I).
        **settings: `beta`, `seed`, `rate_warmup_steps`,
            `num_importance_samples`, `doubly_reparameterized`, `free_bits` and
            `name`, as of `LatentVariableModel`.

    Call arguments:
        x: float tensor `[batch, *event_shape]`, images in [0, 1]; or a dict
            with such under `image`.
        training: whether to draw from (seed, step), the step being that of
            the compiled optimizer.

    Call returns:
        dict of float tensors: `reconstruction` `[batch, *event_shape]`, the
        mean of p(x|z) of the first draw; `rate` and `distortion` `[batch]`,
        nats, the latter averaged over the draws; with several draws
        `importance_weighted` `[batch]`, nats, the bound.

    Raises:
        ValueError: if the networks and layers do not fit together, for a bad
            argument, and for events of another shape or of integer type.

    #### References

    Kingma and Welling (2013), Auto-encoding variational Bayes,
    arXiv:1312.6114. Burda, Grosse and Salakhutdinov (2015), Importance
    weighted autoencoders, arXiv:1509.00519.
    """

    @deprecation.accept_old_arguments(old_order=OLD_ORDER)
    def __init__(
        self,
        encoder,
        decoder,
        posterior,
        likelihood,
        *,
        prior=None,
        **settings,
    ):
        check_layer("posterior", posterior, MultivariateNormalLayer)
        super().__init__(likelihood, *posterior.event_shape, **settings)
        self._set_prior(prior, self.latent_size)
        check_free_bits(
            self.free_bits,
            posterior,
            isinstance(self.prior_layer, StandardNormal),
        )
        self.posterior = posterior
        self.encoder = encoder
        self.decoder = decoder
        x = zeros(self.event_shape, encoder.compute_dtype)
        z = zeros((self.latent_size,), decoder.compute_dtype)
        build_network("encoder", encoder, x, posterior)
        build_decoder(decoder, z, likelihood)
        self.built = True

    def _prior(self, features):
        return self.prior_layer.distribution(self._encode_alone)

    def _draw_prior(self, rows, features):
        return self.prior_layer.draw(rows, self._encode_alone)

    def _encode_alone(self, x):
        return self._encode(x, None)

    def _encode(self, x, features):
        return self.posterior(self.encoder(x))

    def _decode(self, z, features):
        return self.likelihood(self.decoder(z))
