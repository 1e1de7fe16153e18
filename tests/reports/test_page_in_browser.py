"""The report as a browser lays it out and paints it."""

import matplotlib.colors
import numpy as np
import PIL.Image
import pytest
from support.browser import look
from support.report_runs import RUNS, SHEETS, pages_in

from keras_genmodels.reports import curves as report_curves


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Returns the path of the page of each of RUNS, written once."""
    return pages_in(tmp_path_factory.mktemp("pages"))


def is_near(shown, colour):
    return np.abs(shown.astype(int) - colour).max(-1) < 12


def screenshot(browser, page, picture, width, *flags):
    browser(page, width, f"--screenshot={picture}", *flags)
    with PIL.Image.open(picture) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize(
    ("width", "height"),
    [(1200, 3600), pytest.param(420, 6000, marks=pytest.mark.slow)],
)
def test_a_browser_paints_the_page(browser, pages, tmp_path, width, height):
    shown = screenshot(
        browser,
        pages("two"),
        tmp_path / "page.png",
        width,
        f"--window-size={width},{height}",
    )
    assert shown.shape[1] == width
    background = shown[2, 2].astype(int)
    for colour in SHEETS.values():
        # One sheet per run, none of them shrunk.
        assert is_near(shown, colour).sum() > 5000 * 2
    for colour in report_curves.COLOURS[:2]:
        assert is_near(shown, to_rgb(colour)).sum() > 100
    # The right margin is empty.
    assert np.abs(shown[:, -8:].astype(int) - background).max() < 20


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *[("one", 420), ("two", 420), ("two", 1200)],
        pytest.param("one", 1200, marks=pytest.mark.slow),
    ],
)
def test_a_browser_lays_out_the_page_within_its_width(
    browser, pages, name, width
):
    found = look(browser, pages(name), width)
    num_runs, num_curves = len(RUNS[name]()), 2
    assert len(found["images"]) == num_curves + len(SHEETS) * num_runs
    # At least four measures: a label, and a cell for each run.
    assert len(found["cells"]) > 4 * (1 + num_runs)
    assert "sans-serif" in found["font"]


def test_a_browser_lays_out_a_page_without_pictures(browser, pages):
    found = look(browser, pages("untrained"), 1200)
    assert not found["images"] and len(found["cells"]) > 8


def test_a_dark_page_is_painted_dark(browser, pages, tmp_path):
    shown = screenshot(
        browser,
        pages("one"),
        tmp_path / "page.png",
        1200,
        "--blink-settings=preferredColorScheme=0",
    )
    assert shown[2, 2].max() < 40
    # Text, and the lines of the curves, whose colour suits both schemes.
    for colour in ("#e4e7e9", report_curves.COLOURS[0]):
        assert is_near(shown, to_rgb(colour)).sum() > 100


def to_rgb(colour):
    return [round(255 * part) for part in matplotlib.colors.to_rgb(colour)]
