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
        with pytest.raises(ValueError, match=r"data has values .* divide"):
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


def adapted_autoencoder(**kwargs):
    network = kgm.mlp_denoiser(
        SHAPE, noise_conditional=not kwargs, hidden_sizes=(4,)
    )
    model = kgm.DenoisingAutoencoder(network, **kwargs)
    model.adapt(IMAGES)
    return model


def assert_refuses(match, verb, *data, **settings):
    with pytest.raises(ValueError, match=match) as error:
        verb(*data, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [make_vae, adapted_autoencoder])
def test_verbs_refuse_wrong_data_in_one_line(make):
    model = make()
    model.compile("sgd", run_eagerly=True)
    wrong = {
        "divide grey levels": 255 * IMAGES,
        "not finite": IMAGES * np.nan,
        r"shape \[batch, 8, 8, 1\]": IMAGES[:, 1:],
    }
    for match, x in wrong.items():
        for name in ("train_on_batch", "test_on_batch", "predict_on_batch"):
            assert_refuses(match, getattr(model, name), x)
        for name in ("fit", "evaluate", "predict"):
            verb = getattr(model, name)
            assert_refuses(match, verb, x, verbose=0)
            data = tf.data.Dataset.from_tensors(x)
            assert_refuses(match, verb, data, verbose=0)
            assert_refuses(match, verb, (b for b in [x]), verbose=0)
    assert_refuses("takes batches of events, got None", model.fit)


def test_data_of_a_gaussian_likelihood_must_be_finite():
    model = make_vae(likelihood="gaussian")
    model.compile("sgd", run_eagerly=True)
    assert_refuses("not finite", model.fit, IMAGES * np.nan)


def test_pairs_on_different_scales_are_refused():
    model = adapted_autoencoder(blind=True)
    model.compile("sgd", run_eagerly=True)
    for data in (
        (255 * IMAGES, IMAGES),
        (tf.data.Dataset.from_tensors((255 * IMAGES, IMAGES)),),
    ):
        for verb in (model.fit, model.evaluate):
            assert_refuses("noisy has values .* divide", verb, *data)


@pytest.mark.parametrize("make", MAKE[:2])
def test_computed_denoisers_evaluate_and_predict_on_their_scale(make):
    model = make()
    assert_refuses("call adapt", model, IMAGES)
    model.adapt(IMAGES)
    model.compile(loss="mse", run_eagerly=True)
    sigma = np.full(20, 0.1, "float32")
    assert_refuses("divide", model.predict, [255 * IMAGES, sigma])
    assert_refuses("divide", model.evaluate, [255 * IMAGES, sigma], IMAGES)
    assert_refuses("y has", model.evaluate, [IMAGES, sigma], 255 * IMAGES)
    assert_refuses("clean targets", model.evaluate, [IMAGES, sigma])
    uint8 = (255 * IMAGES).astype("uint8")
    assert_refuses("floating type", model, [uint8, sigma])


def test_no_local_dimension_is_computed_at_grey_levels_of_255():
    model = kgm.LinearDenoiser(rank=2)
    model.adapt(IMAGES)
    with pytest.raises(ValueError, match="divide grey levels"):
        kgm.attractors.local_dimension(model, 255 * IMAGES[:2], seed=0)
