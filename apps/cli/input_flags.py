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
    flag_types.define_path(
        "input",
        "test",
        "A picture, a folder of pictures (resized to the model's size), an "
        "x.npz with an array `image`, an x.npy, or a split of the run's data: "
        f"train, validation or test.{more}",
        words=SPLITS,
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
            FLAGS.input, image_shape, source and source.white_level
        )
        return datasets.Split(images, datasets.read_labels(FLAGS.input))
    data = workdir.read_run().load_data(FLAGS.data_dir)
    split = getattr(data, FLAGS.input)
    if split is None:
        raise UserError(
            "--input=validation requires a run with validation images"
        )
    return split


def check_output(written, names=None):
    """Checks that the results do not replace or join the files of --input.

    Args:
        written: paths that will be written: files, or a folder that will get
            pictures.
        names: paths of the pictures relative to --input, None for arrays or
            if they are not known yet.

    Raises:
        WrongFlags: if one of them is a file of --input, is a folder around it,
            or is a picture in the folder --input, which the same command would
            read the next time.
    """
    if FLAGS.input is None or is_split():
        return
    source = pathlib.Path(FLAGS.input).resolve()
    kept = {source, *((source / name).resolve() for name in names or ())}
    for path in written:
        target = path.resolve()
        # A folder of results has no suffix.
        is_around = not target.suffix and source.is_relative_to(target)
        if target in kept or is_around:
            raise guard.WrongFlags(
                f"--output would replace {path}, which --input reads: give "
                "another one"
            )
        if target.suffix != ".npz" and target.is_relative_to(source):
            raise guard.WrongFlags(
                f"--output: {path} lies in --input={FLAGS.input}, where the "
                "same command would read it as a picture the next time: give "
                "another folder"
            )


def read_pictures(path, image_shape, white_level):
    """Reads images as `datasets.read_pictures`; names the skipped files."""
    from keras_genmodels import datasets
    from keras_genmodels.datasets import notes

    if not is_arrays(path) and (skipped := datasets.skipped_in(path)):
        print(f"{path}: {skipped}")
    images = datasets.read_pictures(
        path, image_shape=image_shape, white_level=white_level
    )
    for note in notes.on_darkness(images, path):
        print(note)
    return images


def check_scale(images, image_shape):
    """Checks the scale of images that will be binarised, which would hide it.

    Args:
        images: array `[n, *image_shape]`, uint8 or floating.
        image_shape: `(height, width, channels)`.

    Raises:
        UserError: for floats that are not pixels in [0, 1].
    """
    from keras_genmodels.core import pixel_scale
    from keras_genmodels.core.errors import user_errors

    if images.dtype.kind == "f":
        with user_errors():
            pixel_scale.check_clean(images, image_shape, FLAGS.input)


def is_arrays(path):
    """Returns whether a path is that of a file of arrays."""
    return str(path).lower().endswith(ARRAY_ENDINGS)


def picture_names():
    """Lists the pictures of --input relative to it, or None for arrays."""
    from keras_genmodels import datasets

    path = pathlib.Path(FLAGS.input)
    if is_split() or is_arrays(path):
        return None
    base = path if path.is_dir() else path.parent
    return [
        picture.relative_to(base) for picture in datasets.list_pictures(path)
    ]
