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


@pytest.mark.parametrize("make", MAKE)
def test_denoisers_refuse_grey_levels_of_255(make):
    model = make()
    for data in (255 * IMAGES, tf.data.Dataset.from_tensors(255 * IMAGES)):
        with pytest.raises(ValueError, match=r"adapt has values .* divide"):
            model.adapt(data)
    model.adapt(IMAGES)
    assert np.isfinite(model.denoise(IMAGES, 0.3)).all()


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
