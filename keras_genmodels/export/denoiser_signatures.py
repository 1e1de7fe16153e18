"""Signatures of an exported denoiser.

A new signature is one entry of the dict that `signatures` returns: its inputs
with the values that they accept, and a function. The checks of requests, the
warm-up records, model.json and `apps.export --check` follow from that.
"""

import functools
import math

import tensorflow as tf

from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.events import is_any_size
from keras_genmodels.core.pixel_scale import is_image
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser
from keras_genmodels.export import walk_fields
from keras_genmodels.export.fields import (
    Field,
    FreeSides,
    Signature,
    compiler,
    seeds,
)
from keras_genmodels.export.row_blocks import in_blocks
from keras_genmodels.export.settings import Setting
from keras_genmodels.export.values import (
    FINITE,
    Integers,
    Interval,
    LogInterval,
    NoisyPixels,
    labels,
)
from keras_genmodels.sampling import density, generation, restoration

# A sigma above the highest trained one by more than this is a mistake, such as
# 25 for 25/255.
_MOST_ABOVE = 10
# Of `log_density`: steps, all of one length, as steps of controlled length
# depend on the rounding of D, which depends on the other rows; and rows of
# example requests, as each takes thousands of products with D's Jacobian.
_DENSITY_STEPS = 32
_NO_TOLERANCE = 1e-300
_DENSITY_ROWS = 5
# Default number of pixels of an image of any size, and of images of a request.
_MAX_PIXELS, _MAX_ROWS = 2**20, 64


def known_settings(denoiser, given):
    """Returns the `Setting`s of a denoiser by name.

    Args:
        denoiser: a `Denoiser`.
        given: dict of the values that are given; the default of `num_steps`
            depends on the solver, that of `step_size` on the other settings
            of `restore`.

    Raises:
        UserError: for a solver or schedule of a denoiser that does not receive
            sigma, and for settings of a loop of `restore` next to one step.
    """
    any_size = is_any_size(denoiser.event_shape)
    step_size = restoration.STEP_SIZE
    if any_size:
        step_size = _step_size_of_any_size(given)
    known = {
        "step_size": Setting(step_size, Interval(0, 2, "()")),
        "max_steps": Setting(restoration.MAX_STEPS, Integers(1, 10**6)),
        "tolerance": Setting(restoration.TOLERANCE, Interval(0)),
    }
    if not any_size:
        return {**known, **walk_fields.known_settings(denoiser, given)}
    allowed = Integers(denoiser.least_side**2, 2**31 - 1)
    default = max(_MAX_PIXELS, allowed.low)
    return {
        **known,
        "max_pixels": Setting(default, allowed),
        "max_rows": Setting(_MAX_ROWS, Integers(1, 2**31 - 1)),
    }


def _step_size_of_any_size(given):
    """Returns the default step size: 1, to denoise once, unless a loop is set.

    Raises:
        UserError: for settings of a loop next to a step size of 1.
    """
    of_loop = {
        name: given[name]
        for name in ("max_steps", "tolerance")
        if given.get(name) is not None
    }
    if of_loop.get("max_steps") == 1:
        del of_loop["max_steps"]
    if given.get("step_size") == 1 and of_loop:
        raise UserError(
            f"{' and '.join(of_loop)}: images of any size are denoised once "
            "with a step_size of 1: give a smaller one for a loop"
        )
    return restoration.STEP_SIZE if of_loop else 1.0


def signatures(denoiser, settings):
    """Returns the signatures of a denoiser, the default first.

    Those that draw images or compute a density are of images of one size.

    Args:
        denoiser: a `Denoiser`.
        settings: dict with the names of `known_settings`, and `jit_compile`.

    Returns:
        dict of names to `Signature`s.

    Raises:
        UserError: for a denoiser without data, and for settings of `generate`
            that do not fit together.
    """
    _check(denoiser, settings)
    given = _given(denoiser, settings)
    found = _denoising(denoiser, settings, given)
    sides = given["image"].sides
    if sides is not None:
        return {
            name: signature._replace(
                compute=in_blocks(signature.compute, sides.max_pixels)
            )
            for name, signature in found.items()
        }
    found |= _generating(denoiser, settings)
    if _has_density(denoiser):
        highest = float(denoiser.sigma_range[1])
        levels = given["sigma"]._replace(values=Interval(0, highest, "(]"))
        found["log_density"] = Signature(
            {**given, "sigma": levels},
            functools.partial(_log_density, denoiser, settings["jit_compile"]),
            max_example_rows=_DENSITY_ROWS,
        )
    return found


def _given(denoiser, settings):
    """Returns the fields of what D takes."""
    lowest, highest = map(float, denoiser.sigma_range)
    pixels = FINITE
    if is_image(denoiser.event_shape):
        pixels = NoisyPixels(highest, has_sigma=denoiser.needs_sigma)
    sides = None
    if is_any_size(denoiser.event_shape):
        sides = FreeSides(denoiser.least_side, settings["max_pixels"])
    given = {"image": Field(denoiser.event_shape, values=pixels, sides=sides)}
    if denoiser.needs_sigma:
        given["sigma"] = Field(
            (),
            values=Interval(0, _MOST_ABOVE * highest, "(]"),
            example=LogInterval(lowest, highest),
        )
    return given | _label_field(denoiser)


def _denoising(denoiser, settings, given):
    """Returns the signatures that denoise and restore images."""
    compiled = compiler(settings)
    fixed = {k: settings[k] for k in ("step_size", "max_steps", "tolerance")}
    if given["image"].sides is not None and settings["step_size"] == 1:
        # Denoised once, as by `apps.restore`, however little that changes.
        fixed |= {"max_steps": 1, "tolerance": 0.0}
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
    }


def _generating(denoiser, settings):
    """Returns the signatures that draw images."""
    generate = functools.partial(_generate, denoiser, settings)
    label = _label_field(denoiser)
    steps = walk_fields.steps_field(settings)
    fields = {"seed": seeds(), "num_steps": steps, **label}
    if denoiser.label_dropout:
        fields["guidance"] = Field((), values=Interval(0))
    return {
        "generate": Signature(
            {"seed": seeds(), **label},
            functools.partial(generate, num_steps=settings["num_steps"]),
        ),
        "generate_with": Signature(fields, generate),
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
        shape = denoiser.event_shape or ()
        shape = [denoiser.least_side if n is None else n for n in shape]
        denoiser.validate_inputs(tf.zeros((1, *shape)), 1.0)
        if not is_any_size(denoiser.event_shape):
            walk_fields.check_settings(denoiser, settings)


def _loop_fields(max_steps):
    """Returns the fields of the arguments of `restore_with`."""
    steps = Integers(0, max_steps)
    few_steps = Integers(0, min(max_steps, walk_fields.EXAMPLE_STEPS))
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


def _generate(
    denoiser, settings, seed, num_steps, condition=None, guidance=0.0
):
    image = generation.generate(
        denoiser,
        denoiser.event_shape,
        tf.shape(seed)[0],
        seed=seed,
        condition=condition,
        guidance=guidance,
        num_steps=num_steps,
        **walk_fields.arguments(settings),
    )
    return {"image": image}


def _has_density(denoiser):
    """Returns whether log p(x) has an exact trace."""
    size = math.prod(denoiser.event_shape)
    return denoiser.needs_sigma and size <= density.MAX_EXACT_SIZE


def _log_density(denoiser, jit_compile, image, sigma, condition=None):
    if isinstance(denoiser, EmpiricalDenoiser | LinearDenoiser):
        # In closed form: their ODE can be stiff.
        nats = denoiser.noisy_data(sigma).log_prob(image)
        return {"log_density": nats, "solver_error": tf.zeros_like(nats)}
    found = density.probability_flow(
        denoiser,
        image,
        sigma,
        condition=condition,
        tolerance=_NO_TOLERANCE,
        max_steps=_DENSITY_STEPS,
        jit_compile=jit_compile,
    )
    return {
        "log_density": found.log_density,
        "solver_error": found.solver_error,
    }
