"""Bounds of log p(x) under a latent-variable model, for each example."""

import functools
import math

import numpy as np
import tensorflow as tf
from scipy.special import entr

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import as_float, concatenate
from keras_genmodels.distributions import latents
from keras_genmodels.metrics.aggregated_posterior import (
    divide_rate,
    divide_rate_of_layers,
)
from keras_genmodels.models import likelihood

# A latent is active if its posterior mean has a larger variance (Burda et
# al., 2015).
ACTIVE_VARIANCE = 0.01


def likelihood_terms(
    model,
    batches,
    *,
    seed,
    num_samples=5000,
    chunk_size=None,
    jit_compile="auto",
):
    """Computes the evidence lower bound and tighter bounds of each example.

    The draws for example i depend on the seed and i alone, so that the batch
    size changes nothing but rounding.

    Args:
        model: a `LatentVariableModel`.
        batches: iterable of float tensors `[batch, *event_shape]`, or, for a
            conditional one, of dicts of `image`, such a tensor, and
            `condition`. A batch without a condition is one without labels.
        seed: int or int32 `[2]`.
        num_samples: int >= 1, draws of the importance-weighted bound.
        chunk_size, jit_compile: as in `likelihood.importance_weighted`.

    Returns:
        dict of float64 arrays `[n]`, nats; of a model that completes images
        they are of the unseen pixels:

          * `elbo`, `rate` and `distortion`;
          * `monte_carlo`, log p(x|z) for one z from the prior;
          * `log_likelihood`, the importance-weighted bound, and
            `effective_samples`, in [1, num_samples], see
            `likelihood.importance_weighted`;
          * `loss`, what the model is trained to minimise;

        and `latent_means` and `latents`, float64 `[n, latent_size]`: see
        `latent_means`, and z of `elbo` less the same center; and, of a model
        without conditions whose q(z|x) is Gaussian, or has layers as that of
        a `HierarchicalVAE`, and whose log p(z) is no ODE, `information` and
        `marginal_kl` `[n]`, see `divide_rate`.

    Raises:
        ValueError: if there is no example, and for batches that the model
            does not take.
    """
    terms = separate_terms(
        model,
        batches,
        seed=seed,
        num_samples=num_samples,
        chunk_size=chunk_size,
        jit_compile=jit_compile,
    )
    return with_divided_rate(model, terms)


def separate_terms(
    model,
    batches,
    *,
    seed,
    num_samples,
    chunk_size,
    jit_compile="auto",
    first_row=0,
):
    """Computes the terms of each example that do not depend on the others.

    Args:
        model, batches, seed, num_samples, chunk_size, jit_compile: as in
            `likelihood_terms`.
        first_row: int, index of the first example, for batches that are a
            part of the examples.

    Returns:
        dict of float64 arrays, for `with_divided_rate`.

    Raises:
        ValueError: as `likelihood_terms`.
    """
    one_draw = _one_draw_terms(model)
    weigh = functools.partial(
        likelihood.importance_weighted,
        model,
        chunk_size=chunk_size,
        jit_compile=jit_compile,
    )
    draws_of_loss = model.num_importance_samples

    def terms(inputs, rows):
        found = {
            **one_draw(inputs, rows),
            **weigh(*inputs, num_samples=num_samples, seed=rows)._asdict(),
        }
        if draws_of_loss > 1:
            bound = weigh(*inputs, num_samples=draws_of_loss, seed=rows)
            found["loss"] = -bound.log_likelihood
        return found

    values = _per_example(model, batches, seed, first_row, terms)
    values["elbo"] = -(values["rate"] + values["distortion"])
    if draws_of_loss == 1:
        values["loss"] = values["distortion"] + model.beta * values["rate"]
    return values


def with_divided_rate(model, terms, num_divided=None):
    """Adds the terms of an example that depend on all examples.

    Args:
        model: the `LatentVariableModel`.
        terms: dict of arrays, as of `separate_terms`, of all examples.
        num_divided: int >= 1, how many examples, the first ones, have these
            terms, which depend on no others; None for all.

    Returns:
        dict of arrays, as of `likelihood_terms`.
    """
    terms = dict(terms)
    if "log_prior" not in terms:
        return terms
    part = slice(num_divided)
    posterior = {k: v[part] for k, v in _taken(terms, "posterior").items()}
    log_prior, z = terms.pop("log_prior")[part], terms["latents"][part]
    if "encoded" not in posterior:
        return {**terms, **divide_rate(posterior, z, log_prior)}
    dtype = model.statistics_dtype
    divided = divide_rate_of_layers(
        model.posterior_of,
        posterior["encoded"].astype(dtype),
        z.astype(dtype),
        log_prior,
    )
    return {**terms, **divided}


def bits_per_dimension(nats, event_size):
    """Converts nats per event into bits per entry of the event."""
    return nats / (event_size * math.log(2))


def binarization_entropy(images, counted=True):
    """Computes the entropy of pixels drawn as Bernoulli(grey value).

    The average of -log p(x) over the draws is at least that for every model.

    Args:
        images: array `[n, *event_shape]`: floating in [0, 1], or uint8, read
            as value / 255.
        counted: bool array `event_shape`, the pixels that count; all by
            default.

    Returns:
        float64 array `[n]`, nats.
    """
    # Resized floats may leave [0, 1] by a rounding error.
    grey = np.clip(as_float(images).astype(np.float64), 0, 1)
    entropy = (entr(grey) + entr(1 - grey)) * counted
    return entropy.reshape(len(entropy), -1).sum(1)


def latent_means(model, x, condition=None):
    """Computes the means of q(z|x), less those of a prior p(z|c).

    Args:
        model: a `LatentVariableModel`.
        x: float tensor or array `[batch, *event_shape]`.
        condition: as in `model.encode`.

    Returns:
        float tensor `[batch, latent_size]`: with a prior p(z|c), what the
        image adds to the condition.
    """
    center = latents.center(model.encode(x, condition))
    return center - _prior_center(model, condition)


def _prior_center(model, condition):
    """Returns the center of p(z|c); 0 if p(z) does not depend on it."""
    prior = model.prior(condition)
    return latents.center(prior) if prior.batch_shape.rank else 0


def active_units(means, draws=None):
    """Counts the latents whose posterior mean varies over the data.

    Args:
        means: array `[n, latent_size]`, from `latent_means`.
        draws: array `[n, latent_size]`, a z of q(z|x) of each example less the
            same center: its variance is that of the aggregated posterior, in
            whose units the means are taken. None: their unit is 1.

    Returns:
        int in [0, latent_size], how many have a variance above 0.01.

    #### References

    Burda, Grosse and Salakhutdinov (2015), Importance weighted autoencoders,
    arXiv:1509.00519, section 5.2, for the prior N(0, I), which the aggregated
    posterior is close to.
    """
    unit = 1 if draws is None else np.var(draws, axis=0)
    return int(np.sum(np.var(means, axis=0) > ACTIVE_VARIANCE * unit))


def _one_draw_terms(model):
    """Compiles the terms of one draw of z, from the posterior or prior."""
    divided = _has_divided_rate(model)

    @functools.partial(tf.function, reduce_retracing=True, autograph=False)
    def terms(inputs, rows):
        bound = model.elbo_terms(*inputs, seed=rows)
        z = model.draw_latents(*inputs, seed=rows)
        found = {
            "rate": bound["rate"],
            "distortion": bound["distortion"],
            "monte_carlo": model.monte_carlo(*inputs, seed=rows),
            "latent_means": latent_means(model, *inputs),
            "latents": z - _prior_center(model, *inputs[1:] or (None,)),
        }
        if divided:
            found["log_prior"] = model.prior().log_prob(z)
            posterior = _posterior_parameters(model, *inputs)
            found |= {f"posterior_{k}": v for k, v in posterior.items()}
        return found

    return terms


def _has_divided_rate(model):
    """Returns whether the rate is divided by the aggregated posterior."""
    if model.condition_kind is not None or model.has_costly_prior:
        return False
    x = tf.zeros((1, *model.event_shape), model.statistics_dtype)
    posterior = model.encode(x)
    return latents.is_gaussian(posterior) or has_costly_division(model)


def has_costly_division(model):
    """Returns whether dividing the rate takes networks for each pair of x."""
    return hasattr(model, "posterior_of")


def _posterior_parameters(model, x):
    """Returns a dict of the tensors that q(z|x) is computed from."""
    if has_costly_division(model):
        encoded = tf.cast(model.encoder(x), model.statistics_dtype)
        return {"encoded": encoded}
    return latents.parameters(model.encode(x))


def _taken(values, prefix):
    """Removes the values of a prefix from a dict, and returns them."""
    names = [name for name in values if name.startswith(f"{prefix}_")]
    return {name[len(prefix) + 1 :]: values.pop(name) for name in names}


def _per_example(model, batches, seed, first_row, terms):
    """Concatenates the terms of all batches, as float64 arrays `[n, ...]`.

    Args:
        model, batches, seed, first_row: as in `likelihood_terms`.
        terms: function of the checked inputs of a batch and its row seeds to
            a dict of tensors `[batch, ...]`.
    """
    seed, parts, start = seeds.as_seed(seed), [], first_row
    for batch in batches:
        x, condition = model.validate_inputs(*_event_and_condition(batch))
        inputs = (x,) if condition is None else (x, condition)
        parts.append(terms(inputs, seeds.row_seeds(seed, len(x), start)))
        start += len(x)
    if not parts:
        raise ValueError("there is nothing to evaluate: no batches")
    found = concatenate(parts)
    return {name: value.astype(np.float64) for name, value in found.items()}


def _event_and_condition(batch):
    if not isinstance(batch, dict):
        return (batch,)
    for key in ("image", "condition"):
        if key not in batch:
            raise ValueError(
                f"batches are events or dicts of image and condition, {key!r} "
                "is missing"
            )
    return batch["image"], batch["condition"]
