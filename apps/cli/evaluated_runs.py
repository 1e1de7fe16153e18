"""The runs of `apps.evaluate`, also those of several seeds in a folder."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile

from . import guard


def check_distinct(paths):
    """Checks that no --workdir is named twice."""
    if len({*paths}) < len(paths):
        raise guard.WrongFlags("--workdir names a run twice: name each once")


def runs_of(config):
    """Returns a dict of each --workdir to its runs of seeds, if it has such."""
    from keras_genmodels.runs import seeds

    groups = {path: seeds.runs_in(path) for path in config.workdir}
    for group in groups.values():
        seeds.check_alike(group)
    if config.shard or config.merge:
        for path, group in groups.items():
            if group:
                raise guard.WrongFlags(
                    f"--shard and --merge take a single run, and {path} holds "
                    f"those of several seeds: give one, such as {group[0]}"
                )
    return groups


def evaluate_all(groups, kind, output):
    """Evaluates runs, unless their evaluations are up to date.

    Args:
        groups: dict from `runs_of`.
        kind: `OfTestImages` or `OfPictures` of `evaluations`.
        output: pathlib.Path of the report.

    Returns:
        list of `reports.page.Run`s.
    """
    from keras_genmodels.reports import page
    from keras_genmodels.runs.workdir import Workdir

    workdirs = [
        workdir
        for path, group in groups.items()
        for workdir in group or [Workdir(path)]
    ]
    check_distinct([str(workdir) for workdir in workdirs])
    # All of them first: a missing run ends the app before minutes pass.
    earlier = kind.read_all(workdirs)
    with contextlib.ExitStack() as stack:
        places = [_writable(workdir, output, stack) for workdir in workdirs]
        classifiers = places[0].path / "classifiers"
        runs = [
            page.read(place, _evaluate(kind, place, found, classifiers))
            for place, found in zip(places, earlier, strict=True)
        ]
    return [
        dataclasses.replace(run, path=str(workdir))
        for run, workdir in zip(runs, workdirs, strict=True)
    ]


def write_averages(groups, shown, kept):
    """Writes the averages of folders of runs of several seeds.

    Args:
        groups: dict from `runs_of`.
        shown: dict from `seeds.averages`.
        kept: paths of the folders to whose metrics.json averages are written;
            those of pictures are printed only.
    """
    from keras_genmodels.runs import seeds

    for path, average in zip(groups, shown.values(), strict=True):
        if path in kept:
            seeds.write(path, average)
            print(f"Mean and spread over {len(groups[path])} runs in {path}")


def is_writable(folder, output):
    """Returns whether a folder can be written to, unlike `output` if not."""
    if os.access(folder, os.W_OK):
        return True
    if output.parent.resolve() == pathlib.Path(folder).resolve():
        raise guard.WrongFlags(
            f"{folder} cannot be written to: give --output in another folder"
        )
    return False


def _writable(workdir, output, stack):
    """Returns a run, or a temporary copy of one that cannot be written to."""
    from keras_genmodels.runs import evaluate as model_evaluation

    if is_writable(workdir.path, output):
        return workdir
    print(f"{workdir} cannot be written to: the results are in {output} only.")
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return model_evaluation.copy(workdir, folder)


def _evaluate(kind, workdir, earlier, classifiers):
    """Evaluates a run, unless its evaluation is up to date."""
    if earlier is None:
        return kind.evaluate(workdir, classifiers)
    date = earlier["written"].replace("T", " ")
    print(f"{workdir} was evaluated before, with the same flags ({date}).")
    return earlier
