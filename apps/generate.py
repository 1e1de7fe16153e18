"""Draws images from a trained model.

  python -m apps.generate --workdir=DIR --seed=1 --output=grid.png
  python -m apps.generate --workdir=DIR --label=3 --guidance=1
  python -m apps.generate --workdir=DIR --input=PICTURES --num_completions=4

A denoiser goes from noise to images in --num_steps evaluations; one of a VAE's
latents goes from noise to latents, which the VAE decodes. A model that is
conditioned on labels draws images of --label, or else a row for each label of
the training images, each column from the same random numbers; one that
completes images draws several completions of each image of --input, shown next
to the observed part and the original.

An --output that ends in .npz holds an array `image`, float32 in [0, 1]
[num_images, height, width, channels], and the `label` [num_images] of each;
completions are [num_images, num_completions, height, width, channels], with
the original images as `truth` [num_images, height, width, channels].
"""

from absl import flags

from .cli import (
    flag_types,
    guard,
    input_flags,
    label_flag,
    noise_level,
    output_flag,
)
from .cli.config import Config

# Defaults of --num_images.
_NUM_IMAGES = 64
_NUM_PER_LABEL = 10
_NUM_COMPLETED = 8
# Images of --trajectory.
_NUM_WALKS = 16

flag_types.define_path("workdir", "runs/vae", "A finished run.")
guard.define_import_flag()
flags.DEFINE_integer(
    "num_images",
    None,
    f"Number of images (default: {_NUM_IMAGES}; for each label, without "
    f"--label, {_NUM_PER_LABEL}; to complete, {_NUM_COMPLETED} of a split, all "
    "of your own).",
    lower_bound=1,
)
flag_types.define_seed("Seed; image i depends on the seed and i only.")
label_flag.define_flag("With a model conditioned on labels: the label to draw.")
flags.DEFINE_float(
    "guidance",
    0.0,
    "Guidance scale, with a model trained with --label_dropout: the decoder's "
    "parameters (logits, for bernoulli), or the images that a denoiser "
    "returns, become (1 + guidance) times those with the label minus guidance "
    "times those without.",
    lower_bound=0,
)
input_flags.define_flags(
    " With a model that completes images: the images to complete."
)
flags.DEFINE_integer(
    "num_completions",
    6,
    "With a model that completes images: completions of each image.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "solver",
    None,
    ["dpmpp_2m", "heun", "euler"],
    "With a denoiser that receives sigma: solver of the probability-flow ODE "
    "(default: dpmpp_2m, DPM-Solver++ of order 2).",
)
flags.DEFINE_enum(
    "schedule",
    None,
    ["geometric", "karras"],
    "With a denoiser that receives sigma: the noise levels, which fall by a "
    "constant factor (geometric, the default) or as in Karras et al. (2022).",
)
flags.DEFINE_integer(
    "num_steps",
    None,
    "With a denoiser: number of evaluations of the denoiser, odd with "
    "--solver=heun, or even for one of latents (default: 20; heun: 19). With "
    "one that does not receive sigma their maximum (default: 100).",
    lower_bound=1,
)
flags.DEFINE_float(
    "stochasticity",
    0.0,
    "With a denoiser: fraction of the noise that is drawn anew in each step, "
    "in [0, 1); above 0 it requires --solver=euler or heun, or a blind "
    "denoiser.",
    lower_bound=0,
    upper_bound=0.999,
)
flag_types.define_path(
    "trajectory",
    None,
    "With a denoiser: also write an animated .gif of the walk from noise to "
    "the first 16 images (with labels and no --label: one of each).",
)
flag_types.define_levels(
    "sigma",
    None,
    "With a denoiser: LOWEST,HIGHEST noise level of the steps (default: the "
    "range of its training).",
    least=2,
)
output_flag.define_flag(
    "A .png (one sheet) or .npz (default: figures/generated.png of the run)."
)

# Flags that only apply to some kinds of models.
_LEVEL_FLAGS = ("solver", "schedule")
_DENOISER_FLAGS = (
    *_LEVEL_FLAGS,
    "num_steps",
    "stochasticity",
    "sigma",
    "trajectory",
)
_LABEL_FLAGS = ("label", "guidance")
_COMPLETION_FLAGS = ("input", "data_dir", "num_completions")


def main():
    """Draws, and writes one sheet or the arrays."""
    config = Config.read(__name__)
    output = output_flag.path(config, "figures/generated.png", (".png", ".npz"))
    input_flags.check_output(config.input, [output])
    if config.trajectory and not config.trajectory.endswith(".gif"):
        raise guard.WrongFlags(
            f"--trajectory={config.trajectory} must end in .gif"
        )
    guard.load_tensorflow(config.import_module)
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import user_errors
    from keras_genmodels.runs import Workdir

    workdir = Workdir(config.workdir)
    model = workdir.load_model()
    with user_errors():
        what, arrays, picture = drawer_of(config, model)(config, model, workdir)
    if output.suffix == ".png":
        plots.save_png(output, picture())
    else:
        # The mean of a Gaussian, or D(x), may be slightly out of range.
        arrays["image"] = np.clip(arrays["image"], 0, 1).astype(np.float32)
        files.write_arrays(output, **arrays)
    print(f"{what} in {output}")
    if config.trajectory:
        with user_errors():
            write_walk(config, model, workdir)
        print(f"the walk in {config.trajectory}")


def drawer_of(config, model):
    """Returns the function that draws from this kind of model.

    Returns:
        one of the functions below. They take the `Config`, a model and its
        `Workdir`, and return a summary, the arrays of an .npz file, and a
        function that draws the picture.
    """
    from keras_genmodels.training import inputs

    inputs.check_condition(model)
    if walking(model) is None:
        config.forbid(_DENOISER_FLAGS, "a denoiser")
    kind = model.condition_kind
    if kind != "label":
        config.forbid(_LABEL_FLAGS, "a model conditioned on labels")
    if kind != "observed":
        config.forbid(_COMPLETION_FLAGS, "a model of quadrants")
    if kind is None:
        return plain_images
    if config.guidance and (config.label == "none" or not model.label_dropout):
        raise guard.WrongFlags(
            "--guidance requires a label and a model trained with "
            "--label_dropout"
        )
    if kind == "observed":
        return completions
    if config.label is None:
        return images_of_each_label
    return images_of_one_label


def plain_images(config, model, workdir):
    """Draws from a VAE or a denoiser."""
    return _sheet(config, model, **denoiser_settings(config, model))


def images_of_one_label(config, model, workdir):
    """Draws images of --label."""
    label = label_flag.read(config.label, model, training_labels(workdir))
    settings = {"guidance": config.guidance, **denoiser_settings(config, model)}
    return _sheet(config, model, label, **settings)


def images_of_each_label(config, model, workdir):
    """Draws images of each label of the training, from the same noise."""
    import numpy as np

    from keras_genmodels.models import conditional_sampling
    from keras_genmodels.plots import latent

    count = config.num_images or _NUM_PER_LABEL
    labels = training_labels(workdir) or range(model.num_classes)
    settings = denoiser_settings(config, model)
    images = conditional_sampling.sample_each_label(
        model,
        count,
        seed=config.seed,
        guidance=config.guidance,
        labels=labels,
        **settings,
    )
    shared = "starts from the same noise" if settings else "has the same latent"
    run = workdir.find_run()
    names = run and run.label_names
    arrays = {
        "image": images.reshape(-1, *images.shape[2:]),
        "label": np.repeat(np.asarray(labels), count),
    }
    return (
        f"{count} images of each of {len(labels)} labels",
        arrays,
        lambda: latent.label_sheet(images, names, labels, shared),
    )


def training_labels(workdir):
    """Returns the labels that training images have, None if unknown."""
    run = workdir.find_run()
    return run and run.training_labels


def completions(config, model, workdir):
    """Completes the images of --input."""
    import numpy as np

    from keras_genmodels.core import arrays
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.models import conditional_sampling
    from keras_genmodels.plots import latent

    count = config.num_images
    if input_flags.is_split(config.input):
        count = count or _NUM_COMPLETED
    split = input_flags.read_split(config, workdir, model.event_shape).take(
        count
    )
    if split.images.dtype != np.uint8 and not (
        0 <= split.images.min() <= split.images.max() <= 1
    ):
        raise UserError(
            f"{config.input} has pixels outside of [0, 1]: clip them, as the "
            "observed part is kept as it is"
        )
    batches = workdir.read_run().evaluation_batches(split)
    truth = arrays.concatenate(batch["image"] for batch in batches)
    images = conditional_sampling.complete(
        model, truth, config.num_completions, seed=config.seed
    )
    return (
        f"{config.num_completions} completions of each of {len(truth)} images",
        {"image": images, "truth": truth},
        lambda: latent.completion_sheet(truth, images, model.observed_mask),
    )


def _sheet(config, model, label=None, **settings):
    """Draws --num_images, of one label or without."""
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.models import conditional_sampling

    count = config.num_images or _NUM_IMAGES
    labels = None if label is None else np.full(count, label)
    images = conditional_sampling.sample(
        model,
        count if label is None else None,
        labels,
        seed=config.seed,
        **settings,
    )
    return (
        f"{count} images",
        {"image": images, **({} if label is None else {"label": labels})},
        lambda: plots.image_grid(images),
    )


def write_walk(config, model, workdir):
    """Writes an animation of the walk of the first images, or each label's."""
    import numpy as np

    from keras_genmodels.core import seeds
    from keras_genmodels.plots import walk

    count = min(config.num_images or _NUM_IMAGES, _NUM_WALKS)
    settings = denoiser_settings(config, model)
    rows, labels = seeds.row_seeds(config.seed, count).numpy(), None
    if model.condition_kind == "label":
        settings["guidance"] = config.guidance
        known = training_labels(workdir)
        if config.label is None:
            labels = list(known or range(model.num_classes))[:_NUM_WALKS]
            rows = np.tile(rows[:1], (len(labels), 1))
        else:
            labels = [label_flag.read(config.label, model, known)] * count
    num = count if labels is None else None
    steps = model.sample(num, labels, seed=rows, trajectory=True, **settings)
    walk.save_gif(config.trajectory, walk.frames(steps))


def walking(model):
    """Returns the denoiser that draws: of images or of latents; or None."""
    from keras_genmodels.denoisers import Denoiser
    from keras_genmodels.models import LatentDiffusion

    if isinstance(model, LatentDiffusion):
        return model.denoiser
    return model if isinstance(model, Denoiser) else None


def denoiser_settings(config, model):
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
        noise_level.name_unlikely("sigma", [sigma_min, sigma_max], model)
    return {
        "solver": config.solver,
        "schedule": config.schedule,
        "num_steps": config.num_steps,
        "stochasticity": config.stochasticity,
        "sigma_max": sigma_max,
        "sigma_min": sigma_min,
    }


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
