"""What runs of every family share: whether they are finished, and versions."""

import datetime
import importlib.metadata
import platform

from keras_genmodels._version import __version__


def is_finished(workdir, options=None):
    """Returns whether a workdir holds the results of a run.

    Args:
        workdir: a `Workdir`.
        options: the `fit.Options`, whose number of epochs the run must have
            made; None for a run without training.
    """
    metrics = workdir.read_metrics()
    if metrics is None or not workdir.model.exists():
        return False
    planned = metrics.get("training", {}).get("planned_epochs")
    return planned == (options and options.epochs)


def describe(data, workdir, options=None):
    """Formats the data, the length and the workdir of a run.

    The first line is followed by the notes on how the data were understood.
    """
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
        epochs = f"{options.epochs} epoch" + "s" * (options.epochs > 1)
        work = f"{epochs} of {options.steps_per_epoch} steps"
    return "\n".join(
        [
            f"{data.name}: {sizes} images of {shape}; {work}",
            *(f"  {note}" for note in data.notes),
            f"Results go to {workdir}",
        ]
    )


def written():
    """Returns the date and the versions, for a file of results."""
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
