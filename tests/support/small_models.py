"""A small model of each kind, and events for it."""

import keras
import numpy as np

import keras_genmodels as kgm
from support.small_cvaes import of_labels, of_parts
from support.small_vaes import make_vae

SHAPE = (4, 4, 1)
ROWS = 4
PIXELS = np.random.default_rng(0).random((ROWS, *SHAPE), np.float32)
LABELS = np.arange(ROWS, dtype="uint8") % 3
SIGMA = np.full(ROWS, 0.3, "float32")


def binary(shape):
    return np.random.default_rng(0).integers(0, 2, (ROWS, *shape)) * 1.0


def make_autoencoder(**kwargs):
    network = kgm.mlp_denoiser(
        SHAPE, noise_conditional=not kwargs, hidden_sizes=(8,)
    )
    model = kgm.DenoisingAutoencoder(network, **kwargs)
    model.adapt(PIXELS)
    return model


def make_by_label():
    network = kgm.mlp_denoiser(SHAPE, num_classes=3, hidden_sizes=(8,))
    return adapted(
        kgm.DenoisingAutoencoder(network, num_classes=3, label_dropout=0.1)
    )


def adapted(denoiser):
    denoiser.adapt(PIXELS)
    return denoiser


# By kind: constructor, events, and what the model is called on.
TRAINED = {
    "vae": (make_vae, binary((8, 8, 1)), lambda x: x),
    "labels": (
        lambda: of_labels(label_dropout=0.1),
        binary(SHAPE),
        lambda x: {"image": x, "condition": LABELS},
    ),
    "parts": (
        of_parts,
        binary(SHAPE),
        lambda x: {"image": x, "condition": x},
    ),
    "range": (make_autoencoder, PIXELS, lambda x: x),
    "range by label": (
        make_by_label,
        PIXELS,
        lambda x: {"image": x, "condition": LABELS},
    ),
    "blind": (lambda: make_autoencoder(blind=True), PIXELS, lambda x: x),
}
COMPUTED = {
    "wiener": (
        lambda: adapted(kgm.LinearDenoiser()),
        PIXELS,
        lambda x: [x, SIGMA],
    ),
    "projection": (
        lambda: adapted(kgm.LinearDenoiser(rank=2)),
        PIXELS,
        lambda x: x,
    ),
    "exact": (
        lambda: adapted(kgm.EmpiricalDenoiser()),
        PIXELS,
        lambda x: [x, SIGMA],
    ),
}
KINDS = {**TRAINED, **COMPUTED}


def make(kind):
    build, x, as_inputs = KINDS[kind]
    keras.utils.set_random_seed(0)
    return build(), as_inputs(x)
