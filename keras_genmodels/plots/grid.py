"""Grids of images, titles around them, and PNG files."""

import io
import math

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_genmodels.core import files

DPI = 120
_SMALLEST_TILE = 28


def image_grid(images, columns=None, gap=1, smallest_tile=_SMALLEST_TILE):
    """Tiles images into one picture, row by row.

    Args:
        images: float array `[n, height, width, channels]`, clipped to [0, 1];
            NaN is drawn black. 1 channel (grey) or 3 (RGB); of any other
            number only the first channel is drawn.
        columns: int, tiles per row; by default about as many as rows.
        gap: int, white pixels between tiles.
        smallest_tile: int, smaller images are enlarged by a whole factor until
            their longer side has this many pixels.

    Returns:
        uint8 array `[height, width, 3]`.
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
    """Writes a uint8 picture `[height, width, 3]` atomically as a PNG file."""
    with files.replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def titled(picture, title, x_label="", y_label="", rows=()):
    """Adds a title, axis labels and names of rows around a picture.

    Args:
        picture: uint8 array `[height, width, 3]`.
        title: str, one line.
        x_label: str, shown below.
        y_label: str, shown at the left.
        rows: names of rows of equal height, from the top.

    Returns:
        uint8 array `[height, width, 3]`.
    """
    height, width = picture.shape[:2]
    scale = 6.0 / max(height, width)
    figure = Figure(
        (max(width * scale, 4.5) + 0.7, height * scale + 0.9), dpi=DPI
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
    return rasterize(figure)


def rasterize(figure, tight=False):
    """Returns a matplotlib figure as a uint8 array `[height, width, 3]`.

    `tight` crops or extends the picture to what is drawn, as a title may be
    wider than the figure.
    """
    box = {"bbox_inches": "tight", "pad_inches": 0.1} if tight else {}
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **box)
    return np.asarray(Image.open(buffer).convert("RGB"))
