"""Reads the inputs of a served signature, for apps.query."""

import pathlib

from . import guard, input_flags

NUM_IMAGES = 16
SETTINGS = ("step_size", "max_steps", "tolerance")


def has_pictures(source):
    """Returns whether the value of --input is pictures, rather than arrays."""
    return bool(source) and not input_flags.is_arrays(source)


def each_picture(config, infos):
    """Divides a request for pictures of any size, written to a folder.

    Args:
        config: `Config`.
        infos: dict of the names of the signature's inputs to `TensorInfo`s.

    Returns:
        list of `Config`s of one picture each; None for other requests.
    """
    from keras_genmodels import datasets
    from keras_genmodels.core.events import is_any_size

    shape = infos["image"].shape[1:] if "image" in infos else ()
    to_folder = config.output and not pathlib.Path(config.output).suffix
    if not (has_pictures(config.input) and to_folder and is_any_size(shape)):
        return None
    input_flags.print_skipped(config.input)
    paths = list(datasets.list_pictures(config.input))
    check_count(config, len(paths))
    return [
        config.replace(input=str(path), num_images=None)
        for path in paths[: config.num_images]
    ]


def check_count(config, count):
    """Checks that --input holds as many images as --num_images says."""
    if count < (config.num_images or 0):
        raise guard.WrongFlags(
            f"--num_images={config.num_images}, but {config.input} holds "
            f"{count}"
        )


def read(config, infos):
    """Reads the inputs of a signature from --input and the other flags.

    Args:
        config: `Config`.
        infos: dict of the names of its inputs to `TensorInfo`s.

    Returns:
        dict of names to arrays, or to one number for all rows.
    """
    from keras_genmodels.core import seeds

    inputs = {}
    if "image" in infos:
        inputs["image"] = _read_images(config, infos["image"])
    elif config.binarize:
        raise guard.WrongFlags(
            f"--binarize: {config.signature} takes no images"
        )
    if "z" in infos:
        inputs["z"] = _read_latents(config)
    if "condition" in infos:
        inputs["condition"] = _read_condition(
            config, infos["condition"], inputs
        )
    elif config.label is not None:
        raise guard.WrongFlags(f"--label: {config.model} is no model of labels")
    elif config.input and not inputs:
        raise guard.WrongFlags(
            f"--input: {config.model} generates from nothing but a seed"
        )
    num_rows = _num_rows(config, inputs)
    for name in ("sigma", "num_steps", "guidance", *SETTINGS):
        if config.values[name] is not None:
            inputs[name] = config.values[name]
    if "guidance" in infos:
        inputs.setdefault("guidance", 0.0)
    if "seed" in infos:
        inputs["seed"] = seeds.row_seeds(config.seed, num_rows).numpy()
    return inputs


def _num_rows(config, inputs):
    """Returns the number of rows of --input, or else of images to generate."""
    counts = [len(rows) for rows in inputs.values() if hasattr(rows, "shape")]
    if not counts:
        return config.num_images or NUM_IMAGES
    check_count(config, counts[0])
    return counts[0]


def _read_images(config, info):
    """Reads the pictures of --input; as float32 if they are binarised."""
    from keras_genmodels.core import arrays as arrays_lib

    if len(info.shape) != 4 and has_pictures(config.input):
        raise guard.WrongFlags(
            f"--input: {config.model} takes rows of shape "
            f"{list(info.shape[1:])}, which are no pictures: give an .npz file"
        )
    images = input_flags.read_pictures(
        config.input, info.shape[1:], config.white_level
    )
    images = arrays_lib.as_float(images[: config.num_images])
    if not config.binarize:
        return images
    input_flags.check_scale(images, info.shape[1:], config.input)
    return (images >= 0.5).astype("float32")


def _read_latents(config):
    """Reads the array `z`, or else `loc`, of --input."""
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import UserError, user_errors

    with user_errors():
        arrays, _ = files.read_arrays(config.input, "z", "loc")
    found = arrays.get("z", arrays.get("loc"))
    if found is None or not found.ndim:
        raise UserError(f"{config.input} has neither an array `z` nor `loc`")
    return found[: config.num_images]


def _read_condition(config, info, inputs):
    """Returns labels, or the images whose observed pixels a model completes."""
    from keras_genmodels.core.errors import UserError

    if info.shape == (None,):
        return _read_labels(config)
    if config.label is not None:
        raise guard.WrongFlags(f"--label: {config.model} is no model of labels")
    if len(info.shape) != 4 or config.signature == "decode":
        raise UserError(
            f"{config.model} takes a condition of shape {info.shape[1:]}, "
            "which only keras_genmodels.serving.Client can send here"
        )
    if not config.input:
        raise guard.WrongFlags(f"{config.model} completes images: give --input")
    return inputs["image"] if "image" in inputs else _read_images(config, info)


def _read_labels(config):
    """Returns --label, or else the labels of --input."""
    from keras_genmodels import datasets

    labels = None
    if config.input and config.signature != "decode":
        labels = datasets.read_labels(config.input)
    if config.label is None:
        if labels is None:
            raise guard.WrongFlags(
                f"{config.model} is a model of labels: give --label"
            )
        return labels[: config.num_images]
    # Labels are all that generate would take from --input.
    if labels is not None or (config.input and config.signature == "generate"):
        raise guard.WrongFlags(
            "give --label, or an --input that has labels, not both"
        )
    return config.label
