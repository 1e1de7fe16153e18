"""The exact denoiser's bound where products are TF32, emulated on a CPU.

An emulated device is turned on after a program was traced or exported.
"""

import numpy as np
import pytest
import tensorflow as tf
from support import tf32
from support.dense_posterior import (
    adapted,
    dense,
    derivative,
    flat,
    noisy_like,
)

from keras_genmodels.core import precision
from keras_genmodels.denoisers import _posterior_mean, _weighted_sums

pytestmark = pytest.mark.usefixtures("small_blocks")

# Promised is 3e-3 of the distance of the farthest event from D.
BOUND = 3e-4

LEVELS = [0.01, 0.1, 0.5, 10.0]


def similar(digits):
    """Returns bright images that differ little, uint8 `[500, 8, 8, 1]`."""
    change = np.random.default_rng(0).integers(-3, 4, (500, *digits.shape[1:]))
    return (235 + digits[:1] // 20 + change).astype(np.uint8)


@pytest.fixture(
    scope="module",
    params=[
        "similar",
        pytest.param("digits", marks=pytest.mark.slow),
        pytest.param("floats", marks=pytest.mark.slow),
    ],
)
def data(digits, request):
    images = digits[:500] if request.param == "digits" else similar(digits)
    if request.param != "floats":
        return images
    return images / np.float32(255) + np.float32(0.01)


@pytest.fixture
def device(monkeypatch):
    """An emulated device, on which TF32 is turned off at first."""
    _posterior_mean._compiled.cache_clear()
    switch = tf32.Switch()
    tf32.emulate_device(monkeypatch, switch.read)
    yield switch
    _posterior_mean._compiled.cache_clear()


def errors(data, denoise):
    """Yields the largest error of D at each noise level.

    In units of the distance of the farthest event from D.
    """
    events = flat(data) / (255 if data.dtype == np.uint8 else 1)
    for sigma in np.float32(LEVELS):
        x = noisy_like(data, sigma)
        _, expected = dense(data, x, sigma)
        distances = np.linalg.norm(events - expected[:, None], axis=-1)
        error = flat(denoise(tf.constant(x), tf.constant(sigma))) - expected
        yield (np.linalg.norm(error, axis=1) / distances.max(1)).max()


def test_the_bound_holds_if_tf32_is_turned_on_after_tracing(data, device):
    denoiser, traces = adapted(data), []

    @tf.function(autograph=False)
    def denoise(x, sigma):
        traces.append(None)
        return denoiser.denoise(x, sigma)

    assert max(errors(data, denoise)) < BOUND
    device.is_on = True
    assert max(errors(data, denoise)) < BOUND
    assert len(traces) == 1


def test_long_sums_do_not_drift_in_tf32(device, monkeypatch):
    """Sums of bytes of one sign, cut again and again, are off by 1e-2."""
    monkeypatch.setattr(_weighted_sums, "_BLOCK", 4096)
    change = np.random.default_rng(0).random((2000, 8, 8, 1)) < 0.01
    data = (235 + change).astype(np.uint8)
    device.is_on = True
    assert max(errors(data, adapted(data).denoise)) < BOUND


def test_without_splits_tf32_breaks_the_bound(digits, monkeypatch):
    """So that the emulation is one that can find an error."""
    data = similar(digits)
    _posterior_mean._compiled.cache_clear()
    tf32.emulate_products(monkeypatch)
    assert max(errors(data, adapted(data).denoise)) > 100 * BOUND
    _posterior_mean._compiled.cache_clear()


@pytest.mark.slow
def test_programs_of_xla_split_factors_for_other_machines_only(
    digits, monkeypatch
):
    data = similar(digits)
    _posterior_mean._compiled.cache_clear()
    denoiser = adapted(data)
    # The function that it compiles asks where it runs; XLA has no answer.
    denoiser.denoise(data[:1] / np.float32(255), 0.5)
    tf32.emulate_products(monkeypatch)

    def error():
        return max(
            errors(data, tf.function(denoiser.denoise, jit_compile=True))
        )

    with precision.for_any_machine():
        assert error() < BOUND
    assert error() > 100 * BOUND
    _posterior_mean._compiled.cache_clear()


@pytest.mark.slow
def test_the_bound_holds_if_tf32_is_turned_on_after_an_export(
    data, device, tmp_path
):
    program = tf.Module()
    program.denoiser = adapted(data)
    program.denoise = tf.function(
        program.denoiser.denoise,
        input_signature=[
            tf.TensorSpec([None, *data.shape[1:]]),
            tf.TensorSpec([]),
        ],
    )
    tf.saved_model.save(program, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    device.is_on = True
    assert max(errors(data, loaded.denoise)) < BOUND


@pytest.mark.slow
def test_images_do_not_need_float64_in_tf32(digits, device, monkeypatch):
    exact_weights = _posterior_mean._exact_weights

    def spoilt(*args):
        weights = exact_weights(*args)
        return weights._replace(mean=weights.mean * np.nan)

    monkeypatch.setattr(_posterior_mean, "_exact_weights", spoilt)
    device.is_on = True
    data = digits[:1500]
    for error in errors(data, adapted(data).denoise):
        assert error < BOUND


@pytest.mark.slow
def test_derivative_and_posterior_in_tf32(data, device):
    denoiser = adapted(data)

    def computed(sigma):
        x = noisy_like(data, sigma)
        levels = np.full(len(x), sigma, np.float32)
        by_x, by_sigma = derivative(denoiser.denoise, x, levels, x - 0.5)[1:]
        found = denoiser.posterior(x, levels, 5)
        return by_x, by_sigma, found.probabilities

    for sigma in (0.05, 0.5):
        device.is_on = False
        expected = computed(sigma)
        device.is_on = True
        for found, values in zip(computed(sigma), expected, strict=True):
            largest = np.abs(values).max()
            np.testing.assert_allclose(found, values, atol=3e-3 * largest)
