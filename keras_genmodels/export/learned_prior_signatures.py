"""Signatures of an exported VAE whose prior is a denoiser of its latents.

They are those of a latent-variable model, without `log_likelihood`, which
would solve an ODE for each draw, and with `generate_with`.
"""

import functools

import tensorflow as tf

from keras_genmodels.core.errors import user_errors
from keras_genmodels.export import latent_signatures, walk_fields
from keras_genmodels.export.fields import Signature, seeds

describe = latent_signatures.describe


def known_settings(model, given):
    """Returns the `Setting`s of such a model by name."""
    return walk_fields.known_settings(
        model.denoiser, given, final_denoising=False
    )


def signatures(model, settings):
    """Returns the signatures of a model, the default first.

    Args:
        model: a `LatentDiffusion`.
        settings: dict with the names of `known_settings`, and `jit_compile`.

    Returns:
        dict of names to `Signature`s.

    Raises:
        UserError: for a denoiser without data, and for settings of `generate`
            that do not fit together.
    """
    with user_errors():
        model.prior()
        walk_fields.check_settings(
            model.denoiser, settings, final_denoising=False
        )
    found = latent_signatures.signatures(model, settings)
    generate = functools.partial(_generate, model, settings)
    count = settings["num_steps"]
    steps = walk_fields.steps_field(settings, final_denoising=False)
    return {
        **found,
        "generate": Signature(
            {"seed": seeds()}, functools.partial(generate, num_steps=count)
        ),
        "generate_with": Signature(
            {"seed": seeds(), "num_steps": steps}, generate
        ),
    }


def _generate(model, settings, seed, num_steps):
    image = model.sample(
        tf.shape(seed)[0],
        seed=seed,
        num_steps=num_steps,
        **walk_fields.arguments(settings),
    )
    return {"image": image}
