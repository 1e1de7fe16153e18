"""What an exported denoiser does."""

import functools

import tensorflow as tf

from keras_genmodels.export.fields import (
    Field,
    Signature,
    compiler,
    finite,
    integers,
    positive,
    seeds,
)
from keras_genmodels.sampling import restoration


def denoiser_signatures(denoiser, settings):
    """Lists the signatures of a denoiser, the default first.

    Args:
        denoiser: a `Denoiser`.
        settings: dict of `step_size`, `max_steps`, `tolerance`, `num_steps`,
            `stochasticity` and `jit_compile`.

    Returns:
        dict of names to `Signature`.
    """
    compiled = compiler(settings)
    given = {"image": finite(denoiser.event_shape)}
    if denoiser.needs_sigma:
        given["sigma"] = positive()
    fixed = {k: settings[k] for k in ("step_size", "max_steps", "tolerance")}
    jit_compile = settings["jit_compile"]
    restore = functools.partial(_restore, denoiser, jit_compile)

    def denoise(image, sigma=None):
        return {"denoised": denoiser.denoise(image, sigma)}

    def noise(image, sigma=None):
        return {"noise": denoiser.noise(image, sigma)}

    return {
        "denoise": Signature(given, compiled(denoise)),
        "noise": Signature(given, compiled(noise)),
        "restore": Signature(given, functools.partial(restore, **fixed)),
        "restore_with": Signature(
            {**given, **_loop_fields(settings["max_steps"])}, restore
        ),
        "generate": Signature({"seed": seeds()}, _walk(denoiser, settings)),
    }


def _loop_fields(max_steps):
    return {
        "step_size": Field(
            (), "float32", "in (0, 2)", lambda x: (x > 0) & (x < 2)
        ),
        "max_steps": integers(0, max_steps),
        "tolerance": Field((), "float32", ">= 0", lambda x: x >= 0),
    }


def _restore(denoiser, jit_compile, image, sigma=None, **loop):
    result = restoration.restore(
        denoiser, image, sigma=sigma, jit_compile=jit_compile, **loop
    )
    return {
        "image": result.x,
        "num_steps": result.num_steps,
        "residual": result.residual,
    }


def _walk(denoiser, settings):
    def generate(seed):
        image = restoration.generate(
            denoiser,
            denoiser.event_shape,
            tf.shape(seed)[0],
            seed=seed,
            num_steps=settings["num_steps"],
            stochasticity=settings["stochasticity"],
            jit_compile=settings["jit_compile"],
        )
        return {"image": image}

    return generate
