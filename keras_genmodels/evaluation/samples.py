"""The quality of samples, compared with that of real images and of noise."""

import numpy as np

from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.evaluation import memorization
from keras_genmodels.evaluation.sections import (
    NOT_FINITE,
    Measure,
    Section,
)
from keras_genmodels.metrics import sample_quality
from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.models import batched_sampling
from keras_genmodels.training import inputs

# Images whose conditions are read at once.
_BATCH_SIZE = 250
# Steps from noise to an image, of a denoiser that does not receive sigma.
_NUM_STEPS = 50

# Functions of features of samples and of real images, whether they need those
# of a classifier, and label and meaning of the measures that they return.
_METRICS = (
    (
        sample_quality.precision_recall,
        False,
        {
            "precision": (
                "Precision",
                "Share of the samples that are nearer to a real image than its "
                "5th nearest other one: 1 if all look real.",
            ),
            "recall": (
                "Recall",
                "Share of the real images that are nearer to a sample than its "
                "5th nearest other one: low if kinds of images are missing.",
            ),
        },
    ),
    (
        sample_quality.density_coverage,
        False,
        {
            "density": (
                "Density",
                "Number of real images that are nearer to a sample than to "
                "their 5th nearest other one, over 5: about 1 for real ones.",
            ),
            "coverage": (
                "Coverage",
                "Share of the real images with a sample nearer than their 5th "
                "nearest other one: about 0.97 for new real ones.",
            ),
        },
    ),
    (
        sample_quality.frechet_classifier_distance,
        True,
        {
            "frechet_classifier_distance": (
                "Frechet classifier distance",
                "Squared distance of Gaussians fitted to the features: 0 for "
                "the same images. It is not the FID, and comparable only for "
                "this data set and number of images.",
            ),
        },
    ),
)


def draw(model, test, binarization="none", *, seed):
    """Draws a sample for each test image, from any kind of model.

    Args:
        model: a `LatentVariableModel` or a `Denoiser` of images.
        test: `datasets.Split` of n images, whose labels or observed parts a
            conditional model is given.
        binarization: "none", "dynamic" or "threshold", of observed parts.
        seed: int in [0, 2**31).

    Returns:
        float array `[n, height, width, channels]` in [0, 1]: means of p(x|z),
        or samples of the denoiser. Observed pixels are those of `test`.
    """
    is_denoiser = isinstance(model, Denoiser)
    count = len(test.images)
    is_blind = is_denoiser and not model.needs_sigma
    settings = {"num_steps": _NUM_STEPS} if is_blind else {}
    if model.condition_kind is None:
        images = batched_sampling.sample(model, count, seed=seed, **settings)
    else:
        batches = datasets.evaluation_batches(
            test, batch_size=_BATCH_SIZE, seed=seed, binarization=binarization
        ).map(inputs.input_of(model))
        given = arrays.concatenate(batch["condition"] for batch in batches)
        images = batched_sampling.sample(
            model, condition=given, seed=seed, **settings
        )
        if model.observed_mask is not None:
            images = model.keep_observed(arrays.as_float(test.images), images)
    return np.clip(np.asarray(images), 0, 1).astype(np.float32)


def section(samples, images, features):
    """Compares samples with real images, and test images and noise likewise.

    Args:
        samples: float array `[n, height, width, channels]` in [0, 1].
        images: a `Comparison`.
        features: a `Features`.

    Returns:
        `Section` of `precision`, `recall`, `density`, `coverage`, `memorized`
        and, with the features of a classifier, `frechet_classifier_distance`,
        as far as these data allow them.
    """
    title = "Samples, thresholded at 0.5" if images.thresholded else "Samples"
    key = "thresholded" if images.thresholded else "grey"
    if not np.isfinite(samples).all():
        return Section(title, notes=[NOT_FINITE], key=key)
    found = Section(
        title,
        notes=[
            f"{len(samples)} samples and as many images, drawn from those for "
            "training and validation, compared in the features of "
            f"{features.name}."
        ],
        reference_notes=["References: as many test images and uniform noise."],
        key=key,
    )
    sets = {
        "": samples,
        "test images": images.test.images,
        "noise": images.noise,
    }
    real = features.extract(images.real)
    sets = {name: features.extract(values) for name, values in sets.items()}
    for metric, needs_classifier, descriptions in _METRICS:
        if features.of_classifier or not needs_classifier:
            what = " and ".join(label for label, _ in descriptions.values())
            found.add(what, _measures, metric, descriptions, sets, real)
    found.add("Memorised samples", _memorized, samples, images)
    return found


def _measures(metric, descriptions, sets, real):
    """Returns the measures of one metric.

    Args:
        metric: a function of `sample_quality`.
        descriptions: dict of names to labels and meanings.
        sets: dict of names of sets, "" for the samples, to their features.
        real: the features of the real images.
    """
    values = {kind: metric(features, real) for kind, features in sets.items()}

    def estimate(kind, name):
        return Estimate(
            values[kind][name], values[kind][f"{name}_standard_error"]
        )

    return {
        name: Measure(
            label,
            estimate("", name),
            meaning,
            references={kind: estimate(kind, name) for kind in sets if kind},
        )
        for name, (label, meaning) in descriptions.items()
    }


def _memorized(samples, images):
    return {
        "memorized": memorization.measure(
            samples,
            images.train.images,
            images.test.images,
            label="Memorised samples",
            what="samples",
        )
    }
