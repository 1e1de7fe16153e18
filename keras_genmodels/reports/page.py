"""Finished and evaluated runs in, one self-contained page of HTML out."""

import base64
import dataclasses
import re
import xml.etree.ElementTree as ET

from keras_genmodels.core import files
from keras_genmodels.reports import curves as report_curves
from keras_genmodels.reports import tables
from keras_genmodels.reports.style import STYLE

# Columns of numbers that leave room for the meanings beside them.
_FEW = 3
# What HTML has no place for: control characters, halves of characters.
_FORBIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """All that the page shows of a run.

    Args:
        path: str, of the workdir.
        flags: dict of names to texts.
        metrics: dict, what `metrics.json` holds.
        evaluation: dict as of `model_evaluation.evaluate`.
        curves: dict as of `report_curves.read`.
        figures: dict of names to PNG files as bytes.
    """

    path: str
    flags: dict
    metrics: dict
    evaluation: dict
    curves: dict
    figures: dict


def read(workdir, evaluation):
    """Reads a run that was evaluated.

    Args:
        workdir: the `Workdir` of a finished run.
        evaluation: dict as of `model_evaluation.evaluate`.

    Returns:
        `Run`.

    Raises:
        UserError: if there is no run.json, or metrics.json is damaged.
    """
    return Run(
        str(workdir),
        workdir.read_run().as_texts(),
        files.read_json(workdir.metrics),
        evaluation,
        report_curves.read(workdir.tensorboard),
        {
            path.stem: path.read_bytes()
            for path in sorted(workdir.figures.glob("*.png"))
        },
    )


def write(path, runs):
    """Writes the page, whole or not at all.

    Args:
        path: pathlib.Path.
        runs: as in `page`.
    """
    with files.replacing(path) as beside:
        beside.write_text(page(runs), encoding="utf-8")


def page(runs):
    """Makes the page: of one run, or of several side by side.

    It needs no network, no script and no other file, and follows the
    reader's choice of dark or light.

    Args:
        runs: list of `Run`, at least one.

    Returns:
        str, an HTML document.
    """
    runs = named(runs)
    title = _title(runs)
    parts = [
        _training(runs),
        _curves(runs),
        _numbers(runs),
        _figures(runs),
    ]
    head = _tag(
        "head",
        _tag("meta", charset="utf-8"),
        _tag(
            "meta",
            name="viewport",
            content="width=device-width, initial-scale=1",
        ),
        _tag("meta", name="color-scheme", content="light dark"),
        _tag("title", title),
        _tag("style", STYLE),
    )
    paths = [_tag("p", _tag("code", run.path)) for run in runs.values()]
    body = _tag(
        "body",
        _tag("header", _tag("h1", title), *paths),
        _tag("main", *(part for part in parts if part is not None)),
        class_="single" if len(runs) == 1 else "several",
    )
    html = _tag("html", head, body, lang="en")
    return "<!DOCTYPE html>\n" + ET.tostring(html, "unicode", method="html")


def named(runs):
    """Names runs: by their folders, if these are all different.

    Args:
        runs: list of `Run`.

    Returns:
        dict of names to `Run`s; of a single one "this model".
    """
    if len(runs) == 1:
        return {"this model": runs[0]}
    short = [run.path.rpartition("/")[2] for run in runs]
    unique = len({*short}) == len(short)
    names = short if unique else [run.path for run in runs]
    return dict(zip(names, runs, strict=True))


def differing_flags(runs):
    """Gives the flags that are not the same in all runs.

    Args:
        runs: dict of names to `Run`s.

    Returns:
        dict of names of flags to lists of texts, one a run, "not given" where
        a run has no such flag.
    """
    return {
        flag: values
        for flag, values in _flags(runs).items()
        if len({*values}) > 1
    }


def _flags(runs):
    names = sorted({name for run in runs.values() for name in run.flags})
    return {
        name: [run.flags.get(name, "not given") for run in runs.values()]
        for name in names
    }


def _title(runs):
    if len(runs) > 1:
        return f"{len(runs)} runs side by side"
    (run,) = runs.values()
    return f"{run.evaluation['kind']} on {_last(run.evaluation['dataset'])}"


def _last(dataset):
    """Gives the name of a data set, of a file without its folder."""
    return dataset.rpartition("/")[2]


def _training(runs):
    """Tells how the models were made; of several what differs comes first."""
    flags = _flags(runs)
    facts = _table(runs, _facts(runs))
    if len(runs) == 1:
        return _section(
            "How it was trained",
            facts,
            _details("All flags", _flag_table(runs, flags)),
        )
    differing = differing_flags(runs)
    same = {k: v for k, v in flags.items() if k not in differing}
    return _section(
        "How they were trained",
        _tag("h3", "Flags that differ"),
        _flag_table(runs, differing) if differing else _tag("p", "None."),
        _tag("h3", "Trainings"),
        facts,
        _details("Flags that all have alike", _flag_table(runs, same)),
    )


def _flag_table(runs, flags):
    return _table(
        runs,
        [(f"--{name}", "", values) for name, values in flags.items()],
    )


def _facts(runs):
    """Gives rows of what is known of each training and evaluation."""
    told = {
        "Model": lambda run: run.evaluation["kind"],
        "Data set": lambda run: _last(run.evaluation["dataset"]),
        "Images": _told_images,
        "Training": _told_training,
        "Validation loss": _told_validation,
        "Finished": lambda run: _told_time(run.metrics),
        "With": lambda run: _told_versions(run.metrics),
        "Evaluated": _told_evaluation,
    }
    rows = [
        (label, "", [tell(run) for run in runs.values()])
        for label, tell in told.items()
    ]
    return [row for row in rows if any(row[2])]


def _told_images(run):
    return ", ".join(
        f"{count} {split}"
        for split, count in run.evaluation["num_images"].items()
    )


def _told_training(run):
    if "epochs" not in run.metrics:
        return "none needed"
    return (
        "{epochs} epoch{s}, {steps} steps; {minutes:.1f} minutes; best epoch "
        "{best_epoch}"
    ).format(
        s="s" * (run.metrics["epochs"] > 1),
        minutes=run.metrics["training_seconds"] / 60,
        **run.metrics,
    )


def _told_validation(run):
    loss = run.metrics.get("validation_loss")
    return "" if loss is None else f"{loss:.4g}"


def _told_time(written):
    time = written.get("written", "")
    return time.replace("T", " ").replace("+00:00", " UTC")


def _told_versions(written):
    return ", ".join(f"{k} {v}" for k, v in written.get("versions", {}).items())


def _told_evaluation(run):
    evaluation = run.evaluation
    settings = ", ".join(
        f"{name} {value}" for name, value in evaluation["settings"].items()
    )
    return (
        f"{_told_time(evaluation)}, in {evaluation['seconds']:.0f} seconds; "
        f"{settings}".replace("_", " ")
    )


def _curves(runs):
    """Shows the curves of training, or None where nothing was trained."""
    curves = {name: run.curves for name, run in runs.items()}
    names = [
        *dict.fromkeys(name for of_run in curves.values() for name in of_run)
    ]
    if not names:
        return None
    pictures = [
        _figure(
            f"Curves of {name} over the epochs",
            report_curves.draw(curves, name),
            "image/svg+xml",
        )
        for name in names
    ]
    return _section("Curves", _tag("div", *pictures, class_="curves"))


def _numbers(runs):
    evaluations = {name: run.evaluation for name, run in runs.items()}
    parts = [
        _tag(
            "p",
            "\u00b1 is the standard error of an average over examples; the "
            "model at hand is in bold."
            if len(runs) == 1
            else "\u00b1 is the standard error of an average over examples.",
        )
    ]
    parts += [
        _tag("p", _tag("strong", warning))
        for warning in tables.warnings(evaluations)
    ]
    for table in tables.tables(evaluations):
        parts.append(_tag("h3", table.title))
        parts += [_tag("p", note, class_="note") for note in table.notes]
        rows = [
            (row.label, row.meaning, [*map(_unbroken_error, row.cells)])
            for row in table.rows
        ]
        if rows:
            parts.append(_table(table.header, rows))
    return _section("Numbers", *parts)


def _unbroken_error(cell):
    """Lets a number break before its error alone."""
    return cell.replace(" \u00b1 ", " \u00b1\u00a0")


def _figures(runs):
    """Shows the sheets of images, of several runs beside each other."""
    names = [*dict.fromkeys(n for run in runs.values() for n in run.figures)]
    if not names:
        return None
    parts = []
    for name in names:
        told = name.replace("_", " ")
        parts.append(_tag("h3", told.capitalize()))
        pictures = [
            _figure(
                f"{told} of {run_name}",
                run.figures[name],
                "image/png",
                run_name if len(runs) > 1 else "",
            )
            for run_name, run in runs.items()
            if name in run.figures
        ]
        parts.append(_tag("div", *pictures, class_="sheets"))
    return _section("Images", *parts)


def _section(title, *parts):
    return _tag("section", _tag("h2", title), *parts)


def _details(summary, *parts):
    return _tag("details", _tag("summary", summary), *parts)


def _figure(alt, picture, kind, caption=""):
    """Embeds a picture, bytes of a file of the MIME type `kind`."""
    encoded = base64.b64encode(picture).decode()
    image = _tag("img", src=f"data:{kind};base64,{encoded}", alt=alt)
    parts = [_tag("figcaption", caption)] if caption else []
    return _tag("figure", image, *parts)


def _table(header, rows):
    """Makes a table that a narrow screen shows as a list.

    Args:
        header: iterable of names of the columns.
        rows: list of (label, meaning, cells); a meaning is left out where it
            is that of the row above.
    """
    header = [*header]
    head = [_tag("td"), *(_tag("th", name, scope="col") for name in header)]
    body, last = [], ""
    for label, meaning, cells in rows:
        heading = [_tag("span", label)]
        if meaning and meaning != last:
            heading.append(_tag("small", meaning))
        last = meaning
        body.append(
            _tag(
                "tr",
                _tag("th", *heading, scope="row"),
                *(
                    _tag("td", cell, **{"data-column": name})
                    for name, cell in zip(header, cells, strict=True)
                ),
            )
        )
    return _tag(
        "table",
        _tag("thead", _tag("tr", *head)),
        _tag("tbody", *body),
        class_=_kind(header, rows),
    )


def _kind(header, rows):
    """Gives the classes of a table: of numbers, which have meanings, or not."""
    if not any(meaning for _, meaning, _ in rows):
        return "facts"
    return "numbers wide" if len(header) > _FEW else "numbers"


def _tag(name, /, *children, **attributes):
    """Makes an element, whose text is escaped when it is written.

    Args:
        name: of the tag.
        *children: elements and texts.
        **attributes: an underscore at the end of a name is left out.
    """
    element = ET.Element(
        name, {key.rstrip("_"): _clean(v) for key, v in attributes.items()}
    )
    for child in children:
        if not isinstance(child, str):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + _clean(child)
        else:
            element.text = (element.text or "") + _clean(child)
    return element


def _clean(text):
    return _FORBIDDEN.sub("\ufffd", text)
