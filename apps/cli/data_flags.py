"""The flags that say which data set to train on."""

import pathlib

from absl import flags

from . import choices, flag_types, guard


def define_flags():
    """Defines --dataset, --data_dir, --image_size and what goes with them."""
    flags.DEFINE_string(
        "dataset",
        "digits",
        "digits (8x8 pixels, without download), the name of a TFDS image data "
        "set, image_folder (the pictures in --data_dir; default if it holds "
        "pictures), or an array file: x.npz with `image` and optionally "
        "`label`, or with splits (x_train, y_train, x_test, ... or "
        "train_images, train_labels, ...), or x.npy.",
    )
    flag_types.define_path(
        "data_dir",
        None,
        "Folder of pictures, flat or with a sub-folder per label, in train/, "
        "val/ and test/ if there are such; or the folder of the TFDS data sets "
        "(default: ~/tensorflow_datasets), also a gs:// address.",
        remote="gs",
    )
    flag_types.define_sizes(
        "image_size",
        None,
        "Resize images to this side, or to HEIGHT,WIDTH (default: no resizing; "
        "64 for image_folder).",
        most=2,
    )
    flags.DEFINE_enum(
        "color",
        "auto",
        choices.COLORS,
        "With image_folder: convert pictures to grey or rgb; auto: grey if all "
        "of them are, else rgb.",
    )
    flags.DEFINE_float(
        "validation_split",
        0.05,
        "Fraction of the training split held out for validation, if files have "
        "no validation split; 0 for none.",
        lower_bound=0,
        upper_bound=0.9,
    )
    flags.DEFINE_integer(
        "white_level",
        None,
        "The value of white in 16-bit images, such as 4095 for 12 bits "
        "(default: 65535, or what the chunk sBIT of a PNG says).",
        lower_bound=1,
        upper_bound=65535,
    )
    flag_types.define_auto_or_bool(
        "in_memory",
        "auto",
        "Hold all images in memory; false prepares them once in the folder "
        "KERAS_GENMODELS_CACHE (an environment variable; default: "
        "~/.cache/keras_genmodels) and reads them from there. auto: in memory "
        "if they take at most half of what is free. Batches are the same.",
    )


def define_patch_flags():
    """Defines the flags of a training on patches of pictures."""
    flags.DEFINE_integer(
        "patch_size",
        None,
        "With image_folder: keep pictures at their own size, and train on "
        "random patches of this side, flipped and turned by quarters. "
        "Validation and test use fixed patches of other pictures.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "patches_per_epoch",
        choices.PATCHES_PER_EPOCH,
        "With --patch_size: number of patches of an epoch.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "smallest_scale",
        1.0,
        "With --patch_size: draw patches of pictures shrunk down to this scale "
        "too, as often of each, in steps of at most a factor of 1.41. Pictures "
        "of cameras are smooth at full size: others have finer details.",
        lower_bound=0.01,
        upper_bound=1,
    )


def check_patch_flags(config):
    """Checks that no flag of `define_patch_flags` would be ignored.

    Raises:
        WrongFlags: otherwise.
    """
    if config.patch_size is None:
        config.forbid(("patches_per_epoch", "smallest_scale"), "--patch_size")
    else:
        config.forbid(("image_size",), "images of one size (no --patch_size)")


def load(config):
    """Loads the data set that the flags name.

    Args:
        config: `Config`.

    Returns:
        `datasets.ImageDataset`.
    """
    from keras_genmodels import datasets

    size = config.image_size
    # Flags of some apps only.
    patches = {
        name: config.values[name]
        for name in ("patch_size", "patches_per_epoch", "smallest_scale")
        if name in config.values
    }
    return datasets.load(
        _name(config),
        data_dir=config.data_dir,
        image_size=size and (size[0], size[-1]),
        validation_split=config.validation_split,
        seed=config.seed,
        white_level=config.white_level,
        in_memory=config.in_memory,
        color=config.color,
        **patches,
    )


def _name(config):
    """Returns --dataset, or without it what --data_dir holds."""
    from keras_genmodels.datasets import file_kinds

    folder = config.data_dir
    is_given = "dataset" in config.present
    if not is_given and str(folder).startswith("gs://"):
        raise guard.WrongFlags(
            f"--data_dir={folder} requires --dataset, the name of a TFDS data "
            "set"
        )
    is_folder = folder is not None and pathlib.Path(folder).is_dir()
    if is_given or not is_folder:
        return config.dataset
    if file_kinds.holds_pictures(folder, but=("downloads",)):
        print(f"--data_dir={folder} holds pictures: --dataset=image_folder")
        return "image_folder"
    names = [path.name for path in sorted(pathlib.Path(folder).iterdir())]
    names = [name for name in names if not file_kinds.is_hidden(name)]
    if names and "digits" not in names:
        raise guard.WrongFlags(
            f"--data_dir={folder} requires --dataset: it holds no pictures, "
            f"but {', '.join(names[:3])}"
        )
    return config.dataset
