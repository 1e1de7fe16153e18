"""Reads the inputs of a served signature, for apps.query."""

from absl import flags

from . import guard, input_flags

FLAGS = flags.FLAGS

NUM_IMAGES = 16
SETTINGS = ("step_size", "max_steps", "tolerance")


def has_pictures():
    """Returns whether --input names pictures, rather than arrays."""
    return bool(FLAGS.input) and not input_flags.is_arrays(FLAGS.input)


def read(infos):
    """Reads the inputs of a signature from --input and the other flags.

    Args:
        infos: dict of the names of its inputs to `TensorInfo`s.

    Returns:
        dict of names to arrays, or to one number for all rows.
    """
    from keras_genmodels.core import seeds

    inputs = {}
    if "image" in infos:
        inputs["image"] = _read_images(infos["image"])
    elif FLAGS.binarize:
        raise guard.WrongFlags(f"--binarize: {FLAGS.signature} takes no images")
    if "z" in infos:
        inputs["z"] = _read_latents()
    if "condition" in infos:
        inputs["condition"] = _read_condition(infos["condition"], inputs)
    elif FLAGS.label is not None:
        raise guard.WrongFlags(f"--label: {FLAGS.model} is no model of labels")
    elif FLAGS.input and not inputs:
        raise guard.WrongFlags(
            f"--input: {FLAGS.model} generates from nothing but a seed"
        )
    num_rows = _num_rows(inputs)
    for name in ("sigma", "num_steps", "guidance", *SETTINGS):
        if FLAGS[name].value is not None:
            inputs[name] = FLAGS[name].value
    if "guidance" in infos:
        inputs.setdefault("guidance", 0.0)
    if "seed" in infos:
        inputs["seed"] = seeds.row_seeds(FLAGS.seed, num_rows).numpy()
    return inputs


def _num_rows(inputs):
    """Returns the number of rows of --input, or else of images to generate."""
    counts = [len(rows) for rows in inputs.values() if hasattr(rows, "shape")]
    if not counts:
        return FLAGS.num_images or NUM_IMAGES
    if counts[0] < (FLAGS.num_images or 0):
        raise guard.WrongFlags(
            f"--num_images={FLAGS.num_images}, but {FLAGS.input} holds "
            f"{counts[0]}"
        )
    return counts[0]


def _read_images(info):
    """Reads the pictures of --input; as float32 if they are binarised."""
    from keras_genmodels.core import arrays as arrays_lib

    if len(info.shape) != 4 and has_pictures():
        raise guard.WrongFlags(
            f"--input: {FLAGS.model} takes rows of shape "
            f"{list(info.shape[1:])}, which are no pictures: give an .npz file"
        )
    images = input_flags.read_pictures(
        FLAGS.input, info.shape[1:], FLAGS.white_level
    )
    images = arrays_lib.as_float(images[: FLAGS.num_images])
    if not FLAGS.binarize:
        return images
    input_flags.check_scale(images, info.shape[1:])
    return (images >= 0.5).astype("float32")


def _read_latents():
    """Reads the array `z`, or else `loc`, of --input."""
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import UserError, user_errors

    with user_errors():
        arrays, _ = files.read_arrays(FLAGS.input, "z", "loc")
    found = arrays.get("z", arrays.get("loc"))
    if found is None or not found.ndim:
        raise UserError(f"{FLAGS.input} has neither an array `z` nor `loc`")
    return found[: FLAGS.num_images]


def _read_condition(info, inputs):
    """Returns labels, or the images whose observed pixels a model completes."""
    from keras_genmodels.core.errors import UserError

    if info.shape == (None,):
        return _read_labels()
    if FLAGS.label is not None:
        raise guard.WrongFlags(f"--label: {FLAGS.model} is no model of labels")
    if len(info.shape) != 4 or FLAGS.signature == "decode":
        raise UserError(
            f"{FLAGS.model} takes a condition of shape {info.shape[1:]}, which "
            "only keras_genmodels.serving.Client can send here"
        )
    if not FLAGS.input:
        raise guard.WrongFlags(f"{FLAGS.model} completes images: give --input")
    return inputs["image"] if "image" in inputs else _read_images(info)


def _read_labels():
    """Returns --label, or else the labels of --input."""
    from keras_genmodels import datasets

    labels = None
    if FLAGS.input and FLAGS.signature != "decode":
        labels = datasets.read_labels(FLAGS.input)
    if FLAGS.label is None:
        if labels is None:
            raise guard.WrongFlags(
                f"{FLAGS.model} is a model of labels: give --label"
            )
        return labels[: FLAGS.num_images]
    # Labels are all that generate would take from --input.
    if labels is not None or (FLAGS.input and FLAGS.signature == "generate"):
        raise guard.WrongFlags(
            "give --label, or an --input that has labels, not both"
        )
    return FLAGS.label
