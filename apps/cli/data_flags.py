"""The flags that say which data set to train on."""

from absl import flags

from . import flag_types


def define_flags():
    """Defines --dataset, --data_dir, --image_size and --validation_split."""
    flags.DEFINE_string(
        "dataset",
        "digits",
        "Name of a TFDS image data set (digits needs no download), "
        "image_folder (pictures in --data_dir), or a file x.npz with an array "
        "`image` and optionally `label`.",
    )
    flag_types.define_path(
        "data_dir",
        None,
        "Folder of the TFDS data sets (default: ~/tensorflow_datasets), or the "
        "folder of pictures; TFDS also reads gs:// addresses.",
        remote="gs",
    )
    flag_types.define_sizes(
        "image_size",
        None,
        "Resize images to this side, or to HEIGHT,WIDTH (default: no resizing; "
        "64 for image_folder).",
        most=2,
    )
    flags.DEFINE_float(
        "validation_split",
        0.05,
        "Fraction of the training split held out for validation; 0 for none.",
        lower_bound=0,
        upper_bound=0.9,
    )


def load(config):
    """Loads the data set that the flags name.

    Args:
        config: `Config`.

    Returns:
        `datasets.ImageDataset`.
    """
    from keras_genmodels import datasets

    size = config.image_size
    return datasets.load(
        config.dataset,
        data_dir=config.data_dir,
        image_size=size and (size[0], size[-1]),
        validation_split=config.validation_split,
        seed=config.seed,
    )
