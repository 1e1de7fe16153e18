"""How good a latent-variable model is: bounds, latents and labels."""

import numpy as np
from scipy.special import entr

from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.distributions.layers import (
    IndependentBernoulli,
    IndependentDiscretizedLogistic,
    IndependentNormal,
)
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics import labels as label_metrics
from keras_genmodels.metrics import likelihood
from keras_genmodels.metrics.estimates import Estimate, average
from keras_genmodels.models import ConditionalVAE
from keras_genmodels.training import inputs

# Of Burda et al., of the variance of a latent's posterior mean.
_ACTIVE = 0.01

_CROSS_ENTROPY = (
    "Bernoulli on grey values: these are cross entropies, not likelihoods; "
    "they bound nothing and compare with no other model's."
)


def bounds(model, split, *, binarization, num_samples, seed):
    """Measures how likely a model takes images for, and what it keeps in z.

    Args:
        model: a `VAE` or a `ConditionalVAE`.
        split: a `datasets.Split`, the images.
        binarization: "none", "dynamic" or "threshold", as in training.
        num_samples: int >= 1, draws of the importance-weighted bound.
        seed: int in [0, 2**31), of the binarisation and all draws.

    Returns:
        `Section` of `elbo`, `rate`, `distortion`, `log_likelihood`,
        `effective_samples`, `latent_size`, `active_units` and, where they
        apply, `entropy`, `excess`, `log_likelihood_excess`,
        `bits_per_dimension` and `log_likelihood_bits_per_dimension`.
    """
    drawn = datasets.evaluation_batches(
        split,
        batch_size=inputs.images_at_once(model, inputs.BATCH_SIZE),
        seed=seed,
        binarization=binarization,
    )
    terms = _terms(model, drawn, num_samples, seed)
    measures = _told_terms(model, terms, num_samples)
    if of_levels(model, binarization):
        measures |= _told_bits(terms, unseen(model).sum())
    if of_bits(model) and binarization == "dynamic":
        floor = entropies(model, split.images)
        measures |= _told_floor(model, terms, floor)
    measures["latent_size"] = Measure(
        "Latents", Estimate(model.latent_size), "The width of the latent z."
    )
    measures["active_units"] = Measure(
        "Active units",
        Estimate(active_units(model, inputs.arguments_of(model, drawn))),
        "How many latents carry something of the image: their posterior mean "
        f"varies over the images by more than {_ACTIVE} (variance, in units "
        "of the prior's).",
    )
    what = "" if unseen(model).all() else " of the unseen pixels"
    notes = [
        f"Over {len(split.images)} test images, {binarization} binarisation; "
        f"per image, in nats{what}."
    ]
    if not is_likelihood(model):
        notes.append(_CROSS_ENTROPY)
    return Section(_title(model, binarization), measures, notes)


def is_likelihood(model):
    """Tells a likelihood from the cross entropy of a Bernoulli on grey."""
    return not getattr(model.likelihood, "grey_values", False)


def of_levels(model, binarization):
    """Tells whether the likelihood is over the 256 levels of pixels."""
    layer = model.likelihood
    return binarization == "none" and isinstance(
        layer, IndependentDiscretizedLogistic
    )


def of_bits(model):
    """Tells whether the likelihood is over binary pixels."""
    layer = model.likelihood
    return isinstance(layer, IndependentBernoulli) and is_likelihood(model)


def unseen(model):
    """Gives the entries that the model gives a probability to.

    Returns:
        bool array `event_shape`: of a model that completes images those that
        are not known, else all.
    """
    known = getattr(model, "known", None)
    return np.ones(model.event_shape, bool) if known is None else ~known


def entropies(model, images):
    """Gives the entropy of drawing the pixels from an image's grey values.

    No model's -log p(x) is lower on average over the draws.

    Args:
        model: as in `bounds`; of one that completes images the unseen pixels
            count alone.
        images: array `[n, *event_shape]`: floating in [0, 1], or uint8, read
            as value / 255.

    Returns:
        float64 array `[n]`, nats.
    """
    # Resized floats may be off [0, 1] by their rounding.
    grey = np.clip(arrays.as_float(images).astype(np.float64), 0, 1)
    entropy = (entr(grey) + entr(1 - grey)) * unseen(model)
    return entropy.reshape(len(entropy), -1).sum(1)


def active_units(model, batches):
    """Counts the latents whose posterior mean varies over the data.

    A unit is active if the variance over x of the mean of q(z_j|x) is above
    0.01. With a prior that knows the condition, it is that of the mean's
    distance from the prior's mean, in units of the prior's deviation: what
    the image tells beyond the condition.

    Args:
        model: as in `bounds`.
        batches: iterable of the positional arguments of `model.encode`.

    Returns:
        int in [0, latent_size].

    #### References

    Burda, Grosse and Salakhutdinov (2015), Importance weighted autoencoders,
    arXiv:1509.00519, section 5.2.
    """

    def standardized_mean(x, *condition):
        prior = model.prior(*condition)
        shift = model.encode(x, *condition).mean() - prior.mean()
        return shift / prior.stddev()

    means = arrays.concatenate(standardized_mean(*batch) for batch in batches)
    return int(np.sum(np.var(means, axis=0) > _ACTIVE))


def labels(samples, real, train, *, seed, binarization="none"):
    """Measures whether generated images show their label, and how they differ.

    Args:
        samples: float array `[n, height, width, channels]` in [0, 1], one for
            each image of `real`, of its label.
        real: `datasets.Split` of n test images.
        train: `datasets.Split` that the classifier learns from.
        seed: int in [0, 2**31).
        binarization: the run's. By "threshold" the images are cut at 0.5, and
            what is measured compares with no run of grey ones.

    Returns:
        `Section` of `label_consistency` and `diversity`.

    Raises:
        UserError: as `label_metrics.fit_label_classifier` and `diversity`.
    """
    classifier = label_metrics.fit_label_classifier(
        train.images, train.labels, seed=seed
    )
    of_samples, of_real = (
        label_metrics.label_consistency(classifier, images, real.labels)
        for images in (samples, real.images)
    )
    spread = label_metrics.diversity(
        samples, real.labels, real.images, real.labels, seed=seed
    )
    what = ", of pixels cut at 0.5" if binarization == "threshold" else ""
    return Section(
        f"Labels{what}",
        {
            "label_consistency": Measure(
                "Label consistency",
                _estimate(of_samples, "accuracy"),
                "How often a classifier of real images (extremely randomised "
                "trees) reads the label off that was asked for.",
                references={"real test images": _estimate(of_real, "accuracy")},
            ),
            "diversity": Measure(
                "Diversity within a label",
                _estimate(spread, "diversity"),
                "Mean distance of two images of a label, over that of real "
                "ones: 0 for one image repeated; noise raises it.",
                references={"real test images": Estimate(1.0)},
            ),
        },
        [
            f"Over {len(samples)} samples, with the labels of the test split; "
            f"the classifier learned {len(train.images)} training images."
        ],
    )


def _terms(model, drawn, num_samples, seed):
    """Gives the terms of each image, as float64 arrays `[n]`."""
    batches = drawn.map(inputs.input_of(model))
    weighted = likelihood.likelihood_terms(
        model,
        batches,
        seed=seed,
        num_samples=num_samples,
        chunk_size=inputs.chunk_size(model),
    )
    return {**likelihood.bound_terms(model, batches, seed=seed), **weighted}


def _told_terms(model, terms, num_samples):
    meanings = _meanings(model, num_samples)
    measures = {
        name: Measure(label, average(terms[name]), meaning, "nats")
        for name, (label, meaning) in meanings.items()
    }
    measures["effective_samples"] = Measure(
        f"Effective draws, of {num_samples}",
        average(terms["effective_samples"]),
        "How many draws of equal weight the importance weights amount to: "
        "near 1 the figure above is too low, and more draws would raise it.",
    )
    return measures


def _meanings(model, num_samples):
    """Gives the label and the meaning of each term, by the model's kind."""
    comma, bar = _given(model)
    meanings = {
        "elbo": (
            "Evidence lower bound",
            f"In expectation at most log p(x{bar}): higher is better.",
        ),
        "rate": (
            "Rate",
            f"KL(q(z|x{comma}) || p(z{bar})): how much of the image the latent "
            "holds.",
        ),
        "distortion": (
            "Distortion",
            f"-log p(x|z{comma}): what the latent leaves open; elbo = -(rate + "
            "distortion).",
        ),
        "log_likelihood": (
            f"Importance-weighted bound, {num_samples} draws",
            f"A tighter bound of log p(x{bar}), from below: higher is better.",
        ),
    }
    if is_likelihood(model):
        return meanings
    return meanings | {
        "elbo": (
            "Minus rate and distortion",
            "-(rate + distortion), by one draw; of cross entropies it bounds "
            "nothing.",
        ),
        "distortion": (
            "Distortion",
            "Cross entropy of the grey values and the mean of "
            f"p(x|z{comma}): what the latent leaves open.",
        ),
        "log_likelihood": (
            f"Importance-weighted, {num_samples} draws",
            "The same by the average weight of several draws, at least as "
            "high on average; it bounds nothing, either.",
        ),
    }


def _given(model):
    """Gives what stands for the condition, behind another and alone."""
    return (", c", "|c") if isinstance(model, ConditionalVAE) else ("", "")


def _told_bits(terms, size):
    """Tells bounds in bits for each of `size` entries."""
    return {
        f"{prefix}bits_per_dimension": Measure(
            f"Bits per dimension, by the {by}",
            average(likelihood.bits_per_dimension(-terms[term], size)),
            "What a pixel's value of 256 levels costs to code; uniform pixels "
            "cost 8: lower is better.",
            "bits",
        )
        for prefix, term, by in (
            ("", "elbo", "elbo"),
            ("log_likelihood_", "log_likelihood", "importance-weighted bound"),
        )
    }


def _told_floor(model, terms, floor):
    _, bar = _given(model)
    return {
        "entropy": Measure(
            "Entropy floor",
            average(floor),
            "The entropy of the drawn pixels, given the grey values: no "
            f"model's -log p(x{bar}) is lower on average.",
            "nats",
        ),
        **{
            name: Measure(
                f"Excess of the {by} over the floor",
                average(-terms[term] - floor),
                "How far the model is from knowing each image's grey values, "
                "by the same images: lower is better.",
                "nats",
            )
            for name, term, by in (
                ("excess", "elbo", "elbo"),
                (
                    "log_likelihood_excess",
                    "log_likelihood",
                    "importance-weighted bound",
                ),
            )
        },
    }


def _title(model, binarization):
    """Names what a likelihood is of: numbers of another kind don't compare."""
    pixels = {
        "none": "grey values",
        "dynamic": "drawn pixels",
        "threshold": "pixels cut at 0.5",
    }[binarization]
    kind = "Likelihood"
    if not is_likelihood(model):
        kind = "Cross entropy"
    elif isinstance(model.likelihood, IndependentNormal):
        kind = "Density"
    elif of_levels(model, binarization):
        pixels = "256 levels"
    where = "" if unseen(model).all() else ", of the unseen ones"
    return f"{kind} of {pixels}{where}"


def _estimate(found, name):
    return Estimate(found[name], found[f"{name}_standard_error"])
