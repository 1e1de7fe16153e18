"""A finished run in, everything that can be measured of its model out."""

import dataclasses
import time
import zlib

import numpy as np

import keras_genmodels
from keras_genmodels import (
    denoiser_evaluation,
    evaluation,
    files,
    label_metrics,
    latent_evaluation,
    latent_inputs,
    plots,
    runs,
    sample_evaluation,
)
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.errors import UserError
from keras_genmodels.measures import Section

# In metrics.json, which the run itself writes, and anew when it is extended.
_KEY = "evaluation"
# Below `figures` of the workdir.
SHEET = "nearest_training_images"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to measure.

    Args:
        num_images: int >= 1, test images and samples; all where there are
            fewer.
        num_samples: int >= 1, draws of the importance-weighted bound.
        seed: int in [0, 2**31), of all draws, those of binarised pixels too.
        classifier_steps: int >= 1, of the classifier whose features samples
            are compared by.
    """

    num_images: int = 1000
    num_samples: int = 500
    seed: int = 0
    classifier_steps: int = 2000


def evaluate(workdir, data, settings, folder=None):
    """Measures the model of a finished run, and writes what was found.

    It becomes `evaluation` of the run's `metrics.json`, which is replaced when
    the run is extended. A number that is not finite is None.

    Args:
        workdir: a `Workdir` with a finished run.
        data: the `datasets.ImageDataset` of the run.
        settings: a `Settings`.
        folder: where classifiers are kept; by default `classifiers` of the
            workdir.

    Returns:
        dict, what `metrics.json` then holds: `kind`, `dataset`, `num_images`
        by split, `test_images` and `model` (checksums), `settings`,
        `sections` (dict of names to `measures.Section.as_dict`), `seconds`,
        `written` and `versions`.

    Raises:
        UserError: if there is no finished run, or it is extended meanwhile,
            the data are of another shape, or the file of a classifier is
            damaged.
    """
    start = time.monotonic()
    model = workdir.load_model()
    _read_metrics(workdir)
    identity = _identity(workdir, settings)
    if model.event_shape != data.image_shape:
        raise UserError(
            f"{workdir} has a model of images of {model.event_shape}, and "
            f"{data.name} has images of {data.image_shape}: give the data "
            "that it was trained on"
        )
    folder = folder or workdir.path / "classifiers"
    sections, picture = _measured(model, data, workdir, settings, folder)
    if picture is not None:
        plots.save_png(workdir.figures / f"{SHEET}.png", picture)
    found = {
        "kind": type(model).__name__,
        "dataset": data.name,
        "num_images": _sizes(data),
        "test_images": _checksum(np.ascontiguousarray(data.test.images)),
        **identity,
        "sections": {k: section.as_dict() for k, section in sections.items()},
        "seconds": round(time.monotonic() - start, 1),
        **runs.written(),
    }
    if _identity(workdir, settings) != identity:
        raise UserError(
            f"{workdir} was trained further meanwhile: evaluate it once more"
        )
    files.write_json(workdir.metrics, {**_read_metrics(workdir), _KEY: found})
    return found


def read_current(workdir, settings):
    """Gives the evaluation that lies in the workdir, if it is up to date.

    Args:
        workdir, settings: as in `evaluate`.

    Returns:
        dict as of `evaluate`; None if there is none, or of another model,
        other settings or another version of this package.

    Raises:
        UserError: if there is no finished run.
    """
    if not workdir.model.exists():
        workdir.load_model()  # Tells what is missing.
    found = _read_metrics(workdir).get(_KEY)
    if found is None:
        return None
    identity = _identity(workdir, settings)
    same = all(found.get(name) == value for name, value in identity.items())
    version = found.get("versions", {}).get("keras_genmodels")
    return found if same and version == keras_genmodels.__version__ else None


def _read_metrics(workdir):
    metrics = files.read_json(workdir.metrics)
    if metrics is None:
        raise UserError(
            f"{workdir} holds no metrics.json: let the training finish, by its "
            "command once more"
        )
    return metrics


def _identity(workdir, settings):
    """Gives what an evaluation depends on, beside the data and this package."""
    return {
        "settings": dataclasses.asdict(settings),
        "model": _checksum(workdir.model.read_bytes()),
    }


def _checksum(values):
    return f"{zlib.crc32(values):08x}"


def _sizes(data):
    return {
        name: len(split.images)
        for name, split in (
            ("train", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
        if split is not None
    }


def _measured(model, data, workdir, settings, folder):
    """Gives the sections by name, and the sheet of samples or None."""
    test = sample_evaluation.first(data.test, settings.num_images)
    if isinstance(model, Denoiser):
        sections = _of_denoiser(model, data, test, settings.seed)
        binarization, given = "none", evaluation.as_float(test.images)
    else:
        bounds = latent_evaluation.bounds(
            model,
            test,
            workdir,
            num_samples=settings.num_samples,
            seed=settings.seed,
        )
        sections = {"likelihood": bounds}
        binarization = workdir.read_flags()["binarization"]
        batches = latent_inputs.as_trained(test, workdir, settings.seed)
        given = np.concatenate([batch["image"] for batch in batches])
    features = sample_evaluation.feature_function(
        data, folder, num_steps=settings.classifier_steps
    )
    images = sample_evaluation.comparison(
        data, settings.num_images, binarization, seed=settings.seed
    )
    of_samples, picture = _of_samples(
        model, images, given[: len(images.real)], features, settings.seed
    )
    return {**sections, **of_samples}, picture


def _of_samples(model, images, given, features, seed):
    samples = sample_evaluation.draw(model, images.test, given, seed=seed)
    sections, picture = {}, None
    if getattr(model, "num_labels", None) is not None:
        sections["labels"] = _or_note(
            "Labels",
            lambda: latent_evaluation.labels(
                samples,
                images.test,
                label_metrics.some(images.train),
                seed=seed,
            ),
        )
    sections["samples"] = _or_note(
        "Samples", lambda: sample_evaluation.measure(samples, images, features)
    )
    if sections["samples"].measures:
        picture = sample_evaluation.extremes(samples, images, features)
    return sections, picture


def _of_denoiser(denoiser, data, test, seed):
    train = data.train.images
    return {
        "denoising": denoiser_evaluation.denoising(
            denoiser, train, test.images, seed=seed
        ),
        "attractors": _or_note(
            "Attractors",
            lambda: denoiser_evaluation.fixed_points(
                denoiser, train, test.images, seed=seed
            ),
        ),
    }


def _or_note(title, make):
    """Gives a section, or one that says why these data do not allow it."""
    try:
        return make()
    except UserError as error:
        return Section(title, {}, [f"Not measured: {error}."])
