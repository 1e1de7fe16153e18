"""Settings and fields of the signatures that generate by a denoiser's walk.

They are those of `generate`, for a denoiser of images and for one of latents.
"""

from keras_genmodels.core.errors import user_errors
from keras_genmodels.export.fields import Field
from keras_genmodels.export.settings import Setting
from keras_genmodels.export.values import (
    EvenIntegers,
    Integers,
    Interval,
    OddIntegers,
)
from keras_genmodels.sampling import walk_settings
from keras_genmodels.sampling.schedules import SCHEDULES
from keras_genmodels.sampling.solvers import SOLVERS

_NUM_STEPS = Integers(1, 10**5)
# A request to `generate_with` may take as many times the steps of `generate`.
_MOST_STEPS = 5
# Steps of example requests, which are answered at several batch sizes.
EXAMPLE_STEPS = 20
# The fewest of them: with two steps of the exact denoiser, one unit in the last
# place of the start becomes 6e-4, and no rounding could be checked.
_FEWEST = 5
_SETTINGS = ("solver", "schedule", "stochasticity", "jit_compile")


def known_settings(denoiser, given, final_denoising=True):
    """Returns the `Setting`s of a denoiser's walk by name.

    Args:
        denoiser: a `Denoiser`.
        given: dict of the values that are given; the default of `num_steps`
            depends on the solver.
        final_denoising: as of `generate`.

    Raises:
        UserError: for a solver or schedule of a denoiser that does not receive
            sigma.
    """
    num_steps, of_levels = walk_settings.MAX_STEPS, {}
    if denoiser.needs_sigma:
        solver = given.get("solver") or walk_settings.SOLVER
        num_steps = walk_settings.default_num_steps(solver, final_denoising)
        of_levels = {
            "solver": Setting(walk_settings.SOLVER, tuple(SOLVERS)),
            "schedule": Setting(walk_settings.SCHEDULE, tuple(SCHEDULES)),
        }
    else:
        names = ("solver", "schedule")
        with user_errors():
            walk_settings.check_settings(denoiser, *map(given.get, names))
    return {
        "num_steps": Setting(num_steps, _NUM_STEPS),
        "stochasticity": Setting(0.0, Interval(0, 1, "[)")),
        **of_levels,
    }


def check_settings(denoiser, settings, final_denoising=True):
    """Raises ValueError for settings of a walk that do not fit together."""
    names = ("solver", "schedule", "num_steps", "stochasticity")
    walk_settings.check_settings(
        denoiser,
        *map(settings.get, names),
        final_denoising=final_denoising,
    )


def steps_field(settings, final_denoising=True):
    """Returns the `Field` of `num_steps` of `generate_with`."""
    count, solver = settings["num_steps"], settings.get("solver")
    kind, least, most = Integers, 1, _NUM_STEPS.high
    if solver is None:
        most = walk_settings.MOST_STEPS_OF_ROWS
    elif SOLVERS[solver].needs_odd:
        kind, least = (OddIntegers, 1) if final_denoising else (EvenIntegers, 2)
    # Of the parity of `least`.
    fewest = min(count, _FEWEST + least - 1)
    return Field(
        (),
        "int32",
        kind(least, min(_MOST_STEPS * count, most)),
        example=kind(fewest, min(count, EXAMPLE_STEPS)),
    )


def arguments(settings):
    """Returns the arguments of `generate` that an export fixes, as a dict."""
    return {name: settings[name] for name in _SETTINGS if name in settings}
