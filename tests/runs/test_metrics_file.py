"""`metrics.json`: its summary, and files of version 0.2."""

import json
import pathlib

import pytest

from keras_genmodels.metrics.estimates import as_text
from keras_genmodels.runs import metrics_file
from keras_genmodels.runs.workdir import Workdir

DATA = pathlib.Path(__file__).parents[1] / "data"
# Of runs that version 0.2.2 made, of an epoch each.
OLD = json.loads((DATA / "metrics_of_version_0_2.json").read_text())


def converted(kind, folder):
    workdir = Workdir(folder)
    workdir.metrics.write_text(json.dumps(OLD[kind]))
    return workdir, workdir.read_metrics()


def measures_of(metrics, section):
    return metrics["test"]["sections"][section]["measures"]


@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_old_metrics_of_latent_variable_models_keep_their_numbers(
    kind, tmp_path
):
    old = OLD[kind]
    workdir, metrics = converted(kind, tmp_path)
    found = measures_of(metrics, "likelihood")
    names = ["elbo", "rate", "distortion", "loss"]
    names += ["bits_per_dimension"] * (kind == "vae")
    sources = {name: (old["test"], name) for name in names} | {
        "monte_carlo": (old["test"]["monte_carlo"], "log_likelihood"),
        **{
            name: (old["test"]["importance_weighted"], name)
            for name in ("log_likelihood", "effective_samples")
        },
    }
    assert found.keys() == sources.keys()
    for name, (values, old_name) in sources.items():
        assert found[name]["value"] == values[old_name]
        error = values[f"{old_name}_standard_error"]
        assert found[name]["standard_error"] == error
    assert found["log_likelihood"]["label"].endswith("100 draws")
    assert metrics["test"]["num_images"] == 360
    assert metrics["training"]["seconds"] == old["training_seconds"]
    for name in ("epochs", "steps", "planned_epochs", "best_epoch"):
        assert metrics["training"][name] == old[name]
    for name in ("kind", "dataset", "label_names", "written", "versions"):
        assert metrics[name] == old[name]
    elbo = found["elbo"]
    text = as_text(elbo["value"], elbo["standard_error"], "nats")
    assert text in metrics_file.summary(workdir)


def test_old_metrics_of_labels_keep_their_numbers(tmp_path):
    old = OLD["cvae"]["labels"]
    _, metrics = converted("cvae", tmp_path)
    found = measures_of(metrics, "labels")
    accuracy = found["label_accuracy"]
    assert accuracy["value"] == old["generated"]["accuracy"]
    real = accuracy["references"]["real test images"]
    assert real["value"] == old["real"]["accuracy"]
    assert found["diversity"]["value"] == old["diversity"]


def test_old_metrics_of_denoisers_keep_their_numbers(tmp_path):
    workdir, metrics = converted("linear", tmp_path)
    assert "training" not in metrics
    found = measures_of(metrics, "denoising")
    for sigma, values in OLD["linear"]["test"]["noise_levels"].items():
        measure = found[f"psnr/{sigma}"]
        assert measure["value"] == values["psnr"]
        assert measure["standard_error"] == values["psnr_standard_error"]
        noisy = measure["references"]["noisy"]["value"]
        assert noisy == values["noisy_psnr"]
    assert "22.667 ± 0.051 dB" in metrics_file.summary(workdir)


def test_an_old_evaluation_is_made_again(tmp_path):
    workdir = Workdir(tmp_path)
    content = {**OLD["vae"], "evaluation": {"sections": {}}}
    workdir.metrics.write_text(json.dumps(content))
    assert "evaluation" not in workdir.read_metrics()


def test_current_metrics_are_read_as_they_are(tmp_path):
    workdir, metrics = converted("vae", tmp_path)
    workdir.metrics.write_text(json.dumps(metrics))
    assert workdir.read_metrics() == metrics
