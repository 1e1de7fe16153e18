"""The likelihood of images under a latent-variable model, and its latents."""

import dataclasses
import math

import numpy as np

from keras_genmodels import datasets
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics import likelihood
from keras_genmodels.metrics.estimates import Estimate, average
from keras_genmodels.training import inputs

# Words of a title, for the parts of a key.
_KINDS = {
    "likelihood": "Likelihood",
    "density": "Density",
    "cross_entropy": "Cross entropy",
}
_PIXELS = {
    "none": "grey values",
    "dynamic": "randomly binarised pixels",
    "threshold": "pixels thresholded at 0.5",
    "levels": "256 levels",
}
_BITS = (
    "Code length of a pixel of 256 levels; uniform pixels need 8: lower is "
    "better."
)
_EXCESS = (
    "The negative bound less the entropy of the same image, 0 if the model "
    "knew the grey values: lower is better."
)
# Label, meaning and unit of each measure. {x} is "x" or "x|c", {z} "z" or
# "z|c", {xz} "x|z" or "x|z, c", {zx} "z|x" or "z|x, c", {k} the number of
# draws.
_MEASURES = {
    "elbo": (
        "Evidence lower bound (elbo)",
        "A lower bound of log p({x}) in expectation: higher is better.",
        "nats",
    ),
    "rate": (
        "Rate",
        "KL(q({zx}) || p({z})): the information about the image in the latent.",
        "nats",
    ),
    "distortion": (
        "Distortion",
        "-log p({xz}), the reconstruction error; elbo = -(rate + distortion).",
        "nats",
    ),
    "log_likelihood": (
        "Importance-weighted bound, {k} draws",
        "A tighter lower bound of log p({x}): higher is better.",
        "nats",
    ),
    "effective_samples": (
        "Effective draws, of {k}",
        "Effective sample size of the importance weights: near 1 the bound is "
        "too low, and more draws would raise it.",
        "",
    ),
    "monte_carlo": (
        "By one draw from the prior",
        "log p({xz}) with z from p({z}), far below the elbo unless the prior "
        "is close to the posterior.",
        "nats",
    ),
    "loss": (
        "Loss",
        "What the model was trained to minimise: lower is better.",
        "nats",
    ),
    "bits_per_dimension": ("Bits per dimension, by the elbo", _BITS, "bits"),
    "log_likelihood_bits_per_dimension": (
        "Bits per dimension, by the importance-weighted bound",
        _BITS,
        "bits",
    ),
    "entropy": (
        "Entropy of the binarisation",
        "Entropy of the drawn pixels given the grey values, a lower bound of "
        "the mean -log p({x}) of every model.",
        "nats",
    ),
    "excess": ("Excess of the elbo over the entropy", _EXCESS, "nats"),
    "log_likelihood_excess": (
        "Excess of the importance-weighted bound over the entropy",
        _EXCESS,
        "nats",
    ),
    "latent_size": ("Latents", "The size of z.", ""),
    "active_units": (
        "Active units",
        "Latents that encode something about the image: the variance of their "
        "posterior mean over the images is above "
        f"{likelihood.ACTIVE_VARIANCE} of that of z itself.",
        "",
    ),
    "information": (
        "Information I of the latent about the image",
        "Mean log q({zx}) / q({z}) over a draw for each image, q({z}) being "
        "the average of q({zx}) over these images: at most log N.",
        "nats",
    ),
    "marginal_kl": (
        "KL(q({z}) || p({z}))",
        "The rest of the rate of the same images, which is I + KL(q({z}) || "
        "p({z})): by how much the prior misses their latents.",
        "nats",
    ),
    "inference_gap": (
        "Inference gap, by {k} draws",
        "The importance-weighted bound less the elbo: what q({zx}) loses "
        "against the true posterior. Fewer draws find less of it.",
        "nats",
    ),
}
# Of a Bernoulli on grey values, which is no likelihood.
_CROSS_ENTROPIES = _MEASURES | {
    "elbo": (
        "Minus rate and distortion",
        "-(rate + distortion); with cross entropies it bounds nothing.",
        "nats",
    ),
    "distortion": (
        "Distortion",
        "Cross entropy of the grey values and the mean of p({xz}), the "
        "reconstruction error.",
        "nats",
    ),
    "log_likelihood": (
        "Importance-weighted, {k} draws",
        "The same, importance-weighted; with cross entropies it bounds "
        "nothing.",
        "nats",
    ),
    "monte_carlo": (
        "By one draw from the prior",
        "Minus the cross entropy with z from p({z}).",
        "nats",
    ),
    "inference_gap": (
        "Gain of importance weighting, by {k} draws",
        "The importance-weighted value less minus rate and distortion; with "
        "cross entropies it measures nothing of q({zx}) alone.",
        "nats",
    ),
}
CROSS_ENTROPY_NOTE = (
    "Bernoulli on grey values: these are cross entropies, not likelihoods; "
    "they bound nothing and are not comparable with other models."
)


def measure(name, estimate, *, conditional, normalised, num_samples):
    """Returns the `Measure` of an estimate that `section` names.

    Args:
        name: str, one of the names of `section`.
        estimate: `Estimate`.
        conditional: bool, whether the model is conditional.
        normalised: bool, `is_normalized` of the likelihood layer.
        num_samples: int, draws of the importance-weighted bound.
    """
    comma, bar = (", c", "|c") if conditional else ("", "")
    symbols = {
        "x": f"x{bar}",
        "z": f"z{bar}",
        "xz": f"x|z{comma}",
        "zx": f"z|x{comma}",
        "k": num_samples,
    }
    table = _MEASURES if normalised else _CROSS_ENTROPIES
    label, meaning, unit = table[name]
    return Measure(
        label.format(**symbols), estimate, meaning.format(**symbols), unit
    )


def terms(model, split, binarization, *, num_samples, seed, rows=None):
    """Computes the numbers of each image that `section` averages.

    Args:
        model, split, binarization, num_samples, seed: as in `section`.
        rows: `range` of the images of the split; by default all.

    Returns:
        dict of float64 arrays, as of `likelihood.separate_terms`.
    """
    batches = datasets.evaluation_batches(
        split,
        batch_size=inputs.images_at_once(model, inputs.BATCH_SIZE),
        seed=seed,
        binarization=binarization,
        rows=rows,
    ).map(inputs.input_of(model))
    return likelihood.separate_terms(
        model,
        batches,
        seed=seed,
        num_samples=num_samples,
        chunk_size=inputs.chunk_size(model),
        first_row=0 if rows is None else rows.start,
    )


def section(
    model,
    split,
    binarization,
    *,
    num_samples,
    seed,
    num_divided=None,
    computed=None,
):
    """Measures how likely a model finds images, and what its latents encode.

    Args:
        model: a `LatentVariableModel` of images.
        split: a `datasets.Split`.
        binarization: "none", "dynamic" or "threshold", as in training.
        num_samples: int >= 1, draws of the importance-weighted bound.
        seed: int in [0, 2**31), of the binarisation and all draws.
        num_divided: int >= 1, how many of the images, the first ones,
            `information` and `marginal_kl` are of; None for all.
        computed: what `terms` returns for these arguments, if it is known.

    Returns:
        `Section` of `elbo`, `rate`, `distortion`, `log_likelihood`,
        `effective_samples`, `monte_carlo`, `loss`, `latent_size`,
        `active_units` and, where they apply, `information`, `marginal_kl`,
        `inference_gap`, `entropy`, `excess`, `log_likelihood_excess`,
        `bits_per_dimension` and `log_likelihood_bits_per_dimension`.
    """
    if computed is None:
        computed = terms(
            model, split, binarization, num_samples=num_samples, seed=seed
        )
    completed = likelihood.with_divided_rate(model, computed, num_divided)
    measures = {
        name: measure(
            name,
            estimate,
            conditional=model.condition_kind is not None,
            normalised=model.likelihood.is_normalized,
            num_samples=num_samples,
        )
        for name, estimate in _estimates(
            model, completed, split.images, binarization
        ).items()
    }
    notes = _notes(model, len(split.images), binarization)
    if "information" in measures:
        count = len(completed["information"])
        measures["information"] = dataclasses.replace(
            measures["information"],
            references={"log N": Estimate(math.log(count))},
        )
        if count < len(split.images):
            notes.append(
                f"I and KL(q(z) || p(z)) are of the first {count} test images "
                "and divide the rate of these, not that of all."
            )
    return Section(
        title(model, binarization),
        measures,
        notes,
        key=key(model, binarization),
    )


def _estimates(model, terms, images, binarization):
    """Returns a dict of names to `Estimate`s."""
    found = {name: average(terms[name]) for name in _MEASURES if name in terms}
    bounds = {"": terms["elbo"], "log_likelihood_": terms["log_likelihood"]}
    for prefix, bound in bounds.items():
        if is_of_levels(model, binarization):
            found[f"{prefix}bits_per_dimension"] = average(
                likelihood.bits_per_dimension(-bound, unseen(model).sum())
            )
        if is_of_bits(model) and binarization == "dynamic":
            entropy = map_batches(
                lambda batch: binarization_entropy(model, batch),
                images,
                batch_size=inputs.BATCH_SIZE,
            )
            found["entropy"] = average(entropy)
            found[f"{prefix}excess"] = average(-bound - entropy)
    if model.condition_kind is None:
        # Of infinite terms there is no difference.
        with np.errstate(invalid="ignore"):
            gap = terms["log_likelihood"] - terms["elbo"]
        found["inference_gap"] = average(gap)
    active = likelihood.active_units(terms["latent_means"], terms["latents"])
    return {
        **found,
        "latent_size": Estimate(model.latent_size),
        "active_units": Estimate(active),
    }


def is_of_levels(model, binarization):
    """Returns whether the likelihood is over the 256 levels of pixels."""
    return binarization == "none" and model.likelihood.support == "levels"


def is_of_bits(model):
    """Returns whether the likelihood is over binary pixels."""
    return model.likelihood.support == "binary"


def unseen(model):
    """Returns the pixels that the model assigns a probability to.

    Returns:
        bool array `event_shape`: of a model that completes images the pixels
        that it does not observe, else all.
    """
    observed = model.observed_mask
    return np.ones(model.event_shape, bool) if observed is None else ~observed


def binarization_entropy(model, images):
    """Computes `likelihood.binarization_entropy` of the unseen pixels."""
    return likelihood.binarization_entropy(images, unseen(model))


def title(model, binarization):
    """Returns the heading of the section of a kind of likelihood."""
    kind, pixels, *unseen_only = _kind(model, binarization)
    where = ", unseen pixels only" if unseen_only else ""
    return f"{_KINDS[kind]} of {_PIXELS[pixels]}{where}"


def key(model, binarization):
    """Returns the key of a kind of likelihood, for `Section`."""
    return "/".join(_kind(model, binarization))


def _kind(model, binarization):
    """Returns what the likelihood is of: other kinds are not comparable."""
    kind, pixels = "likelihood", binarization
    if not model.likelihood.is_normalized:
        kind = "cross_entropy"
    elif model.likelihood.support == "real":
        kind = "density"
    elif is_of_levels(model, binarization):
        pixels = "levels"
    return [kind, pixels] + ([] if unseen(model).all() else ["unseen"])


def _notes(model, count, binarization):
    what = "" if unseen(model).all() else " of the unseen pixels"
    notes = [
        f"{count} test images, {binarization} binarisation; in nats per image"
        f"{what}."
    ]
    if not model.likelihood.is_normalized:
        notes.append(CROSS_ENTROPY_NOTE)
    return notes
