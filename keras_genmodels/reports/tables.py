"""Evaluations of one run or of several, arranged as tables."""

import dataclasses
import textwrap

from keras_genmodels.metrics.estimates import told

# Of a terminal.
_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class Row:
    """One measure.

    Args:
        label: str, with the unit.
        meaning: str, one sentence.
        cells: list of str, one a column, "" where there is nothing.
    """

    label: str
    meaning: str
    cells: list[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """One section of evaluations.

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
    """Arranges evaluations: a row a measure, a column a run.

    Args:
        evaluations: dict of names of runs to what `model_evaluation.evaluate`
            gives. References that all have alike are columns, too.

    Returns:
        list of `Table`, one for each section that any of them has, of the
        runs that have it. Sections of other titles do not compare, and are
        tables of their own.
    """
    found = []
    for name in _union(e["sections"] for e in evaluations.values()):
        sections = {
            run: evaluation["sections"][name]
            for run, evaluation in evaluations.items()
            if name in evaluation["sections"]
        }
        for title in _union([s["title"]] for s in sections.values()):
            alike = {r: s for r, s in sections.items() if s["title"] == title}
            found.append(_table(alike))
    return found


def warnings(evaluations):
    """Tells why the numbers of several runs may not be compared.

    Args:
        evaluations: as in `tables`.

    Returns:
        list of str, sentences.
    """
    found = [
        {"test_images": evaluation["test_images"], **evaluation["settings"]}
        for evaluation in evaluations.values()
    ]
    # Not all kinds of models have all settings.
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
    return [f"Not {what}: numbers of these runs don't compare."]


def as_text(tables):
    """Writes tables for a terminal.

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


def _table(sections):
    """Arranges one section, given by run.

    References are shown where all runs that have the measure have the same.
    """
    by_run = {run: section["measures"] for run, section in sections.items()}
    names = _union(by_run.values())
    measured = {
        name: [m[name] for m in by_run.values() if name in m] for name in names
    }
    common = {name: _common(found) for name, found in measured.items()}
    columns = _union(common.values())
    rows = []
    for name, (first, *_) in measured.items():
        shown = [measures.get(name) for measures in by_run.values()]
        shown += [common[name].get(kind) for kind in columns]
        unit = f", {first['unit']}" if first["unit"] else ""
        rows.append(Row(first["label"] + unit, first["meaning"], _cells(shown)))
    title = next(iter(sections.values()))["title"]
    notes = _notes(sections, columns)
    return Table(title, notes, [*sections, *columns], rows)


def _common(measures):
    """Gives the references that all have alike, as far as they are shown."""
    first, *others = (measure["references"] for measure in measures)
    return {
        kind: estimate
        for kind, estimate in first.items()
        if all(
            _cells([other.get(kind)]) == _cells([estimate]) for other in others
        )
    }


def _notes(sections, columns):
    """Gives the notes of a section, after whose they are if not of all.

    Those on references are given where all that they speak of is shown.
    """
    by_run = {}
    for run, section in sections.items():
        references = _union(
            measure["references"] for measure in section["measures"].values()
        )
        by_run[run] = [*section["notes"]]
        if references and {*references} <= {*columns}:
            by_run[run] += section["on_references"]
    told = []
    for note in _union(by_run.values()):
        of = [run for run, notes in by_run.items() if note in notes]
        told.append(
            note if len(of) == len(by_run) else f"{', '.join(of)}: {note}"
        )
    return told


def _cells(shown):
    return ["" if cell is None else _cell(cell) for cell in shown]


def _cell(estimate):
    if "infinite" in estimate:
        return "infinite" if estimate["infinite"] > 0 else "-infinite"
    return told(estimate["value"], estimate["standard_error"])


def _union(collections):
    """Gives what any of them has, each once, in the order it comes."""
    return [*dict.fromkeys(item for part in collections for item in part)]
