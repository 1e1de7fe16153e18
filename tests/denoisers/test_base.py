"""What every denoiser has from its base class."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.sampling.restoration import denoise_once

DATA = np.random.default_rng(0).random((40, 4, 4, 1), np.float32)


def network(noise_conditional):
    return kgm.mlp_denoiser(
        (4, 4, 1), noise_conditional=noise_conditional, hidden_sizes=(8,)
    )


KINDS = {
    "exact": kgm.EmpiricalDenoiser,
    "range": lambda: kgm.DenoisingAutoencoder(network(True)),
    "one level": lambda: kgm.DenoisingAutoencoder(network(False), sigma=0.1),
}


def adapted(kind):
    denoiser = KINDS[kind]()
    denoiser.adapt(DATA)
    for weight in denoiser.trainable_weights:
        # A new network returns zeros.
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) / 5)
    return denoiser


def test_a_denoiser_of_one_level_scores_at_that_level():
    denoiser = adapted("one level")
    expected = (denoiser.denoise(DATA[:2]) - DATA[:2]) / 0.1**2
    for sigma in (None, 0.1, 0.5):
        np.testing.assert_allclose(
            denoiser.score(DATA[:2], sigma), expected, rtol=1e-4, atol=1e-4
        )


def test_denoise_once_ignores_the_tolerance():
    # So close to D that `restore` stops at once.
    denoiser = adapted("exact")
    noisy = DATA[:3] + 1e-4
    assert np.array_equal(kgm.restore(denoiser, noisy, sigma=0.01).x, noisy)
    np.testing.assert_allclose(
        denoise_once(denoiser, noisy, 0.01), DATA[:3], atol=1e-6
    )


def test_denoise_once_returns_nan_if_d_is_not_finite():
    def broken(x, sigma):
        return tf.where(x > 0.5, np.inf, x)

    x = np.array([[0.1, 0.2], [0.1, 0.9]], np.float32)
    found = denoise_once(broken, x)
    np.testing.assert_array_equal(found[0], x[0])
    assert np.isnan(found[1]).all()


def test_training_reads_uint8_as_adapt_does(run_eagerly):
    denoiser = KINDS["range"]()
    denoiser.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
    pixels = np.round(DATA * 255).astype(np.uint8)
    denoiser.fit(pixels, verbose=0)
    # Eagerly: a graph may multiply by 1 / 255; other bits are other seeds.
    np.testing.assert_array_equal(
        denoiser(pixels)["denoised"],
        denoiser(pixels / np.float32(255))["denoised"],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": "much"}, "sigma must be a number"),
        ({"sigma": 0.1, "step_size": "big"}, "step_size must be in"),
        ({"sigma": 0.1, "max_steps": None}, "max_steps must be an int"),
    ],
)
def test_settings_that_are_no_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kgm.restore(adapted("exact"), DATA[:1], **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_sample_equals_generate(kind):
    denoiser = adapted(kind)
    found = denoiser.sample(3, seed=1, num_steps=4)
    expected = kgm.generate(denoiser, (4, 4, 1), 3, seed=1, num_steps=4)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "num must be an int"),
        ({"num": 2, "condition": [1, 2]}, "not conditional"),
        ({"num": 2, "guidance": 1.0}, "guidance .* 0 without a label"),
    ],
)
def test_sample_refuses_conditions(arguments, message):
    with pytest.raises(ValueError, match=message):
        adapted("exact").sample(**arguments, seed=0)
    with pytest.raises(ValueError, match=r"adapt\(data\)"):
        KINDS["exact"]().sample(2, seed=0)
    with pytest.raises(ValueError, match="not conditional"):
        adapted("exact").denoise(DATA[:1], 0.1, condition=[1])
