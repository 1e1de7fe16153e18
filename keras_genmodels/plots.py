"""Arrays of images in, pictures for a person out."""

import io
import math
import statistics

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_genmodels import files

_DPI = 120
_SMALLEST_TILE = 28
_PAIRED_COLUMNS = 8


def image_grid(images, columns=None, gap=1, smallest_tile=_SMALLEST_TILE):
    """Tiles images into one picture.

    Args:
        images: float array `[n, height, width, channels]` in [0, 1]; values
            outside are clipped. 1 channel (grey) or 3; of other counts the
            first is shown.
        columns: tiles per row; by default about as many as rows.
        gap: white pixels between tiles.
        smallest_tile: images are enlarged until a side has so many pixels.

    Returns:
        uint8 array `[height, width, 3]`; small images are enlarged by a whole
        factor.
    """
    images = np.asarray(images, np.float32)
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


def titled(picture, title, x_label="", y_label=""):
    """Puts a title and axis labels around a picture.

    Args:
        picture: uint8 array `[height, width, 3]`.
        title: one line of text.
        x_label: text below.
        y_label: text at the left.

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
    axes.set(xticks=[], yticks=[], xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def vae_pictures(model, x, *, seed):
    """Draws what a VAE over images does.

    Args:
        model: a `VAE` over images.
        x: float array `[n, height, width, channels]` in [0, 1].
        seed: seed of the samples.

    Returns:
        dict of names to uint8 pictures: `reconstructions`, `samples`,
        `interpolation`, and for a latent of size 2 `latent_plane`.
    """
    pictures = {
        "reconstructions": _reconstructions(model, x),
        "samples": titled(
            image_grid(model.sample(64, seed=seed)),
            "Samples: mean of p(x|z), z from the prior",
        ),
        "interpolation": _interpolation(model, x[:16]),
    }
    if model.latent_size == 2:
        pictures["latent_plane"] = _latent_plane(model)
    return pictures


def _reconstructions(model, x):
    return titled(
        image_grid(reconstruction_rows(model, x), _PAIRED_COLUMNS),
        "Reconstructions: each row of images above its reconstruction",
    )


def reconstruction_rows(model, x):
    """Orders images and their reconstructions as alternating rows of tiles.

    Args:
        model: a `VAE` over images.
        x: float array `[n, height, width, channels]`; the last row is filled
            up with white.

    Returns:
        float array: 8 images, their 8 reconstructions, the next 8 images...
    """
    missing = -len(x) % _PAIRED_COLUMNS
    decoded = model.decode(model.encode(x).mean()).mean().numpy()
    rows = [
        np.pad(
            images, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1
        ).reshape(-1, 1, _PAIRED_COLUMNS, *x.shape[1:])
        for images in (x, decoded)
    ]
    return np.concatenate(rows, axis=1).reshape(-1, *x.shape[1:])


def _interpolation(model, x, steps=10):
    """Walks from the latent means of the first half to the second's."""
    z = model.encode(x).mean().numpy()
    pairs = max(1, len(z) // 2)
    start, end = z[:pairs, np.newaxis], z[-pairs:, np.newaxis]
    weight = np.linspace(0, 1, steps, dtype=z.dtype)[:, np.newaxis]
    path = ((1 - weight) * start + weight * end).reshape(-1, z.shape[-1])
    return titled(
        image_grid(model.decode(path).mean(), steps),
        "Interpolation between two images, in the latent space",
    )


def _latent_plane(model, side=20):
    """Decodes a lattice of the prior's quantiles, z_2 growing upwards."""
    normal = statistics.NormalDist()
    axis = [normal.inv_cdf((i + 0.5) / side) for i in range(side)]
    plane = [(right, up) for up in reversed(axis) for right in axis]
    decoded = model.decode(np.asarray(plane, np.float32)).mean()
    return titled(
        image_grid(decoded, side),
        "The latent plane, decoded at equal quantiles of the prior",
        x_label=f"z_1 from {axis[0]:.2f} to {axis[-1]:.2f}",
        y_label="z_2, the same upwards",
    )
