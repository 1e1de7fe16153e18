"""Asks a server of exported models, TensorFlow Serving or apps.serve.

  python -m apps.query --signature=generate --num_images=16 --label=3 \\
      --output=images.png
  python -m apps.query --model=dae --signature=restore --input=PICTURES \\
      --sigma=0.3 --output=RESTORED
  python -m apps.query --signature=encode --input=PICTURES --output=z.npz
  python -m apps.query --signature=decode --input=z.npz --output=images.png
  python -m apps.query --signature=log_likelihood --input=PICTURES --binarize

What comes out goes to --output: a .png (one sheet), a folder (a PNG for each
picture of --input, of the same name) or an .npz with all arrays, as the
signature names them. log_likelihood also prints, in nats. A model that
completes images takes what it is given from --input. What the model takes is
learned from the server. It needs the extra `serving`.
"""

import os
import pathlib

from absl import flags

from .cli import flag_types, guard, input_flags

FLAGS = flags.FLAGS

_NUM_IMAGES = 16
_OF_LATENT = ("reconstruct", "encode", "decode", "generate", "log_likelihood")
_OF_DENOISER = ("restore", "denoise", "noise")
_SETTINGS = ("step_size", "max_steps", "tolerance")
# The signatures that each flag goes with.
_GO_WITH = {
    "label": _OF_LATENT,
    "seed": ("generate", "log_likelihood"),
    "binarize": ("reconstruct", "encode", "log_likelihood"),
    "sigma": _OF_DENOISER,
    **dict.fromkeys(_SETTINGS, ("restore",)),
}
_WITHOUT_PICTURES = ("encode", "log_likelihood", "noise")

flags.DEFINE_string("address", "127.0.0.1:8500", "host:port of its gRPC.")
flags.DEFINE_string("model", "vae", "Name of the model there.")
flags.DEFINE_enum(
    "signature", "generate", (*_OF_LATENT, *_OF_DENOISER), "What to ask for."
)
flag_types.define_path(
    "input",
    None,
    "A picture, a folder of pictures (resized to the model's size) or an x.npz "
    "with an array `image`, and perhaps `label`; to decode, one with an array "
    "`z`, or `loc` as encode gives it.",
)
flags.DEFINE_integer(
    "num_images",
    None,
    "The first so many of --input (default: all), or else so many that are "
    f"generated (default: {_NUM_IMAGES}).",
    lower_bound=1,
)
flags.DEFINE_integer(
    "label",
    None,
    "Of a model of labels: that of all images, where --input has no labels. A "
    "server does not tell how many labels there are, so that `none` is not "
    "known here: after a training with --label_dropout, the number of labels "
    "stands for it.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Image i depends on the seed and i alone.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_bool(
    "binarize",
    False,
    "Make pixels from 0.5 on 1, and the others 0: a bernoulli likelihood "
    "knows no others.",
)
flags.DEFINE_float("sigma", None, "Noise level of the images, > 0.")
flags.DEFINE_float(
    "step_size",
    None,
    "Of the loop, in (0, 2); with the next two, or else those of the export.",
)
flags.DEFINE_integer("max_steps", None, "At most so many steps.", lower_bound=0)
flags.DEFINE_float(
    "tolerance", None, "Residual at which an image rests.", lower_bound=0
)
flags.DEFINE_float(
    "timeout", 60.0, "Seconds that an answer may take.", lower_bound=1e-3
)
flags.DEFINE_integer("batch_size", 32, "Images of one request.", lower_bound=1)
flag_types.define_path("output", None, "A .png, an .npz or a folder.")


def main():
    """Asks, and writes the answer."""
    check_flags()
    # What it has to say of connections is said below, in one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    guard.load_tensorflow()
    from keras_genmodels import serving

    names = picture_files() and input_flags.picture_names()
    check_inputs_stay(names)
    with serving.Client(
        FLAGS.address, FLAGS.model, FLAGS.timeout, batch_size=FLAGS.batch_size
    ) as client:
        signature = FLAGS.signature
        if FLAGS.step_size is not None:
            signature = "restore_with"
        described = client.signature(signature)
        check_shows(described.outputs)
        inputs = read_inputs(described.inputs)
        outputs = ask(client, signature, inputs)
    if FLAGS.output:
        write(outputs, names)
    for line in told(outputs, names):
        print(line)


def check_flags():
    """Refuses what does not go together, before anything is loaded."""
    for name, signatures in _GO_WITH.items():
        if FLAGS.signature not in signatures:
            guard.forbid_flags([name], f"--signature={' or '.join(signatures)}")
    missing = [name for name in _SETTINGS if FLAGS[name].value is None]
    if 0 < len(missing) < len(_SETTINGS):
        raise guard.WrongFlags(
            "give --step_size, --max_steps and --tolerance together, or none "
            f"of them: --{missing[0]} is missing"
        )
    if FLAGS.input is None and FLAGS.signature != "generate":
        raise guard.WrongFlags(f"--signature={FLAGS.signature} needs --input")
    if FLAGS.signature == "decode" and not FLAGS.input.endswith(".npz"):
        raise guard.WrongFlags("to decode, --input must be an .npz file")
    check_output()


def picture_files():
    """Tells whether --input names pictures."""
    return bool(FLAGS.input) and not FLAGS.input.endswith(".npz")


def check_output():
    """Refuses an --output that can't hold what comes out."""
    output = FLAGS.output
    if output is None:
        if FLAGS.signature == "log_likelihood":
            return
        raise guard.WrongFlags("say where it goes: give --output")
    suffix = pathlib.Path(output).suffix
    if FLAGS.signature in _WITHOUT_PICTURES:
        may = (".npz",)
    elif FLAGS.signature not in ("generate", "decode") and picture_files():
        may = (".png", ".npz", "")
    else:
        may = (".png", ".npz")
    if suffix not in may:
        told = [it or "be a folder, without an ending" for it in may]
        raise guard.WrongFlags(
            f"--output={output} must end in {' or '.join(told)}"
        )


def check_inputs_stay(names):
    """Refuses an --output that would replace a file of --input.

    Args:
        names: as of `write`.
    """
    if not (FLAGS.input and FLAGS.output):
        return
    given, output = pathlib.Path(FLAGS.input), pathlib.Path(FLAGS.output)
    read, written = [given], [output]
    if names and given.is_dir():
        read = [given / name for name in names]
    if names and not output.suffix:
        written = [output / png_name(name) for name in names]
    kept = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in kept:
            raise guard.WrongFlags(
                f"--output={output} would replace {path}, which --input "
                "reads: name another"
            )


def check_shows(gives):
    """Refuses to make a PNG of what is no picture.

    Args:
        gives: dict of the outputs' names to what the server says of them.
    """
    if FLAGS.output is None or FLAGS.output.endswith(".npz"):
        return
    shape = gives[shown()].shape
    if len(shape) != 4:
        raise guard.WrongFlags(
            f"--output: {FLAGS.model} gives rows of shape "
            f"{list(shape[1:])}, which are no pictures: name an .npz file"
        )


def shown():
    """Gives the name of the output that holds pictures."""
    return "denoised" if FLAGS.signature == "denoise" else "image"


def read_inputs(takes):
    """Reads what a signature takes.

    Args:
        takes: dict of the inputs' names to what the server says of them.

    Returns:
        dict of arrays, or one number for all rows.
    """
    from keras_genmodels.core import seeds

    given = {}
    if "image" in takes:
        given["image"] = read_images(takes["image"])
    if "z" in takes:
        given["z"] = read_latents()
    if "condition" in takes:
        given["condition"] = read_condition(takes["condition"], given)
    elif FLAGS.label is not None:
        raise guard.WrongFlags(f"--label: {FLAGS.model} is no model of labels")
    elif FLAGS.input and not given:
        raise guard.WrongFlags(
            f"--input: {FLAGS.model} generates from nothing but a seed"
        )
    count = num_rows(given)
    for name in ("sigma", *_SETTINGS):
        if FLAGS[name].value is not None:
            given[name] = FLAGS[name].value
    if "seed" in takes:
        given["seed"] = seeds.row_seeds(FLAGS.seed, count).numpy()
    return given


def num_rows(given):
    """Counts the rows of --input, or else those to generate.

    Args:
        given: dict of arrays, or one number for all rows.
    """
    counts = [len(rows) for rows in given.values() if hasattr(rows, "shape")]
    if not counts:
        return FLAGS.num_images or _NUM_IMAGES
    if counts[0] < (FLAGS.num_images or 0):
        raise guard.WrongFlags(
            f"--num_images={FLAGS.num_images}, but {FLAGS.input} holds "
            f"{counts[0]}"
        )
    return counts[0]


def read_images(info):
    """Reads the pictures of --input, as float32 if they are binarised."""
    from keras_genmodels import datasets
    from keras_genmodels.core import arrays as arrays_lib

    if len(info.shape) != 4 and picture_files():
        raise guard.WrongFlags(
            f"--input: {FLAGS.model} takes rows of shape "
            f"{list(info.shape[1:])}, which are no pictures: give an .npz file"
        )
    images = datasets.read_pictures(FLAGS.input, image_shape=info.shape[1:])
    images = arrays_lib.as_float(images[: FLAGS.num_images])
    return (images >= 0.5).astype("float32") if FLAGS.binarize else images


def read_latents():
    """Reads the array `z`, or else `loc`, of --input."""
    from keras_genmodels.core import files
    from keras_genmodels.core.errors import UserError

    arrays, _ = files.read_arrays(FLAGS.input, "z", "loc")
    found = arrays.get("z", arrays.get("loc"))
    if found is None or not found.ndim:
        raise UserError(f"{FLAGS.input} has neither an array `z` nor `loc`")
    return found[: FLAGS.num_images]


def read_condition(info, given):
    """Gives labels, or the pictures of which a model takes the known part."""
    from keras_genmodels.core.errors import UserError

    if info.shape == (None,):
        return read_label()
    if FLAGS.label is not None:
        raise guard.WrongFlags(f"--label: {FLAGS.model} is no model of labels")
    if len(info.shape) != 4 or FLAGS.signature == "decode":
        raise UserError(
            f"{FLAGS.model} takes a condition of shape {info.shape[1:]}, which "
            "only keras_genmodels.serving.Client can give here"
        )
    if not FLAGS.input:
        raise guard.WrongFlags(f"{FLAGS.model} completes images: give --input")
    return given["image"] if "image" in given else read_images(info)


def read_label():
    """Gives --label, or else the labels of --input."""
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
    # Which generates of labels alone.
    if labels is not None or (FLAGS.input and FLAGS.signature == "generate"):
        raise guard.WrongFlags(
            "give --label, or an --input that has labels, not both"
        )
    return FLAGS.label


def ask(client, signature, inputs):
    """Asks; says what helps if a likelihood refuses the pixels."""
    from keras_genmodels.core.errors import UserError

    try:
        return client.predict(signature, **inputs)
    except UserError as error:
        if "image must be 0 or 1" not in str(error):
            raise
        raise UserError(
            f"{error} (--binarize makes all pixels 0 or 1)"
        ) from error


def told(outputs, names):
    """Gives the lines to print: the nats of each picture, and what came."""
    count = len(next(iter(outputs.values())))
    lines = []
    if FLAGS.signature == "log_likelihood":
        for row in range(count):
            nats = [f"{k} {v[row]:.2f}" for k, v in outputs.items()]
            lines.append(f"{names[row] if names else row}: {', '.join(nats)}")
        mean = outputs["log_likelihood"].mean()
        lines.append(f"log_likelihood {mean:.2f} nats in the mean of {count}")
    if "num_steps" in outputs:
        steps = outputs["num_steps"]
        lines.append(
            f"{steps.min()} to {steps.max()} steps, residuals up to "
            f"{outputs['residual'].max():.3g}"
        )
    if FLAGS.output:
        shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in outputs.items())
        lines.append(f"{shapes} in {FLAGS.output}")
    return lines


def write(outputs, names):
    """Writes the answer to --output."""
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.core import files

    output = pathlib.Path(FLAGS.output)
    if output.suffix == ".npz":
        files.write_arrays(output, **outputs)
        return
    images = outputs[shown()]
    if output.suffix == ".png":
        plots.save_png(output, plots.image_grid(images))
        return
    for name, image in zip(names, images, strict=False):
        picture = plots.image_grid(image[np.newaxis], smallest_tile=1)
        plots.save_png(output / png_name(name), picture)


def png_name(picture):
    """Gives a picture's path the name of what comes of it."""
    if picture.suffix == ".png":
        return picture
    # So that a.jpg does not end where a.png does.
    return picture.with_name(f"{picture.name}.png")


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
