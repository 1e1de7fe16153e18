"""A finished run in, everything that can be measured of its model out."""

import dataclasses
import time
import zlib

import numpy as np

from keras_genmodels import plots
from keras_genmodels._version import __version__
from keras_genmodels.core import arrays, files
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.validation import check_count
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.evaluation import denoiser as denoiser_evaluation
from keras_genmodels.evaluation import latent
from keras_genmodels.evaluation import samples as sample_evaluation
from keras_genmodels.evaluation.sections import Section
from keras_genmodels.metrics import labels
from keras_genmodels.models import VAE, ConditionalVAE
from keras_genmodels.runs import results

_LATENT = (VAE.__name__, ConditionalVAE.__name__)
# Below `figures` of the workdir.
SHEET = "nearest_training_images"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to measure.

    Args:
        num_images: int >= 1, test images and samples; all where there are
            fewer.
        num_samples: int >= 1, draws of the importance-weighted bound; of
            denoisers it is no setting.
        seed: int in [0, 2**31), of all draws, those of binarised pixels too.
        classifier_steps: int >= 1, of the classifier whose features samples
            are compared by.
    """

    num_images: int = 1000
    num_samples: int = 500
    seed: int = 0
    classifier_steps: int = 2000

    def __post_init__(self):
        for name in ("num_images", "num_samples", "classifier_steps"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, least=0)


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
        dict, that `evaluation`: `settings`, `model` and `test_images`
        (checksums), `kind`, `dataset`, `num_images` by split, `sections`
        (dict of names to `measures.Section.as_dict`), `seconds`, `written`
        and `versions`.

    Raises:
        UserError: if there is no finished run, or another process is at work
            there, the data are of another shape, or the file of a classifier
            is damaged.
    """
    # Before the lock, which would make a folder that is not there.
    _finished(workdir)
    with files.locked(workdir):
        metrics = _finished(workdir)
        start = time.monotonic()
        found = {
            **_identity(workdir, settings, metrics),
            **_evaluate(workdir, data, settings, folder),
            "seconds": round(time.monotonic() - start, 1),
            **results.written(),
        }
        found = files.as_json(found)
        files.write_json(
            workdir.metrics, {**metrics, results.EVALUATION: found}
        )
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
    metrics = _finished(workdir)
    found = metrics.get(results.EVALUATION)
    if not isinstance(found, dict):
        return None
    identity = _identity(workdir, settings, metrics)
    same = all(found.get(name) == value for name, value in identity.items())
    version = found.get("versions", {}).get("keras_genmodels")
    return found if same and version == __version__ else None


def is_latent(workdir):
    """Tells whether a finished run's model has latent variables.

    Raises:
        UserError: if there is no finished run.
    """
    return _finished(workdir).get("kind") in _LATENT


def _finished(workdir):
    """Gives what metrics.json holds, of a run that is finished."""
    if not workdir.model.exists():
        workdir.load_model()  # Tells what is missing.
    metrics = files.read_json(workdir.metrics)
    if not isinstance(metrics, dict):
        raise UserError(
            f"{workdir} holds no results in metrics.json: let its training "
            "finish, or copy the file along with the model"
        )
    planned = metrics.get("planned_epochs")
    asked = workdir.read_run().epochs
    if planned is not None and asked is not None and asked != planned:
        raise UserError(
            f"{workdir} holds a run of {planned} epochs that is being extended "
            f"to {asked}: let its command finish first"
        )
    return metrics


def _identity(workdir, settings, metrics):
    """Gives what an evaluation depends on, beside the data and this package."""
    used = dataclasses.asdict(settings)
    if metrics.get("kind") not in _LATENT:
        del used["num_samples"]
    return {
        "settings": used,
        "model": _checksum(workdir.model.read_bytes()),
    }


def _evaluate(workdir, data, settings, folder):
    """Measures all, and writes the sheet of samples."""
    model = workdir.load_model()
    if model.event_shape != data.image_shape:
        raise UserError(
            f"{workdir} has a model of images of {model.event_shape}, and "
            f"{data.name} has images of {data.image_shape}: give the data "
            "that it was trained on"
        )
    folder = folder or workdir.path / "classifiers"
    sections, picture = _measured(
        model, data, workdir.read_run(), settings, folder
    )
    if picture is not None:
        plots.save_png(workdir.figures / f"{SHEET}.png", picture)
    return {
        "kind": type(model).__name__,
        "dataset": data.name,
        "num_images": _sizes(data),
        "test_images": _checksum(np.ascontiguousarray(data.test.images)),
        "sections": {k: section.as_dict() for k, section in sections.items()},
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


def _measured(model, data, run, settings, folder):
    """Gives the sections by name, and the sheet of samples or None."""
    test = sample_evaluation.first(data.test, settings.num_images)
    if isinstance(model, Denoiser):
        sections = _of_denoiser(model, data, test, settings.seed)
        binarization, given = "none", arrays.as_float(test.images)
    else:
        bounds = latent.bounds(
            model,
            test,
            binarization=run.binarization,
            num_samples=settings.num_samples,
            seed=settings.seed,
        )
        sections = {"likelihood": bounds}
        binarization = run.binarization
        batches = run.evaluation_batches(test, settings.seed)
        given = arrays.concatenate(batch["image"] for batch in batches)
    features = sample_evaluation.feature_function(
        data, folder, num_steps=settings.classifier_steps
    )
    images = sample_evaluation.comparison(
        data, settings.num_images, binarization, seed=settings.seed
    )
    samples = sample_evaluation.draw(
        model, images.test, given[: len(images.real)], seed=settings.seed
    )
    if getattr(model, "num_labels", None) is not None:
        sections["labels"] = _or_note(
            "Labels",
            lambda: latent.labels(
                samples,
                images.test,
                _known_labels(data, binarization),
                seed=settings.seed,
                binarization=binarization,
            ),
        )
    sections["samples"] = _or_note(
        "Samples", lambda: sample_evaluation.measure(samples, images, features)
    )
    if not sections["samples"].measures:
        return sections, None
    return sections, sample_evaluation.extremes(samples, images, features)


def _known_labels(data, binarization):
    """Gives what a classifier of labels learns from, the same for all seeds."""
    everything = sample_evaluation.all_training_images(data)
    return labels.some(sample_evaluation.first(everything, None, binarization))


def _of_denoiser(denoiser, data, test, seed):
    everything = sample_evaluation.all_training_images(data)
    return {
        "denoising": denoiser_evaluation.denoising(
            denoiser, everything.images, test.images, seed=seed
        ),
        "attractors": _or_note(
            "Attractors",
            lambda: denoiser_evaluation.fixed_points(
                denoiser, data.train.images, test.images, seed=seed
            ),
        ),
    }


def _or_note(title, make):
    """Gives a section, or one that says why these data do not allow it."""
    try:
        return make()
    except ValueError as error:
        return Section(title, {}, [f"Not measured: {error}."])
