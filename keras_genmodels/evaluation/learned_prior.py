"""The likelihood of images under a VAE with a learned prior."""

import dataclasses

from keras_genmodels import datasets
from keras_genmodels.core import arrays, seeds
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
# Suffix of those under the VAE's own prior.
_OF_OWN = "_own"
# Largest numbers of images and of draws of each, of a full evaluation and of
# the one after training: each draw solves an ODE.
MOST = (200, 25)
BRIEF_MOST = (50, 10)


def terms(model, split, binarization, *, most, seed, rows=None):
    """Computes the numbers of each image that `section` averages.

    Args:
        model, split, binarization, most, seed: as in `section`.
        rows: `range` of the images of the split; by default all that are
            measured.

    Returns:
        dict of float64 arrays, as of `compare_priors`.

    Raises:
        NotMeasured: if the model has too many latents.
    """
    check_measurable(model)
    num_images, num_samples = most
    rows = range(len(split.take(num_images).images)) if rows is None else rows
    batches = datasets.evaluation_batches(
        split,
        batch_size=inputs.BATCH_SIZE,
        seed=seed,
        binarization=binarization,
        rows=rows,
    )
    return compare_priors(
        model,
        arrays.concatenate(batch["image"] for batch in batches),
        num_samples=num_samples,
        seed=seeds.row_seeds(seed, len(rows), rows.start),
        chunk_size=inputs.chunk_size(model),
    )


def check_measurable(model):
    """Raises `NotMeasured` for a model of too many latents."""
    if model.latent_size > MAX_EXACT_SIZE:
        raise NotMeasured(
            f"the trace is exact for at most {MAX_EXACT_SIZE} latents, and "
            f"this model has {model.latent_size}"
        )


def section(model, split, binarization, *, most, seed, computed=None):
    """Measures log p(x) under the learned prior and under the VAE's own.

    Args:
        model: a `LatentDiffusion` of images.
        split: a `datasets.Split`.
        binarization: "none", "dynamic" or "threshold", as in training.
        most: `(num_images, num_samples)`, how many of the images are measured,
            the first ones, and by how many draws each.
        seed: int in [0, 2**31), of the binarisation and all draws.
        computed: what `terms` returns for these arguments, if it is known.

    Returns:
        `Section` of `log_likelihood`, `gain`, `elbo`, `inference_gap`, `rate`,
        `distortion`, `effective_samples` and `latent_size`.
    """
    num_images, num_samples = most
    found = Section(
        likelihood.title(model, binarization),
        key=likelihood.key(model, binarization),
    )

    def measures():
        known = computed
        if known is None:
            known = terms(model, split, binarization, most=most, seed=seed)
        return _measures(model, known, num_samples)

    found.add("log p(x)", measures)
    found.measures["latent_size"] = _measure(
        model, "latent_size", Estimate(model.latent_size), num_samples
    )
    if "log_likelihood" not in found.measures:
        return found
    count = min(num_images, len(split.images))
    found.notes.append(
        f"The first {count} test images, {binarization} "
        f"binarisation, {num_samples} draws of z for each, the same under both "
        "priors; in nats per image. log p(z) of the learned prior is by the "
        "probability-flow ODE with an exact trace."
    )
    if not model.likelihood.is_normalized:
        found.notes.append(likelihood.CROSS_ENTROPY_NOTE)
    return found


def _measures(model, terms, num_samples):
    gaps = {
        f"inference_gap{own}": terms[f"log_likelihood{own}"]
        - terms[f"elbo{own}"]
        for own in ("", _OF_OWN)
    }
    terms = terms | gaps
    compared = (*_COMPARED, "inference_gap")
    found = {
        name: _measure(model, name, average(terms[name]), num_samples)
        for name in (*compared, "distortion")
    }
    for name in compared:
        own = {_OWN: average(terms[f"{name}{_OF_OWN}"])}
        found[name] = dataclasses.replace(found[name], references=own)
    gain = terms["log_likelihood"] - terms[f"log_likelihood{_OF_OWN}"]
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
