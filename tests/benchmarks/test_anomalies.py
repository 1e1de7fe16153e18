"""Whether log p(x) separates other images from those like the training data."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import keras_genmodels as kgm
from keras_genmodels import datasets

SHAPE = (8, 8, 1)


def binary(split):
    return (split.images > 127).astype(np.float32)


@pytest.fixture(scope="module")
def score():
    """log p(x) under a small VAE of the binary digits without the ones."""
    keras.utils.set_random_seed(0)
    train = datasets.load("digits", validation_split=0).train
    posterior = kgm.MultivariateNormalDiag(8)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    model = kgm.VAE(
        kgm.mlp_encoder(SHAPE, posterior.params_size, (128,)),
        kgm.mlp_decoder(8, likelihood.params_shape, (128,)),
        posterior,
        likelihood,
    )
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    x = binary(train)[train.labels != 1]
    model.fit(x, batch_size=128, epochs=40, verbose=0)
    return lambda images: kgm.log_likelihood(
        model, images, num_samples=100, jit_compile=False
    ).numpy()


@pytest.fixture(scope="module")
def usual(score):
    """The test images that are no ones, and their scores."""
    test = datasets.load("digits", validation_split=0).test
    images = binary(test)[test.labels != 1]
    return images, score(images)


def separation(usual_scores, other_scores):
    """Returns the AUROC: 0.5 for chance, 1 if all others are separated."""
    scores = -np.concatenate([usual_scores, other_scores])
    return roc_auc_score(np.arange(len(scores)) >= len(usual_scores), scores)


def noise(images, generator):
    return generator.integers(0, 2, images.shape).astype(np.float32)


def shuffled(images, generator):
    rows = generator.permuted(images.reshape(len(images), -1), axis=1)
    return rows.reshape(images.shape)


OTHERS = {
    "noise": noise,
    "shuffled": shuffled,
    "rotated": lambda images, _: np.rot90(images, axes=(1, 2)),
    "inverted": lambda images, _: 1 - images,
    "black": lambda images, _: np.zeros_like(images[:1]),
    "white": lambda images, _: np.ones_like(images[:1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_images_of_another_kind_are_less_likely(score, usual, kind):
    """Measured, with three seeds: 1.000 of each kind."""
    images, scores = usual
    others = OTHERS[kind](images, np.random.default_rng(0))
    assert separation(scores, score(others)) > 0.98


@pytest.mark.slow
def test_simple_images_may_be_as_likely_as_others(score, usual):
    """The caveat of `log_likelihood`. Measured: 0.51 to 0.59."""
    test = datasets.load("digits", validation_split=0).test
    ones = binary(test)[test.labels == 1]
    assert separation(usual[1], score(ones)) < 0.75
