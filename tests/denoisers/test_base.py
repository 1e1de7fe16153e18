"""What every denoiser has of its base class."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.sampling.restoration import denoise_once

DATA = np.random.default_rng(0).random((40, 4, 4, 1), np.float32)


def network(conditional):
    return kgm.mlp_denoiser((4, 4, 1), conditional, hidden_sizes=(8,))


KINDS = {
    "exact": kgm.EmpiricalDenoiser,
    "told": lambda: kgm.DenoisingAutoencoder(network(True)),
    "one level": lambda: kgm.DenoisingAutoencoder(network(False), sigma=0.1),
}


def adapted(kind):
    denoiser = KINDS[kind]()
    denoiser.adapt(DATA)
    for weight in denoiser.trainable_weights:
        # A new network gives zeros.
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) / 5)
    return denoiser


def test_a_model_of_one_level_scores_at_that_level():
    denoiser = adapted("one level")
    expected = (denoiser.denoise(DATA[:2]) - DATA[:2]) / 0.1**2
    for sigma in (None, 0.1, 0.5):
        np.testing.assert_allclose(
            denoiser.score(DATA[:2], sigma), expected, rtol=1e-4, atol=1e-4
        )


def test_denoising_once_is_never_a_rest():
    # Far closer to D than restore's tolerance, which would leave it there.
    denoiser = adapted("exact")
    noisy = DATA[:3] + 1e-4
    assert np.array_equal(kgm.restore(denoiser, noisy, sigma=0.01).x, noisy)
    np.testing.assert_allclose(
        denoise_once(denoiser, noisy, 0.01), DATA[:3], atol=1e-6
    )


def test_denoising_once_does_not_hide_what_is_not_finite():
    def broken(x, sigma):
        return tf.where(x > 0.5, np.inf, x)

    x = np.array([[0.1, 0.2], [0.1, 0.9]], np.float32)
    found = denoise_once(broken, x)
    np.testing.assert_array_equal(found[0], x[0])
    assert np.isnan(found[1]).all()


def test_training_takes_bytes_as_adapt_does():
    denoiser = KINDS["told"]()
    denoiser.compile(keras.optimizers.SGD(0.0))
    pixels = np.round(DATA * 255).astype(np.uint8)
    denoiser.fit(pixels, verbose=0)
    # Eagerly: a graph may multiply by 1 / 255, and other bits draw otherwise.
    np.testing.assert_array_equal(
        denoiser(pixels)["denoised"],
        denoiser(pixels / np.float32(255))["denoised"],
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"sigma": "much"}, "sigma must be a number"),
        ({"sigma": 0.1, "step_size": "big"}, "step_size must be in"),
        ({"sigma": 0.1, "max_steps": None}, "max_steps must be an int"),
    ],
)
def test_what_is_no_number_is_refused(arguments, told):
    with pytest.raises(kgm.UserError, match=told):
        kgm.restore(adapted("exact"), DATA[:1], **arguments)
