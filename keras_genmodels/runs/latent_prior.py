"""Runs of a denoiser of a VAE's latents, as those of latent-variable models."""

from keras_genmodels.core.errors import user_errors
from keras_genmodels.runs import latent
from keras_genmodels.training import inputs as latent_inputs

ARGUMENTS = latent.ARGUMENTS
# Training steps of a run that does not say how many; more overfit the digits.
DEFAULT_STEPS = 3000
default_binarization = latent.default_binarization


def run(model, data, workdir, description, options, *, batch_size, verbose=1):
    """Adapts the denoiser to the latents of the images, and trains it.

    Args:
        model: a `LatentDiffusion`, with the weights to start from.
        data, workdir, description, options, batch_size, verbose: as of
            `latent.run`.

    Returns:
        dict, the content of `metrics.json`.

    Raises:
        UserError: if the data do not suit the model.
        TrainingError, OSError: as `training.fit`.
    """
    inputs = latent_inputs.Inputs(
        model, data, description.binarization, description.seed
    )
    with user_errors(f"{data.name}: "):
        model.adapt(inputs.batches(data.train))
    settings = {"batch_size": batch_size, "verbose": verbose}
    return latent.run(model, data, workdir, description, options, **settings)
