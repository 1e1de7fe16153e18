"""Finished runs of every kind on the digits, as a script makes them."""

import functools

import keras

import keras_genmodels as kgm
from keras_genmodels import datasets, runs
from keras_genmodels.core import files
from support.cheap_training import without_xla_and_figures
from support.evaluated_runs import KNOWN, SHAPE, make_cvae
from support.small_vaes import make_vae

_CONDITION = 5


def _labels():
    return make_cvae(
        kgm.label_embedding(10, _CONDITION),
        _CONDITION,
        num_classes=10,
        label_dropout=0.1,
    )


def _quadrants():
    network = kgm.mlp_encoder(SHAPE, _CONDITION, (8,))
    return make_cvae(network, _CONDITION, posterior="full", observed_mask=KNOWN)


def _learned():
    return kgm.DenoisingAutoencoder(kgm.mlp_denoiser(SHAPE, hidden_sizes=(16,)))


def _labelled():
    return kgm.DenoisingAutoencoder(
        kgm.mlp_denoiser(SHAPE, num_classes=10, hidden_sizes=(16,)),
        num_classes=10,
        label_dropout=0.1,
    )


_MAKE = {
    "vae": functools.partial(make_vae, latent_size=2),
    "labels": _labels,
    "quadrants": _quadrants,
    "learned": _learned,
    "labelled": _labelled,
    "linear": kgm.LinearDenoiser,
    "exact": kgm.EmpiricalDenoiser,
}
_TRAINING = {"epochs": 2, "jit_compile": False, "verbose": 0}


def trainer(folder):
    """Returns a function of a kind: the workdir of its finished run.

    Args:
        folder: of the runs; several processes may share it.
    """

    @functools.cache
    def finished(kind):
        workdir = runs.Workdir(folder / kind)
        folder.mkdir(exist_ok=True)
        with files.locked(folder / f"{kind}.lock"):
            if not workdir.metrics.exists():
                _train(kind, workdir)
        return workdir

    return finished


def _train(kind, workdir):
    keras.utils.set_random_seed(0)
    training = _TRAINING if kind not in ("linear", "exact") else {}
    with without_xla_and_figures():
        runs.train(_MAKE[kind](), datasets.load("digits"), workdir, **training)
