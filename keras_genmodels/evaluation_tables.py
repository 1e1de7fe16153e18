"""Evaluations of one run or of several, arranged as tables."""

import dataclasses
import textwrap

from keras_genmodels.measures import told

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
            gives. Of a single one the references are columns, too.

    Returns:
        list of `Table`, one for each section that any of them has.
    """
    found = []
    for name in _union(e["sections"] for e in evaluations.values()):
        sections = {
            run: evaluation["sections"].get(name, {})
            for run, evaluation in evaluations.items()
        }
        found.append(_table(sections))
    return found


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
    """Arranges one section, given by run; {} where a run has none."""
    kinds = ["notes", "on_references"] if len(sections) == 1 else ["notes"]
    notes = _union(s.get(kind, []) for s in sections.values() for kind in kinds)
    by_run = {run: s.get("measures", {}) for run, s in sections.items()}
    names = _union(by_run.values())
    first = {
        name: next(m[name] for m in by_run.values() if name in m)
        for name in names
    }
    references = []
    if len(sections) == 1:
        references = _union(m["references"] for m in first.values())
    rows = []
    for name, measure in first.items():
        shown = [measures.get(name) for measures in by_run.values()]
        shown += [measure["references"].get(kind) for kind in references]
        unit = f", {measure['unit']}" if measure["unit"] else ""
        rows.append(
            Row(measure["label"] + unit, measure["meaning"], _cells(shown))
        )
    title = next(s["title"] for s in sections.values() if s)
    return Table(title, notes, [*sections, *references], rows)


def _cells(shown):
    return [
        "" if cell is None else told(cell["value"], cell["standard_error"])
        for cell in shown
    ]


def _union(collections):
    """Gives what any of them has, each once, in the order it comes."""
    return [*dict.fromkeys(item for part in collections for item in part)]
