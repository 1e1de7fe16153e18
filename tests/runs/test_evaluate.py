"""What is measured of a finished run, of every kind of model."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from support.evaluated_runs import (
    KNOWN,
    LATENT,
    MAKE,
    SETTINGS,
    adapted,
    digits,
    finish,
    value,
)

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core import arrays, files
from keras_genmodels.evaluation import samples as sample_evaluation
from keras_genmodels.metrics import denoising, likelihood
from keras_genmodels.runs import evaluate, results
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import inputs


@pytest.mark.parametrize("kind", MAKE)
def test_an_evaluation_holds_what_its_kind_has(evaluated, kind):
    workdir, found = evaluated(kind)
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
        assert names["likelihood"] == {
            *("elbo", "rate", "distortion", "log_likelihood"),
            *("effective_samples", "entropy", "excess"),
            *("log_likelihood_excess", "latent_size", "active_units"),
        }
    else:
        lowest = 0.05 if kind == "learned" else 0.01
        levels = [f"{s:g}" for s in (lowest, *denoising.NOISE_LEVELS)]
        assert names["denoising"] == {
            f"{name}/{level}"
            for name in ("psnr", "ssim", "noise_level", "harm")
            for level in levels
        }
        assert {"settled", "num_fixed_points"} <= names["attractors"]
    assert ("labels" in names) == (kind == "labels")


@pytest.mark.parametrize("kind", MAKE)
def test_averages_have_errors_and_all_numbers_are_json(evaluated, kind):
    workdir, found = evaluated(kind)

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


@pytest.mark.parametrize("kind", MAKE)
def test_the_samples_can_be_read_by_their_scale(evaluated, kind):
    _, found = evaluated(kind)
    bests = {k: max for k in ("precision", "recall", "density", "coverage")}
    for name, best in {**bests, "frechet_classifier_distance": min}.items():
        scale = found["sections"]["samples"]["measures"][name]["references"]
        values = {k: scale[k]["value"] for k in ("test images", "noise")}
        assert best(values, key=values.get) == "test images", name
    workdir, _ = evaluated(kind)
    assert (workdir.figures / "nearest_training_images.png").exists()


def test_the_training_s_own_metrics_are_left_alone(tmp_path, monkeypatch):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))
    before = files.read_json(run.metrics)
    monkeypatch.setattr(evaluate, "_measured", lambda *_: ({}, None))
    found = evaluate.evaluate(run, digits(), SETTINGS)
    assert results.is_finished(run)
    after = files.read_json(run.metrics)
    assert after.pop("evaluation") == found
    assert after == before


def test_what_is_measured_is_measured_once(evaluated, tmp_path):
    workdir, found = evaluated("linear")
    current = functools.partial(evaluate.read_current, workdir)
    assert current(SETTINGS) == found
    for name, other in {"num_images": 51, "seed": 2}.items():
        assert current(dataclasses.replace(SETTINGS, **{name: other})) is None
    # The bound's draws are no setting of a denoiser.
    more = dataclasses.replace(SETTINGS, num_samples=21)
    assert current(more) == found and "num_samples" not in found["settings"]
    latent, _ = evaluated("vae")
    assert evaluate.read_current(latent, more) is None
    moved = finish(adapted(kgm.LinearDenoiser(rank=2)), Workdir(tmp_path))
    files.write_json(moved.metrics, files.read_json(workdir.metrics))
    assert evaluate.read_current(moved, SETTINGS) is None
    files.write_json(moved.metrics, {"evaluation": 3})
    assert evaluate.read_current(moved, SETTINGS) is None


def test_a_run_that_is_trained_meanwhile_is_refused(tmp_path):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))
    before = run.metrics.read_bytes()
    with (
        files.locked(run),
        pytest.raises(kgm.UserError, match="another process is at work"),
    ):
        evaluate.evaluate(run, digits(), SETTINGS)
    assert run.metrics.read_bytes() == before


def test_a_run_whose_extension_was_cut_short_is_refused(tmp_path):
    run = finish(MAKE["vae"](), Workdir(tmp_path), epochs=3)
    files.write_json(run.metrics, {"kind": "VAE", "planned_epochs": 2})
    for use in (
        lambda: evaluate.read_current(run, SETTINGS),
        lambda: evaluate.evaluate(run, digits(), SETTINGS),
    ):
        with pytest.raises(kgm.UserError, match=r"of 2 epochs .* to 3: let"):
            use()


@pytest.mark.parametrize("content", ["[]", None])
def test_a_run_without_results_is_told(tmp_path, content):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))
    run.metrics.unlink()
    if content:
        run.metrics.write_text(content)
    with pytest.raises(kgm.UserError, match=r"no results in metrics\.json"):
        evaluate.read_current(run, SETTINGS)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_images": 0},
        {"num_samples": 1.5},
        {"seed": -1},
        {"classifier_steps": 0},
    ],
)
def test_bad_settings_are_refused(bad):
    (name,) = bad
    with pytest.raises(kgm.UserError, match=f"{name} must be an int >="):
        evaluate.Settings(**bad)


def test_data_of_another_shape_are_refused(evaluated):
    workdir, _ = evaluated("vae")
    images = np.zeros((12, 4, 4, 1), np.uint8)
    split = datasets.Split(images, None)
    other = datasets.ImageDataset("other", split, None, split, None)
    with pytest.raises(kgm.UserError, match=r"\(8, 8, 1\).*\(4, 4, 1\)"):
        evaluate.evaluate(workdir, other, SETTINGS)


def test_a_run_that_is_not_there_is_told(tmp_path):
    with pytest.raises(kgm.UserError, match="no directory"):
        evaluate.read_current(Workdir(tmp_path / "none"), SETTINGS)


@pytest.mark.parametrize("kind", LATENT)
def test_bounds_are_those_of_the_library(evaluated, kind):
    workdir, found = evaluated(kind)
    model = workdir.load_model()
    split = sample_evaluation.first(digits().test, SETTINGS.num_images)
    batches = (
        workdir.read_run()
        .evaluation_batches(split, SETTINGS.seed)
        .map(inputs.input_of(model))
    )
    bound = likelihood.evaluate_bound(model, batches, seed=1)
    weighted = likelihood.evaluate_likelihood(
        model, batches, seed=1, num_samples=20
    )
    for name in ("elbo", "rate", "distortion"):
        measure = found["sections"]["likelihood"]["measures"][name]
        assert measure["value"] == pytest.approx(bound[name], rel=1e-5)
        error = bound[f"{name}_standard_error"]
        assert measure["standard_error"] == pytest.approx(error, rel=1e-4)
    for name in ("log_likelihood", "effective_samples"):
        found_value = value(found, "likelihood", name)
        assert found_value == pytest.approx(weighted[name], rel=1e-5)


@pytest.mark.parametrize("kind", LATENT)
def test_no_model_is_below_the_floor(evaluated, kind):
    _, found = evaluated(kind)
    excess = value(found, "likelihood", "excess")
    elbo, entropy = (value(found, "likelihood", n) for n in ("elbo", "entropy"))
    assert excess == pytest.approx(-elbo - entropy)
    assert 0 < value(found, "likelihood", "log_likelihood_excess") <= excess


def test_completions_have_a_title_of_their_own(evaluated):
    title = evaluated("quadrants")[1]["sections"]["likelihood"]["title"]
    assert title == "Likelihood of drawn pixels, of the unseen ones"


def test_the_wiener_filter_is_what_it_is_compared_with(evaluated):
    _, found = evaluated("linear")
    for name, measure in found["sections"]["denoising"]["measures"].items():
        same = measure["references"]["Wiener"]
        assert measure["value"] == pytest.approx(same["value"]), name
    levels = denoising.evaluate_denoiser(
        adapted(kgm.LinearDenoiser()),
        digits().test.images[:50],
        sigmas=(0.25,),
        seed=1,
    )["0.25"]
    psnr = found["sections"]["denoising"]["measures"]["psnr/0.25"]
    assert psnr["value"] == pytest.approx(levels["psnr"])
    error = levels["psnr_standard_error"]
    assert psnr["standard_error"] == pytest.approx(error)
    noisy = psnr["references"]["noisy"]["value"]
    assert noisy == pytest.approx(levels["noisy_psnr"])


def test_the_exact_denoiser_comes_to_rest_at_training_images(evaluated):
    _, found = evaluated("exact")
    assert value(found, "attractors", "settled") == 1
    assert value(found, "attractors", "memorized_fixed_points") > 0.5
    assert value(found, "attractors", "spectral_radius") < 1


def test_completions_keep_what_was_given(evaluated):
    workdir, _ = evaluated("quadrants")
    model = workdir.load_model()
    given = (digits().test.images > 127).astype(np.float32)
    samples = sample_evaluation.draw(model, digits().test, given, seed=0)
    grey = arrays.as_float(digits().test.images)
    np.testing.assert_array_equal(samples[:, KNOWN], grey[:, KNOWN])
    assert not np.array_equal(samples, grey)
