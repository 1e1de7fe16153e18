"""Queries a server of exported models, TensorFlow Serving or apps.serve.

  python -m apps.query --signature=generate --num_images=16 --label=3 \\
      --output=images.png
  python -m apps.query --model=dae --signature=restore --input=PICTURES \\
      --sigma=0.3 --output=RESTORED
  python -m apps.query --signature=encode --input=PICTURES --output=z.npz
  python -m apps.query --signature=decode --input=z.npz --output=images.png
  python -m apps.query --signature=log_likelihood --input=PICTURES --binarize

--output is a .png (one sheet), a folder (a PNG of the same name for each
picture of --input; a.png.png and a.jpg.png of a.png and a.jpg) or an .npz with
all output arrays. log_likelihood and log_density also print their values, in
nats. The inputs of a signature are read from the server. A model that completes
images gets the observed pixels from --input. This app needs the extra
`serving`.
"""

import contextlib
import os
import pathlib
from typing import NamedTuple

from absl import flags

from .cli import (
    flag_types,
    guard,
    input_flags,
    noise_level,
    query_inputs,
    query_outputs,
)
from .cli.config import Config

flags.DEFINE_string(
    "address", "127.0.0.1:8500", "host:port of the server's gRPC."
)
flags.DEFINE_string("model", "vae", "Name of the model on the server.")
flags.DEFINE_string("signature", "generate", "Name of the signature to run.")
flag_types.define_path(
    "input",
    None,
    "A picture, a folder of pictures (resized to the model's size, if it has "
    "one; else each at its own size, if --output is a folder), an x.npz "
    "with an array `image` and optionally `label`, or an x.npy; for decode an "
    ".npz with an array `z`, or `loc` as encode returns it.",
)
flags.DEFINE_integer(
    "white_level",
    None,
    "The value of white in 16-bit images of --input, as in the training "
    "(default: 65535, or what the chunk sBIT of a PNG says).",
    lower_bound=1,
    upper_bound=65535,
)
flags.DEFINE_integer(
    "num_images",
    None,
    "Use only the first images of --input (default: all), or the number of "
    f"images to generate (default: {query_inputs.NUM_IMAGES}).",
    lower_bound=1,
)
flags.DEFINE_integer(
    "label",
    None,
    "For a model of labels: the label of all images, unless --input has "
    "labels. In a model trained with --label_dropout, the number of classes "
    "means no label.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Seed; image i depends on the seed and i only.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_bool(
    "binarize",
    False,
    "Round pixels to 0 or 1 (0.5 to 1), as a bernoulli likelihood requires.",
)
flags.DEFINE_integer(
    "num_steps",
    None,
    "With generate and a denoiser: number of its evaluations, or their maximum "
    "if it does not receive sigma (default: that of the export).",
    lower_bound=1,
)
flags.DEFINE_float(
    "guidance",
    None,
    "With --num_steps, and a denoiser trained with --label_dropout: guidance "
    "scale (default: 0).",
    lower_bound=0,
)
flag_types.define_level(
    "sigma",
    None,
    "Noise level of the images, > 0, in units of pixels in [0, 1], such as "
    "25/255.",
)
flags.DEFINE_float(
    "step_size",
    None,
    "Step size of restore, in (0, 2). Give all of --step_size, --max_steps and "
    "--tolerance, or none for the values of the export.",
)
flags.DEFINE_integer(
    "max_steps", None, "Maximum number of steps of restore.", lower_bound=0
)
flags.DEFINE_float(
    "tolerance",
    None,
    "Residual at which restore has converged.",
    lower_bound=0,
)
flags.DEFINE_float(
    "timeout", 60.0, "Seconds that one answer may take.", lower_bound=1e-3
)
flags.DEFINE_integer(
    "batch_size", 32, "Maximum number of images per request.", lower_bound=1
)
flags.DEFINE_integer(
    "max_message_mb",
    64,
    "Maximum size of a request and of an answer, in MiB. A pixel takes 4 bytes "
    "per channel. The server must allow it, too.",
    lower_bound=1,
    upper_bound=2047,
)
flag_types.define_path("output", None, "A .png, an .npz or a folder.")


class _Signature(NamedTuple):
    """A signature whose flags are checked before the server is asked.

    Args:
        flags: the flags that it uses, of those in `_OPTIONAL`.
        has_images: whether it returns images.
    """

    flags: tuple
    has_images: bool


_SETTINGS = query_inputs.SETTINGS
_SIGNATURES = {
    "generate": _Signature(("label", "seed", "num_steps", "guidance"), True),
    "reconstruct": _Signature(("label", "binarize"), True),
    "encode": _Signature(("label", "binarize"), False),
    "decode": _Signature(("label",), True),
    "log_likelihood": _Signature(("label", "seed", "binarize"), False),
    "restore": _Signature(("label", "sigma", *_SETTINGS), True),
    "denoise": _Signature(("label", "sigma"), True),
    "noise": _Signature(("label", "sigma"), False),
    "log_density": _Signature(("label", "sigma"), False),
}
_OPTIONAL = (
    *("label", "seed", "binarize", "sigma", "num_steps", "guidance"),
    *_SETTINGS,
)


def main():
    """Sends the request and writes the answer."""
    config = Config.read(__name__)
    check_flags(config)
    check_output(config)
    # gRPC logs failed connections, which are reported below in one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    guard.load_tensorflow()
    from keras_genmodels import serving

    if config.sigma is not None:
        noise_level.warn_if_unlikely("sigma", [config.sigma])
    has_pictures = query_inputs.has_pictures(config.input)
    names = input_flags.picture_names(config.input) if has_pictures else None
    pngs = names and input_flags.png_names(names)
    written = query_outputs.written(config.output, pngs)
    input_flags.check_output(config.input, written, names)
    with serving.Client(
        config.address,
        config.model,
        config.timeout,
        batch_size=config.batch_size,
        max_message_mb=config.max_message_mb,
    ) as client:
        signature = config.signature
        if signature == "restore" and config.step_size is not None:
            signature = "restore_with"
        if signature == "generate" and config.num_steps is not None:
            signature = "generate_with"
        found = client.signature(signature)
        query_outputs.check_images(config, found.outputs)

        def answer(config, pngs):
            inputs = query_inputs.read(config, found.inputs)
            outputs = predict(client, signature, inputs)
            if config.output:
                query_outputs.write(config, outputs, pngs)
            return outputs

        parts = query_inputs.each_picture(config, found.inputs)
        lines = answer_all(config, parts, names, pngs, answer)
    for line in lines:
        print(line)


def answer_all(config, parts, names, pngs, answer):
    """Sends the requests and writes their answers; returns lines to print.

    Args:
        config: `Config`.
        parts: as `query_inputs.each_picture` returns them.
        names: paths of the pictures relative to --input, None for arrays.
        pngs: as of `query_outputs.written`.
        answer: function of a `Config` and `pngs` to a dict of outputs.
    """
    if parts is None:
        return query_outputs.lines(config, answer(config, pngs), names)
    answers = []
    for part, png in zip(parts, pngs, strict=False):
        with named(part.input):
            answers.append(query_outputs.without_images(answer(part, [png])))
    return query_outputs.lines_of_pictures(config, answers)


@contextlib.contextmanager
def named(path):
    """Adds the picture to the message of what the model refuses."""
    from keras_genmodels import serving
    from keras_genmodels.core.errors import UserError

    try:
        yield
    except serving.RequestError as error:
        if error.input is None:
            raise
        raise UserError(f"{path}: {error}") from error


def check_flags(config):
    """Checks which flags go together, before anything is loaded."""
    known = _SIGNATURES.get(config.signature)
    for name in _OPTIONAL if known else ():
        if name not in known.flags:
            users = [key for key, it in _SIGNATURES.items() if name in it.flags]
            config.forbid([name], f"--signature={' or '.join(users)}")
    missing = [name for name in _SETTINGS if config.values[name] is None]
    if 0 < len(missing) < len(_SETTINGS):
        raise guard.WrongFlags(
            "give --step_size, --max_steps and --tolerance together, or none "
            f"of them: --{missing[0]} is missing"
        )
    if config.guidance is not None and config.num_steps is None:
        raise guard.WrongFlags("--guidance requires --num_steps")
    if config.input is None and known and config.signature != "generate":
        raise guard.WrongFlags(f"--signature={config.signature} needs --input")
    is_npz = str(config.input).lower().endswith(".npz")
    if config.signature == "decode" and not is_npz:
        raise guard.WrongFlags("to decode, --input must be an .npz file")


def check_output(config):
    """Checks that --output can hold the outputs of the signature."""
    if config.output is None:
        if config.signature in query_outputs.PRINTED:
            return
        raise guard.WrongFlags(f"--signature={config.signature}: give --output")
    known = _SIGNATURES.get(config.signature)
    has_pictures = query_inputs.has_pictures(config.input)
    if known and not known.has_images:
        suffixes = (".npz",)
    elif config.signature != "generate" and has_pictures:
        suffixes = (".png", ".npz", "")
    else:
        suffixes = (".png", ".npz")
    if pathlib.Path(config.output).suffix not in suffixes:
        words = [it or "be a folder, without a suffix" for it in suffixes]
        raise guard.WrongFlags(
            f"--output={config.output} must end in {' or '.join(words)}"
        )


def predict(client, signature, inputs):
    """Runs the signature; suggests --binarize if that would help."""
    from keras_genmodels import serving
    from keras_genmodels.core.errors import UserError

    try:
        return client.predict(signature, **inputs)
    except serving.RequestError as error:
        if (error.input, error.reason) != ("image", "binary"):
            raise
        raise UserError(
            f"{error} (--binarize makes all pixels 0 or 1)"
        ) from error


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
