"""Evaluated runs as one self-contained HTML page."""

import base64
import dataclasses
import re

import jinja2

from keras_genmodels.core import files
from keras_genmodels.reports import curves as report_curves
from keras_genmodels.reports import tables

_TEMPLATE = "report.html.j2"
# Control characters and surrogates, which HTML does not allow.
_FORBIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """Everything that the page shows of a run.

    Args:
        path: str, path of the workdir.
        flags: dict of names of flags to their values as text.
        metrics: dict, content of `metrics.json`.
        evaluation: dict as returned by `runs.evaluate.evaluate`.
        curves: dict as returned by `reports.curves.read`.
        figures: dict of names to the bytes of PNG files.
    """

    path: str
    flags: dict
    metrics: dict
    evaluation: dict
    curves: dict
    figures: dict


@dataclasses.dataclass(frozen=True)
class _Picture:
    """An embedded picture: its data URI, alternative text and caption."""

    source: str
    alt: str
    caption: str = ""


def read(workdir, evaluation):
    """Reads what the page shows of an evaluated run.

    Args:
        workdir: the `Workdir` of a finished run.
        evaluation: dict as returned by `runs.evaluate.evaluate`.

    Returns:
        `Run`.

    Raises:
        UserError: if run.json is missing or metrics.json is damaged.
    """
    return Run(
        str(workdir),
        workdir.read_run().as_texts(),
        workdir.read_metrics(),
        evaluation,
        report_curves.read(workdir.tensorboard),
        {
            path.stem: path.read_bytes()
            for path in sorted(workdir.figures.glob("*.png"))
        },
    )


def write(path, runs):
    """Writes the page of `runs` to `path` atomically, as UTF-8."""
    with files.replacing(path) as temporary:
        temporary.write_text(page(runs), encoding="utf-8")


def page(runs):
    """Builds the page of one run, or of several runs side by side.

    It needs no network, script or other file, and follows the reader's choice
    of a dark or light colour scheme.

    Args:
        runs: list of `Run`, at least one.

    Returns:
        str, an HTML document.
    """
    runs = named(runs)
    differing = differing_flags(runs)
    evaluations = {name: run.evaluation for name, run in runs.items()}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""),
        autoescape=True,
        finalize=_clean,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(_TEMPLATE).render(
        title=_title(runs),
        several=len(runs) > 1,
        names=[*runs],
        paths=[run.path for run in runs.values()],
        differing_flags=_flag_rows(differing),
        common_flags=_flag_rows(
            {k: v for k, v in _flags(runs).items() if k not in differing}
        ),
        facts=_facts(runs),
        curves=_curves(runs),
        warnings=tables.warnings(evaluations),
        tables=tables.tables(evaluations),
        sheets=_sheets(runs),
    )


def named(runs):
    """Returns a dict of names to runs.

    Args:
        runs: list of `Run`.

    Returns:
        dict of names to `Run`s. The name is that of the workdir's folder, or
        its whole path if two folders have the same name; a single run is
        called "this model".
    """
    if len(runs) == 1:
        return {"this model": runs[0]}
    short = [_file_name(run.path) for run in runs]
    unique = len({*short}) == len(short)
    names = short if unique else [run.path for run in runs]
    return dict(zip(names, runs, strict=True))


def differing_flags(runs):
    """Returns the flags whose values differ between runs.

    Args:
        runs: dict of names to `Run`s.

    Returns:
        dict of names of flags to lists of texts, one per run; "no such flag"
        for a run without that flag.
    """
    return {
        flag: values
        for flag, values in _flags(runs).items()
        if len({*values}) > 1
    }


def _flags(runs):
    names = sorted({name for run in runs.values() for name in run.flags})
    return {
        name: [run.flags.get(name, "no such flag") for run in runs.values()]
        for name in names
    }


def _flag_rows(flags):
    return [
        tables.Row(f"--{name}", "", values) for name, values in flags.items()
    ]


def _title(runs):
    if len(runs) > 1:
        return f"{len(runs)} runs side by side"
    (run,) = runs.values()
    return f"{run.evaluation['kind']} on {_data_set(run)}"


def _data_set(run):
    return _file_name(run.evaluation["dataset"])


def _file_name(path):
    return path.rpartition("/")[2]


def _facts(runs):
    """Returns rows that describe each training and evaluation."""
    describe = {
        "Model": lambda run: run.evaluation["kind"],
        "Data set": _data_set,
        "Images": _image_counts,
        "Training": _training,
        "Validation loss": _validation_loss,
        "Finished": lambda run: _time(run.metrics),
        "Versions": _versions,
        "Evaluation": _evaluation,
    }
    rows = [
        tables.Row(label, "", [text(run) for run in runs.values()])
        for label, text in describe.items()
    ]
    return [row for row in rows if any(row.cells)]


def _image_counts(run):
    return ", ".join(
        f"{count} {split}"
        for split, count in run.evaluation["num_images"].items()
    )


def _training(run):
    training = run.metrics.get("training")
    if training is None:
        return "none needed"
    return (
        "{epochs} epoch{s}, {steps} steps; {minutes:.1f} minutes; best epoch "
        "{best_epoch}"
    ).format(
        s="s" * (training["epochs"] > 1),
        minutes=training["seconds"] / 60,
        **training,
    )


def _validation_loss(run):
    loss = run.metrics.get("training", {}).get("validation_loss")
    return "" if loss is None else f"{loss:.4g}"


def _time(record):
    time = record.get("written", "")
    return time.replace("T", " ").replace("+00:00", " UTC")


def _versions(run):
    versions = run.metrics.get("versions", {})
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _evaluation(run):
    evaluation = run.evaluation
    settings = ", ".join(
        f"{name} {value}" for name, value in evaluation["settings"].items()
    )
    return (
        f"{_time(evaluation)}, in {evaluation['seconds']:.0f} seconds; "
        f"{settings}".replace("_", " ")
    )


def _curves(runs):
    """Draws each training curve, of all runs together."""
    curves = {name: run.curves for name, run in runs.items()}
    names = dict.fromkeys(name for of_run in curves.values() for name in of_run)
    return [
        _Picture(
            _data_uri(report_curves.draw(curves, name), "svg+xml"),
            f"Curves of {name} over the epochs",
        )
        for name in names
    ]


def _sheets(runs):
    """Returns a dict of headings to pictures, one for each run that has it."""
    names = dict.fromkeys(n for run in runs.values() for n in run.figures)
    sheets = {}
    for name in names:
        title = name.replace("_", " ")
        sheets[title.capitalize()] = [
            _Picture(
                _data_uri(run.figures[name], "png"),
                f"{title} of {run_name}",
                run_name if len(runs) > 1 else "",
            )
            for run_name, run in runs.items()
            if name in run.figures
        ]
    return sheets


def _data_uri(picture, image_type):
    encoded = base64.b64encode(picture).decode()
    return f"data:image/{image_type};base64,{encoded}"


def _clean(value):
    """Replaces what HTML does not allow; Jinja calls it on each value."""
    return _FORBIDDEN.sub("\ufffd", value) if type(value) is str else value
