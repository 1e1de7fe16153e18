"""A denoising autoencoder of images of any size."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_genmodels as kgm

FILTERS = (2, 3, 4)


def make(channels=1, blind=False, **kwargs):
    shape = (None, None, channels)
    if blind:
        network = kgm.bias_free_unet(shape, FILTERS, 1)
    else:
        network = kgm.unet(shape, filters=FILTERS, blocks=1)
    return kgm.DenoisingAutoencoder(network, blind=blind, **kwargs)


def patches(channels=1, size=(8, 8), count=6):
    rng = np.random.default_rng(0)
    levels = np.linspace(0.2, 0.7, channels)
    noise = rng.uniform(-0.2, 0.2, (count, *size, channels))
    return (levels + noise).astype("float32")


@pytest.fixture(scope="module")
def trained():
    model = make(2)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    model.fit(patches(2), batch_size=3, epochs=2, verbose=0)
    return model


def test_mean_and_variance_are_of_the_channels():
    model, x = make(3), patches(3)
    model.adapt(x)
    mean = x.mean((0, 1, 2))
    assert model.data_mean.shape == (1, 1, 3)
    np.testing.assert_allclose(model.data_mean[0, 0], mean, rtol=1e-5)
    variance = ((x - mean) ** 2).mean()
    np.testing.assert_allclose(model.data_stddev**2, variance, rtol=1e-5)
    # A new network returns zeros: the best estimate without one.
    noisy = patches(3, (5, 9))
    kept = variance / (variance + 0.25)
    np.testing.assert_allclose(
        model.denoise(noisy, 0.5), mean + kept * (noisy - mean), rtol=1e-4
    )


def test_it_denoises_as_one_of_a_fixed_size_with_its_weights(trained):
    network = kgm.unet((8, 12, 2), filters=FILTERS, blocks=1)
    network.set_weights(trained.network.get_weights())
    fixed = kgm.DenoisingAutoencoder(network)
    fixed.adapt(patches(2, (8, 12)))
    fixed._mean.assign(tf.broadcast_to(trained.data_mean, (8, 12, 2)))
    fixed._variance.assign(trained._variance)
    x = patches(2, (8, 12))
    np.testing.assert_allclose(
        trained.denoise(x, 0.2), fixed.denoise(x, 0.2), rtol=1e-5
    )
    terms = trained.evaluate(x, return_dict=True, verbose=0)
    fixed.compile()
    expected = fixed.evaluate(x, return_dict=True, verbose=0)
    for name in ("loss", "psnr", "squared_error"):
        assert terms[name] == pytest.approx(expected[name], rel=1e-4)


@pytest.mark.parametrize("size", [(4, 4), (7, 30)])
def test_images_of_other_sizes_are_restored(trained, size):
    x = patches(2, size, 2)
    restored = kgm.restore(trained, x, sigma=0.3, max_steps=3)
    assert restored.x.shape == x.shape
    assert trained.score(x, 0.3).shape == x.shape


def test_too_small_images_are_refused(trained):
    with pytest.raises(ValueError, match="at least 4 x 4 pixels"):
        trained.denoise(patches(2, (3, 8)), 0.3)
    with pytest.raises(ValueError, match="shape"):
        trained.denoise(patches(1), 0.3)


def test_samples_have_the_size_that_is_asked_for(trained):
    found = trained.sample(2, seed=0, shape=(6, 10, 2), num_steps=2)
    assert found.shape == (2, 6, 10, 2)
    found = trained.sample(2, seed=0, num_steps=2)
    assert found.shape == (2, 8, 8, 2)  # As the training's.
    with pytest.raises(ValueError, match="shape"):
        trained.sample(2, seed=0, shape=(8, 8, 1), num_steps=2)


def test_noisy_data_are_gaussian_pixels(trained):
    start = trained.noisy_data(2.0, (4, 5, 2))
    x = patches(2, (4, 5), 3)
    deviation = np.sqrt(float(trained._variance) + 4)
    pixels = stats.norm.logpdf(x, trained.data_mean[0, 0], deviation)
    np.testing.assert_allclose(
        start.log_prob(x), pixels.sum((1, 2, 3)), rtol=1e-5
    )


@pytest.mark.parametrize("blind", [True, False])
def test_a_file_keeps_it(tmp_path, blind):
    model = make(blind=blind)
    model.adapt(patches())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = patches(1, (5, 6))
    assert loaded.event_shape == (None, None, 1)
    np.testing.assert_array_equal(loaded.denoise(x, 0.2), model.denoise(x, 0.2))


def test_only_both_sides_of_images_are_free():
    network = kgm.unet((8, 8, 1), filters=(2,), blocks=1)
    with pytest.raises(ValueError, match="event_shape"):
        kgm.DenoisingAutoencoder(network, event_shape=(None, 8, 1))
