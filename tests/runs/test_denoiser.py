"""Runs of denoisers, in one process."""

import json

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from support.cheap_training import without_xla_and_figures
from support.small_vaes import make_vae
from support.tiny_data import tiny_data
from tensorboard.backend.event_processing import event_accumulator

import keras_genmodels as kgm
from keras_genmodels import datasets, runs
from keras_genmodels.core import arrays as arrays_lib
from keras_genmodels.evaluation import denoising as denoising_section
from keras_genmodels.metrics import denoising, image_quality
from keras_genmodels.metrics.estimates import as_text
from keras_genmodels.runs import metrics_file
from keras_genmodels.runs.workdir import Workdir

SHAPE = (8, 8, 1)


def measures_of(metrics):
    return metrics["test"]["sections"]["denoising"]["measures"]


def make_dae(sigma=(0.05, 1.5)):
    network = kgm.mlp_denoiser(
        SHAPE, noise_conditional=np.ndim(sigma) == 1, hidden_sizes=(8,)
    )
    return kgm.DenoisingAutoencoder(network, sigma=sigma)


def with_validation(data):
    return datasets.ImageDataset(
        data.name, data.train, data.test, data.test, None
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on noise, and what it returned. Not to be written to."""
    keras.utils.set_random_seed(0)
    workdir = Workdir(tmp_path_factory.mktemp("run") / "dae")
    metrics = runs.train(
        make_dae(),
        with_validation(tiny_data(40, 20)),
        workdir,
        epochs=2,
        batch_size=8,
        jit_compile=False,
        verbose=0,
    )
    return workdir, metrics


def test_a_run_leaves_its_results(trained):
    workdir, metrics = trained
    assert json.loads(workdir.metrics.read_text()) == metrics
    assert metrics["kind"] == "DenoisingAutoencoder"
    training = metrics["training"]
    assert (training["epochs"], training["steps"]) == (2, 10)
    assert training["planned_epochs"] == 2
    assert training["validation_loss"] > 0
    levels = ("0.1", "0.25", "0.5", "1")
    assert [*measures_of(metrics)] == [f"psnr/{sigma}" for sigma in levels]
    assert metrics["test"]["num_images"] == 20


def test_the_model_on_disk_is_the_one_that_was_measured(trained):
    workdir, metrics = trained
    model = workdir.load_model(kgm.Denoiser)
    assert type(model) is kgm.DenoisingAutoencoder
    assert not model.compiled
    data = tiny_data(40, 20)
    again = denoising.denoising_psnr(
        model, data.test.images, (0.1, 0.25, 0.5, 1.0)
    )
    for sigma, psnr in again.items():
        measure = measures_of(metrics)[f"psnr/{sigma:g}"]
        assert measure["value"] == pytest.approx(psnr.value, rel=1e-4)
    np.testing.assert_allclose(
        model.data_mean, data.train.images.mean(0) / 255, rtol=1e-5
    )


def test_figures(trained):
    for name in ("denoising", "samples"):
        with PIL.Image.open(trained[0].figures / f"{name}.png") as picture:
            pixels = np.asarray(picture)
        assert 300 < min(pixels.shape[:2]) <= max(pixels.shape[:2]) < 1200
        assert np.ptp(pixels) > 100


def test_tensorboard(trained):
    found = event_accumulator.EventAccumulator(
        str(trained[0].tensorboard / "pictures"), {"tensors": 0}
    ).Reload()
    names = {f"psnr/sigma_{sigma}" for sigma in ("0.1", "0.25", "0.5", "1")}
    assert {*found.Tags()["tensors"]} == {"denoising", "samples"} | names
    for name in names:
        points = found.Tensors(name)
        values = [tf.make_ndarray(point.tensor_proto) for point in points]
        assert [point.step for point in points] == [0, 1]
        # A new model is a Wiener filter: better than no denoising at 0 dB,
        # and of noise little can be restored.
        assert np.all((np.array(values) > -1) & (np.array(values) < 30))
    curves = event_accumulator.EventAccumulator(
        str(trained[0].tensorboard / "validation"), {"tensors": 0}
    ).Reload()
    tags = {f"epoch_{name}" for name in ("loss", "squared_error", "psnr")}
    assert tags <= {*curves.Tags()["tensors"]}


def test_the_summary_has_the_psnr_and_where_things_are(trained):
    workdir, metrics = trained
    text = metrics_file.summary(workdir)
    measure = measures_of(metrics)["psnr/0.25"]
    own, noisy = (
        as_text(estimate["value"], estimate["standard_error"], "dB")
        for estimate in (measure, measure["references"]["noisy"])
    )
    assert f"{own}, noisy {noisy}" in text
    for words in ("20 test images", "2 epochs", str(workdir), "tensorboard"):
        assert words in text


def test_one_image_and_no_validation_at_one_level_are_enough(tmp_path):
    workdir = Workdir(tmp_path / "run")
    with without_xla_and_figures():
        metrics = runs.train(
            make_dae(0.07),
            tiny_data(9, 1),
            workdir,
            epochs=1,
            batch_size=4,
            jit_compile=False,
            verbose=0,
        )
    assert metrics["training"]["validation_loss"] is None
    assert [*measures_of(metrics)] == ["psnr/0.07"]
    assert "sigma 0.07" in metrics_file.summary(workdir)


def test_an_infinite_psnr_is_written_as_such(tmp_path, monkeypatch):
    """Such as that of an exact copy."""
    workdir, data = Workdir(tmp_path), tiny_data(9, 3)
    psnr = ("PSNR", lambda x, _: np.full(len(x), np.inf), "Infinite.", "dB")
    monkeypatch.setitem(denoising_section.IMAGE_MEASURES, "psnr", psnr)
    with without_xla_and_figures():
        metrics = runs.train(kgm.EmpiricalDenoiser(), data, workdir)
    assert json.loads(workdir.metrics.read_text()) == metrics
    level = measures_of(metrics)["psnr/0.25"]
    assert level["value"] is None and level["infinite"] == 1
    assert "infinite, noisy infinite" in metrics_file.summary(workdir)


@pytest.mark.parametrize(
    "denoiser",
    [
        kgm.LinearDenoiser(),
        pytest.param(kgm.LinearDenoiser(rank=3), marks=pytest.mark.slow),
        pytest.param(kgm.EmpiricalDenoiser(), marks=pytest.mark.slow),
    ],
    ids=["wiener", "projection", "exact"],
)
def test_denoisers_without_training_leave_the_same_results(tmp_path, denoiser):
    workdir, data = Workdir(tmp_path / "run"), tiny_data(40, 20)
    metrics = runs.train(denoiser, data, workdir)
    assert json.loads(workdir.metrics.read_text()) == metrics
    assert metrics["kind"] == type(denoiser).__name__
    text = metrics_file.summary(workdir)
    assert "sigma 0.25" in text
    assert "epochs" not in text
    assert "tensorboard" not in text
    names = {"denoising.png", "samples.png"}
    if isinstance(denoiser, kgm.LinearDenoiser):
        names.add("singular_images.png")
    assert {path.name for path in workdir.figures.iterdir()} == names
    loaded = workdir.load_model(kgm.Denoiser)
    noisy = arrays_lib.as_float(data.test.images)
    np.testing.assert_allclose(
        loaded.denoise(noisy, 0.3), denoiser.denoise(noisy, 0.3)
    )


@pytest.mark.slow
def test_a_conditional_run_is_measured_with_the_true_labels(tmp_path):
    labels = np.arange(60) % 2
    data = tiny_data(40, 20, labels)
    network = kgm.mlp_denoiser(SHAPE, num_classes=3, hidden_sizes=(8,))
    denoiser = kgm.DenoisingAutoencoder(network, num_classes=3)
    settings = {"epochs": 20, "batch_size": 8, "learning_rate": 0.03}
    metrics = runs.train(
        denoiser, with_validation(data), tmp_path / "run", **settings
    )
    model = Workdir(tmp_path / "run").load_model()
    given, others = (
        denoising.denoising_psnr(model, data.test.images, [1.0], labels)[1.0]
        for labels in (data.test.labels, 1 - data.test.labels)
    )
    measured = measures_of(metrics)["psnr/1"]["value"]
    assert measured == pytest.approx(given.value, rel=1e-6)
    assert measured != pytest.approx(others.value, rel=1e-5)
    assert {"denoising", "labels"} <= {*metrics["test"]["sections"]}
    with PIL.Image.open(tmp_path / "run/figures/samples.png") as picture:
        # No row for the label that no image has.
        assert picture.height < picture.width / 2


def test_a_vae_is_no_denoiser(tmp_path):
    make_vae().save(tmp_path / "model.keras")
    with pytest.raises(kgm.UserError, match="holds a VAE, not a Denoiser"):
        Workdir(tmp_path).load_model(kgm.Denoiser)


@pytest.mark.parametrize(
    ("sigma", "levels"),
    [((0.05, 1.5), [0.1, 0.25, 0.5, 1.0]), (0.1, [0.1]), (0.07, [0.07])],
)
def test_a_model_is_measured_at_levels_that_it_was_made_for(sigma, levels):
    assert denoising.noise_levels(make_dae(sigma)) == levels


def test_psnr_is_infinite_without_error():
    x = np.zeros((2, *SHAPE))
    x[1] += 0.1
    np.testing.assert_allclose(image_quality.psnr(x, 0 * x), [np.inf, 20])
