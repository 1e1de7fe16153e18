"""A latent-variable model whose prior is a denoiser of its latents."""

import functools
from typing import ClassVar

import keras
import tensorflow as tf

from keras_genmodels.core import counter_rng, private_api, replicas, seeds
from keras_genmodels.core.class_labels import check_guidance
from keras_genmodels.core.events import check_num, event_batches, num_events
from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import kind_of
from keras_genmodels.distributions import latents
from keras_genmodels.models.latent_variable import LatentVariableModel
from keras_genmodels.sampling.flow_prior import FlowPrior
from keras_genmodels.sampling.generation import generate

# Keeps the draws of z apart from the denoiser's own of the same seed.
_LATENT_STREAM = 2
# Images that are encoded at once by `adapt`.
_BATCH_SIZE = 512


@keras.saving.register_keras_serializable("keras_genmodels")
class LatentDiffusion(LatentVariableModel):
    """A trained latent-variable model with a denoiser of its latents as prior.

    q(z|x) and p(x|z) are those of `vae`, whose weights stay fixed. The prior
    p(z) is what the denoiser has learned of z ~ q(z|x), x of the training
    images: its p_sigma_min, the distribution of these z with noise of its
    lowest level, by the probability-flow ODE (`sampling.flow_prior`). A sample
    walks from noise to z in the latent space, down to sigma_min without a last
    denoising step, and decodes, so that samples and `log_likelihood` are of
    the same model.

    `fit` trains the denoiser only, on z drawn anew in each step, and calls
    `adapt` before if needed; `evaluate` reports its loss and `squared_error`
    (of z, the sum of its entries), averaged over the noise levels of training.
    Where q(z|x) is a diagonal Gaussian the loss compares D with E[z | y, x], y
    the noisy z, instead of z. For both the best D is E[z | y], but the error of
    z also contains the variance of z given y and x, most of it at low levels.

    A value of log p(z) takes about 60 evaluations of the denoiser and of its
    Jacobian: `log_likelihood` draws 100 z by default, and the rate has no
    closed form, but is estimated by log q(z|x) - log p(z).

    Args:
        vae: a trained `LatentVariableModel` without conditions. It is made
            non-trainable.
        denoiser: a `Denoiser` of events `[latent_size]` that needs sigma, such
            as a `DenoisingAutoencoder` of `mlp_denoiser`, or a
            `LinearDenoiser`, which `adapt` computes.
        seed: int in [0, 2**31). Training draws from (seed, step), `evaluate`
            from (seed, values of the example).
        name: name of the model.

    Call arguments:
        x: as of `vae`.
        training: whether to draw from (seed, step).

    Call returns:
        dict of float tensors: what the denoiser returns for z ~ q(z|x), such
        as `weighted_error` `[batch]`, its loss; and in inference
        `reconstruction` `[batch, *event_shape]`, the mean of p(x|z) of it.

    Raises:
        ValueError: if vae and denoiser do not fit together.

    #### References

    Vahdat, Kreis and Kautz (2021), Score-based generative modeling in latent
    space, arXiv:2106.05931. Rombach et al. (2022), High-resolution image
    synthesis with latent diffusion models, arXiv:2112.10752. Song et al.
    (2021), arXiv:2011.13456, section 4.3 (log p).
    """

    metric_units: ClassVar = {"squared_error": ""}
    _metric_names = ("squared_error",)
    has_costly_prior = True

    def __init__(self, vae, denoiser, *, seed=0, name=None):
        _check_vae(vae)
        super().__init__(vae.likelihood, vae.latent_size, seed=seed, name=name)
        shape = denoiser.event_shape
        check(
            shape in (None, (vae.latent_size,)),
            f"the denoiser must take vectors of {vae.latent_size} numbers, the "
            f"latents of the {type(vae).__name__}, got events of {shape}",
        )
        check(
            denoiser.needs_sigma and denoiser.condition_kind is None,
            "a prior needs a denoiser that receives sigma and no condition",
        )
        vae.trainable = False
        self.vae = vae
        self.denoiser = denoiser
        self.built = True

    @property
    def adapted(self):
        """Whether mean and covariance of z have been computed."""
        known = getattr(self.denoiser, "adapted", None)
        return self.denoiser.event_shape is not None if known is None else known

    def adapt(self, data):
        """Passes a draw of q(z|x) of each event to the denoiser's `adapt`.

        Their mean and covariance are those of z up to sampling error.

        Args:
            data: array `[n, *event_shape]`, `tf.data.Dataset` of batches of
                such, or of dicts with a batch under `image`, or generator of
                batches; in the form that `vae` takes, such as binarised.

        Raises:
            ValueError: as `encode`, and if there are no data.
        """
        self.denoiser.adapt(self._draws(data))

    def _draws(self, data):
        first = 0
        for batch in event_batches(data):
            for start in range(0, len(batch), _BATCH_SIZE):
                x = batch[start : start + _BATCH_SIZE]
                rows = seeds.row_seeds(self.seed, len(x), first)
                rows = seeds.fold_in(rows, _LATENT_STREAM)
                posterior = self.encode(x)
                z = latents.transform(posterior, self._row_noise(rows))
                yield tf.cast(z, self.denoiser.variable_dtype).numpy()
                first += len(x)

    def sample(
        self,
        num=None,
        condition=None,
        *,
        seed,
        guidance=0.0,
        trajectory=False,
        **settings,
    ):
        """Walks from noise to z in the latent space, and decodes.

        Args:
            num: int or integer tensor, number of samples.
            condition, guidance: None and 0, as the model takes no condition.
            seed: int, int32 `[2]` or `[num, 2]`; sample i depends on the i-th
                row seed only.
            trajectory: whether to return the decoded z of each step, too.
            **settings: `solver`, `schedule`, `num_steps` (even for "heun"),
                `stochasticity`, `sigma_max`, `sigma_min` and `jit_compile`,
                as of `kgm.generate`, which runs in the latent space.

        Returns:
            float tensor `[num, *event_shape]`, the means of p(x|z); with
            `trajectory` `[1 + num_steps, num, *event_shape]`.

        Raises:
            ValueError: for a condition, and as of `generate`.
        """
        self._as_condition(condition)
        check(num is not None, "sample needs num, the number of samples")
        check_num(num)
        check_guidance(guidance, condition, self.label_dropout)
        z = generate(
            self.denoiser,
            (self.latent_size,),
            num,
            seed=seeds.row_seeds(seed, num),
            final_denoising=False,
            trajectory=trajectory,
            **settings,
        )
        z = tf.cast(z, self.statistics_dtype)
        flat = tf.reshape(z, (-1, self.latent_size))
        mean = self.decode(flat).mean()
        shape = tf.concat([tf.shape(z)[:-1], self.event_shape], axis=0)
        return tf.reshape(mean, shape)

    def log_weights_of_priors(self, x, *, noise):
        """Computes log importance weights under both priors, for equal draws.

        Args:
            x: float tensor or array `[batch, *event_shape]`.
            noise: float tensor `[num_samples, batch, latent_size]`, as of
                `log_weights`.

        Returns:
            dict of float tensors `[num_samples, batch]`, nats: `learned`, what
            `log_weights` returns; `own`, the same under the prior of `vae`
            itself, such as N(0, I); and `distortion`, -log p(x|z).
        """
        x, _ = self.validate_inputs(x)
        noise = tf.convert_to_tensor(noise, x.dtype)
        draws = self._draw(x, noise, None)
        own = draws._replace(prior=self.vae.prior())
        return {
            "learned": draws.log_weights(),
            "own": own.log_weights(),
            "distortion": draws.distortion,
        }

    def call(self, x, training=False):
        check(
            hasattr(self.denoiser, "noisy_terms"),
            f"{kind_of(self.denoiser)} is not trained: adapt(data) computes it",
        )
        x, _ = self.validate_inputs(x)
        seed = self._step_seed() if training else None
        noise = self._latent_noise(x, seed)
        with private_api.in_inference(self):
            posterior = self.encode(x)
            z = latents.transform(posterior, noise)
        target = None
        if latents.is_diagonal(posterior):
            target = functools.partial(latents.mean_given_noisy, posterior)
        given = tf.cast(z, self.denoiser.variable_dtype)
        terms = self.denoiser.noisy_terms(given, seed=seed, target=target)
        if training:
            return terms
        return {**terms, "reconstruction": self.decode(z).mean()}

    def _latent_noise(self, x, seed):
        """Draws noise from the seed of the step, or the values of x."""
        dtype = self.statistics_dtype
        if seed is None:
            rows = seeds.content_seeds(self.seed, x)
            return seeds.normal(rows, (self.latent_size,), dtype)
        seed = seeds.fold_in(seed, _LATENT_STREAM)
        return replicas.normal((num_events(x), self.latent_size), seed, dtype)

    def _per_example_loss(self, terms, training):
        return terms["weighted_error"]

    def _per_example_metrics(self, terms):
        return {"squared_error": terms["squared_error"]}

    def _encode(self, x, features):
        return self.vae._encode(x, features)

    def _decode(self, z, features):
        return self.vae._decode(z, features)

    def _prior(self, features):
        return FlowPrior(self.denoiser, self.statistics_dtype)

    def _row_noise(self, rows):
        # Those that `generate` starts with, for the same seeds.
        numbers = tf.zeros_like(rows[:, 0])
        dtype = tf.as_dtype(self.statistics_dtype)
        return counter_rng.normals(rows, numbers, self.latent_size, dtype)


def _check_vae(vae):
    check(
        isinstance(vae, LatentVariableModel)
        and not isinstance(vae, LatentDiffusion),
        "vae must be a latent-variable model with a prior of its own, such as "
        f"a VAE, got {kind_of(vae)}",
    )
    check(
        vae.condition_kind is None,
        f"vae must take no condition, and this {type(vae).__name__} does",
    )
