"""The density section of denoisers."""

import math

import keras
import numpy as np
import pytest
from support.evaluated_runs import adapted, digits
from support.known_denoisers import Blind

import keras_genmodels as kgm
from keras_genmodels.evaluation import density


@pytest.fixture(scope="module")
def section():
    denoiser = adapted(kgm.LinearDenoiser())
    return density.section(denoiser, digits().test.images[:6], seed=0)


@pytest.mark.slow
def test_both_estimates_of_a_wiener_filter_agree(section):
    measures = section.measures
    flow = measures["log_density"].estimate.value
    integral = measures["log_density"].references["I-MMSE integral"].value
    difference = measures["difference"].estimate
    assert difference.value == pytest.approx(flow - integral, abs=1e-6)
    error = measures["log_density_error"].references["I-MMSE integral"].value
    assert abs(difference.value) < 4 * error / math.sqrt(6)
    assert measures["log_density_error"].estimate.value == 0


def test_the_density_is_that_of_dequantised_images(section):
    images = digits().test.images[:6]
    x = density.dequantize(images, 0)
    assert (np.floor(x * 255 + 1e-9) == images).all()
    denoiser = adapted(kgm.LinearDenoiser())
    nats = denoiser.noisy_data(denoiser.sigma_range[0]).log_prob(x)
    found = section.measures["log_density"].estimate.value
    # The tolerance of the solver in float32.
    assert found == pytest.approx(np.mean(nats), abs=0.1)
    bits = -np.mean(nats) / (64 * math.log(2)) + math.log2(255)
    found = section.measures["density_bits"].estimate.value
    assert found == pytest.approx(bits, abs=0.01)


@pytest.mark.slow
def test_without_label_dropout_it_is_that_of_each_images_label(section):
    images = np.random.default_rng(0).random((5, 2, 2, 1), np.float32)
    labels = np.array([0, 1, 2, 0, 1])
    network = kgm.mlp_denoiser((2, 2, 1), hidden_sizes=(8,), num_classes=3)
    denoiser = kgm.DenoisingAutoencoder(
        network, sigma=(0.05, 1.5), num_classes=3
    )
    denoiser.adapt(images)
    for weight in denoiser.trainable_weights:
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) / 9)
    found = density.terms(denoiser, images, labels, seed=0)
    for label in range(3):
        rows = labels == label
        alone = kgm.log_likelihood(denoiser, images[rows], label)
        np.testing.assert_allclose(
            found["flow/log_density"][rows], alone, atol=0.01
        )
    assert np.isfinite(found["integral/log_density"]).all()
    part = density.terms(denoiser, images, labels, seed=0, rows=range(3, 5))
    for name, values in part.items():
        np.testing.assert_allclose(values, found[name][3:], rtol=1e-3)
    made = density.section(denoiser, images, labels, seed=0, computed=found)
    assert any("log p(x | label)" in note for note in made.notes)
    assert not any("| label" in note for note in section.notes)


@pytest.mark.slow
def test_floating_images_have_no_bits_per_dimension():
    images = digits().test.images[:2] / np.float32(255)
    found = density.section(adapted(kgm.LinearDenoiser()), images, seed=0)
    assert "density_bits" not in found.measures
    assert "log_density" in found.measures


def test_a_denoiser_without_sigma_is_not_measured():
    found = density.section(Blind([1, 1]), np.zeros((2, 2)), seed=0)
    assert not found.measures
    (note,) = found.notes
    assert "does not take sigma" in note
