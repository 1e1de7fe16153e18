"""Arrays of images in, pictures for a person out."""

import io
import math

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_genmodels.core import files

_DPI = 120
_SMALLEST_TILE = 28


def image_grid(images, columns=None, gap=1, smallest_tile=_SMALLEST_TILE):
    """Tiles images into one picture.

    Args:
        images: float array `[n, height, width, channels]` in [0, 1]; values
            outside are clipped, and what is no number is black. 1 channel
            (grey) or 3; of other counts the first is shown.
        columns: tiles per row; by default about as many as rows.
        gap: white pixels between tiles.
        smallest_tile: images are enlarged until a side has so many pixels.

    Returns:
        uint8 array `[height, width, 3]`; small images are enlarged by a whole
        factor.
    """
    images = np.nan_to_num(np.asarray(images, np.float32))
    if images.shape[-1] != 3:
        images = np.repeat(images[..., :1], 3, axis=-1)
    images = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    factor = math.ceil(smallest_tile / max(images.shape[1:3]))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    n, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    tiles = np.full(
        (rows * columns, height + gap, width + gap, 3), 255, np.uint8
    )
    tiles[:n, :height, :width] = images
    grid = tiles.reshape(rows, columns, height + gap, width + gap, 3)
    grid = grid.swapaxes(1, 2).reshape(
        rows * (height + gap), columns * (width + gap), 3
    )
    return grid[: grid.shape[0] - gap, : grid.shape[1] - gap]


def save_png(path, picture):
    """Writes a uint8 picture `[height, width, 3]`, whole or not at all."""
    with files.replacing(path) as beside:
        Image.fromarray(picture).save(beside, format="PNG")


def titled(picture, title, x_label="", y_label="", rows=()):
    """Puts a title, axis labels and names of rows around a picture.

    Args:
        picture: uint8 array `[height, width, 3]`.
        title: one line of text.
        x_label: text below.
        y_label: text at the left.
        rows: names, each at its part of the height, all parts being equal.

    Returns:
        uint8 array `[height, width, 3]`.
    """
    height, width = picture.shape[:2]
    scale = 6.0 / max(height, width)
    figure = Figure(
        (max(width * scale, 4.5) + 0.7, height * scale + 0.9), dpi=_DPI
    )
    axes = figure.add_subplot()
    axes.imshow(picture, interpolation="nearest")
    centres = (np.arange(len(rows)) + 0.5) * height / max(len(rows), 1)
    axes.set(xticks=[], xlabel=x_label, ylabel=y_label)
    axes.set_yticks(centres, rows, parse_math=False)
    axes.tick_params(left=False, labelsize=9)
    axes.set_title(title, fontsize=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))
