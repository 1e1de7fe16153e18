"""Restored images: arrays, pictures, figures and the summary."""

import pathlib
import re

import numpy as np
import PIL.Image
import pytest
import skimage.metrics
from support.tiny_data import tiny_data

import keras_genmodels as kgm
from keras_genmodels import operators
from keras_genmodels.core import arrays as arrays_lib
from keras_genmodels.metrics.estimates import as_text, average
from keras_genmodels.plots import denoiser as denoiser_plots
from keras_genmodels.runs import restore as restoration_runs

SHAPE = (8, 8, 1)


def blend(x, sigma):
    """A denoiser that is a plain function: half way to grey."""
    return (x + 0.5) / 2


def restore(images, output, **kwargs):
    settings = {"sigma": 0.3, "step_size": 0.2, "max_steps": 5, **kwargs}
    return restoration_runs.restore_images(blend, images, output, **settings)


def pixels_of(path):
    with PIL.Image.open(path) as picture:
        return np.asarray(picture)


def test_images_are_written_as_arrays_pictures_and_figures(tmp_path):
    images = tiny_data(3, 3).test.images
    names = [pathlib.Path(n) for n in ("a.png", "sub/a.png", "sub/b.png")]
    text = restore(images, tmp_path, names=names)
    arrays = np.load(tmp_path / "restored.npz")
    expected = kgm.restore(
        blend, arrays_lib.as_float(images), step_size=0.2, max_steps=5
    )
    np.testing.assert_allclose(arrays["image"], expected.x, atol=1e-6)
    np.testing.assert_array_equal(arrays["num_steps"], [5, 5, 5])
    np.testing.assert_allclose(arrays["residual"], expected.residual, rtol=1e-4)
    for name, image in zip(names, arrays["image"], strict=True):
        pixels = pixels_of(tmp_path / "images" / name)
        assert pixels.shape == (8, 8)
        np.testing.assert_allclose(pixels, 255 * image[..., 0], atol=0.51)
    assert len([*(tmp_path / "images").rglob("*.png")]) == 3
    for name in ("before_after.png", "steps.png"):
        assert np.ptp(pixels_of(tmp_path / name)) > 100
    assert re.search("5 steps.* 0% .*converged", text)
    assert f"3 images in {tmp_path}" in text
    assert "images/" in text
    # Of pictures with 16 bits, which are read as floats.
    restore(arrays_lib.as_float(images), tmp_path / "deep", names=names)
    pixels = pixels_of(tmp_path / "deep" / "images" / "a.png")
    assert pixels.dtype == np.uint16 or pixels.max() > 255
    np.testing.assert_allclose(
        pixels, 65535 * arrays["image"][0, ..., 0], atol=2
    )
    for word in ("PSNR", "SSIM"):
        assert word not in text


@pytest.mark.slow
def test_psnr_and_ssim_are_reported_if_the_clean_images_are_known(tmp_path):
    images = tiny_data(3, 9).test.images
    text = restore(
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
        assert "{} before {}, after {}".format(name, *expected) in text
    assert "images/" not in text[-1]
    assert not (tmp_path / "images").exists()


def test_the_psnr_of_exact_images_is_infinite(tmp_path):
    text = restore(
        tiny_data(3, 2).test.images, tmp_path, truth_known=True, step_size=1e-9
    )
    assert "PSNR before infinite" in text


def test_images_smaller_than_the_window_of_ssim_get_psnr_only(tmp_path):
    images = np.random.default_rng(0).random((3, 6, 9, 1), np.float32)
    text = restore(images, tmp_path, truth_known=True, add_noise=0.1)
    assert "PSNR" in text
    assert "SSIM" not in text


def test_settings_are_checked_before_anything_is_written(tmp_path):
    images = tiny_data(3, 2).test.images
    output = tmp_path / "output"
    for wrong in ({"step_size": 2.0}, {"sigma": 0.0}, {"add_noise": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            restore(images, output, **wrong)
    assert not output.exists()


def test_a_figure_has_an_image_above_its_restored_one():
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
