"""The noise level of a picture, estimated from the picture alone."""

import tracemalloc

import numpy as np
import pytest
import skimage.restoration

from keras_genmodels.metrics import noise_level


def noisy(height, width, channels=1):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + i) * np.cos(y / 7) for i in range(channels)]
    noise = np.random.default_rng(0).normal(0, 0.1, (height, width, channels))
    return np.float32(0.5 + 0.4 * np.stack(waves, -1) + noise)


@pytest.mark.parametrize(
    "size", [(2, 5), (5, 31), (16, 16), (17, 9), (18, 40), (31, 8), (33, 8)]
)
def test_it_is_that_of_scikit_image_also_in_parts(monkeypatch, size):
    monkeypatch.setattr(noise_level, "_ROWS", 16)
    image = noisy(*size, channels=3)
    image[: size[0] // 2, :, 1] = 0.25  # Coefficients that are 0.
    expected = skimage.restoration.estimate_sigma(image, channel_axis=-1)
    assert noise_level.estimate(image).tolist() == [float(x) for x in expected]


def test_a_channel_of_one_value_has_none():
    image = noisy(12, 12, channels=2)
    image[..., 1] = 0
    found = noise_level.estimate(image)
    assert np.isfinite(found).tolist() == [True, False]


def test_large_pictures_take_three_bytes_a_value():
    image = noisy(1500, 1000)
    noise_level.estimate(image[:20])
    tracemalloc.start()
    noise_level.estimate(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * image.size
