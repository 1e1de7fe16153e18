"""`metrics.json`: what was measured of a run, in one form.

    {
      "kind": "VAE", "dataset": "digits", "label_names": [...] or null,
      "training": {"epochs", "steps", "planned_epochs", "best_epoch",
                   "validation_loss", "seconds"},   (if it was trained)
      "test": {"num_images", "sections"},           (when training ended)
      "evaluation": {"sections", "settings", ...},  (by apps.evaluate)
      "pictures": {"sections", "settings", ...},    (the same with --input)
      "written", "versions"
    }

`sections` are those of `evaluation.sections`, as dicts.
"""

from keras_genmodels.core import files
from keras_genmodels.metrics.estimates import Estimate, as_text
from keras_genmodels.runs import results

# What `summary` shows of a section; of others it shows everything.
_HEADLINES = {
    "likelihood": (
        "elbo",
        "rate",
        "distortion",
        "log_likelihood",
        "gain",
        "bits_per_dimension",
    ),
}


def write(workdir, model, data, sections, num_images, training=None):
    """Writes `metrics.json` at the end of a training.

    Args:
        workdir: a `Workdir`.
        model: the model.
        data: the `datasets.ImageDataset`.
        sections: dict of names to `Section`s, of the test split.
        num_images: int, how many test images these are of.
        training: dict, what `training.fit` returns and `planned_epochs`; None
            for a model that is not trained.

    Returns:
        dict, the content of the file.
    """
    content = {
        "kind": type(model).__name__,
        "dataset": data.name,
        "label_names": data.label_names,
    }
    if training is not None:
        training = dict(training)
        training["seconds"] = training.pop("training_seconds")
        content["training"] = training
    content["test"] = {
        "num_images": num_images,
        "sections": {k: section.as_dict() for k, section in sections.items()},
    }
    files.write_json(workdir.metrics, {**content, **results.written()})
    return files.read_json(workdir.metrics)


def summary(workdir):
    """Formats the results of a finished run in a few lines.

    Args:
        workdir: a `Workdir` with a finished run.

    Returns:
        str of several lines.
    """
    metrics = workdir.read_metrics()
    lines = []
    for name, section in metrics["test"]["sections"].items():
        lines += _section_lines(section, _HEADLINES.get(name))
    if training := metrics.get("training"):
        count = training["epochs"]
        lines.append(
            f"Trained for {count} epoch{'s' * (count != 1)} in "
            f"{training['seconds'] / 60:.1f} minutes; best epoch "
            f"{training['best_epoch']}."
        )
    lines.append(f"Results in {workdir}: model.keras, metrics.json, figures/")
    if training:
        lines.append(f"Curves: tensorboard --logdir {workdir.tensorboard}")
    return "\n".join(lines)


def _section_lines(section, names):
    measures = section["measures"]
    rows = [measures[name] for name in names or measures if name in measures]
    width = max((len(row["label"]) for row in rows), default=0)
    lines = [section["title"]]
    for row in rows:
        others = "".join(
            f", {name} {_text(estimate, row['unit'])}"
            for name, estimate in row["references"].items()
        )
        own = _text(row, row["unit"])
        lines.append(f"  {row['label']:<{width}}  {own}{others}")
    return lines + [f"  {note}" for note in section["notes"]]


def _text(estimate, unit):
    return as_text(*Estimate.from_dict(estimate), unit)
