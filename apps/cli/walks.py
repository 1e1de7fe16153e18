"""Flags of `apps.generate` for images that a denoiser draws, and the walk."""

from absl import flags

from . import choices, flag_types, label_flag, noise_level

# The flags belong to the module that calls `define_flags`.
flags.disclaim_key_flags()

# Most images of --trajectory.
_NUM_WALKS = 16
_LEVEL_FLAGS = ("solver", "schedule")
FLAGS = (*_LEVEL_FLAGS, "num_steps", "stochasticity", "sigma", "trajectory")


def define_flags():
    """Defines the flags that `FLAGS` names."""
    flags.DEFINE_enum(
        "solver",
        None,
        choices.SOLVERS,
        "With a denoiser that receives sigma: solver of the probability-flow "
        "ODE (default: dpmpp_2m, DPM-Solver++ of order 2).",
    )
    flags.DEFINE_enum(
        "schedule",
        None,
        choices.NOISE_SCHEDULES,
        "With a denoiser that receives sigma: the noise levels, which fall by "
        "a constant factor (geometric, the default) or as in Karras et al. "
        "(2022).",
    )
    flags.DEFINE_integer(
        "num_steps",
        None,
        "With a denoiser: number of evaluations of the denoiser, odd with "
        "--solver=heun, or even for one of latents (default: 20; heun: 19). "
        "With one that does not receive sigma their maximum (default: 100).",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "stochasticity",
        0.0,
        "With a denoiser: fraction of the noise that is drawn anew in each "
        "step, in [0, 1); above 0 it requires --solver=euler or heun, or a "
        "blind denoiser.",
        lower_bound=0,
        upper_bound=0.999,
    )
    flag_types.define_path(
        "trajectory",
        None,
        "With a denoiser: also write an animated .gif of the walk from noise "
        "to the first 16 images (with labels and no --label: one of each).",
    )
    flag_types.define_levels(
        "sigma",
        None,
        "With a denoiser: LOWEST,HIGHEST noise level of the steps (default: "
        "the range of its training).",
        least=2,
    )


def walking(model):
    """Returns the denoiser that draws: of images or of latents; or None."""
    from keras_genmodels.denoisers import Denoiser
    from keras_genmodels.models import LatentDiffusion

    if isinstance(model, LatentDiffusion):
        return model.denoiser
    return model if isinstance(model, Denoiser) else None


def settings(config, model):
    """Returns the arguments of a denoiser's `sample`; none for a VAE."""
    denoiser = walking(model)
    if denoiser is None:
        return {}
    if denoiser.has_single_level:
        lowest, _ = denoiser.sigma_range
        config.forbid(
            ("stochasticity", "sigma"),
            f"a denoiser of a range of noise levels (this one has {lowest:g})",
        )
    if not denoiser.needs_sigma:
        config.forbid(
            _LEVEL_FLAGS,
            "a denoiser that receives sigma (this one finds the noise level "
            "by its residual, or has a single one)",
        )
    sigma_min, sigma_max = config.sigma or (None, None)
    if denoiser is model:
        noise_level.warn_if_unlikely("sigma", [sigma_min, sigma_max], model)
    return {
        "solver": config.solver,
        "schedule": config.schedule,
        "num_steps": config.num_steps,
        "stochasticity": config.stochasticity,
        "sigma_max": sigma_max,
        "sigma_min": sigma_min,
    }


def save(config, model, num, training_labels):
    """Writes --trajectory, an animation of the walk to the first images.

    Args:
        config: the `Config` of `apps.generate`.
        model: a model that a denoiser draws from.
        num: int >= 1, number of images that are drawn.
        training_labels: the labels that training images have; None if unknown.
    """
    import numpy as np

    from keras_genmodels.core import seeds
    from keras_genmodels.plots import walk

    num = min(num, _NUM_WALKS)
    given, labels = settings(config, model), None
    rows = seeds.row_seeds(config.seed, num).numpy()
    if model.condition_kind == "label":
        given["guidance"] = config.guidance
        if config.label is None:
            known = list(training_labels or range(model.num_classes))
            labels = known[:_NUM_WALKS]
            rows = np.tile(rows[:1], (len(labels), 1))
        else:
            label = label_flag.read(config.label, model, training_labels)
            labels = None if label is None else [label] * num
    num = num if labels is None else None
    steps = model.sample(num, labels, seed=rows, trajectory=True, **given)
    walk.save_gif(config.trajectory, walk.frames(steps))
