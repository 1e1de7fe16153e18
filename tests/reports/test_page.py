"""The content of the report of evaluated runs."""

import re

import numpy as np
import pytest
from support.html_page import Page
from support.report_runs import RUNS, make_run, pages_in, sheet

from keras_genmodels import plots
from keras_genmodels.core import files
from keras_genmodels.reports import curves as report_curves
from keras_genmodels.reports import page as report
from keras_genmodels.runs.description import RunDescription
from keras_genmodels.runs.workdir import Workdir


@pytest.fixture(scope="module", params=RUNS)
def any_page(request, pages):
    return pages(request.param)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Returns the path of the page of each of RUNS, written once."""
    return pages_in(tmp_path_factory.mktemp("pages"))


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
