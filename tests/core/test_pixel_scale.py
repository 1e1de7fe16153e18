"""Images on a wrong scale are refused, in every verb."""

import numpy as np
import pytest
import tensorflow as tf
from support.small_vaes import SHAPE, binary_images, make_vae

import keras_genmodels as kgm
from keras_genmodels.core import pixel_scale
from keras_genmodels.models.likelihood import importance_weighted

IMAGES = np.random.default_rng(0).random((20, *SHAPE), np.float32)
MAKE = [
    kgm.LinearDenoiser,
    kgm.EmpiricalDenoiser,
    lambda: kgm.DenoisingAutoencoder(
        kgm.mlp_denoiser(SHAPE, hidden_sizes=(4,))
    ),
]


def test_clean_images_may_leave_the_range_a_little():
    for x in (IMAGES - 1, IMAGES + 1, IMAGES * np.nan):
        pixel_scale.check_clean(x, SHAPE)
    for x in (IMAGES - 1.5, IMAGES + 1.5, 255 * IMAGES):
        with pytest.raises(ValueError, match="divide grey levels"):
            pixel_scale.check_clean(x, SHAPE, "data")
        pixel_scale.check_clean(x.reshape(20, -1), SHAPE[:1])
        pixel_scale.check_clean(np.tile(x, 5), (*SHAPE[:2], 5))
    graph = tf.function(lambda x: pixel_scale.check_clean(x, SHAPE))
    graph(255 * IMAGES)


def test_noisy_images_may_be_ten_and_eight_sigma_from_zero():
    levels = tf.constant([0.1, 1.0] * 10)
    for factor, is_right in ((0.99, True), (1.01, False)):
        limit = factor * (10 + 8 * levels)
        x = tf.ones((20, *SHAPE)) * tf.reshape(limit, (-1, 1, 1, 1))
        if is_right:
            pixel_scale.check_noisy(-x, levels, SHAPE)
        else:
            with pytest.raises(ValueError, match="divide grey levels"):
                pixel_scale.check_noisy(-x, levels, SHAPE)


@pytest.mark.parametrize("make", MAKE)
def test_denoisers_refuse_grey_levels_of_255(make):
    model = make()
    for data in (255 * IMAGES, tf.data.Dataset.from_tensors(255 * IMAGES)):
        with pytest.raises(ValueError, match=r"adapt has values .* divide"):
            model.adapt(data)
    model.adapt(IMAGES)
    for verb in (
        model.denoise,
        model.noise,
        model.score,
        lambda x, sigma: kgm.restore(model, x, sigma=sigma),
        lambda x, sigma: model.sample(
            len(x), seed=0, initial=x, sigma_max=sigma, sigma_min=sigma
        ),
    ):
        with pytest.raises(ValueError, match="divide grey levels"):
            verb(255 * IMAGES, 0.1)
    assert np.isfinite(model.denoise(5 - 3 * IMAGES, 0.3)).all()


def test_an_adapted_autoencoder_is_not_trained_on_grey_levels_of_255():
    model = MAKE[-1]()
    model.compile("sgd")
    model.adapt(IMAGES)
    for verb in (model.fit, model.evaluate, model):
        with pytest.raises(ValueError, match="divide grey levels"):
            verb(255 * IMAGES)


def test_vectors_are_free():
    model, x = kgm.LinearDenoiser(), IMAGES.reshape(20, -1)
    model.adapt(255 * x)
    assert np.isfinite(model.denoise(255 * x, 0.1)).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_vaes_refuse_grey_levels_of_255(likelihood):
    model, x = make_vae(likelihood=likelihood), 255 * binary_images(3)
    for verb in (
        model.encode,
        lambda x: model.elbo(x, seed=0),
        lambda x: importance_weighted(model, x, num_samples=2, seed=0),
    ):
        with pytest.raises(ValueError, match="divide grey levels"):
            verb(x)


def test_a_gaussian_likelihood_takes_any_scale():
    model, x = make_vae(likelihood="gaussian"), 255 * binary_images(3)
    assert np.isfinite(model.elbo(x, seed=0)).all()
    model.encode(x)
