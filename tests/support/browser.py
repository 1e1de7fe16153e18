"""Renders pages in headless Chromium."""

import html
import json
import pathlib
import re
import shutil
import subprocess

import pytest

# Stores the boxes of the layout in the page, which --dump-dom prints.
_LOOK = """
<script>
const box = e => { const b = e.getBoundingClientRect();
                   return [b.left, b.right, b.width, b.height]; };
const cells = [...document.querySelectorAll("tbody td, tbody th")]
  .filter(e => e.textContent.trim() && !e.closest("details:not([open])"));
addEventListener("load", () => {
  document.body.dataset.look = JSON.stringify({
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    images: [...document.images].map(e => [e.naturalWidth, ...box(e)]),
    cells: cells.map(box),
    font: getComputedStyle(document.body).fontFamily,
  });
});
</script>
"""


def opener(folder):
    """Returns a function that opens a page and returns Chromium's output.

    Args:
        folder: folder for the browser's profile.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no `chromium` on PATH to render the page with")

    def open_page(page, width, *flags):
        return subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                f"--user-data-dir={folder / 'profile'}",
                "--virtual-time-budget=20000",
                f"--window-size={width},2400",
                *flags,
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
            text=True,
        ).stdout

    return open_page


def look(open_page, page, width):
    """Lays out a page and checks that nothing is hidden or cut off.

    Args:
        open_page: function returned by `opener`.
        page: pathlib.Path of the page.
        width: width of the window, in pixels.

    Returns:
        dict of `images` and `cells`, lists of boxes, and `font`.
    """
    copy = pathlib.Path(page).with_suffix(".look.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", f"{_LOOK}</body>"))
    shown = open_page(copy, width, "--dump-dom")
    (boxes,) = re.findall(r'<body[^>]* data-look="([^"]*)"', shown)
    found = json.loads(html.unescape(boxes))
    assert found["page"] <= found["width"]
    for natural, left, right, wide, high in found["images"]:
        assert natural > 0 and wide > 80 and high > 30
        assert 0 <= left < right <= found["width"]
    for left, right, wide, high in found["cells"]:
        assert wide > 10 and high > 10
        assert 0 <= left < right <= found["width"]
    return found
