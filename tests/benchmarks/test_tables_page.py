"""The tables that benchmarks write into docs/benchmarks.md."""

import pytest
from support.app_runs import ROOT


@pytest.fixture
def tables_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import tables_page

    return tables_page


@pytest.mark.parametrize("name", ["peers", "accelerator"])
def test_a_table_of_the_page_is_replaced(tables_page, name):
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = f"before {begin} old {end} after"
    found = tables_page.replaced(page, name, "new")
    assert found == f"before {begin}\nnew\n{end} after"
    page = tables_page.PAGE.read_text("utf-8")
    assert f"{begin}\nnew\n{end}" in tables_page.replaced(page, name, "new")
    with pytest.raises(ValueError, match="the page must contain"):
        tables_page.replaced("a page", name, "new")
