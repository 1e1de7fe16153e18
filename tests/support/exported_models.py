"""Models of every kind that can be exported, small and quick to make."""

import pathlib

import keras
import numpy as np

import keras_genmodels as kgm
from keras_genmodels.core import files
from keras_genmodels.export import export

SHAPE = (8, 8, 1)
NUM_CLASSES = 3
DATA = np.random.default_rng(0).random((30, *SHAPE), np.float32)
# The upper half.
KNOWN = (np.arange(64) < 32).reshape(SHAPE)
# Few, as each step and draw takes time.
LATENT = {"num_samples": 110}
WALK = {"max_steps": 12, "num_steps": 6}


def vae(
    posterior=kgm.MultivariateNormalDiag,
    likelihood=kgm.IndependentBernoulli,
    latent_size=3,
    **kwargs,
):
    posterior, likelihood = posterior(latent_size), likelihood(SHAPE)
    model, width = kgm.VAE, 0
    if kwargs:
        model, width = kgm.ConditionalVAE, 4
    networks = (
        kgm.mlp_encoder(SHAPE, posterior.params_size, (8,), width),
        kgm.mlp_decoder(latent_size, likelihood.params_shape, (8,), width),
    )
    return model(*networks, posterior, likelihood, **kwargs)


def labels():
    return vae(
        likelihood=lambda shape: kgm.IndependentBernoulli(shape, True),
        condition_network=kgm.label_embedding(NUM_CLASSES, 4),
        prior_network=kgm.mlp_prior(4, 6, (8,)),
        num_classes=NUM_CLASSES,
        label_dropout=0.1,
    )


def completion():
    return vae(
        kgm.MultivariateNormalTriL,
        kgm.IndependentDiscretizedLogistic,
        condition_network=kgm.image_condition(SHAPE, 4, 2),
        observed_mask=KNOWN,
    )


def attributes():
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    return vae(likelihood=kgm.IndependentNormal, condition_network=network)


def tokens():
    """Returns a model whose conditions are sequences of indices."""
    layers = keras.layers
    network = [layers.Embedding(5, 4), layers.GlobalAveragePooling1D()]
    return vae(
        condition_network=keras.Sequential(
            [keras.Input((None,), dtype="int32"), *network]
        )
    )


def learned_prior():
    network = kgm.mlp_denoiser((3,), hidden_sizes=(8,))
    denoiser = _perturbed(kgm.DenoisingAutoencoder(network, sigma=(0.02, 5)))
    return kgm.LatentDiffusion(vae(), denoiser)


def learned(conditional=True, **kwargs):
    network = kgm.mlp_denoiser(
        SHAPE, noise_conditional=conditional, hidden_sizes=(8,)
    )
    return _perturbed(kgm.DenoisingAutoencoder(network, **kwargs))


def _perturbed(denoiser):
    for weight in denoiser.trainable_weights:
        # The output of a new network is zero.
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) / 9)
    return denoiser


def any_size():
    network = kgm.bias_free_unet((None, None, 1), (2, 3), 1)
    return _perturbed(kgm.DenoisingAutoencoder(network, blind=True))


def labelled():
    network = kgm.mlp_denoiser(
        SHAPE, num_classes=NUM_CLASSES, hidden_sizes=(8,)
    )
    return _perturbed(
        kgm.DenoisingAutoencoder(
            network, num_classes=NUM_CLASSES, label_dropout=0.1
        )
    )


KINDS = {
    "vae": vae,
    "labels": labels,
    "completion": completion,
    "attributes": attributes,
    "tokens": tokens,
    "range": lambda: learned(sigma=(0.05, 1.5)),
    "labelled": labelled,
    "one_level": lambda: learned(False, sigma=0.1),
    "blind": lambda: learned(False, blind=True),
    "any_size": any_size,
    "rank": lambda: kgm.LinearDenoiser(rank=5),
    "wiener": kgm.LinearDenoiser,
    "exact": kgm.EmpiricalDenoiser,
    "learned_prior": learned_prior,
}
LATENT_KINDS = ("vae", "labels", "completion", "attributes", "tokens")
PRIORS = ("learned_prior",)
DENOISERS = [kind for kind in KINDS if kind not in (*LATENT_KINDS, *PRIORS)]


def make(kind):
    """Makes a model, with the same weights in every process."""
    keras.utils.set_random_seed(0)
    model = KINDS[kind]()
    if kind not in LATENT_KINDS:
        model.adapt(DATA)
    return model


def settings(kind):
    if kind in PRIORS:
        return {"num_steps": 6}
    if kind == "any_size":
        return {"max_steps": 12, "max_pixels": 600}
    return LATENT if kind in LATENT_KINDS else WALK


class Exports(dict):
    """Models and their versions by kind, each exported when first asked for.

    Args:
        folder: to export to; several processes may share it.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def __missing__(self, kind):
        model, version = make(kind), self.folder / kind / "1"
        self.folder.mkdir(exist_ok=True)
        with files.locked(self.folder / f"{kind}.lock"):
            if not version.exists():
                export(model, self.folder, kind, **settings(kind))
        self[kind] = model, version
        return self[kind]
