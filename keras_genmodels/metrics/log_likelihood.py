"""log p(x) of either family of models."""

import inspect

from keras_genmodels.core.validation import check
from keras_genmodels.models import LatentVariableModel, likelihood
from keras_genmodels.sampling.density import probability_flow


def log_likelihood(
    model, x, condition=None, *, seed=0, jit_compile="auto", **settings
):
    """Estimates log p(x) of each example, in nats.

    Of a latent-variable model it is the importance-weighted estimate of log
    p(x|c), see `models.likelihood.log_likelihood`. Of a denoiser it is log
    p_sigma(x), of data with noise of the level sigma, by the probability-flow
    ODE; see `kgm.probability_flow`.

    Args:
        model: a `LatentVariableModel` or a denoiser.
        x: float tensor or array `[batch, *event_shape]`.
        condition: as of the model's `encode` or `denoise`; of a conditional
            denoiser labels, scalar or `[batch]`.
        seed: int, int32 `[2]` or `[batch, 2]`.
        jit_compile: whether XLA compiles the model: a bool or "auto".
        **settings: `num_samples` and `chunk_size` of a latent-variable model;
            `sigma`, `sigma_max`, `noisy_data`, `tolerance`, `max_steps` and
            `num_probes` of a denoiser.

    Returns:
        float tensor `[batch]`.

    Raises:
        ValueError: for a condition or setting that such a model does not
            have, and as of these functions.
    """
    settings = {**settings, "seed": seed, "jit_compile": jit_compile}
    if isinstance(model, LatentVariableModel):
        _check_names(settings, likelihood.log_likelihood, model)
        return likelihood.log_likelihood(model, x, condition, **settings)
    _check_names(settings, probability_flow, model)
    found = probability_flow(model, x, condition=condition, **settings)
    return found.log_density


def _check_names(settings, function, model):
    """Raises for settings that are not arguments of a function."""
    known = inspect.signature(function).parameters
    unknown = [name for name in settings if name not in known]
    check(
        not unknown,
        f"{', '.join(unknown)} cannot be set for {type(model).__name__}",
    )
