"""Tables of the evaluations of one run or of several."""

import dataclasses
import textwrap

from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.metrics.estimates import as_text as number_as_text

# Reference of an average over runs of several seeds: it belongs to that column.
SPREAD = "spread over runs"
# Width of a terminal, in characters.
_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class Row:
    """One measure.

    Args:
        label: str, with the unit.
        meaning: str, one sentence.
        cells: list of str, one for each column; "" if there is no number.
    """

    label: str
    meaning: str
    cells: list[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """One section of the evaluations.

    Args:
        title: str.
        notes: list of str.
        header: list of str, names of the columns.
        rows: list of `Row`.
    """

    title: str
    notes: list[str]
    header: list[str]
    rows: list[Row]


def tables(evaluations):
    """Builds a table of each section: a row per measure, a column per run.

    References that are the same for all runs are columns, too, and so is the
    spread of each average over runs.

    Args:
        evaluations: dict of names of runs to dicts as from
            `runs.evaluate.evaluate`.

    Returns:
        list of `Table`, one for each key of a section: sections of different
        keys are not comparable. Runs without the section have no column.
    """
    found = []
    for name in _union(e["sections"] for e in evaluations.values()):
        sections = {
            run: evaluation["sections"][name]
            for run, evaluation in evaluations.items()
            if name in evaluation["sections"]
        }
        keys = {run: _key(section) for run, section in sections.items()}
        for key in dict.fromkeys(keys.values()):
            same = {r: s for r, s in sections.items() if keys[r] == key}
            found.append(_table(same))
    return found


def warnings(evaluations):
    """Returns reasons not to compare the numbers of several runs.

    Args:
        evaluations: as in `tables`.

    Returns:
        list of str, sentences; empty if the runs are comparable.
    """
    found = [
        {"test_images": evaluation["test_images"], **evaluation["settings"]}
        for evaluation in evaluations.values()
    ]
    # Not every kind of model has every setting.
    differ = {
        name
        for name in _union(found)
        if len({values[name] for values in found if name in values}) > 1
    }
    if not differ:
        return []
    what = "evaluated with the same settings"
    if "test_images" in differ:
        what = "the same test images"
    return [f"Not {what}: the numbers of these runs are not comparable."]


def as_text(tables):
    """Formats tables for a terminal.

    Args:
        tables: list of `Table`.

    Returns:
        str of several lines.
    """
    lines = []
    for table in tables:
        rows = [["", *table.header]]
        rows += [[row.label, *row.cells] for row in table.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines.append(table.title)
        for note in table.notes:
            lines += textwrap.wrap(note, _WIDTH)
        for label, *cells in rows:
            padded = [label.ljust(widths[0])]
            padded += map(str.rjust, cells, widths[1:])
            lines.append("  ".join(padded).rstrip())
        lines.append("")
    return "\n".join(lines[:-1])


def _key(section):
    # Files of earlier versions have no key, but a title of each kind.
    return section.get("key", section["title"])


def _table(sections):
    """Builds the table of a dict of names of runs to sections.

    References are shown if they are the same for all runs with the measure.
    """
    by_run = {run: section["measures"] for run, section in sections.items()}
    names = _union(by_run.values())
    measured = {
        name: [m[name] for m in by_run.values() if name in m] for name in names
    }
    common = {name: _common(found) for name, found in measured.items()}
    columns = _union(common.values())
    spreads = {run: _spreads(measures) for run, measures in by_run.items()}
    rows = []
    for name, (first, *_) in measured.items():
        shown = []
        for run, measures in by_run.items():
            shown.append(measures.get(name))
            if spreads[run]:
                shown.append(spreads[run].get(name))
        shown += [common[name].get(kind) for kind in columns]
        unit = f", {first['unit']}" if first["unit"] else ""
        rows.append(Row(first["label"] + unit, first["meaning"], _cells(shown)))
    header = []
    for run in sections:
        header.append(run)
        if spreads[run]:
            header.append(f"{run}: {SPREAD}" if len(sections) > 1 else SPREAD)
    title = next(iter(sections.values()))["title"]
    notes = _notes(sections, columns)
    return Table(title, notes, [*header, *columns], rows)


def _spreads(measures):
    """Returns the spread of each measure of an average that has one."""
    return {
        name: measure["references"][SPREAD]
        for name, measure in measures.items()
        if SPREAD in measure["references"]
    }


def _common(measures):
    """Returns the references that are formatted the same in all measures."""
    first, *others = (measure["references"] for measure in measures)
    return {
        kind: estimate
        for kind, estimate in first.items()
        if kind != SPREAD
        and all(
            _cells([other.get(kind)]) == _cells([estimate]) for other in others
        )
    }


def _notes(sections, columns):
    """Returns the notes, prefixed with the run's name unless all share them.

    Notes on references are left out unless all these references are shown.
    """
    by_run = {}
    for run, section in sections.items():
        references = _union(
            {*measure["references"]} - {SPREAD}
            for measure in section["measures"].values()
        )
        by_run[run] = [*section["notes"]]
        if references and {*references} <= {*columns}:
            by_run[run] += section["reference_notes"]
    notes = []
    for note in _union(by_run.values()):
        of = [run for run, others in by_run.items() if note in others]
        notes.append(
            note if len(of) == len(by_run) else f"{', '.join(of)}: {note}"
        )
    return notes


def _cells(shown):
    return ["" if cell is None else _cell(cell) for cell in shown]


def _cell(estimate):
    return number_as_text(*Estimate.from_dict(estimate))


def _union(collections):
    """Returns the distinct items of all collections, in order."""
    return [*dict.fromkeys(item for part in collections for item in part)]
