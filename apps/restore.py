"""Restores images by the iteration x <- x + step_size (D(x, sigma) - x).

  python -m apps.restore --workdir=DIR --input=test --add_noise=0.3 --sigma=0.3
  python -m apps.restore --workdir=DIR --input=PICTURES --sigma=0.3 \\
      --step_size=0.2 --max_steps=50 --output=RESTORED

The folder --output gets before_after.png (rows of input images, of restored
ones and, if noise was added, of the clean ones), steps.png (trajectories of
some images), restored.npz (`image` after the last step, `num_steps`,
`residual`, as `kgm.restore` returns them) and, for pictures, images/ with one
PNG each. PSNR and SSIM before and after are printed if the clean images are
known: for images of a split, and if noise is added.

  python -m apps.restore --workdir=DIR --input=PICTURES --sigma=25/255

A denoiser of images of any size restores each picture of --input at its own
size, upright, with 16 bits if it has 16, by one denoising unless --max_steps is
given. The folder then gets images/ and before_after.png, which shows each of
the first six pictures as a whole and a part of it at full resolution: the
input, the restored one, and what was removed, their difference, with grey for
0. Transparent pixels are drawn over white: what is written has no transparency.
White in 16-bit pictures is --white_level; in what is written it is 65535.

With --shard=3/16 the names of these files end in _003_of_016, and images/ gets
the pictures of that shard: all shards may write to the same folder.
`apps.generate --merge` joins their restored_INDEX_of_COUNT.npz.
"""

import pathlib

from absl import flags

from .cli import (
    flag_types,
    guard,
    input_flags,
    label_flag,
    noise_level,
    picture_flags,
    shard_flag,
)
from .cli.config import Config

_NUM_IMAGES = 64
# Defaults of the iteration; a denoiser of images of any size denoises once,
# with a step size of 1, unless --max_steps is given.
_STEP_SIZE, _MAX_STEPS, _TOLERANCE = 0.1, 100, 1e-3
_AUTO = "auto"
# Files of the folder --output, next to images/; {} is the shard.
_RESULTS = ("before_after{}.png", "steps{}.png", "restored{}.npz")

flag_types.define_path("workdir", "runs/dae", "A finished run of train_dae.")
guard.define_import_flag()
input_flags.define_flags()
flags.DEFINE_integer(
    "num_images",
    None,
    f"Number of images, the first ones (default: {_NUM_IMAGES} of a split, "
    "else all).",
    lower_bound=1,
)
flag_types.define_level(
    "add_noise",
    0.0,
    "Standard deviation of noise to add first, in units of pixels in [0, 1], "
    "such as 0.1 or 25/255.",
    lower_bound=0,
)
flag_types.define_level(
    "sigma",
    None,
    "Noise level to pass to the denoiser, > 0, in units of pixels in [0, 1]; "
    "not needed by denoisers of a single level and blind ones. auto, with "
    "pictures at their own size: estimated for each, and printed.",
    words=(_AUTO,),
)
label_flag.define_flag(
    "With a denoiser conditioned on labels: the label of all images (default: "
    "their own labels, if the data have any; else none)."
)
flags.DEFINE_float(
    "step_size",
    None,
    f"Step size of the iteration, in (0, 2) (default: {_STEP_SIZE}; of the "
    "single step of a denoiser of images of any size 1).",
)
flags.DEFINE_integer(
    "max_steps",
    None,
    f"Maximum number of steps (default: {_MAX_STEPS}; with a denoiser of "
    "images of any size 1, which returns D(x, sigma)).",
    lower_bound=1,
)
flags.DEFINE_integer(
    "max_pixels",
    2**20,
    "With pictures at their own size: pixels that the network takes at a time. "
    "Larger pictures are denoised in overlapping tiles, with the same result.",
    lower_bound=1,
)
picture_flags.define_self_ensemble("With pictures at their own size: ")
picture_flags.define_white_level("With pictures: ")
flags.DEFINE_float(
    "tolerance",
    None,
    "An image has converged when the root mean square of D(x) - x is at most "
    f"this (default: {_TOLERANCE:g}). One step of size 1 returns D(x, sigma) "
    "of every image.",
    lower_bound=0,
)
flag_types.define_seed(
    "Seed of the added noise; that of image i depends on the seed and i."
)
flag_types.define_path(
    "output", None, "A folder (default: restored/ of the run)."
)
shard_flag.define_flag("the images")


def main():
    """Restores, writes the images and prints how well it went."""
    config = Config.read(__name__)
    output = pathlib.Path(
        config.output or pathlib.Path(config.workdir, "restored")
    )
    check_flags(config)
    check_output(config, output)
    guard.load_tensorflow(config.import_module)
    from keras_genmodels.core import wording
    from keras_genmodels.core.errors import UserError, user_errors
    from keras_genmodels.core.events import is_any_size
    from keras_genmodels.denoisers import Denoiser
    from keras_genmodels.runs import Workdir

    workdir = Workdir(config.workdir)
    denoiser = workdir.load_model(Denoiser)
    check_levels(config, denoiser)
    if denoiser.num_classes is None:
        config.forbid(("label",), "a denoiser conditioned on labels")
    is_files = input_flags.is_pictures(config.input)
    if is_files:
        picture_flags.describe(config, config.num_images)
    if is_files and is_any_size(denoiser.event_shape):
        restore = restore_files
    else:
        of = "pictures and a denoiser of images of any size"
        if config.sigma == _AUTO:
            raise guard.WrongFlags(f"--sigma=auto requires {of}")
        config.forbid(("max_pixels", "self_ensemble"), of)
        restore = restore_arrays
    with guard.naming_flags("max_pixels", "white_level"):
        with user_errors():
            found = restore(config, denoiser, workdir, output)
        print(f"{shard_flag.title(config)}{found.summary}")
        if found.unreadable:
            count = wording.count_of(len(found.unreadable), "picture")
            raise UserError(
                f"{count} left out, all others are restored: "
                f"{wording.listed(found.unreadable, 3)}"
            )


def restore_files(config, denoiser, workdir, output):
    """Restores pictures one by one, each at its own size."""
    from keras_genmodels import datasets
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.runs.restore_pictures import Loop, restore_pictures

    if denoiser.event_shape[-1] not in (1, 3):
        raise UserError(
            f"pictures have 1 or 3 channels, and this denoiser takes "
            f"{denoiser.event_shape[-1]}: give an .npz file"
        )
    paths = list(datasets.list_pictures(config.input))[: config.num_images]
    input_flags.print_skipped(config.input)
    names = input_flags.png_names(input_flags.picture_names(config.input))
    loop = Loop(
        max_pixels=config.max_pixels,
        self_ensemble=config.self_ensemble,
        **iteration_of(config, denoiser),
    )
    part = shard_flag.part_of(config, len(paths), 1)
    paths, names = paths[part.slice], names[part.slice]
    check_output(config, output, names)
    run = workdir.find_run()
    trained = run and run.source and run.source.white_level
    return restore_pictures(
        denoiser,
        paths,
        names,
        output,
        condition=label_of(config, denoiser, workdir),
        sigma=config.sigma if denoiser.needs_sigma else None,
        add_noise=config.add_noise,
        seed=config.seed,
        first_row=part.rows.start,
        suffix=suffix_of(config),
        white_level=config.white_level or trained,
        loop=loop,
    )


def restore_arrays(config, denoiser, workdir, output):
    """Restores images of one size, all of them in memory."""
    from keras_genmodels.runs import restore
    from keras_genmodels.runs.restore_pictures import Restored

    split, names = read_input(config, workdir, denoiser.event_shape)
    part = shard_flag.part_of(
        config,
        len(split.images),
        restore.images_at_once(split.images.shape[1:]),
    )
    extra = shard_flag.arrays_of(config, part, workdir.model, split)
    split, names = split[part.slice], names and names[part.slice]
    if names:
        check_output(config, output, names)
    condition = labels_of(config, split, denoiser, workdir)
    is_clean = input_flags.is_split(config.input)
    summary = restore.restore_images(
        denoiser,
        split.images,
        output,
        condition=condition,
        names=names,
        truth_known=is_clean or config.add_noise > 0,
        add_noise=config.add_noise,
        seed=config.seed,
        first_row=part.rows.start,
        suffix=suffix_of(config),
        extra=extra,
        sigma=config.sigma,
        **iteration_of(config, denoiser),
    )
    return Restored(summary)


def iteration_of(config, denoiser):
    """Returns `step_size`, `max_steps` and `tolerance`, a dict."""
    from keras_genmodels.core.events import is_any_size

    once = is_any_size(denoiser.event_shape)
    max_steps = config.max_steps or (1 if once else _MAX_STEPS)
    default = 1.0 if once and max_steps == 1 else _STEP_SIZE
    step_size = config.step_size or default
    check_tolerance(config, step_size, max_steps)
    tolerance = config.tolerance
    if tolerance is None:
        tolerance = 0.0 if step_size == max_steps == 1 else _TOLERANCE
    return {
        "step_size": step_size,
        "max_steps": max_steps,
        "tolerance": tolerance,
    }


def check_tolerance(config, step_size, max_steps):
    """Refuses a tolerance for one step of size 1, which denoises all images."""
    if step_size == max_steps == 1 and config.tolerance:
        raise guard.WrongFlags(
            f"--tolerance={config.tolerance:g} requires --max_steps above 1, "
            "as one step of size 1 returns D(x, sigma) of every image"
        )


def check_levels(config, denoiser):
    """Checks --sigma and --add_noise, and prints what is unlikely."""
    if denoiser.needs_sigma and config.sigma is None:
        raise guard.WrongFlags("this denoiser requires --sigma")
    if not denoiser.needs_sigma and config.sigma is not None:
        print("This denoiser takes no noise level: --sigma has no effect.")
    elif config.sigma != _AUTO:
        noise_level.warn_if_unlikely("sigma", [config.sigma], denoiser)
    noise_level.warn_if_unlikely("add_noise", [config.add_noise])
    check_added_noise(config, denoiser)


def suffix_of(config):
    """Returns the end of the names of results, which tells shards apart."""
    return config.shard.suffix if config.shard else ""


def check_added_noise(config, denoiser):
    """Refuses noise that makes images too large for the level passed to D."""
    from keras_genmodels.core import pixel_scale

    level = config.sigma
    if not denoiser.needs_sigma or level == _AUTO:
        level = denoiser.sigma_range[1]
    # Five standard deviations are about the largest noise of an image.
    if 1 + 5 * config.add_noise > pixel_scale.largest_noisy(level):
        raise guard.WrongFlags(
            f"--add_noise={config.add_noise:g} is too much noise for a sigma "
            f"of {level:g}"
        )


def read_input(config, workdir, image_shape):
    """Returns the split of --input, and the names of pictures or None."""
    count = config.num_images
    if input_flags.is_split(config.input):
        count = count or _NUM_IMAGES
    split = input_flags.read_split(
        config, workdir, image_shape, config.white_level
    ).take(count)
    names = input_flags.picture_names(config.input)
    return split, names and input_flags.png_names(names)[:count]


def labels_of(config, split, denoiser, workdir):
    """Returns the labels of the images, None without any."""
    import numpy as np

    count, num_classes = len(split.images), denoiser.num_classes
    if num_classes is None:
        return None
    if config.label is None and split.labels is not None:
        label_flag.check_labels(split.labels, num_classes, config.input)
        return split.labels
    label = label_of(config, denoiser, workdir)
    return None if label is None else np.full(count, label)


def label_of(config, denoiser, workdir):
    """Returns the label of images without labels of their own, or None."""
    if denoiser.num_classes is None:
        return None
    if config.label is not None:
        run = workdir.find_run()
        return label_flag.read(
            config.label, denoiser, run and run.training_labels
        )
    if denoiser.label_dropout:
        return None
    raise guard.WrongFlags(
        "this denoiser is conditioned on labels, which the images do not "
        "have: give --label"
    )


def check_output(config, output, names=None):
    """Checks that no result replaces or joins the images of --input.

    Args:
        config: `Config`.
        output: path of the folder of results.
        names: paths of the restored PNGs below images/, if they are known.
    """
    suffix = suffix_of(config)
    written = [output / name.format(suffix) for name in _RESULTS]
    if names is None and not input_flags.is_arrays(config.input):
        written.append(output / "images")
    written += [output / "images" / name for name in names or ()]
    pictures = names and input_flags.picture_names(config.input)
    input_flags.check_output(config.input, written, pictures)


def check_flags(config):
    """Checks the flags before anything is loaded."""
    if config.sigma not in (None, _AUTO) and not config.sigma > 0:
        raise guard.WrongFlags(f"--sigma must be > 0, got {config.sigma}")
    if config.step_size is not None and not 0 < config.step_size < 2:
        raise guard.WrongFlags(
            f"--step_size must be in (0, 2), got {config.step_size}"
        )
    if not input_flags.is_pictures(config.input):
        config.forbid(("white_level",), "--input of pictures")
    check_tolerance(config, config.step_size, config.max_steps)
    input_flags.check_data_dir(config)


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
