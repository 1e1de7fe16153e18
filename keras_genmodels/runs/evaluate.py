"""Measures the model of a finished run, and adds it to its `metrics.json`."""

import dataclasses
import pathlib
import shutil
import time
import zlib

import numpy as np

from keras_genmodels import evaluation, plots
from keras_genmodels._version import __version__
from keras_genmodels.core import files
from keras_genmodels.core.disk_arrays import checksum
from keras_genmodels.core.errors import NotMeasured, UserError, user_errors
from keras_genmodels.core.events import has_shape
from keras_genmodels.evaluation import Settings
from keras_genmodels.runs import results
from keras_genmodels.runs.workdir import Workdir

__all__ = [
    "Settings",
    "evaluate",
    "evaluate_shard",
    "finished_metrics",
    "join_shards",
    "model_checksum",
    "read_current",
    "unused_settings",
]

# Name of the picture of `evaluation.nearest` below `figures` of the workdir.
SHEET = "nearest_training_images"
_NOT_COPIED = (".lock", "checkpoints", "classifiers")


def evaluate(workdir, data, settings, folder=None, computed=None):
    """Measures the model of a finished run, and writes the results.

    They become `evaluation` in the run's `metrics.json`, until the run is
    extended.

    Args:
        workdir: a `Workdir` with a finished run.
        data: the `datasets.ImageDataset` of the run.
        settings: a `Settings`.
        folder: where classifiers are stored; by default `classifiers` in the
            workdir.
        computed: what `join_shards` returns, if shards were evaluated.

    Returns:
        dict, that `evaluation`: `settings` (those that have an effect),
        `model` and `test_images` (checksums), `kind`, `dataset`, `num_images`
        by split, `sections` (dict of names to dicts of `Section`s), `seconds`,
        `written` and `versions`. A number that is not finite is None.

    Raises:
        UserError: if there is no finished run, or another process is at work
            there, the model does not take the data, or the file of a
            classifier is damaged.
    """
    # Before the lock, which would create a missing folder.
    finished_metrics(workdir)
    with workdir.locked():
        metrics = finished_metrics(workdir)
        start = time.monotonic()
        found = {
            **_evaluate(workdir, data, settings, folder, computed),
            "seconds": round(time.monotonic() - start, 1),
            **results.written(),
        }
        found = files.as_json(found)
        files.write_json(workdir.metrics, {**metrics, "evaluation": found})
    return found


def evaluate_shard(workdir, data, settings, part):
    """Computes the numbers of some test images that an evaluation averages.

    It writes nothing, and needs no lock.

    Args:
        workdir, data, settings: as in `evaluate`.
        part: function of a number of images to the `range` of those whose
            numbers are computed.

    Returns:
        dict of names to arrays, for an archive.

    Raises:
        UserError: as `evaluate`.
    """
    finished_metrics(workdir)
    model = _load_model(workdir, data)
    with user_errors():
        found = evaluation.per_image_terms(
            model, data, settings, part, binarization=_binarization(workdir)
        )
    return {
        f"{section}/{name}": np.asarray(
            str(values) if isinstance(values, NotMeasured) else values
        )
        for section, terms in found.items()
        for name, values in terms.items()
    }


def join_shards(shards):
    """Joins what `evaluate_shard` returned for parts of all images, in order.

    Args:
        shards: list of dicts of arrays; other arrays of them are ignored.

    Returns:
        dict of sections to dicts of names to arrays, or to a `NotMeasured`.
    """
    joined = {}
    for key in dict.fromkeys(name for shard in shards for name in shard):
        section, _, name = key.partition("/")
        # A shard may have no image of a section of few images.
        parts = [shard[key] for shard in shards if key in shard]
        if name:
            joined.setdefault(section, {})[name] = (
                np.concatenate(parts)
                if parts[0].ndim
                else NotMeasured(str(parts[0]))
            )
    return joined


def read_current(workdir, settings):
    """Returns the evaluation in the workdir if it is up to date.

    Args:
        workdir, settings: as in `evaluate`.

    Returns:
        dict as from `evaluate`; None if there is none, or one of another
        model, other settings or another version of this package.

    Raises:
        UserError: if there is no finished run.
    """
    found = finished_metrics(workdir).get("evaluation")
    if not isinstance(found, dict):
        return None
    # Which settings a model uses is the same for a version.
    asked, used = dataclasses.asdict(settings), found.get("settings")
    same = isinstance(used, dict) and used.items() <= asked.items()
    same &= found.get("model") == model_checksum(workdir)
    version = found.get("versions", {}).get("keras_genmodels")
    return found if same and version == __version__ else None


def unused_settings(workdir, **values):
    """Finds settings that the evaluation of a run does not depend on.

    Args:
        workdir: as in `evaluate`.
        **values: as of `evaluation.unused_settings`.

    Returns:
        dict of names of `Settings` to texts that say why.

    Raises:
        UserError: if there is no finished run.
    """
    finished_metrics(workdir)
    return evaluation.unused_settings(workdir.load_model(), **values)


def copy(workdir, folder):
    """Copies what an evaluation needs of a run, such as a read-only one.

    Args:
        workdir: `Workdir` of the run.
        folder: path, in which a folder of the workdir's name is made.

    Returns:
        `Workdir` of the copy.
    """
    place = pathlib.Path(folder, workdir.path.name)
    for path in workdir.path.rglob("*"):
        inner = path.relative_to(workdir.path)
        if path.is_file() and inner.parts[0] not in _NOT_COPIED:
            (place / inner).parent.mkdir(parents=True, exist_ok=True)
            # Not its permissions.
            shutil.copyfile(path, place / inner)
    return Workdir(place)


def finished_metrics(workdir):
    """Returns the content of metrics.json of a finished run.

    Raises:
        UserError: if there is no finished run.
    """
    if not workdir.model.exists():
        workdir.load_model()  # Raises an error that says what is missing.
    metrics = workdir.read_metrics()
    if metrics is None:
        raise UserError(
            f"{workdir} holds no results in metrics.json: let its training "
            "finish, or copy the file along with the model"
        )
    planned = metrics.get("training", {}).get("planned_epochs")
    asked = workdir.read_run().epochs
    if planned is not None and asked is not None and asked != planned:
        raise UserError(
            f"{workdir} holds a run of {planned} epochs that is being extended "
            f"to {asked}: let its command finish first"
        )
    return metrics


def model_checksum(workdir):
    """Returns a checksum of the model's file, a str."""
    return f"{zlib.crc32(workdir.model.read_bytes()):08x}"


def _load_model(workdir, data):
    """Loads the model, and checks that it takes the images."""
    model = workdir.load_model()
    if not has_shape(data.image_shape, model.event_shape):
        raise UserError(
            f"{workdir} has a model of images of {model.event_shape}, and "
            f"{data.name} has images of {data.image_shape}: give the data "
            "that it was trained on"
        )
    return model


def _binarization(workdir):
    return workdir.read_run().binarization or "none"


def _evaluate(workdir, data, settings, folder, computed):
    """Measures the model, and writes the picture of its samples."""
    model = _load_model(workdir, data)
    # Such as for labels that the model does not have.
    with user_errors():
        sections, picture = evaluation.evaluate(
            model,
            data,
            settings,
            folder or workdir.path / "classifiers",
            binarization=_binarization(workdir),
            computed=computed,
        )
    if picture is not None:
        plots.save_png(workdir.figures / f"{SHEET}.png", picture)
    unused = evaluation.unused_settings(model)
    return {
        "settings": {
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in unused
        },
        "model": model_checksum(workdir),
        "kind": type(model).__name__,
        "dataset": data.name,
        "num_images": _sizes(data),
        "test_images": f"{checksum(data.test.images):08x}",
        "sections": {k: section.as_dict() for k, section in sections.items()},
    }


def _sizes(data):
    splits = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
    }
    return {name: len(s.images) for name, s in splits.items() if s is not None}
