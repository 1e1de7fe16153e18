"""The likelihood of images under a VAE with a learned prior."""

import dataclasses

from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.evaluation import likelihood
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.estimates import Estimate, average
from keras_genmodels.metrics.learned_prior import compare_priors
from keras_genmodels.sampling.density import MAX_EXACT_SIZE
from keras_genmodels.training import inputs

# Name of the reference, and the measures that have it.
_OWN = "the VAE's own prior"
_COMPARED = ("log_likelihood", "elbo", "rate", "effective_samples")
# Largest numbers of images and of draws of each, of a full evaluation and of
# the one after training: each draw solves an ODE.
MOST = (200, 25)
BRIEF_MOST = (50, 10)


def section(model, split, binarization, *, most, seed):
    """Measures log p(x) under the learned prior and under the VAE's own.

    Args:
        model: a `LatentDiffusion` of images.
        split: a `datasets.Split`.
        binarization: "none", "dynamic" or "threshold", as in training.
        most: `(num_images, num_samples)`, how many of the images are measured,
            the first ones, and by how many draws each.
        seed: int in [0, 2**31), of the binarisation and all draws.

    Returns:
        `Section` of `log_likelihood`, `gain`, `elbo`, `rate`, `distortion`,
        `effective_samples` and `latent_size`.
    """
    num_images, num_samples = most
    split = split.take(num_images)
    found = Section(
        likelihood.title(model, binarization),
        key=likelihood.key(model, binarization),
    )
    found.add(
        "log p(x)", _measures, model, split, binarization, num_samples, seed
    )
    found.measures["latent_size"] = _measure(
        model, "latent_size", Estimate(model.latent_size), num_samples
    )
    found.notes.append(
        f"The first {len(split.images)} test images, {binarization} "
        f"binarisation, {num_samples} draws of z for each, the same under both "
        "priors; in nats per image. log p(z) of the learned prior is by the "
        "probability-flow ODE with an exact trace."
    )
    if not model.likelihood.is_normalized:
        found.notes.append(likelihood.CROSS_ENTROPY_NOTE)
    return found


def _measures(model, split, binarization, num_samples, seed):
    if model.latent_size > MAX_EXACT_SIZE:
        raise NotMeasured(
            f"the trace is exact for at most {MAX_EXACT_SIZE} latents, and "
            f"this model has {model.latent_size}"
        )
    batches = datasets.evaluation_batches(
        split,
        batch_size=inputs.BATCH_SIZE,
        seed=seed,
        binarization=binarization,
    )
    images = arrays.concatenate(batch["image"] for batch in batches)
    terms = compare_priors(
        model,
        images,
        num_samples=num_samples,
        seed=seed,
        chunk_size=inputs.chunk_size(model),
    )
    found = {
        name: _measure(model, name, average(terms[name]), num_samples)
        for name in (*_COMPARED, "distortion")
    }
    for name in _COMPARED:
        own = {_OWN: average(terms[f"{name}_own"])}
        found[name] = dataclasses.replace(found[name], references=own)
    gain = terms["log_likelihood"] - terms["log_likelihood_own"]
    found["gain"] = Measure(
        "Gain by the learned prior",
        average(gain),
        "Importance-weighted bound under the learned prior less that under "
        "the VAE's own, image by image: higher is better.",
        "nats",
    )
    return found


def _measure(model, name, estimate, num_samples):
    return likelihood.measure(
        name,
        estimate,
        conditional=False,
        normalised=model.likelihood.is_normalized,
        num_samples=num_samples,
    )
