"""Writes and prints the outputs of a served signature, for apps.query."""

import pathlib

from . import guard

# Signatures with an output of the same name, nats of each image.
PRINTED = ("log_likelihood", "log_density")
# Outputs that hold images.
_IMAGES = ("image", "denoised")


def written(output, pngs):
    """Lists the paths that `write` writes.

    Args:
        output: the value of --output, or None.
        pngs: paths of the PNGs in a folder --output, None for arrays.
    """
    if not output:
        return []
    path = pathlib.Path(output)
    if path.suffix or not pngs:
        return [path]
    return [path / png for png in pngs]


def check_images(config, infos):
    """Raises if --output is for pictures and there are no images.

    Args:
        config: `Config`.
        infos: dict of the names of the outputs to `TensorInfo`s.
    """
    if config.output is None or config.output.endswith(".npz"):
        return
    shapes = [infos[name].shape for name in _IMAGES if name in infos]
    if not shapes:
        raise guard.WrongFlags(
            f"--output: {config.signature} returns {', '.join(infos)}, which "
            "are no pictures: give an .npz file"
        )
    if len(shapes[0]) != 4:
        raise guard.WrongFlags(
            f"--output: {config.model} gives rows of shape "
            f"{list(shapes[0][1:])}, which are no pictures: give an .npz file"
        )


def write(config, outputs, pngs):
    """Writes the outputs to --output.

    A picture of a folder has 16 bits if that of --input has.

    Args:
        config: `Config`.
        outputs: dict of names to arrays.
        pngs: as for `written`.
    """
    import numpy as np

    from keras_genmodels import datasets, plots
    from keras_genmodels.core import files
    from keras_genmodels.datasets import pictures

    path = pathlib.Path(config.output)
    if path.suffix == ".npz":
        files.write_arrays(path, **outputs)
        return
    (images,) = (outputs[name] for name in _IMAGES if name in outputs)
    if path.suffix == ".png":
        plots.save_png(path, plots.image_grid(images))
        return
    num = len(images)
    headers = pictures.read_headers(datasets.list_pictures(config.input)[:num])
    for png, image, header in zip(pngs[:num], images, headers, strict=True):
        pictures.write(path / png, np.array(image), header.bits)


def lines(config, outputs, names):
    """Returns the lines to print: nats of each image, and what was written."""
    num_rows = len(next(iter(outputs.values())))
    found = []
    if (name := config.signature) in PRINTED:
        for row in range(num_rows):
            nats = [f"{k} {v[row]:.2f}" for k, v in outputs.items()]
            found.append(f"{names[row] if names else row}: {', '.join(nats)}")
        mean = outputs[name].mean()
        found.append(f"{name} {mean:.2f} nats, mean of {num_rows}")
    found += _loop_lines(outputs)
    if config.output:
        shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in outputs.items())
        found.append(f"{shapes} in {config.output}")
    return found


def lines_of_pictures(config, answers):
    """Returns the lines to print of pictures that were sent one by one.

    Args:
        config: `Config`.
        answers: list of dicts of the outputs `[1]` of each.
    """
    from keras_genmodels.core import arrays

    found = _loop_lines(arrays.concatenate(answers))
    return [*found, f"{len(answers)} pictures in {config.output}"]


def without_images(outputs):
    """Returns the outputs that are no images."""
    return {k: v for k, v in outputs.items() if k not in _IMAGES}


def _loop_lines(outputs):
    """Returns a line on the loop of `restore`; none for other signatures."""
    if "num_steps" not in outputs:
        return []
    steps = outputs["num_steps"]
    return [
        f"{steps.min()} to {steps.max()} steps, residuals up to "
        f"{outputs['residual'].max():.3g}"
    ]
