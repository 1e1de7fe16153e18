"""Which sections the evaluation of a denoiser has."""

import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core.lazy_arrays import LazyArray
from keras_genmodels.datasets import batches, patches
from keras_genmodels.datasets.picture_array import TABLE, PictureArray
from keras_genmodels.evaluation import Settings, model


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sigma": (0.1, 0.2)}, "at most 0.2, which hides no image"),
        ({"sigma": (0.1, 2.0), "blind": True}, "does not take sigma"),
        ({"sigma": (0.1, 2.0), "num_classes": 3}, None),
        ({"sigma": (0.1, 2.0)}, None),
    ],
)
def test_some_denoisers_have_no_use_for_images_of_the_density(settings, reason):
    of_network = {"num_classes": settings.get("num_classes")}
    if "blind" in settings:
        of_network["noise_conditional"] = False
    network = kgm.unet((None, None, 1), filters=(2,), blocks=1, **of_network)
    denoiser = kgm.DenoisingAutoencoder(network, **settings)
    unused = model.unused_settings(denoiser)
    assert "latent-variable" in unused["num_samples"]
    assert ("num_density_images" in unused) == (reason is not None)
    assert reason is None or reason in unused["num_density_images"]


@pytest.fixture
def of_patches(monkeypatch):
    """A data set of an endless epoch of patches, of which 20 are read."""
    monkeypatch.setattr(patches, "_MOST_VALUES", 20 * 8**2)
    pixels = np.random.default_rng(0).integers(0, 256, (32 * 32, 1), np.uint8)
    table = np.array([(0, 32, 32, 0, 255)], TABLE)
    array = patches.PatchArray(
        PictureArray(tf.constant(pixels), table),
        size=8,
        num=10**9,
        seed=batches.stream_seed(0, batches.PATCHES),
    )
    test = datasets.Split(array[20:26], None)
    return datasets.ImageDataset(
        "patches", datasets.Split(array, None), None, test
    )


@pytest.mark.slow
def test_a_denoiser_that_only_restores_is_measured_on_a_few_patches(
    of_patches, monkeypatch, tmp_path
):
    read = LazyArray.__array__

    def read_few(self, dtype=None, copy=None):
        assert len(self) <= 20
        return read(self, dtype, copy)

    monkeypatch.setattr(LazyArray, "__array__", read_few)
    network = kgm.bias_free_unet((None, None, 1), (2, 3), 1)
    denoiser = kgm.DenoisingAutoencoder(network, sigma=(0.1, 0.2), blind=True)
    denoiser.adapt(of_patches.test.images)
    settings = Settings(num_images=4)
    sections, picture = model.evaluate(denoiser, of_patches, settings, tmp_path)
    assert [*sections] == ["denoising"] and picture is None
    assert "Samples, attractors and log p(x)" in sections["denoising"].notes[-1]
    (psnr,) = (
        measure
        for name, measure in sections["denoising"].measures.items()
        if name == "psnr/0.1"
    )
    assert {"noisy", "Wiener", "exact"} <= psnr.references.keys()
