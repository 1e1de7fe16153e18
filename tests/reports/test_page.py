"""The report of evaluated runs: its content, and its layout in a browser."""

import dataclasses
import io
import re

import matplotlib.colors
import numpy as np
import PIL.Image
import pytest
from support.browser import look
from support.curve_values import CURVES
from support.html_page import Page

from keras_genmodels import plots
from keras_genmodels.core import files
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.estimates import Estimate
from keras_genmodels.reports import curves as report_curves
from keras_genmodels.reports import page as report
from keras_genmodels.runs.description import RunDescription
from keras_genmodels.runs.workdir import Workdir

# Colours that occur nowhere else on the page.
SHEETS = {"reconstructions": (250, 0, 250), "samples": (0, 250, 120)}

OTHER_CURVES = {
    name: {
        split: [(epoch, 1.2 * value) for epoch, value in curve]
        for split, curve in splits.items()
    }
    for name, splits in CURVES.items()
}


def sheet(colour, size=(120, 200)):
    picture = np.full((*size, 3), colour, np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def sections():
    references = {
        "noisy": Estimate(20.104, 0.012),
        "V V'": Estimate(21.4, 0.11),
        "Wiener": Estimate(22.66, 0.1),
        "exact": Estimate(17.04, 0.2),
    }
    psnr = {
        f"psnr/{sigma}": Measure(
            f"PSNR at sigma {sigma}",
            Estimate(24.31 - sigma, 0.12),
            "10 log10(1 / mean squared error): higher is better.",
            "dB",
            references,
        )
        for sigma in (0.1, 0.25)
    }
    # The longest numbers.
    psnr["ssim/0.01"] = Measure(
        "SSIM at sigma 0.01",
        Estimate(0.9996876, 0.0000040),
        "Structural similarity.",
        references={
            name: Estimate(0.9996552, 0.0000043) for name in references
        },
    )
    elbo = Measure("Elbo", Estimate(-22.7, 0.43), "Higher is better.", "nats")
    latent = Measure("Latents", Estimate(16), "The width of z.")
    return {
        "likelihood": Section("Likelihood", {"elbo": elbo, "latents": latent}),
        "denoising": Section("Denoising", psnr, ["Over 360 test images."]),
    }


def make_run(path="/runs/a", flags=None, **changes):
    evaluation = {
        "kind": "VAE",
        "dataset": "digits",
        "num_images": {"train": 1365, "validation": 72, "test": 360},
        "test_images": "0f3a",
        "settings": {"num_images": 360, "num_samples": 500, "seed": 0},
        "sections": {k: s.as_dict() for k, s in sections().items()},
        "seconds": 31.4,
        "written": "2026-11-22T16:00:00+00:00",
    }
    metrics = {
        "training": {
            "epochs": 200,
            "steps": 2200,
            "best_epoch": 181,
            "seconds": 90.0,
            "validation_loss": 22.51,
        },
        "written": "2026-11-22T15:00:00+00:00",
        "versions": {"keras_genmodels": "0.1.0", "python": "3.11.9"},
    }
    flags = {"beta": "1.0", "latent_size": "16", **(flags or {})}
    figures = {name: sheet(colour) for name, colour in SHEETS.items()}
    run = report.Run(path, flags, metrics, evaluation, CURVES, figures)
    return dataclasses.replace(run, **changes)


RUNS = {
    "one": lambda: [make_run()],
    "two": lambda: [
        make_run(),
        make_run(
            "/runs/b", {"beta": "4.0", "posterior": "full"}, curves=OTHER_CURVES
        ),
    ],
    # A denoiser without training, curves or figures.
    "untrained": lambda: [
        make_run(metrics={"kind": "LinearDenoiser"}, curves={}, figures={})
    ],
}


@pytest.fixture(scope="module", params=RUNS)
def any_page(request, pages):
    return pages(request.param)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Returns the path of the page of each of RUNS, written once."""
    folder = tmp_path_factory.mktemp("pages")

    def write(name):
        path = folder / f"{name}.html"
        if not path.exists():
            report.write(path, RUNS[name]())
        return path

    return write


def read(path):
    return path.read_text(encoding="utf-8")


def test_the_page_is_one_valid_file_without_scripts(any_page):
    text = read(any_page)
    assert text.startswith("<!DOCTYPE html>\n<html")
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "base"}
    for tag, attributes in page.tags:
        assert tag == "html" or not {*attributes} & {"href", "onload", "style"}
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
            assert attributes["alt"]
    assert "url(" not in text and "@import" not in text
    (language,) = page.named("html")
    assert language == {"lang": "en"}
    assert tags >= {"title", "h1", "h2", "table", "main", "header", "style"}


def test_a_page_shows_everything_known_of_a_run(pages):
    page = Page(read(pages("one")))
    for shown in (
        "VAE on digits",
        "/runs/a",
        "200 epochs, 2200 steps; 1.5 minutes; best epoch 181",
        "1365 train, 72 validation, 360 test",
        "python 3.11.9",
        "--latent_size",
        "-22.70 ± 0.43",
        "Elbo, nats",
        "Higher is better.",
        "17.04 ± 0.20",
        "Over 360 test images.",
        "num samples 500",
    ):
        assert shown in page.text
    pictures = [image["src"] for image in page.named("img")]
    # Two curves, two sheets.
    assert [p.partition(";")[0] for p in pictures] == [
        *["data:image/svg+xml"] * 2,
        *["data:image/png"] * 2,
    ]
    # Two rows of the same meaning: only the first shows it.
    assert page.text.count("10 log10") == 1


def test_flags_that_differ_between_runs_come_first(pages):
    page = Page(read(pages("two")))
    text = page.text
    order = [
        "2 runs side by side",
        "Flags that differ",
        "--beta",
        "--posterior",
        "no such flag",
        "Flags with equal values",
        "--latent_size",
        "Training curves",
        "Results",
        "Images",
    ]
    start = 0
    for words in order:
        start = text.index(words, start)
    assert "--latent_size" not in text[: text.index("Flags with equal")]
    assert len(page.named("img")) == 2 + 4
    # Both runs have the same references.
    assert text.count("noisy") == 1 and "Not the same" not in text


@pytest.fixture
def drawn_once(monkeypatch):
    """Skips the drawing of curves, for tests of other parts of the page."""
    monkeypatch.setattr(report_curves, "draw", lambda *_: b"<svg/>")


@pytest.mark.parametrize(
    ("name", "other", "warning"),
    [
        ("test_images", "0f3b", "Not the same test images"),
        ("settings", {"seed": 1}, "Not evaluated with the same settings"),
    ],
)
@pytest.mark.usefixtures("drawn_once")
def test_the_page_warns_of_runs_that_are_not_comparable(name, other, warning):
    one, two = RUNS["two"]()
    two.evaluation[name] = other
    assert warning in Page(report.page([one, two])).text


def test_a_denoiser_without_training_has_no_epochs(pages):
    assert "none needed" in Page(read(pages("untrained"))).text


def test_workdirs_of_the_same_name_are_shown_by_their_paths():
    runs = [make_run("/one/vae"), make_run("/two/vae")]
    assert [*report.named(runs)] == ["/one/vae", "/two/vae"]
    runs = [make_run("/one/a"), make_run("/two/b")]
    assert [*report.named(runs)] == ["a", "b"]


@pytest.mark.parametrize("runs", [1, 2])
def test_text_of_the_user_is_escaped(runs):
    evil = "<script>alert('&amp;\"')</script>"
    flags = {evil: evil, "ansi": "\x1b[31m\0 \udc80"}
    run = make_run(f"/{evil}", flags)
    run.evaluation["dataset"] = evil
    run.figures[evil] = sheet((1, 2, 3))
    # matplotlib reads text between dollar signs as a formula.
    other = make_run("/$x$<b>", {evil: "other"})
    text = report.page([run, other][:runs])
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "b"}
    assert evil in page.text
    assert not re.search("[\0-\x08\x0e-\x1f\ud800-\udfff]", text)
    text.encode()


@pytest.mark.usefixtures("drawn_once")
def test_a_failure_keeps_the_page_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    report.write(path, [make_run()])
    written = read(path)
    assert written == report.page([make_run()])

    def fail(runs):
        raise RuntimeError

    monkeypatch.setattr(report, "page", fail)
    with pytest.raises(RuntimeError):
        report.write(path, [make_run()])
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert read(path) == written


def test_a_run_is_read_from_its_workdir(tmp_path):
    workdir = Workdir(tmp_path)
    RunDescription("VAE", "digits", "5 images", settings={"beta": 2.0}).write(
        workdir.run
    )
    files.write_json(workdir.metrics, {"epochs": 3})
    picture = np.zeros((9, 9, 3), np.uint8)
    plots.save_png(workdir.figures / "samples.png", picture)
    run = report.read(workdir, {"kind": "VAE"})
    assert run.path == str(tmp_path)
    assert run.flags == {"dataset": "digits", "seed": "0", "beta": "2.0"}
    assert run.metrics == {"epochs": 3}
    assert run.curves == {}
    assert [*run.figures] == ["samples"]
    assert run.figures["samples"].startswith(b"\x89PNG")


# In a browser.


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
