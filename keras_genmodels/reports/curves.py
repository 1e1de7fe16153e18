"""Training curves: read from TensorBoard's files, and drawn."""

import io

import matplotlib
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboard.backend.event_processing import plugin_event_accumulator

# TensorBoard's folders: the split of each, and the prefix of its tags.
_FOLDERS = {
    "train": ("train", "epoch_"),
    "validation": ("validation", "epoch_"),
    "pictures": ("validation", "psnr/"),
}
# Written by Keras; determined by the settings.
_LEFT_OUT = ("learning_rate",)
_STYLES = {"train": ":", "validation": "-"}
# Distinct for colour-blind readers, on white and on black (Okabe and Ito,
# without the darkest and the lightest).
COLOURS = ("#0096D6", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#8A8A8A")
_INK = "#8A8A8A"
# Inches.
_WIDTH, _HEIGHT, _LINE = 4.6, 3.0, 0.2


def read(directory):
    """Reads the curves of a training.

    Args:
        directory: pathlib.Path, TensorBoard's folder of the run; it may be
            missing.

    Returns:
        dict of names such as "elbo" to dicts of "train" and "validation" to
        lists of (epoch from 1, value), sorted by epoch. If a resumed run
        repeated an epoch, the last value counts.
    """
    curves = {}
    for folder, (split, prefix) in _FOLDERS.items():
        if (directory / folder).is_dir():
            for name, points in _read(directory / folder, prefix).items():
                curves.setdefault(name, {})[split] = points
    return curves


def draw(curves, name):
    """Draws one curve of one run or of several.

    Args:
        curves: dict of names of runs to dicts as from `read`.
        name: str, such as "elbo".

    Returns:
        bytes of an SVG picture, transparent, readable on white and on black,
        and deterministic.
    """
    height = _HEIGHT + _LINE * len(curves)
    figure = Figure((_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    for number, (run, of_run) in enumerate(curves.items()):
        for split, points in of_run.get(name, {}).items():
            label = split if len(curves) == 1 else f"{run}, {split}"
            axes.plot(
                *zip(*points, strict=True),
                _STYLES[split],
                # A single epoch is no line.
                marker="." if len(points) < 20 else "",
                color=COLOURS[number % len(COLOURS)],
                # Matplotlib reads a dollar sign as a formula.
                label=label.replace("$", r"\$"),
            )
    _style(axes, name)
    # Below the axes, as the curves may be anywhere.
    figure.legend(
        loc="outside lower center",
        ncols=2,
        fontsize=8.5,
        frameon=False,
        labelcolor=_INK,
    )
    with matplotlib.rc_context(
        {"svg.hashsalt": "keras_genmodels", "svg.fonttype": "path"}
    ):
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}
        )
    return buffer.getvalue()


def _read(folder, prefix):
    accumulator = plugin_event_accumulator.EventAccumulator(
        str(folder),
        # All scalars, but few pictures: these are large.
        tensor_size_guidance={"scalars": 0, "images": 1},
    ).Reload()
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        name = tag.removeprefix("epoch_").replace("/sigma_", " at sigma ")
        if not tag.startswith(prefix) or name in _LEFT_OUT:
            continue
        points = {
            event.step + 1: float(tf.make_ndarray(event.tensor_proto))
            for event in accumulator.Tensors(tag)
        }
        found[name] = sorted(points.items())
    return found


def _style(axes, name):
    axes.set_title(name.replace("_", " "), fontsize=10, color=_INK)
    axes.set_xlabel("epoch", fontsize=9, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(colors=_INK, labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(_INK)
    axes.grid(color=_INK, alpha=0.25, linewidth=0.6)
