"""Runs of several seeds in one folder: their evaluations, averaged."""

import dataclasses
import re

import numpy as np

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError
from keras_genmodels.metrics.estimates import Estimate, average
from keras_genmodels.reports.tables import SPREAD
from keras_genmodels.runs import results
from keras_genmodels.runs.workdir import Workdir

_NAME = re.compile(r"seed_(\d+)")


def workdir_of(folder, seed):
    """Returns the path of the run of a seed in a folder of such runs."""
    return files.local_path(folder) / f"seed_{seed}"


def check_folder(folder):
    """Checks that runs of several seeds may be made in a folder.

    Raises:
        UserError: if it is the workdir of a run itself.
    """
    if Workdir(folder).find_run() is not None:
        raise UserError(
            f"{folder} holds a run of its own: give another workdir for runs "
            "of several seeds"
        )


def check_single(folder):
    """Checks that a single run may be made in a folder.

    Raises:
        UserError: if it holds runs of several seeds.
    """
    if found := [run for run in runs_in(folder) if run.find_run() is not None]:
        raise UserError(
            f"{folder} holds runs of several seeds, such as {found[0]}: give "
            "another workdir for a single run, or --seeds to go on with these"
        )


def runs_in(folder):
    """Lists the runs of several seeds in a folder.

    Args:
        folder: path, or a `Workdir`.

    Returns:
        list of `Workdir`s by their seed; empty for the workdir of a run, and
        for a folder without runs of seeds.
    """
    workdir = Workdir(folder)
    if workdir.find_run() is not None or not workdir.path.is_dir():
        return []
    found = {
        int(match[1]): path
        for path in workdir.path.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    }
    return [Workdir(path) for _, path in sorted(found.items())]


def check_alike(runs):
    """Checks that runs differ in nothing but their seed.

    Args:
        runs: list of `Workdir`s.

    Raises:
        UserError: if they do not, so that they have no mean; if one was not
            begun.
    """
    for run in runs:
        if run.find_run() is None:
            raise UserError(
                f"the run {run} was not begun: train it, with the command of "
                "the other seeds, or remove the folder"
            )
    described = [run.read_run() for run in runs]
    for run, other in zip(runs[1:], described[1:], strict=True):
        first = described[0]
        same_seed = dataclasses.replace(other, seed=first.seed)
        differences = same_seed.differences(first, {})
        for name in ("kind", "program", "epochs"):
            now, before = getattr(other, name), getattr(first, name)
            if now != before:
                differences.append(f"{name}={now} (was {before})")
        if differences:
            raise UserError(
                f"{run} differs from {runs[0]} in more than the seed: "
                f"{', '.join(differences)}; give them as several --workdir, "
                "or move it elsewhere"
            )


def averages(groups, evaluations):
    """Averages the evaluations of each folder of runs of several seeds.

    Args:
        groups: dict of paths to the list of `runs_in` each; empty for a run.
        evaluations: dict of names to evaluations of all these runs, in order.

    Returns:
        dict of names to evaluations or averages, one for each path. The names
        are the paths if two folders have the same name.
    """
    rest, names, found = iter(evaluations.items()), [], []
    for path, group in groups.items():
        if group:
            names.append(Workdir(path).path.resolve().name)
            found.append(averaged(group, [next(rest)[1] for _ in group]))
        else:
            name, evaluation = next(rest)
            names.append(name)
            found.append(evaluation)
    is_unique = len({*names}) == len(names)
    return dict(zip(names if is_unique else groups, found, strict=True))


def averaged(runs, evaluations):
    """Averages the evaluations of runs that differ in their seed.

    Args:
        runs: list of `Workdir`s.
        evaluations: list of dicts as of `runs.evaluate.evaluate`, of these.

    Returns:
        dict of the same form, with `runs`, the names of the folders. The value
        of a measure is the mean over the runs; `standard_error` is that of
        this mean; the reference `spread over runs` is the standard deviation.
    """
    first = evaluations[0]
    names = [run.path.name for run in runs]
    return {
        **{k: first[k] for k in ("settings", "kind", "dataset", "num_images")},
        "test_images": _common([e["test_images"] for e in evaluations]),
        "runs": names,
        "sections": averaged_sections(names, evaluations),
        "seconds": round(sum(e["seconds"] for e in evaluations), 1),
        **results.written(),
    }


def averaged_sections(names, evaluations):
    """Averages the sections that all of several evaluations have.

    Sections of different keys have no mean, and are left out.

    Args:
        names: list of str, of the runs, for the notes.
        evaluations: list of dicts with `sections`.

    Returns:
        dict of names to dicts of `Section`s.
    """
    found = {
        name: [evaluation["sections"][name] for evaluation in evaluations]
        for name in _shared([e["sections"] for e in evaluations])
    }
    return {
        name: _section(names, sections)
        for name, sections in found.items()
        if len({section.get("key") for section in sections}) == 1
    }


def write(folder, evaluation):
    """Writes the average to `metrics.json` of the folder of the runs.

    Args:
        folder: path, or a `Workdir`.
        evaluation: dict from `averaged`.
    """
    content = {k: evaluation[k] for k in ("kind", "dataset", "runs")}
    content["evaluation"] = evaluation
    files.write_json(Workdir(folder).metrics, files.as_json(content))


def _section(names, sections):
    """Averages a section of each run."""
    first, *others = sections
    explanation = (
        f"Means over {len(names)} runs ({', '.join(names)}) with the standard "
        f"error of that mean, and the {SPREAD}, their standard deviation."
    )
    notes = [
        note
        for note in first["notes"]
        if all(note in section["notes"] for section in others)
    ]
    measures = {
        name: _measure([section["measures"][name] for section in sections])
        for name in _shared([section["measures"] for section in sections])
    }
    return {**first, "notes": [explanation, *notes], "measures": measures}


def _measure(measures):
    """Averages a measure of each run."""
    values = [Estimate.from_dict(measure).value for measure in measures]
    references = [measure["references"] for measure in measures]
    found = {name: measures[0][name] for name in ("label", "unit", "meaning")}
    return {
        **found,
        **_over_runs(values).as_dict(),
        "references": {
            **_spread(values),
            **{
                name: _reference([of_run[name] for of_run in references])
                for name in _shared(references)
            },
        },
    }


def _reference(estimates):
    """Averages a reference of each run; one of all runs stays as it is."""
    if all(it == estimates[0] for it in estimates):
        return estimates[0]
    values = [Estimate.from_dict(it).value for it in estimates]
    return _over_runs(values).as_dict()


def _over_runs(values):
    """Returns the mean over runs, without error if they agree."""
    if len({*values}) == 1:
        return Estimate(values[0])
    with np.errstate(invalid="ignore"):
        return average(values)


def _spread(values):
    """Returns the standard deviation over runs, if they are several."""
    if len(values) == 1:
        return {}
    # Infinite values have no spread.
    with np.errstate(invalid="ignore"):
        spread = Estimate(float(np.std(values, ddof=1)))
    return {SPREAD: spread.as_dict()}


def _shared(dicts):
    """Returns the keys that all dicts have, in the order of the first."""
    return [key for key in dicts[0] if all(key in it for it in dicts[1:])]


def _common(values):
    """Returns the value that all agree in, else None."""
    return values[0] if all(value == values[0] for value in values) else None
