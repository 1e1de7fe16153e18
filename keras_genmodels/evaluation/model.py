"""Evaluates a trained model: the sections that its family has."""

import contextlib
import dataclasses
import types

from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.validation import check_count
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.evaluation import (
    attractors,
    comparison,
    denoising,
    density,
    labels,
    learned_prior,
    likelihood,
    nearest,
    samples,
)
from keras_genmodels.metrics.labels import subsample
from keras_genmodels.metrics.likelihood import has_costly_division
from keras_genmodels.plots.denoiser import only_restores


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to measure.

    Args:
        num_images: int >= 1, test images and samples; all if there are fewer.
        num_samples: int >= 1, draws of the importance-weighted bound of a
            latent-variable model.
        seed: int in [0, 2**31), of all draws, those of binarised pixels too.
        classifier_steps: int >= 1, training steps of the classifier whose
            features samples are compared by.
        num_density_images: int >= 1, test images whose log p(x) is computed
            with a denoiser.
    """

    num_images: int = 1000
    num_samples: int = 500
    seed: int = 0
    classifier_steps: int = 2000
    num_density_images: int = 16

    def __post_init__(self):
        for name in (
            *("num_images", "num_samples"),
            *("classifier_steps", "num_density_images"),
        ):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, least=0)


# Of `evaluate_briefly`: draws of the bound, test images of a denoiser.
BRIEF_NUM_SAMPLES = 100
_BRIEF_NUM_IMAGES = 1000
# And of a costly division of the rate, which takes seconds for so many.
_BRIEF_NUM_DIVIDED = 1000


def brief_images(data):
    """Returns the test images that a denoiser is measured on after training."""
    return data.test.images[:_BRIEF_NUM_IMAGES]


def num_measured(model, data):
    """Returns how many test images a latent-variable model is measured on."""
    count = len(data.test.images)
    if model.has_costly_prior:
        return min(count, learned_prior.BRIEF_MOST[0])
    return count


def evaluate_briefly(model, data, *, binarization="none", seed=0):
    """Runs the short evaluation at the end of training.

    Args:
        model: a `LatentVariableModel` or a `Denoiser` of images.
        data: a `datasets.ImageDataset`, whose test split is measured: all of
            it, or its first 1000 images of a denoiser.
        binarization: "none", "dynamic" or "threshold", as in training.
        seed: int in [0, 2**31), of all draws; the noise of a denoiser is
            always that of seed 0.

    Returns:
        dict of names to `Section`s: `denoising`, or `likelihood` with 100
        draws, whose rate is divided, if that is costly, for the first 1000
        images only; and, of a model of labels that generates, `labels`.
    """
    shown = data.test
    if isinstance(model, Denoiser):
        shown = shown.take(_BRIEF_NUM_IMAGES)
        sections = {
            "denoising": denoising.brief_section(
                model, shown.images, _true_labels(model, shown)
            )
        }
    else:
        sections = {
            "likelihood": _likelihood(
                model,
                shown,
                binarization,
                learned_prior.BRIEF_MOST,
                BRIEF_NUM_SAMPLES,
                seed,
                num_divided=_BRIEF_NUM_DIVIDED,
            ).section()
        }
    if model.condition_kind == "label" and not _only_restores(model):
        test = comparison.thresholded(subsample(shown), binarization)
        drawn = samples.draw(model, test, seed=seed)
        sections["labels"] = _labels(
            drawn, test, data.train, binarization, seed
        )
    return sections


def per_image_terms(model, data, settings, part, *, binarization="none"):
    """Computes the numbers of each image that sections of `evaluate` average.

    Args:
        model, data, settings, binarization: as in `evaluate`.
        part: function of a number of images to the `range` of those whose
            numbers are computed.

    Returns:
        dict of names of sections to dicts of names to arrays `[n]`, or to a
        `NotMeasured`; without sections whose numbers cannot be computed, and
        those without an image in the part.
    """
    found = {}
    train = None
    if isinstance(model, Denoiser):  # Others are not compared with them.
        train = comparison.all_training_images(_fixed(data)).images
    averaged = _averaged(model, train, data.test, settings, binarization)
    for name, section in averaged.items():
        rows = part(section.num_images)
        with contextlib.suppress(NotMeasured):
            if rows:
                found[name] = section.terms(rows)
    return found


def unused_settings(model, num_samples=1):
    """Finds settings that an evaluation of a model does not depend on.

    Args:
        model: as in `evaluate`.
        num_samples: int >= 1, of the `Settings`, if it was asked for: without
            effect where fewer draws are the most.

    Returns:
        dict of names of `Settings` to texts that say why.
    """
    if not isinstance(model, Denoiser):
        unused = {"num_density_images": "its model is no denoiser"}
        if model.has_costly_prior:
            unused |= _unmeasured(
                "num_samples", learned_prior.check_measurable, model
            )
            most = learned_prior.MOST[1]
            if num_samples > most:
                unused.setdefault(
                    "num_samples",
                    f"at most {most} draws are made, as each solves an ODE of "
                    "its prior",
                )
        return unused
    unused = {"num_samples": "its model is no latent-variable model"}
    if only_restores(model):
        reason = f"the denoiser was {_trained_for_little_noise(model)}"
        return unused | dict.fromkeys(
            ("num_density_images", "classifier_steps"), reason
        )
    return unused | _unmeasured(
        "num_density_images", density.check_measurable, model
    )


def _unmeasured(name, check_measurable, model):
    """Returns a dict of the name and the reason, empty if there is none."""
    try:
        check_measurable(model)
    except NotMeasured as error:
        return {name: f"log p(x) is not measured: {error}"}
    return {}


def evaluate(
    model, data, settings, folder, *, binarization="none", computed=None
):
    """Measures everything that the family of a model has.

    Args:
        model: a `LatentVariableModel` or a `Denoiser` of images.
        data: a `datasets.ImageDataset`.
        settings: a `Settings`.
        folder: where the classifier of the data set is stored.
        binarization: "none", "dynamic" or "threshold", as in training.
        computed: what `per_image_terms` returns for all images, if it is known.

    Returns:
        `(sections, picture)`: dict of names to `Section`s, those of
        `evaluate_briefly`, measured more thoroughly, `density` and
        `attractors` of a denoiser, and `samples`; and the picture of
        `nearest.nearest_sheet`, or None. Of a denoiser that only restores
        there is `denoising` alone, with a note.

    Raises:
        DamagedClassifierError: if the file of the classifier is damaged.
    """
    data = _fixed(data)
    everything = comparison.all_training_images(data)
    averaged = _averaged(
        model, everything.images, data.test, settings, binarization
    )
    sections = {
        name: section.section((computed or {}).get(name))
        for name, section in averaged.items()
    }
    if _only_restores(model):
        sections["denoising"].notes.append(_only_restored(model))
        return sections, None
    if isinstance(model, Denoiser):
        sections["attractors"] = attractors.section(
            model,
            data.train.images,
            data.test.take(settings.num_images).images,
            seed=settings.seed,
            label=(data.training_labels() or [0])[0],
        )
    images = comparison.comparison(
        data, everything, settings.num_images, binarization, seed=settings.seed
    )
    features = comparison.features(
        data, everything, folder, num_steps=settings.classifier_steps
    )
    drawn = samples.draw(model, images.test, binarization, seed=settings.seed)
    if model.condition_kind == "label":
        sections["labels"] = _labels(
            drawn, images.test, everything, binarization, settings.seed
        )
    sections["samples"] = samples.section(drawn, images, features)
    if not sections["samples"].measures:
        return sections, None
    try:
        return sections, nearest.nearest_sheet(drawn, images, features)
    except NotMeasured as error:
        sections["samples"].notes.append(f"Without a picture: {error}.")
        return sections, None


def _fixed(data):
    """Returns the data with training images that are the same each time."""
    return dataclasses.replace(data, train=data.train.fixed())


def _only_restores(model):
    return isinstance(model, Denoiser) and only_restores(model)


def _only_restored(denoiser):
    return (
        "Samples, attractors and log p(x) not measured: it was "
        f"{_trained_for_little_noise(denoiser)}. Pictures at their own size, "
        "next to classical denoisers: evaluate with --input=PICTURES."
    )


def _trained_for_little_noise(denoiser):
    return (
        f"trained for noise of at most {denoiser.sigma_range[1]:g}, which "
        "hides no image, so that it restores and does not generate"
    )


@dataclasses.dataclass(frozen=True)
class _Averaged:
    """A section of averages over test images.

    Args:
        module: with functions `terms` and `section`.
        num_images: int, how many test images are measured.
        arguments: tuple, the first arguments of both functions.
        settings: dict of further arguments of both.
        of_section: dict of further arguments of `section` alone.
    """

    module: types.ModuleType
    num_images: int
    arguments: tuple
    settings: dict
    of_section: dict = dataclasses.field(default_factory=dict)

    def terms(self, rows):
        """Computes the numbers of the images of a `range`."""
        return self.module.terms(*self.arguments, **self.settings, rows=rows)

    def section(self, computed=None):
        """Returns the `Section`."""
        return self.module.section(
            *self.arguments,
            **self.settings,
            **self.of_section,
            computed=computed,
        )


def _averaged(model, train, test, settings, binarization):
    """Returns a dict of names to `_Averaged`."""
    test, seed = test.take(settings.num_images), settings.seed
    if not isinstance(model, Denoiser):
        num_samples = settings.num_samples
        return {
            "likelihood": _likelihood(
                model, test, binarization, learned_prior.MOST, num_samples, seed
            )
        }
    labels = _true_labels(model, test)
    averaged = {
        "denoising": _Averaged(
            denoising,
            len(test.images),
            (model, train, test.images, labels),
            {"seed": seed},
        )
    }
    if not only_restores(model):
        few = test.images[: settings.num_density_images]
        arguments = model, few, labels
        averaged["density"] = _Averaged(
            density, len(few), arguments, {"seed": seed}
        )
    return averaged


def _likelihood(
    model, split, binarization, most, num_samples, seed, num_divided=None
):
    """Returns the section; with a learned prior of fewer images and draws.

    Args:
        model, split, binarization, num_samples, seed: as of
            `likelihood.section`.
        most: as of `learned_prior.section`.
        num_divided: as of `likelihood.section`, for a costly division only.
    """
    count, arguments = len(split.images), (model, split, binarization)
    if not model.has_costly_prior:
        settings = {"num_samples": num_samples, "seed": seed}
        of_section = {}
        if has_costly_division(model):
            of_section["num_divided"] = num_divided
        return _Averaged(likelihood, count, arguments, settings, of_section)
    most = most[0], min(num_samples, most[1])
    settings = {"most": most, "seed": seed}
    return _Averaged(learned_prior, min(count, most[0]), arguments, settings)


def _true_labels(denoiser, split):
    return split.labels if denoiser.condition_kind == "label" else None


def _labels(drawn, test, train, binarization, seed):
    train = comparison.thresholded(subsample(train), binarization)
    return labels.section(
        drawn,
        test,
        train,
        seed=seed,
        thresholded=binarization == "threshold",
    )
