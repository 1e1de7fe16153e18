"""The variational autoencoder with several layers of latents."""

import functools

import keras

from keras_genmodels.core import seeds
from keras_genmodels.core.validation import check
from keras_genmodels.distributions import layered
from keras_genmodels.distributions.layers import MultivariateNormalLayer
from keras_genmodels.models.arguments import (
    build_decoder,
    build_network,
    check_layer,
    zeros,
)
from keras_genmodels.models.latent_variable import LatentVariableModel
from keras_genmodels.models.prior_layers import WithPriorLayer
from keras_genmodels.networks.outputs import check_output

# Keeps the layers below the top apart from the top layer of the same seed.
_LOWER_STREAM = 4


@keras.saving.register_keras_serializable("keras_genmodels")
class HierarchicalVAE(WithPriorLayer, LatentVariableModel):
    """A variational autoencoder with two or more layers of latents.

    z is one vector, the layers z_1 ... z_K joined, z_1 being next to x:

        p(x, z) = p(x|z) p(z_K) prod_k p(z_k | z_{k + 1}, ..., z_K)
        q(z|x)  = q(z_K|x) prod_k q(z_k | x, z_{k + 1}, ..., z_K)

    All factors of q, and those of p(z) below the top, are Gaussians with
    networks of what they depend on. `encode` and `prior` return a
    `LayeredDistribution`; its method `layer_means` returns the mean of each
    layer given the means above, which reconstructions show.

    It is trained as a `VAE`. The rate is the sum of those of the layers: each
    is KL(q || p) given the drawn layers above, in closed form, except for a
    top layer whose prior is not Gaussian, which has log q - log p at its draw.
    `free_bits` apply to the rate of each layer, whatever its distributions.

    Lists have an entry for each layer, that of z_1 first.

    Args:
        encoder: Keras network, `[batch, *event_shape]` to features
            `[batch, width]`.
        decoder: Keras network, `[batch, latent_size]` to the parameters of
            the likelihood, as of `VAE`; its input is all of z.
        posteriors: list of two or more distribution layers over vectors,
            `MultivariateNormalDiag` or `MultivariateNormalTriL`. Their sizes
            are `latent_sizes`, and the sum of these is `latent_size`.
        likelihood: distribution layer over events, as of `VAE`.
        posterior_networks: list of Keras networks to the parameters of
            `posteriors`, the last one of the features, the others of
            `[features, z above]`, z above being `[batch, n]`, the layers above
            joined.
        prior_networks: list of Keras networks of z above to the parameters of
            `posteriors` but the last, which are those of p(z_k | ...).
        prior: layer of p(z_K), as of `VAE`. None: N(0, I).
        **settings: `beta`, `seed`, `rate_warmup_steps`,
            `num_importance_samples`, `doubly_reparameterized`, `free_bits` and
            `name`, as of `LatentVariableModel`. `doubly_reparameterized` calls
            the networks of q twice in a step, so that they must be
            deterministic (no dropout).

    Call arguments:
        x: as of `VAE`.
        training: as of `VAE`.

    Call returns:
        dict as of `VAE`.

    Raises:
        ValueError: if the networks and layers do not fit together, for a bad
            argument, and for events of another shape or of integer type.

    #### References

    Burda, Grosse and Salakhutdinov (2015), Importance weighted autoencoders,
    arXiv:1509.00519, section 3 (several stochastic layers). Soenderby et al.
    (2016), Ladder variational autoencoders, arXiv:1602.02282 (q from the top
    down). Tomczak and Welling (2018), VAE with a VampPrior, arXiv:1705.07120,
    section 4 (the prior of the top layer).
    """

    def __init__(
        self,
        encoder,
        decoder,
        posteriors,
        likelihood,
        posterior_networks,
        prior_networks,
        *,
        prior=None,
        **settings,
    ):
        sizes = _sizes(posteriors)
        super().__init__(likelihood, sum(sizes), **settings)
        self._set_prior(prior, sizes[-1], "the top layer")
        _check_count("posterior_networks", posterior_networks, len(sizes))
        _check_count("prior_networks", prior_networks, len(sizes) - 1)
        self.encoder = encoder
        self.decoder = decoder
        self.posteriors = list(posteriors)
        self.posterior_networks = list(posterior_networks)
        self.prior_networks = list(prior_networks)
        self._build_networks()
        self.built = True

    @property
    def latent_sizes(self):
        """Number of latents of each layer, a tuple, that next to x first."""
        return tuple(layer.event_shape[0] for layer in self.posteriors)

    def _build_networks(self):
        """Builds all weights and checks the sizes of the outputs."""
        features = self.encoder(
            zeros(self.event_shape, self.encoder.compute_dtype)
        )
        check_output(
            "encoder",
            features,
            None,
            "posterior_networks take it as their first input",
        )
        check(
            features.shape.rank == 2,
            "the encoder must return features [batch, width], got "
            f"{features.shape[1:]} for an example: flatten them",
        )
        for i, layer in enumerate(self.posteriors):
            above = self.latent_sizes[i + 1 :]
            given = zeros((sum(above),), self.statistics_dtype)
            build_network(
                f"network {i} of posterior_networks",
                self.posterior_networks[i],
                [features, given] if above else features,
                layer,
            )
            if above:
                build_network(
                    f"network {i} of prior_networks",
                    self.prior_networks[i],
                    given,
                    layer,
                )
        z = zeros((self.latent_size,), self.decoder.compute_dtype)
        build_decoder(self.decoder, z, self.likelihood)

    def posterior_of(self, encoded):
        """Returns q(z|x), given the output of the encoder, `[batch, width]`."""
        return layered.LayeredDistribution(
            self._top_posterior(encoded),
            [
                functools.partial(self._posterior_given, i, encoded)
                for i in range(len(self.prior_networks))
            ],
            self.latent_sizes,
        )

    def _encode(self, x, features):
        return self.posterior_of(self.encoder(x))

    def _top_posterior(self, encoded):
        """Returns q(z_K|x), given the output of the encoder."""
        return self.posteriors[-1](self.posterior_networks[-1](encoded))

    def _posterior_given(self, i, encoded, above):
        """Returns q(z_i|x, z above), batch `[rows]`."""
        given = layered.with_rows(encoded, above)
        return self.posteriors[i](self.posterior_networks[i](given))

    def _prior_given(self, i, above):
        """Returns p(z_i|z above), batch `[rows]`."""
        given = layered.rows_of(above)
        return self.posteriors[i](self.prior_networks[i](given))

    def _prior_conditionals(self):
        return [
            functools.partial(self._prior_given, i)
            for i in range(len(self.prior_networks))
        ]

    def _prior(self, features):
        return layered.LayeredDistribution(
            self.prior_layer.distribution(self._encode_to_top),
            self._prior_conditionals(),
            self.latent_sizes,
        )

    def _draw_prior(self, rows, features):
        top = self.prior_layer.draw(rows, self._encode_to_top)
        *below, _ = self.latent_sizes
        noise = seeds.normal(
            seeds.fold_in(rows, _LOWER_STREAM), (sum(below),), top.dtype
        )
        z, _ = layered.draw_below(
            top, self._prior_conditionals(), self.latent_sizes, noise
        )
        return z

    def _encode_to_top(self, x):
        return self._top_posterior(self.encoder(x))

    def _decode(self, z, features):
        return self.likelihood(self.decoder(z))


def _sizes(posteriors):
    """Checks the argument `posteriors`; returns the size of each layer."""
    check(
        isinstance(posteriors, list | tuple) and len(posteriors) >= 2,
        "posteriors must be a list of two or more distribution layers, that of "
        f"the latents next to x first, got {posteriors!r}",
    )
    for layer in posteriors:
        check_layer("each of posteriors", layer, MultivariateNormalLayer)
    return [layer.event_shape[0] for layer in posteriors]


def _check_count(name, networks, count):
    is_list = isinstance(networks, list | tuple)
    check(
        is_list and len(networks) == count,
        f"{name} must be a list of {count} networks, got "
        f"{len(networks) if is_list else repr(networks)}",
    )
