"""Runs of a denoiser of a VAE's latents, as those of latent-variable models."""

from keras_genmodels.core.errors import user_errors
from keras_genmodels.runs import latent
from keras_genmodels.training import inputs as latent_inputs

ARGUMENTS = latent.ARGUMENTS
# Training steps of a run that does not say how many; more overfit the digits.
DEFAULT_STEPS = 3000
default_binarization = latent.default_binarization
run = latent.run


def prepare(model, data, description):
    """Adapts the denoiser to the latents of the training images.

    Args:
        model: a `LatentDiffusion`, with the weights to start from.
        data, description: as of `latent.run`.

    Raises:
        UserError: if the data do not suit the model.
    """
    inputs = latent_inputs.Inputs(
        model, data, description.binarization, description.seed
    )
    with user_errors(f"{data.name}: "):
        model.adapt(inputs.batches(data.train))
