"""Trains a denoiser of the latents of a VAE's run: `train_dae --latents_of`."""

import dataclasses
import types

from . import guard, training_flags

# Flags of the data and how they are read, which are those of the VAE's run.
_OF_RUN = (
    "dataset",
    "image_size",
    "validation_split",
    "white_level",
    "color",
    "binarization",
)
# Flags of `train_dae` for denoisers of images.
_ONLY_IMAGES = (
    "denoiser",
    "rank",
    "center",
    "blind",
    "patch_size",
    "patches_per_epoch",
    "smallest_scale",
    "condition",
    "label_dropout",
    "filters",
    "for",
    "blocks",
    "stem_stride",
    "attention_levels",
    "init_from",
)
_SIGMA = (0.02, 10.0)
_HIDDEN_SIZES = (256, 256, 256)
# A latent costs an encoding, and its noise little.
_NOISE_DRAWS = 4


def resolve(config):
    """Checks the flags and fills in defaults.

    Args:
        config: `Config` of `train_dae`, with `latents_of`.

    Returns:
        `Config`.

    Raises:
        WrongFlags: for flags that only apply to denoisers of images.
    """
    config.forbid(_ONLY_IMAGES, "a denoiser of images (no --latents_of)")
    config = config.fill(
        network="mlp",
        sigma=_SIGMA,
        hidden_sizes=_HIDDEN_SIZES,
        num_noise_draws=_NOISE_DRAWS,
    )
    if config.network != "mlp":
        raise guard.WrongFlags(
            f"--network={config.network} requires a denoiser of images; with "
            "--latents_of the network is an mlp"
        )
    if config.sigma[0] == config.sigma[-1]:
        raise guard.WrongFlags("--latents_of requires --sigma=LOWEST,HIGHEST")
    return config


def train(config):
    """Makes the run that the flags describe.

    Args:
        config: `Config` from `resolve`.
    """
    strategy = training_flags.start_tensorflow(config)
    vae, run = _read(config.latents_of)
    training_flags.train(
        lambda config, data: _build(config, vae),
        _with_data_of(run, config),
        load=lambda config: run.load_data(config.data_dir, config.in_memory),
        strategy=strategy,
    )


def _read(path):
    """Returns the VAE of a finished run and its `RunDescription`."""
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.core.wording import kind_of
    from keras_genmodels.models import LatentDiffusion, LatentVariableModel
    from keras_genmodels.runs import Workdir

    workdir = Workdir(path)
    try:
        model = workdir.load_model(LatentVariableModel)
        run = workdir.read_run()
    except UserError as error:
        raise UserError(f"--latents_of={path}: {error}") from error
    if isinstance(model, LatentDiffusion) or model.condition_kind is not None:
        raise UserError(
            f"--latents_of={path} holds {kind_of(model)}: give a run "
            "of train_vae or train_hvae"
        )
    return model, run


def _with_data_of(run, config):
    """Returns a `Config` with the data flags of a run.

    Raises:
        WrongFlags: for a flag with another value.
    """
    from keras_genmodels.runs.description import as_text

    recorded = run.named_values()
    values = {
        name: recorded.get(name, config.defaults[name]) for name in _OF_RUN
    }
    for name in config.present.intersection(_OF_RUN):
        given, known = config.values[name], values[name]
        if name == "image_size":
            given = (given[0], given[-1])
        if as_text(given) != as_text(known):
            wanted = f"--{name}={as_text(known)}" if known else f"no --{name}"
            raise guard.WrongFlags(
                f"--{name}={as_text(given)} contradicts --latents_of="
                f"{config.latents_of}, a run with {wanted}: leave it out"
            )
    if config.early_stopping_patience and not values["validation_split"]:
        raise guard.WrongFlags(
            "--early_stopping_patience requires a VAE trained with "
            "--validation_split above 0"
        )
    return dataclasses.replace(
        config, values=types.MappingProxyType({**config.values, **values})
    )


def _build(config, vae):
    """Builds the untrained model."""
    from keras_genmodels.denoisers import DenoisingAutoencoder
    from keras_genmodels.models import LatentDiffusion
    from keras_genmodels.networks.denoisers import mlp_denoiser

    network = mlp_denoiser((vae.latent_size,), hidden_sizes=config.hidden_sizes)
    denoiser = DenoisingAutoencoder(
        network,
        sigma=config.sigma,
        num_noise_draws=config.num_noise_draws,
        seed=config.seed,
    )
    return LatentDiffusion(vae, denoiser, seed=config.seed)
