"""Finished runs of small models of every kind, evaluated."""

import contextlib
import functools
from unittest import mock

import numpy as np
import sklearn.datasets

import keras_genmodels as kgm
from keras_genmodels import datasets, operators
from keras_genmodels.core import files, xla
from keras_genmodels.evaluation import Settings
from keras_genmodels.metrics import denoising
from keras_genmodels.runs import evaluate as model_evaluation
from keras_genmodels.runs import results
from keras_genmodels.runs.description import RunDescription
from keras_genmodels.runs.workdir import Workdir
from support.small_vaes import make_vae

SHAPE = (8, 8, 1)
NUM_TRAIN, NUM_TEST = 200, 60
LEVEL = 0.25
SETTINGS = Settings(
    num_images=50,
    num_samples=20,
    seed=1,
    classifier_steps=30,
    num_density_images=4,
)
KNOWN = operators.observed_quadrants(SHAPE, 2)


@functools.cache
def digits():
    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    train, test = (
        datasets.Split(images[part], labels[part])
        for part in (slice(NUM_TRAIN), slice(-NUM_TEST, None))
    )
    return datasets.ImageDataset("digits", train, None, test, None)


def make_cvae(condition_network, size, posterior="diagonal", **kwargs):
    posterior = {
        "diagonal": kgm.MultivariateNormalDiag,
        "full": kgm.MultivariateNormalTriL,
    }[posterior](3)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    sizes = {"hidden_sizes": (16,), "condition_size": size}
    return kgm.ConditionalVAE(
        kgm.mlp_encoder(SHAPE, posterior.params_size, **sizes),
        kgm.mlp_decoder(3, likelihood.params_shape, **sizes),
        posterior,
        likelihood,
        condition_network,
        kgm.mlp_prior(size, posterior.params_size, (8,)),
        **kwargs,
    )


def adapted(denoiser):
    denoiser.adapt(digits().train.images)
    return denoiser


MAKE = {
    "vae": make_vae,
    "labels": lambda: make_cvae(kgm.label_embedding(10, 5), 5, num_classes=10),
    "quadrants": lambda: make_cvae(
        kgm.mlp_encoder(SHAPE, 5, (8,)), 5, observed_mask=KNOWN
    ),
    "learned": lambda: adapted(
        kgm.DenoisingAutoencoder(kgm.mlp_denoiser(SHAPE, hidden_sizes=(8,)))
    ),
    "linear": lambda: adapted(kgm.LinearDenoiser()),
    "exact": lambda: adapted(kgm.EmpiricalDenoiser()),
}
LATENT = ("vae", "labels", "quadrants")


def finish(model, workdir, binarization="dynamic", data=None, **fields):
    """Writes what a training does, as far as an evaluation reads it."""
    if isinstance(model, kgm.Denoiser):
        binarization = None
    workdir.claim(
        RunDescription.of(
            model, data or digits(), binarization=binarization, **fields
        )
    )
    with files.replacing(workdir.model) as temporary:
        model.save(temporary)
    metrics = {"kind": type(model).__name__, **results.written()}
    files.write_json(workdir.metrics, metrics)
    return workdir


def value(found, section, name):
    return found["sections"][section]["measures"][name]["value"]


def evaluator(folder):
    """Returns a function of a kind to its run and that run's evaluation.

    XLA takes seconds to compile each model, as does each noise level: an
    evaluation is without XLA and of LEVEL only, unless `whole`.
    """

    @functools.cache
    def evaluate(kind, whole):
        name = f"{kind}_whole" if whole else kind
        workdir = finish(MAKE[kind](), Workdir(folder / name))
        with contextlib.ExitStack() as stack:
            if not whole:
                for patch in (
                    mock.patch.object(xla, "should_compile", lambda _: False),
                    mock.patch.object(denoising, "NOISE_LEVELS", (LEVEL,)),
                ):
                    stack.enter_context(patch)
            found = model_evaluation.evaluate(
                workdir, digits(), SETTINGS, folder / "classifiers"
            )
        return workdir, found

    return lambda kind, whole=False: evaluate(kind, whole)
