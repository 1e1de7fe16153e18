"""The variational autoencoder."""

import keras
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.models.latent_variable import (
    VariationalModel,
    build_network,
)


@keras.saving.register_keras_serializable("keras_genmodels")
class VAE(VariationalModel):
    """A variational autoencoder over events of any shape.

    p(z) = N(0, I), q(z|x) = posterior(encoder(x)), p(x|z) =
    likelihood(decoder(z)). It is trained on

        mean over examples of  distortion + beta * rate,

    with `distortion` = -log p(x|z) at one reparameterised draw of z and
    `rate` = KL(q(z|x) || p(z)) in closed form; for `beta = 1` this is -elbo,
    an upper bound of -log p(x) in expectation. With `num_importance_samples`
    k > 1 it is an importance-weighted autoencoder, trained on the bound

        log 1/k sum_j p(x, z_j) / q(z_j|x),   z_1 ... z_k ~ q(z|x),

    which in expectation lies between the elbo and log p(x), and rises with k.
    Then `loss` is minus this bound; `elbo` and its parts are told beside it.

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
        num_importance_samples: int >= 1, draws of z for each example. From 2
            on the loss is minus the importance-weighted bound, which goes
            with `beta=1` (in a warm-up log p(z) / q(z|x) is weighed); a step
            takes as many decodings.
        doubly_reparameterized: whether that bound is differentiated by the
            doubly reparameterised estimator: the same gradient in
            expectation, of less variance in the encoder. It holds for the
            bound alone, not for losses that layers of the decoder add.
        seed: int in [0, 2**31). Training draws from (seed, step), `evaluate`
            and `predict` from (seed, values of the example).
        name: name of the model.

    Call arguments:
        x: float tensor `[batch, *event_shape]`; images in [0, 1].
        training: whether to draw from (seed, step), the step being that of
            the compiled optimizer.

    Call returns:
        dict of float tensors: `reconstruction` `[batch, *event_shape]`, the
        mean of p(x|z) of the first draw; `rate` and `distortion` `[batch]`,
        nats, the latter averaged over the draws; with several draws
        `importance_weighted` `[batch]`, nats, the bound.

    Raises:
        ValueError: if the pieces do not fit together, for a bad argument, and
            for events of another shape or of integer type.

    #### References

    Kingma and Welling (2013), Auto-encoding variational Bayes,
    arXiv:1312.6114, equations 7 and 10. Higgins et al. (2017), beta-VAE,
    ICLR (`beta`). Burda, Grosse and Salakhutdinov (2015), Importance weighted
    autoencoders, arXiv:1509.00519, equation 8. Tucker et al. (2018), Doubly
    reparameterized gradient estimators for Monte Carlo objectives,
    arXiv:1810.04152.
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
        x, z = (
            tf.zeros((1, *shape), network.compute_dtype)
            for network, shape in (
                (encoder, likelihood.event_shape),
                (decoder, posterior.event_shape),
            )
        )
        build_network("encoder", encoder, x, posterior.params_size)
        build_network("decoder", decoder, z, likelihood.params_size)
        self.built = True

    def prior(self):
        """Gives p(z) = N(0, I), a `tfd.MultivariateNormalDiag`."""
        return self._standard_prior()

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
        z = self._draw_latents(self.prior(), seeds.row_seeds(seed, num))
        return self._decode(z).mean()

    def call(self, x, training=False):
        x = self._as_batch("x", x, self.event_shape)
        return self._call_terms(x, None, training)

    def _as_condition(self, condition, like=None):
        if condition is not None:
            raise ValueError("a VAE takes no condition: events alone")

    def _features(self, condition):
        return None

    def _encode(self, x, condition=None):
        return self.posterior(self.encoder(x))

    def _decode(self, z, condition=None):
        return self.likelihood(self.decoder(z))

    def _prior(self, condition=None):
        return self._standard_prior()
