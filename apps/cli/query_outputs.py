"""Writes and prints the outputs of a served signature, for apps.query."""

import pathlib

from absl import flags

from . import guard

FLAGS = flags.FLAGS

# Outputs that hold images.
_IMAGES = ("image", "denoised")


def written(names):
    """Lists the paths that `write` writes.

    Args:
        names: paths of the pictures relative to --input, None for arrays.
    """
    if not FLAGS.output:
        return []
    output = pathlib.Path(FLAGS.output)
    if output.suffix or not names:
        return [output]
    return [output / _png_name(name) for name in names]


def check_images(infos):
    """Raises if --output is for pictures and there are no images.

    Args:
        infos: dict of the names of the outputs to `TensorInfo`s.
    """
    if FLAGS.output is None or FLAGS.output.endswith(".npz"):
        return
    shapes = [infos[name].shape for name in _IMAGES if name in infos]
    if not shapes:
        raise guard.WrongFlags(
            f"--output: {FLAGS.signature} returns {', '.join(infos)}, which "
            "are no pictures: give an .npz file"
        )
    if len(shapes[0]) != 4:
        raise guard.WrongFlags(
            f"--output: {FLAGS.model} gives rows of shape "
            f"{list(shapes[0][1:])}, which are no pictures: give an .npz file"
        )


def write(outputs, names):
    """Writes the outputs to --output.

    Args:
        outputs: dict of names to arrays.
        names: as for `written`.
    """
    import numpy as np

    from keras_genmodels import plots
    from keras_genmodels.core import files

    output = pathlib.Path(FLAGS.output)
    if output.suffix == ".npz":
        files.write_arrays(output, **outputs)
        return
    (images,) = (outputs[name] for name in _IMAGES if name in outputs)
    if output.suffix == ".png":
        plots.save_png(output, plots.image_grid(images))
        return
    for name, image in zip(names, images, strict=False):
        picture = plots.image_grid(image[np.newaxis], smallest_tile=1)
        plots.save_png(output / _png_name(name), picture)


def lines(outputs, names):
    """Returns the lines to print: nats of each image, and what was written."""
    num_rows = len(next(iter(outputs.values())))
    found = []
    if FLAGS.signature == "log_likelihood":
        for row in range(num_rows):
            nats = [f"{k} {v[row]:.2f}" for k, v in outputs.items()]
            found.append(f"{names[row] if names else row}: {', '.join(nats)}")
        mean = outputs["log_likelihood"].mean()
        found.append(f"log_likelihood {mean:.2f} nats, mean of {num_rows}")
    if "num_steps" in outputs:
        steps = outputs["num_steps"]
        found.append(
            f"{steps.min()} to {steps.max()} steps, residuals up to "
            f"{outputs['residual'].max():.3g}"
        )
    if FLAGS.output:
        shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in outputs.items())
        found.append(f"{shapes} in {FLAGS.output}")
    return found


def _png_name(picture):
    """Returns the name of the PNG that belongs to a picture."""
    if picture.suffix == ".png":
        return picture
    # a.jpg becomes a.jpg.png, as there may be an a.png as well.
    return picture.with_name(f"{picture.name}.png")
