"""Plots of attractors: steps of restoring, singular images, vector fields."""

import math

import numpy as np
from matplotlib.figure import Figure

from keras_genmodels.plots.grid import DPI, rasterize
from keras_genmodels.plots.vector_field import vector_field

__all__ = ["restoration_rows", "singular_images", "vector_field"]

_TILE = 0.95  # inches


def restoration_rows(
    trajectory, *, columns=8, clean=None, title="Images being restored"
):
    """Draws images being restored: a row per image, a column per step.

    Args:
        trajectory: float array `[1 + steps, batch, height, width, channels]`,
            as returned by `restore(..., trajectory=True)`; 1 (grey) or 3
            channels, clipped to [0, 1].
        columns: int >= 2, maximum number of steps shown. The steps are spaced
            geometrically, since the first ones change most.
        clean: float array `[batch, height, width, channels]`, the original
            images, shown in one more column; or None.
        title: str, one line.

    Returns:
        uint8 array `[height, width, 3]`.

    Raises:
        ValueError: if an array has another shape, or `columns` is below 2.
    """
    trajectory = np.asarray(trajectory)
    if (
        trajectory.ndim != 5
        or not trajectory.size
        or trajectory.shape[-1] not in (1, 3)
    ):
        raise ValueError(
            "trajectory must have shape [1 + steps, batch, height, width, 1 "
            f"or 3], got {trajectory.shape}"
        )
    if columns < 2:
        raise ValueError(f"columns must be >= 2, got {columns}")
    steps = _choose_steps(len(trajectory), columns)
    tiles = [*trajectory[steps]]
    headings = ["start", *(f"step {step}" for step in steps[1:])]
    if clean is not None:
        if np.shape(clean) != trajectory.shape[1:]:
            raise ValueError(
                f"clean must have shape {trajectory.shape[1:]}, got "
                f"{np.shape(clean)}"
            )
        tiles.append(clean)
        headings.append("clean")
    images = np.clip(np.stack(tiles, axis=1), 0, 1)
    images = images.reshape(-1, *images.shape[2:])
    return _draw_tiles(images, len(tiles), title, headings)


def singular_images(denoiser, num=16, *, columns=8):
    """Draws the first eigenvectors of the covariance that a denoiser keeps.

    Grey eigenvectors are drawn with white for 0, red for positive and blue
    for negative values, each scaled to its largest magnitude; eigenvectors of
    3 channels as colours around grey. The heading of each is its number and
    its share of the sum of the kept eigenvalues.

    Args:
        denoiser: adapted `LinearDenoiser` of images.
        num: int >= 1, maximum number of eigenvectors.
        columns: int >= 1, images per row.

    Returns:
        uint8 array `[height, width, 3]`.

    Raises:
        ValueError: if `num` or `columns` is below 1, or the events are not
            images of 1 or 3 channels.
    """
    for name, value in (("num", num), ("columns", columns)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    vectors = np.moveaxis(np.asarray(denoiser.eigenvectors), -1, 0)
    if vectors.ndim != 4 or vectors.shape[-1] not in (1, 3):
        raise ValueError(
            "singular images need events [height, width, 1 or 3], got "
            f"{vectors.shape[1:]}"
        )
    eigenvalues = np.asarray(denoiser.eigenvalues, np.float64)
    total = eigenvalues.sum()
    shares = eigenvalues / total if total > 0 else eigenvalues
    num = min(num, len(vectors))
    headings = [
        f"{index + 1}: {100 * share:.2g} %"
        for index, share in enumerate(shares[:num])
    ]
    images = np.stack([_signed_colours(vector) for vector in vectors[:num]])
    title = f"Singular images and their shares of {len(vectors)} eigenvalues"
    return _draw_tiles(images, min(columns, num), title, headings)


def _choose_steps(count, columns):
    """Returns increasing step numbers from 0 to count - 1."""
    if count <= columns:
        return list(range(count))
    chosen = np.geomspace(1, count, columns).round().astype(int) - 1
    # Rounding makes the first ones equal: take the next steps instead.
    for column in range(1, columns):
        chosen[column] = max(chosen[column], chosen[column - 1] + 1)
    return chosen.tolist()


def _signed_colours(vector):
    """Maps signed values `[height, width, 1 or 3]` to RGB in [0, 1]."""
    largest = np.abs(vector).max()
    scaled = vector / largest if largest > 0 else vector
    if vector.shape[-1] == 3:
        return 0.5 + scaled / 2
    red = np.where(scaled < 0, 1 + 0.87 * scaled, 1 - 0.16 * scaled)
    green = 1 - 0.72 * np.abs(scaled)
    blue = np.where(scaled > 0, 1 - 0.82 * scaled, 1 + 0.24 * scaled)
    return np.concatenate([red, green, blue], axis=-1)


def _draw_tiles(images, columns, title, headings):
    """Draws images `[n, height, width, channels]` row by row.

    `headings` are written above the first images.
    """
    rows = math.ceil(len(images) / columns)
    high = _TILE * images.shape[1] / images.shape[2]
    headed = math.ceil(len(headings) / columns)
    figure = Figure(
        (columns * (_TILE + 0.08), rows * (high + 0.06) + headed * 0.2 + 0.4),
        dpi=DPI,
        layout="constrained",
    )
    figure.get_layout_engine().set(
        w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image in zip(panels, images, strict=False):
        image = np.repeat(image, 3 // image.shape[-1], axis=-1)
        axes.imshow(image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        # A thin border, as images may be white at the edge.
        axes.spines[:].set(color="0.75", linewidth=0.5)
    for axes in panels[len(images) :]:
        axes.set_axis_off()
    for axes, heading in zip(panels, headings, strict=False):
        axes.set_title(heading, fontsize=8.5, pad=3)
    figure.suptitle(title, fontsize=10.5)
    return rasterize(figure, tight=True)
