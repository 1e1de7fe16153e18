"""What runs of every kind of model have in common."""

import datetime
import importlib.metadata
import platform

from keras_genmodels._version import __version__


def is_finished(workdir, options=None):
    """Tells whether the workdir holds the results of so many epochs.

    Args:
        workdir: a `Workdir`.
        options: a `training.Options`; None for a run without training.
    """
    metrics = workdir.read_metrics()
    if metrics is None or not workdir.model.exists():
        return False
    planned = metrics.get("training", {}).get("planned_epochs")
    return planned == (options and options.epochs)


def describe(data, workdir, options=None):
    """Tells in two lines what a run is about to do."""
    sizes = ", ".join(
        f"{len(split.images)} {name}"
        for name, split in (
            ("training", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
        if split is not None
    )
    shape = "x".join(map(str, data.image_shape))
    work = "no training"
    if options is not None:
        work = f"{options.epochs} epochs of {options.steps_per_epoch} steps"
    return (
        f"{data.name}: {sizes} images of {shape}; {work}\n"
        f"Results go to {workdir}"
    )


def without_training(model):
    """Copies a model without optimizer: what a user loads."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def written():
    """Tells when and by which versions results were written."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "written": now.isoformat("T", "seconds"),
        "versions": versions(),
    }


def versions():
    """Returns the versions of Python and the packages, by name."""
    names = ("tensorflow", "keras", "tensorflow-probability")
    return {
        "keras_genmodels": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }
