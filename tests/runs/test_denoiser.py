"""Runs of denoisers, their evaluation and restored images, in one process."""

import json
import pathlib

import keras
import numpy as np
import PIL.Image
import pytest
import skimage.metrics
import tensorflow as tf
from support.small_vaes import make_vae
from support.tiny_data import tiny_data
from tensorboard.backend.event_processing import event_accumulator

import keras_genmodels as kgm
from keras_genmodels import datasets, operators, runs
from keras_genmodels.core import arrays as arrays_lib
from keras_genmodels.evaluation import denoising as denoising_section
from keras_genmodels.metrics import denoising, image_quality
from keras_genmodels.metrics.estimates import as_text, average
from keras_genmodels.plots import denoiser as denoiser_plots
from keras_genmodels.runs import denoiser as denoiser_runs
from keras_genmodels.runs import metrics_file
from keras_genmodels.runs import restore as restoration_runs
from keras_genmodels.runs.workdir import Workdir

SHAPE = (8, 8, 1)


def blend(x, sigma):
    """A denoiser that is a plain function: half way to grey."""
    return (x + 0.5) / 2


# Runs.


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
    model = denoiser_runs.load_denoiser(workdir)
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
    monkeypatch.setitem(denoising_section._IMAGE_MEASURES, "psnr", psnr)
    metrics = runs.train(kgm.EmpiricalDenoiser(), data, workdir)
    assert json.loads(workdir.metrics.read_text()) == metrics
    level = measures_of(metrics)["psnr/0.25"]
    assert level["value"] is None and level["infinite"] == 1
    assert "infinite, noisy infinite" in metrics_file.summary(workdir)


@pytest.mark.parametrize(
    "denoiser",
    [kgm.LinearDenoiser(), kgm.LinearDenoiser(rank=3), kgm.EmpiricalDenoiser()],
    ids=["wiener", "projection", "exact"],
)
def test_denoisers_without_training_leave_the_same_results(tmp_path, denoiser):
    workdir, data = Workdir(tmp_path / "run"), tiny_data(40, 20)
    metrics = runs.train(denoiser, data, workdir)
    assert json.loads(workdir.metrics.read_text()) == metrics
    assert metrics["kind"] == type(denoiser).__name__
    told = metrics_file.summary(workdir)
    assert "sigma 0.25" in told
    assert "epochs" not in told
    assert "tensorboard" not in told
    names = {"denoising.png", "samples.png"}
    if isinstance(denoiser, kgm.LinearDenoiser):
        names.add("singular_images.png")
    assert {path.name for path in workdir.figures.iterdir()} == names
    loaded = denoiser_runs.load_denoiser(workdir)
    noisy = arrays_lib.as_float(data.test.images)
    np.testing.assert_allclose(
        loaded.denoise(noisy, 0.3), denoiser.denoise(noisy, 0.3)
    )


def test_a_vae_is_no_denoiser(tmp_path):
    make_vae().save(tmp_path / "model.keras")
    with pytest.raises(kgm.UserError, match="holds a VAE, not a denoiser"):
        denoiser_runs.load_denoiser(Workdir(tmp_path))


# Evaluation.


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


# Restored images.


def restore(images, output, **kwargs):
    settings = {"sigma": 0.3, "step_size": 0.2, "max_steps": 5, **kwargs}
    return restoration_runs.restore_images(blend, images, output, **settings)


def pixels_of(path):
    with PIL.Image.open(path) as picture:
        return np.asarray(picture)


def test_files_are_written(tmp_path):
    images = tiny_data(3, 3).test.images
    names = [pathlib.Path(n) for n in ("a.png", "sub/a.png", "sub/b.png")]
    told = restore(images, tmp_path, names=names)
    arrays = np.load(tmp_path / "restored.npz")
    expected = kgm.restore(
        blend, arrays_lib.as_float(images), step_size=0.2, max_steps=5
    )
    np.testing.assert_allclose(arrays["image"], expected.x, atol=1e-6)
    np.testing.assert_array_equal(arrays["num_steps"], [5, 5, 5])
    np.testing.assert_allclose(arrays["residual"], expected.residual, rtol=1e-4)
    for name, image in zip(names, arrays["image"], strict=True):
        pixels = pixels_of(tmp_path / "images" / name)
        assert pixels.shape == (8, 8, 3)
        np.testing.assert_allclose(
            pixels, np.broadcast_to(255 * image, (8, 8, 3)), atol=0.51
        )
    assert len([*(tmp_path / "images").rglob("*.png")]) == 3
    for name in ("before_after.png", "steps.png"):
        assert np.ptp(pixels_of(tmp_path / name)) > 100
    assert "5 steps (median; at most 5), 0% of the images converged" in told
    assert f"3 images in {tmp_path}" in told
    assert "images/" in told
    for word in ("PSNR", "SSIM"):
        assert word not in told


def test_quality_is_told_where_the_truth_is_known(tmp_path):
    images = tiny_data(3, 9).test.images
    told = restore(
        images, tmp_path, truth_known=True, add_noise=0.4, seed=3
    ).splitlines()
    clean = arrays_lib.as_float(images)
    noisy = operators.gaussian(clean, 0.4, seed=3).numpy()
    restored = np.load(tmp_path / "restored.npz")["image"]
    measures = {
        "PSNR": lambda a, b: -10 * np.log10(np.mean((a - b) ** 2)),
        "SSIM": lambda a, b: skimage.metrics.structural_similarity(
            a[..., 0], b[..., 0], data_range=1.0
        ),
    }
    for name, measure in measures.items():
        before, after = (
            [measure(a, b) for a, b in zip(x, clean, strict=True)]
            for x in (noisy, restored)
        )
        unit = "dB" if name == "PSNR" else ""
        expected = (as_text(*average(x), unit) for x in (before, after))
        assert "{} before {}, after {}".format(name, *expected) in told
    assert "images/" not in told[-1]
    assert not (tmp_path / "images").exists()


def test_images_that_were_perfect_have_no_finite_psnr(tmp_path):
    told = restore(
        tiny_data(3, 2).test.images, tmp_path, truth_known=True, step_size=1e-9
    )
    assert "PSNR before infinite" in told


def test_images_below_the_window_of_ssim(tmp_path):
    images = np.random.default_rng(0).random((3, 6, 9, 1), np.float32)
    told = restore(images, tmp_path, truth_known=True, add_noise=0.1)
    assert "PSNR" in told
    assert "SSIM" not in told


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.full((2, 8, 8), 255, np.uint8), np.uint8),
        (np.linspace(-3, 4, 128).reshape(2, *SHAPE), np.float32),
    ],
)
def test_noisy_images_are_read_as_they_are(tmp_path, given, expected):
    np.savez(tmp_path / "x.npz", image=given)
    images = datasets.read_pictures(tmp_path / "x.npz", image_shape=SHAPE)
    assert images.dtype == expected
    np.testing.assert_allclose(images, given.reshape(2, *SHAPE), rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((3, 8, 9, 1)), r"\[3, 8, 9, 1\]"),
        (np.zeros((3, 8, 8, 3)), r"\[3, 8, 8, 3\]"),
        (np.zeros((0, *SHAPE)), r"\[0, 8, 8, 1\]"),
        (np.zeros((3, *SHAPE), np.int64), "got int64"),
        (np.full((3, *SHAPE), np.inf), "infinite"),
    ],
)
def test_images_that_the_model_does_not_take_are_refused(tmp_path, image, told):
    np.savez(tmp_path / "x.npz", image=image)
    with pytest.raises(kgm.UserError, match=told):
        datasets.read_pictures(tmp_path / "x.npz", image_shape=SHAPE)


def test_settings_are_checked_before_anything_is_written(tmp_path):
    images = tiny_data(3, 2).test.images
    output = tmp_path / "output"
    for wrong in ({"step_size": 2.0}, {"sigma": 0.0}, {"add_noise": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            restore(images, output, **wrong)
    assert not output.exists()


def test_a_sheet_keeps_the_images_of_a_column_together():
    rows = {
        "first": np.zeros((11, *SHAPE), np.float32),
        "second": np.full((11, *SHAPE), 0.5, np.float32),
    }
    sheet = denoiser_plots.before_and_after(rows)
    column = sheet[:, sheet.shape[1] // 8, 0].astype(int)
    # Twice black above grey, and white between: a title above.
    changes = [v for v in (0, 128) for _ in range(2)]
    runs = column[np.flatnonzero(np.diff(column, prepend=-1))]
    found = [v for v in runs if v in (0, 128)]
    assert sorted(found) == changes
    assert found == [0, 128, 0, 128]
