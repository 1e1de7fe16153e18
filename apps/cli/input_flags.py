"""The flag --input, and the images that it names."""

import collections
import importlib.util
import pathlib
import runpy

from . import flag_types, guard

SPLITS = ("train", "validation", "test")
# Run as a file, as an import of the package would import TensorFlow.
_ENDINGS = (
    pathlib.Path(importlib.util.find_spec("keras_genmodels").origin).with_name(
        "datasets"
    )
    / "endings.py"
)


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


def is_split(source):
    """Returns whether the value of --input is a split of the run's data."""
    return source in SPLITS


def is_pictures(source):
    """Returns whether the value of --input is a picture or a folder of such."""
    return not is_split(source) and not is_arrays(source)


def check_data_dir(config):
    """Refuses --data_dir for images that are no split of the run's data."""
    if not is_split(config.input):
        config.forbid(("data_dir",), "--input=train, validation or test")


def read_split(config, workdir, image_shape, white_level=None):
    """Reads the images of --input.

    Args:
        config: `Config`.
        workdir: the run's `Workdir`.
        image_shape: `(height, width, channels)` of its model.
        white_level: int, the value of white in 16-bit pictures; None for that
            of the run.

    Returns:
        `datasets.Split`; labels are None for pictures, and those of an array
        `label` of an .npz file, if there is one.

    Raises:
        UserError: if there are no such images, or the run's data have changed.
    """
    from keras_genmodels import datasets
    from keras_genmodels.core.errors import UserError

    if not is_split(config.input):
        run = workdir.find_run()
        source = run and run.source
        if white_level is None:
            white_level = source and source.white_level
        images = read_pictures(config.input, image_shape, white_level)
        return datasets.Split(images, datasets.read_labels(config.input))
    data = workdir.read_run().load_data(config.data_dir)
    split = getattr(data, config.input)
    if split is None:
        raise UserError(
            "--input=validation requires a run with validation images"
        )
    return split


def check_output(source, written, names=None):
    """Checks that the results do not replace or join the files of --input.

    Args:
        source: the value of --input, or None.
        written: paths that will be written: files, or a folder that will get
            pictures.
        names: paths of the pictures relative to --input, None for arrays or
            if they are not known yet.

    Raises:
        WrongFlags: if one of them is a file of --input, is a folder around it,
            or is a picture in the folder --input, which the same command would
            read the next time.
    """
    if source is None or is_split(source):
        return
    read = pathlib.Path(source).resolve()
    kept = {read, *((read / name).resolve() for name in names or ())}
    for path in written:
        target = path.resolve()
        # A folder of results has no suffix.
        is_around = not target.suffix and read.is_relative_to(target)
        if target in kept or is_around:
            raise guard.WrongFlags(
                f"--output would replace {path}, which --input reads: give "
                "another one"
            )
        if target.suffix != ".npz" and target.is_relative_to(read):
            raise guard.WrongFlags(
                f"--output: {path} lies in --input={source}, where the "
                "same command would read it as a picture the next time: give "
                "another folder"
            )


def read_pictures(path, image_shape, white_level):
    """Reads images as `datasets.read_pictures`; prints what is skipped."""
    from keras_genmodels import datasets
    from keras_genmodels.datasets import notes

    if not is_arrays(path):
        print_skipped(path)
        for note in notes.on_resizing(path, image_shape):
            print(note)
    images = datasets.read_pictures(
        path, image_shape=image_shape, white_level=white_level
    )
    for note in notes.on_darkness(images, path):
        print(note)
    return images


def print_skipped(path):
    """Prints which files of a folder are not read as pictures."""
    from keras_genmodels import datasets

    if skipped := datasets.skipped_in(path):
        print(f"{path}: {skipped}")


def check_scale(images, image_shape, source):
    """Checks the scale of images that will be binarised, which would hide it.

    Args:
        images: array `[n, *image_shape]`, uint8 or floating.
        image_shape: `(height, width, channels)`.
        source: the value of --input; splits have been checked.

    Raises:
        UserError: for floats that are not pixels in [0, 1].
    """
    from keras_genmodels.core import pixel_scale
    from keras_genmodels.core.errors import user_errors

    if images.dtype.kind == "f" and not is_split(source):
        with user_errors():
            pixel_scale.check_clean(images, image_shape, source)


def check_range(source, images):
    """Checks that images to complete are in [0, 1].

    Args:
        source: the value of --input, for the message.
        images: array `[n, height, width, channels]`, uint8 or floating.

    Raises:
        UserError: if they are not.
    """
    from keras_genmodels.core.errors import UserError

    if images.dtype != "uint8" and not 0 <= images.min() <= images.max() <= 1:
        raise UserError(
            f"{source} has pixels outside of [0, 1]: clip them, as the "
            "observed part is kept as it is"
        )


def is_arrays(path):
    """Returns whether a path is that of a file of arrays."""
    arrays = runpy.run_path(str(_ENDINGS))["ARRAYS"]
    return str(path).lower().endswith(arrays)


def picture_names(source):
    """Lists the pictures of --input relative to it, or None for arrays.

    Args:
        source: the value of --input.
    """
    from keras_genmodels import datasets

    if not is_pictures(source):
        return None
    path = pathlib.Path(source)
    base = path if path.is_dir() else path.parent
    return [
        picture.relative_to(base) for picture in datasets.list_pictures(path)
    ]


def png_names(pictures):
    """Returns the path of the PNG that is written for each picture.

    Args:
        pictures: list of paths from `picture_names`.

    Returns:
        list of paths, all different.
    """
    names = [picture.with_suffix(".png") for picture in pictures]
    counts = collections.Counter(names)
    # Such as a.png and a.jpg.
    both = [
        name if counts[name] == 1 else picture.with_name(f"{picture.name}.png")
        for picture, name in zip(pictures, names, strict=True)
    ]
    if len({*both}) < len(both):
        return [p.with_name(f"{p.name}.png") for p in pictures]
    return both
