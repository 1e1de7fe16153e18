"""Signatures of an exported VAE whose prior is a denoiser of its latents.

They are those of a latent-variable model, without `log_likelihood`, which
would solve an ODE for each draw, and with `generate_with`.
"""

import functools

import tensorflow as tf

from keras_genmodels.core.errors import user_errors
from keras_genmodels.export import latent_signatures
from keras_genmodels.export.fields import Field, Signature, seeds
from keras_genmodels.export.settings import Setting
from keras_genmodels.export.values import EvenIntegers, Integers, Interval
from keras_genmodels.sampling import generation
from keras_genmodels.sampling.schedules import SCHEDULES
from keras_genmodels.sampling.solvers import SOLVERS

_NUM_STEPS = Integers(1, 10**5)
# A request to `generate_with` may take as many times the steps of `generate`.
_MOST_STEPS = 5
# Steps of example requests, which are answered at several batch sizes.
_EXAMPLE_STEPS = 20
_WALK = ("solver", "schedule", "stochasticity", "jit_compile")

describe = latent_signatures.describe


def known_settings(model, given):
    """Returns the `Setting`s of such a model by name."""
    solver = given.get("solver") or generation.SOLVER
    num_steps = generation.default_num_steps(solver, final_denoising=False)
    return {
        "solver": Setting(generation.SOLVER, tuple(SOLVERS)),
        "schedule": Setting(generation.SCHEDULE, tuple(SCHEDULES)),
        "num_steps": Setting(num_steps, _NUM_STEPS),
        "stochasticity": Setting(0.0, Interval(0, 1, "[)")),
    }


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
    names = ("solver", "schedule", "num_steps", "stochasticity")
    with user_errors():
        model.prior()
        generation.check_settings(
            model.denoiser, *map(settings.get, names), final_denoising=False
        )
    found = latent_signatures.signatures(model, settings)
    generate = functools.partial(_generate, model, settings)
    count = settings["num_steps"]
    kind, least = Integers, 1
    if SOLVERS[settings["solver"]].needs_odd:
        kind, least = EvenIntegers, 2
    steps = Field(
        (),
        "int32",
        kind(least, min(_MOST_STEPS * count, _NUM_STEPS.high)),
        example=kind(least, min(count, _EXAMPLE_STEPS)),
    )
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
    walk = {name: settings[name] for name in _WALK}
    image = model.sample(
        tf.shape(seed)[0], seed=seed, num_steps=num_steps, **walk
    )
    return {"image": image}
