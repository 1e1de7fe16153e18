"""A finished run's denoiser measured on pictures, and metrics.json."""

import dataclasses
import json
import shutil

import numpy as np
import PIL.Image
import pytest
from support.evaluated_runs import MAKE, digits, finish

import keras_genmodels as kgm
from keras_genmodels.core import xla
from keras_genmodels.core.errors import UserError
from keras_genmodels.evaluation import classical
from keras_genmodels.runs import Workdir, evaluate_pictures
from keras_genmodels.runs.evaluate_pictures import PictureSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of two pictures of different sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (16, 23)), ("sub/b.png", (12, 12))):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
    return folder


def make(shape=(None, None, 1), **settings):
    network = kgm.bias_free_unet(shape, (2, 3), 1)
    made = kgm.DenoisingAutoencoder(network, blind=True, **settings)
    made.adapt(np.random.default_rng(0).random((4, 8, 8, shape[-1])))
    return made


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return finish(make(), Workdir(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def settings(source):
    return PictureSettings(str(source), (0.1, 0.2), ("tv",))


@pytest.fixture(scope="module")
def found(workdir, settings):
    assert evaluate_pictures.read_current(workdir, settings) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xla, "should_compile", lambda _: False)
        return evaluate_pictures.evaluate(workdir, settings)


def test_averages_and_each_picture_are_in_metrics_json(found, workdir):
    assert json.loads(workdir.metrics.read_text())["pictures"] == found
    average, each = (
        found["sections"][name]["measures"]
        for name in ("pictures", "each_picture")
    )
    assert average.keys() == {"psnr/0.1", "psnr/0.2", "ssim/0.1", "ssim/0.2"}
    assert {*average["psnr/0.1"]["references"]} == {"noisy", "total variation"}
    for name, measure in average.items():
        parts = [each[f"{name}/{k}"]["value"] for k in ("a.png", "sub/b.png")]
        assert measure["value"] == pytest.approx(np.mean(parts))
    assert found["num_images"] == {"pictures": 2}
    assert found["settings"] == {"sigma": "0.1, 0.2", "peers": "tv", "seed": 0}


def test_it_is_kept_until_something_changes(found, workdir, settings, tmp_path):
    read = evaluate_pictures.read_current
    assert read(workdir, settings) == found
    assert {*found["peer_versions"]["tv"]} == {"scikit-image"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classical.importlib.metadata, "version", lambda _: "99")
        assert read(workdir, settings) is None
    copy = shutil.copytree(settings.source, tmp_path / "copy")
    assert read(workdir, dataclasses.replace(settings, source=copy)) == found
    PIL.Image.new("L", (16, 23)).save(copy / "a.png")
    for change in (
        {"source": copy},
        {"levels": (0.1,)},
        {"peers": ()},
        {"seed": 1},
        {"num_pictures": 1},
        {"white_level": 9},
        {"estimate_sigma": True},
    ):
        assert read(workdir, dataclasses.replace(settings, **change)) is None


def test_other_sections_of_the_same_model_are_shown_as_well(found):
    other = {"model": found["model"], "sections": {"density": {}}}
    metrics = {"evaluation": other, "pictures": found}
    for it in (other, found):
        shown = evaluate_pictures.with_other_sections(metrics, it)
        assert {*shown["sections"]} == {"density", "pictures", "each_picture"}
    metrics["evaluation"] = {**other, "model": "another"}
    assert evaluate_pictures.with_other_sections(metrics, found) == found


def test_other_denoisers_and_pictures_are_refused(
    workdir, settings, tmp_path, source
):
    measure = evaluate_pictures.evaluate
    for name, model, words in (
        ("fixed", make((8, 8, 1)), "images of any size: evaluate it without"),
        ("channels", make((None, None, 2)), "1 or 3 channels"),
        ("vae", MAKE["vae"](), "VAE"),
    ):
        run = finish(model, Workdir(tmp_path / name), data=digits())
        before = run.metrics.read_bytes()
        with pytest.raises(UserError, match=words):
            measure(run, settings)
        assert run.metrics.read_bytes() == before
    estimating = dataclasses.replace(settings, estimate_sigma=True)
    with pytest.raises(UserError, match="estimate_sigma requires a denoiser"):
        measure(workdir, estimating)
    PIL.Image.new("L", (1, 9)).save(tmp_path / "tiny.png")
    (tmp_path / "none.png").write_text("none")
    for name, words in (
        ("tiny.png", r"tiny\.png \(9x1\): .*2x2 pixels"),
        ("none.png", "none.png cannot be read"),
        ("missing", "no such picture"),
    ):
        other = dataclasses.replace(settings, source=str(tmp_path / name))
        with pytest.raises(UserError, match=words):
            measure(workdir, other)
    large = dataclasses.replace(settings, max_pixels=9)
    with pytest.raises(UserError, match=r"a\.png \(16x23\) .*max_pixels"):
        evaluate_pictures.check(workdir, large)


def test_what_a_peer_does_not_take_is_refused_before_any_work(
    workdir, settings, tmp_path
):
    folder = tmp_path / "in"
    folder.mkdir()
    PIL.Image.new("L", (30, 40)).save(folder / "a.png")
    PIL.Image.new("L", (5, 40)).save(folder / "thin.png")
    thin = dataclasses.replace(
        settings, source=str(folder), peers=("tv", "bm3d", "nlm")
    )
    with pytest.raises(UserError, match=r"thin\.png \(40x5\): ") as refused:
        evaluate_pictures.check(workdir, thin)
    assert "BM3D" in str(refused.value) and "a.png" not in str(refused.value)
    assert "give peers=tv,nlm, or larger" in str(refused.value)
    evaluate_pictures.check(
        workdir, dataclasses.replace(thin, peers=("tv", "nlm"))
    )


def test_the_white_level_given_replaces_that_of_the_training(
    workdir, settings, tmp_path, monkeypatch, capsys
):
    measured = []
    measure = evaluate_pictures.evaluation.measure

    def spy(denoiser, image, *args, **kwargs):
        measured.append(image)
        return measure(denoiser, image, *args, **kwargs)

    monkeypatch.setattr(evaluate_pictures.evaluation, "measure", spy)
    monkeypatch.setattr(xla, "should_compile", lambda _: False)
    run = Workdir(shutil.copytree(workdir.path, tmp_path / "run"))
    deep = np.random.default_rng(0).integers(0, 4096, (12, 12), np.uint16)
    PIL.Image.fromarray(deep).save(tmp_path / "deep.png")
    of_deep = dataclasses.replace(
        settings, source=str(tmp_path / "deep.png"), white_level=4095
    )
    evaluate_pictures.evaluate(run, of_deep)
    assert "dark" not in capsys.readouterr().out
    np.testing.assert_allclose(measured[0][..., 0], deep / 4095, rtol=1e-5)
    evaluate_pictures.evaluate(
        run, dataclasses.replace(of_deep, white_level=None)
    )
    assert "dark picture: the largest value of" in capsys.readouterr().out
    too_low = dataclasses.replace(of_deep, white_level=255)
    with pytest.raises(UserError, match="above white_level=255"):
        evaluate_pictures.check(run, too_low)


def test_damaged_pictures_are_refused_before_any_work(
    workdir, settings, source, tmp_path
):
    copy = shutil.copytree(source, tmp_path / "copy")
    for name in ("b.png", "c.png"):
        # The header is whole.
        damaged = (source / "a.png").read_bytes()[:200]
        (copy / name).write_bytes(damaged)
    with pytest.raises(UserError) as refused:
        evaluate_pictures.check(
            workdir, dataclasses.replace(settings, source=str(copy))
        )
    for words in ("2 pictures: ", "b.png cannot be read", "c.png cannot"):
        assert words in str(refused.value)
