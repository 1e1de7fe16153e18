"""The page of measured tables, docs/benchmarks.md, and how to replace one."""

import pathlib

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "benchmarks.md"


def replaced(page, name, text):
    """Returns a page with a text between the two markers of a table.

    Args:
        page: str.
        name: str, of the table's markers: `<!-- NAME: begin -->`, and `end`.
        text: str.

    Raises:
        ValueError: if the page does not have both markers.
    """
    first, last = (f"<!-- {name}: {side} -->" for side in ("begin", "end"))
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"the page must contain {first} and {last}")
    return f"{before}{begin}\n{text}\n{end}{after}"
