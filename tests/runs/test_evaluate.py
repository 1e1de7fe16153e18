"""The evaluation of a finished run, of every kind of model."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from support.evaluated_runs import (
    LATENT,
    LEVEL,
    MAKE,
    SETTINGS,
    adapted,
    digits,
    finish,
    value,
)

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core import files
from keras_genmodels.evaluation import Settings
from keras_genmodels.metrics import denoising, likelihood
from keras_genmodels.metrics.classifier import DamagedClassifierError
from keras_genmodels.metrics.estimates import average
from keras_genmodels.runs import evaluate, results
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import inputs


def each_kind(kinds):
    """Parametrises over a short evaluation of one kind, and whole ones of all.

    The whole ones are slow tests, and exhaustive ones beyond three kinds. The
    quick test of a VAE is that of the app.
    """
    quick = [kind for kind in kinds if kind == "linear"]
    marks = dict.fromkeys(kinds, pytest.mark.exhaustive)
    marks |= dict.fromkeys(("vae", "labels", "learned"), pytest.mark.slow)
    return pytest.mark.parametrize(
        ("kind", "whole"),
        [
            *((kind, False) for kind in quick),
            *(pytest.param(k, True, marks=marks[k]) for k in kinds),
        ],
    )


@each_kind(MAKE)
def test_an_evaluation_has_the_measures_of_its_family(evaluated, kind, whole):
    workdir, found = evaluated(kind, whole)
    assert files.read_json(workdir.metrics)["evaluation"] == found
    names = {
        section: {*content["measures"]}
        for section, content in found["sections"].items()
    }
    assert names["samples"] == {
        *("precision", "recall", "density", "coverage"),
        *("frechet_classifier_distance", "memorized"),
    }
    if kind in LATENT:
        parts = {"information", "marginal_kl", "inference_gap"}
        # Of models without conditions.
        assert names["likelihood"] - parts == {
            *("elbo", "rate", "distortion", "log_likelihood"),
            *("effective_samples", "entropy", "excess"),
            *("log_likelihood_excess", "latent_size", "active_units"),
            *("monte_carlo", "loss"),
        }
        assert (parts <= names["likelihood"]) == (kind == "vae")
    else:
        common = denoising.NOISE_LEVELS if whole else (LEVEL,)
        lowest = 0.02 if kind == "learned" else 0.01
        levels = [f"{sigma:g}" for sigma in (lowest, *common)]
        assert names["denoising"] == {
            f"{name}/{level}"
            for name in ("psnr", "ssim", "noise_level", "harm")
            for level in levels
        }
        assert {"converged", "num_fixed_points"} <= names["attractors"]
        assert names["density"] == {
            *("log_density", "log_density_error", "difference"),
            *("density_evaluations", "density_bits"),
        }
    assert ("labels" in names) == (kind == "labels")


@each_kind(MAKE)
def test_averages_have_errors_and_all_numbers_are_json(evaluated, kind, whole):
    workdir, found = evaluated(kind, whole)

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(workdir.metrics.read_text(), parse_constant=refuse)
    without = {"latent_size", "active_units", "num_fixed_points"}
    # A single one has no spread.
    attractors = found["sections"].get("attractors", {"measures": {}})
    if attractors["measures"].get("num_fixed_points", {}).get("value") == 1:
        without.add("spectral_radius")
    for section in found["sections"].values():
        for name, measure in section["measures"].items():
            assert measure["meaning"].endswith(".")
            assert math.isfinite(measure["value"]), name
            assert (measure["standard_error"] is None) == (name in without)


@each_kind(MAKE)
def test_test_images_are_better_samples_than_noise(evaluated, kind, whole):
    _, found = evaluated(kind, whole)
    bests = {k: max for k in ("precision", "recall", "density", "coverage")}
    for name, best in {**bests, "frechet_classifier_distance": min}.items():
        scale = found["sections"]["samples"]["measures"][name]["references"]
        values = {k: scale[k]["value"] for k in ("test images", "noise")}
        assert best(values, key=values.get) == "test images", name
    workdir, _ = evaluated(kind, whole)
    assert (workdir.figures / "nearest_training_images.png").exists()


def test_the_metrics_of_the_training_stay(tmp_path, monkeypatch):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))
    before = files.read_json(run.metrics)
    monkeypatch.setattr(
        evaluate.evaluation, "evaluate", lambda *_, **__: ({}, None)
    )
    found = evaluate.evaluate(run, digits(), SETTINGS)
    assert results.is_finished(run)
    after = files.read_json(run.metrics)
    assert after.pop("evaluation") == found
    assert after == before


def test_an_evaluation_is_current_until_model_or_settings_change(
    evaluated, tmp_path
):
    workdir, found = evaluated("linear")
    current = functools.partial(evaluate.read_current, workdir)
    assert current(SETTINGS) == found
    for name, other in {"num_images": 51, "seed": 2}.items():
        assert current(dataclasses.replace(SETTINGS, **{name: other})) is None
    # The bound's draws are no setting of a denoiser.
    more = dataclasses.replace(SETTINGS, num_samples=21)
    assert current(more) == found and "num_samples" not in found["settings"]
    moved = finish(adapted(kgm.LinearDenoiser(rank=2)), Workdir(tmp_path))
    files.write_json(moved.metrics, files.read_json(workdir.metrics))
    assert evaluate.read_current(moved, SETTINGS) is None
    files.write_json(moved.metrics, {"evaluation": 3})
    assert evaluate.read_current(moved, SETTINGS) is None


def test_an_evaluation_depends_on_settings_with_an_effect_only(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(
        evaluate.evaluation, "evaluate", lambda *_, **__: ({}, None)
    )
    run = finish(
        adapted(kgm.LinearDenoiser(rank=2)), Workdir(tmp_path / "linear")
    )
    found = evaluate.evaluate(run, digits(), SETTINGS)
    unused = evaluate.unused_settings(run)
    assert {*unused} == {"num_samples", "num_density_images"}
    assert not {*unused} & {*found["settings"]}
    other = dataclasses.replace(SETTINGS, num_density_images=5)
    assert evaluate.read_current(run, other) == found
    other = dataclasses.replace(SETTINGS, num_images=5)
    assert evaluate.read_current(run, other) is None
    latent = finish(MAKE["vae"](), Workdir(tmp_path / "vae"))
    found = evaluate.evaluate(latent, digits(), SETTINGS)
    assert evaluate.read_current(latent, SETTINGS) == found
    more = dataclasses.replace(SETTINGS, num_samples=21)
    assert evaluate.read_current(latent, more) is None


def test_a_run_in_use_is_refused(tmp_path):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))
    before = run.metrics.read_bytes()
    with (
        run.locked(),
        pytest.raises(kgm.UserError, match="another process is at work"),
    ):
        evaluate.evaluate(run, digits(), SETTINGS)
    assert run.metrics.read_bytes() == before


def test_a_run_whose_extension_was_cut_short_is_refused(tmp_path):
    run = finish(MAKE["vae"](), Workdir(tmp_path), epochs=3)
    files.write_json(
        run.metrics, {"kind": "VAE", "training": {"planned_epochs": 2}}
    )
    for use in (
        lambda: evaluate.read_current(run, SETTINGS),
        lambda: evaluate.evaluate(run, digits(), SETTINGS),
    ):
        with pytest.raises(kgm.UserError, match=r"of 2 epochs .* to 3: let"):
            use()


def test_a_run_without_results_is_refused(tmp_path):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))
    run.metrics.write_text("[]")
    with pytest.raises(kgm.UserError, match=r"metrics\.json is damaged"):
        evaluate.read_current(run, SETTINGS)
    run.metrics.unlink()
    with pytest.raises(kgm.UserError, match=r"no results in metrics\.json"):
        evaluate.read_current(run, SETTINGS)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_images": 0},
        {"num_samples": 1.5},
        {"seed": -1},
        {"classifier_steps": 0},
        {"num_density_images": 0},
    ],
)
def test_bad_settings_are_refused(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name} must be an int >="):
        Settings(**bad)


def test_data_of_another_shape_are_refused(evaluated):
    workdir, _ = evaluated("linear")
    images = np.zeros((12, 4, 4, 1), np.uint8)
    split = datasets.Split(images, None)
    other = datasets.ImageDataset("other", split, None, split, None)
    with pytest.raises(kgm.UserError, match=r"\(8, 8, 1\).*\(4, 4, 1\)"):
        evaluate.evaluate(workdir, other, SETTINGS)


@pytest.mark.usefixtures("without_xla")
def test_labels_that_the_model_does_not_have_are_refused(tmp_path):
    data = digits()
    test = datasets.Split(data.test.images, data.test.labels + 5)
    run = finish(MAKE["labels"](), Workdir(tmp_path))
    with pytest.raises(kgm.UserError, match="label"):
        evaluate.evaluate(run, dataclasses.replace(data, test=test), SETTINGS)


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_a_single_training_image_leaves_out_the_picture(tmp_path):
    data = digits()
    train = datasets.Split(data.train.images[:1], data.train.labels[:1])
    data = dataclasses.replace(data, train=train)
    run = finish(MAKE["vae"](), Workdir(tmp_path), data=data)
    found = evaluate.evaluate(run, data, SETTINGS)["sections"]["samples"]
    assert "memorized" in found["measures"]
    assert found["notes"][-1].startswith("Without a picture:")


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(kgm.UserError, match="no directory"):
        evaluate.read_current(Workdir(tmp_path / "none"), SETTINGS)


@each_kind(LATENT)
def test_bounds_are_those_of_the_library(evaluated, kind, whole):
    workdir, found = evaluated(kind, whole)
    model = workdir.load_model()
    batches = (
        workdir.read_run()
        .evaluation_batches(
            digits().test.take(SETTINGS.num_images), SETTINGS.seed
        )
        .map(inputs.input_of(model))
    )
    terms = likelihood.likelihood_terms(
        model, batches, seed=1, num_samples=20, jit_compile=False
    )
    for name in (
        *("elbo", "rate", "distortion"),
        *("log_likelihood", "effective_samples"),
    ):
        measure = found["sections"]["likelihood"]["measures"][name]
        mean, error = average(terms[name])
        assert measure["value"] == pytest.approx(mean, rel=1e-5)
        assert measure["standard_error"] == pytest.approx(error, rel=1e-4)


@each_kind(LATENT)
def test_no_model_is_below_the_entropy(evaluated, kind, whole):
    _, found = evaluated(kind, whole)
    excess = value(found, "likelihood", "excess")
    elbo, entropy = (value(found, "likelihood", n) for n in ("elbo", "entropy"))
    assert excess == pytest.approx(-elbo - entropy)
    assert 0 < value(found, "likelihood", "log_likelihood_excess") <= excess


@pytest.mark.slow
def test_completions_have_another_title(evaluated):
    title = evaluated("quadrants", True)[1]["sections"]["likelihood"]["title"]
    assert (
        title == "Likelihood of randomly binarised pixels, unseen pixels only"
    )


@each_kind(["linear"])
def test_the_wiener_filter_equals_its_reference(evaluated, kind, whole):
    _, found = evaluated(kind, whole)
    for name, measure in found["sections"]["denoising"]["measures"].items():
        same = measure["references"]["Wiener"]
        assert measure["value"] == pytest.approx(same["value"]), name
    psnr = denoising.denoising_psnr(
        adapted(kgm.LinearDenoiser()),
        digits().test.images[:50],
        [0.25],
        seed=1,
    )[0.25]
    measure = found["sections"]["denoising"]["measures"]["psnr/0.25"]
    assert measure["value"] == pytest.approx(psnr.value)
    assert measure["standard_error"] == pytest.approx(psnr.standard_error)


@each_kind(["exact"])
def test_the_exact_denoiser_converges_to_training_images(
    evaluated, kind, whole
):
    _, found = evaluated(kind, whole)
    assert value(found, "attractors", "converged") == 1
    assert value(found, "attractors", "memorized_fixed_points") > 0.5
    assert value(found, "attractors", "spectral_radius") < 1


def test_a_damaged_classifier_is_an_error_of_one_line(tmp_path, monkeypatch):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))

    def fail(*_, **__):
        raise DamagedClassifierError("x.keras is damaged: delete it")

    monkeypatch.setattr(evaluate.evaluation, "evaluate", fail)
    with pytest.raises(kgm.UserError, match=r"x\.keras is damaged"):
        evaluate.evaluate(run, digits(), SETTINGS)
