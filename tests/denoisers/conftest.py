"""What the tests of the exact denoiser share."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.dense_posterior import adapted

from keras_genmodels.denoisers import _posterior_mean, _weighted_sums


@pytest.fixture(scope="module")
def small_blocks():
    """Makes blocks of many groups, with a last one of incomplete groups.

    For the whole file, so that its tests share compiled functions.
    """
    _posterior_mean._compiled.cache_clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(_weighted_sums, "_BLOCK", 512)
        yield
    _posterior_mean._compiled.cache_clear()


@pytest.fixture(scope="module")
def digits():
    """Returns uint8 images, `[1797, 8, 8, 1]`."""
    images = load_digits().images[..., None] * 255 / 16
    return np.rint(images).astype(np.uint8)


@pytest.fixture(scope="module")
def of_digits(digits):
    """Returns the denoiser of 1500 images; not to be adapted again."""
    return adapted(digits[:1500])
