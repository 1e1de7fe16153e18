"""The flag --input, and the images that it names."""

import pathlib

from absl import flags

from . import flag_types, guard

FLAGS = flags.FLAGS

SPLITS = ("train", "validation", "test")
# As in `datasets.file_kinds`, which imports TensorFlow.
ARRAY_ENDINGS = (".npy", ".npz")


def define_flags(more=""):
    """Defines --input, and --data_dir for the data set of its splits.

    Args:
        more: what else is done with the images, for the help.
    """
    flags.DEFINE_string(
        "input",
        "test",
        "A picture, a folder of pictures (resized to the model's size), an "
        "x.npz with an array `image`, an x.npy, or a split of the run's data: "
        f"train, validation or test.{more}",
    )
    flag_types.define_path(
        "data_dir",
        None,
        "Folder of the run's data set, if it has moved.",
        remote="gs",
    )


def is_split():
    """Returns whether --input is a split of the run's data."""
    return FLAGS.input in SPLITS


def read_split(workdir, image_shape):
    """Reads the images of --input.

    Args:
        workdir: the run's `Workdir`.
        image_shape: `(height, width, channels)` of its model.

    Returns:
        `datasets.Split`; labels are None for pictures, and those of an array
        `label` of an .npz file, if there is one.

    Raises:
        UserError: if there are no such images, or the run's data have changed.
    """
    from keras_genmodels import datasets
    from keras_genmodels.core.errors import UserError

    if not is_split():
        run = workdir.find_run()
        source = run and run.source
        images = read_pictures(
            _path(), image_shape, source and source.white_level
        )
        return datasets.Split(images, datasets.read_labels(_path()))
    data = workdir.read_run().load_data(FLAGS.data_dir)
    split = getattr(data, FLAGS.input)
    if split is None:
        raise UserError(
            "--input=validation requires a run with validation images"
        )
    return split


def check_output(output):
    """Checks that a later run would not read the results as its pictures.

    Args:
        output: path that will be written.

    Raises:
        WrongFlags: if it is for pictures and lies in the folder --input.
    """
    if FLAGS.input is None or is_split() or output.suffix == ".npz":
        return
    folder = pathlib.Path(FLAGS.input).expanduser().resolve()
    if folder.is_dir() and output.resolve().is_relative_to(folder):
        raise guard.WrongFlags(
            f"--output={output} lies in --input={FLAGS.input}, where the same "
            "command would read it as a picture the next time: give another "
            "folder"
        )


def read_pictures(path, image_shape, white_level):
    """Reads images as `datasets.read_pictures`; names the skipped files."""
    from keras_genmodels import datasets

    if not is_arrays(path) and (skipped := datasets.skipped_in(path)):
        print(f"{path}: {skipped}")
    return datasets.read_pictures(
        path, image_shape=image_shape, white_level=white_level
    )


def is_arrays(path):
    """Returns whether a path is that of a file of arrays."""
    return str(path).lower().endswith(ARRAY_ENDINGS)


def picture_names():
    """Lists the pictures of --input relative to it, or None for arrays."""
    from keras_genmodels import datasets

    path = _path()
    if is_split() or is_arrays(path):
        return None
    base = path if path.is_dir() else path.parent
    return [
        picture.relative_to(base) for picture in datasets.list_pictures(path)
    ]


def _path():
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import user_errors

    with user_errors("--input: "):
        return files.local_path(FLAGS.input).expanduser()
