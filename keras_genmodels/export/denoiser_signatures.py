"""Signatures of an exported denoiser.

A new signature is one entry of the dict that `signatures` returns: its inputs
with the values that they accept, and a function. The checks of requests, the
warm-up records, model.json and `apps.export --check` follow from that.
"""

import functools

import tensorflow as tf

from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.pixel_scale import is_image
from keras_genmodels.export.fields import Field, Signature, compiler, seeds
from keras_genmodels.export.settings import Setting
from keras_genmodels.export.values import (
    FINITE,
    Integers,
    Interval,
    LogInterval,
    NoisyPixels,
    labels,
)
from keras_genmodels.sampling import generation, restoration

SETTINGS = {
    "step_size": Setting(0.1, Interval(0, 2, "()")),
    "max_steps": Setting(100, Integers(1, 10**6)),
    "tolerance": Setting(1e-3, Interval(0)),
    "num_steps": Setting(100, Integers(1, 10**5)),
    "stochasticity": Setting(0.0, Interval(0, 1, "[)")),
}
# A sigma above the highest trained one by more than this is a mistake, such as
# 25 for 25/255.
_MOST_ABOVE = 10
# Steps of example requests, which are answered at several batch sizes.
_EXAMPLE_STEPS = 20


def signatures(denoiser, settings):
    """Returns the signatures of a denoiser, the default first.

    Args:
        denoiser: a `Denoiser`.
        settings: dict with the names of `SETTINGS`, and `jit_compile`.

    Returns:
        dict of names to `Signature`s.

    Raises:
        UserError: for a denoiser without data, and for a stochasticity that
            it cannot use.
    """
    _check(denoiser, settings)
    lowest, highest = map(float, denoiser.sigma_range)
    pixels = FINITE
    if is_image(denoiser.event_shape):
        pixels = NoisyPixels(highest, has_sigma=denoiser.needs_sigma)
    given = {"image": Field(denoiser.event_shape, values=pixels)}
    if denoiser.needs_sigma:
        given["sigma"] = Field(
            (),
            values=Interval(0, _MOST_ABOVE * highest, "(]"),
            example=LogInterval(lowest, highest),
        )
    label = _label_field(denoiser)
    given |= label
    compiled = compiler(settings)
    fixed = {k: settings[k] for k in ("step_size", "max_steps", "tolerance")}
    restore = functools.partial(_restore, denoiser, settings["jit_compile"])

    def denoise(image, sigma=None, condition=None):
        return {"denoised": denoiser.denoise(image, sigma, condition)}

    def noise(image, sigma=None, condition=None):
        return {"noise": denoiser.noise(image, sigma, condition)}

    return {
        "denoise": Signature(given, compiled(denoise)),
        "noise": Signature(given, compiled(noise)),
        "restore": Signature(given, functools.partial(restore, **fixed)),
        "restore_with": Signature(
            {**given, **_loop_fields(settings["max_steps"])}, restore
        ),
        "generate": Signature(
            {"seed": seeds(), **label},
            functools.partial(_generate, denoiser, settings),
        ),
    }


def describe(denoiser):
    """Returns what model.json says of a denoiser in particular."""
    return {
        "num_classes": denoiser.num_classes,
        "no_label": denoiser.num_classes if denoiser.label_dropout else None,
        "has_observed_mask": False,
        "pixels": FINITE.to_json(),
        "sigma_range": [float(sigma) for sigma in denoiser.sigma_range],
    }


def _check(denoiser, settings):
    with user_errors():
        # A denoiser without data raises before it reads the shape.
        shape = (1, *(denoiser.event_shape or ()))
        denoiser.validate_inputs(tf.zeros(shape), 1.0)
    if settings["stochasticity"] and denoiser.has_single_level:
        raise UserError(
            "stochasticity must be 0 for a denoiser of a single noise level, "
            f"got {settings['stochasticity']}"
        )


def _loop_fields(max_steps):
    """Returns the fields of the arguments of `restore_with`."""
    steps = Integers(0, max_steps)
    few_steps = Integers(0, min(max_steps, _EXAMPLE_STEPS))
    return {
        "step_size": Field(
            (), values=Interval(0, 2, "()"), example=Interval(0.05, 1)
        ),
        "max_steps": Field((), "int32", steps, example=few_steps),
        "tolerance": Field(
            (), values=Interval(0), example=Interval(1e-3, 1e-3)
        ),
    }


def _label_field(denoiser):
    """Returns a dict of the field of the label; empty without labels."""
    if denoiser.num_classes is None:
        return {}
    accepted = labels(denoiser.num_classes, bool(denoiser.label_dropout))
    return {"condition": Field((), "int32", accepted)}


def _restore(denoiser, jit_compile, image, sigma=None, condition=None, **loop):
    result = restoration.restore(
        denoiser,
        image,
        sigma=sigma,
        condition=condition,
        jit_compile=jit_compile,
        **loop,
    )
    return {
        "image": result.x,
        "num_steps": result.num_steps,
        "residual": result.residual,
    }


def _generate(denoiser, settings, seed, condition=None):
    image = generation.generate(
        denoiser,
        denoiser.event_shape,
        tf.shape(seed)[0],
        seed=seed,
        condition=condition,
        solver="euler" if denoiser.needs_sigma else None,
        num_steps=settings["num_steps"],
        stochasticity=settings["stochasticity"],
        jit_compile=settings["jit_compile"],
    )
    return {"image": image}
