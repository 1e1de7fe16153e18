"""Pictures of where a denoiser leads to: a denoiser or arrays in, uint8 out."""

import io
import math

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_genmodels.core.errors import UserError
from keras_genmodels.sampling.restoration import restore

_DPI = 120
# Inches.
_PANEL, _TILE = 4.6, 0.95
# Colours that differ to colour-blind eyes, too (Okabe and Ito).
_DATA, _ARROWS, _PATHS, _ENDS = "#0072B2", "0.55", "#E69F00", "#D55E00"


def vector_field(
    denoiser,
    data,
    sigmas,
    *,
    starts=None,
    arrows=19,
    margin=0.6,
    step_size=0.1,
    max_steps=1000,
):
    """Draws the noise that a denoiser sees in a plane, and ways of `restore`.

    One panel for each noise level: the data; at a lattice of points the
    predicted noise x - D(x, sigma), which points away from the data, with
    lengths in proportion (the longest of a panel is one cell of the lattice);
    and the ways from `starts`, which go against the arrows, each to the point
    where it ends.

    Args:
        denoiser: object with `denoise(x, sigma)` or function of both, on
            events of shape (2,).
        data: float array `[n, 2]`.
        sigmas: noise levels > 0, one or a sequence, a panel each.
        starts: float array `[num_starts, 2]`; by default 20 around and
            among the data.
        arrows: int >= 2, arrows along each side.
        margin: >= 0, how far the panels go beyond the data, in units of the
            data's larger extent.
        step_size, max_steps: of `restore`.

    Returns:
        uint8 array `[height, width, 3]`.

    Raises:
        UserError: if an argument is out of range, or if the denoiser does not
            take events of shape (2,).
    """
    data = _points("data", data)
    sigmas = np.atleast_1d(np.asarray(sigmas, float))
    _check(
        sigmas.ndim == 1 and sigmas.size,
        f"sigmas must be one or a sequence, got shape {sigmas.shape}",
    )
    _check(arrows >= 2, f"arrows must be >= 2, got {arrows}")
    _check(margin >= 0, f"margin must be >= 0, got {margin}")
    center, half = _frame(data, margin)
    starts = _around(center, half) if starts is None else starts
    starts = _points("starts", starts).astype(data.dtype)
    figure = Figure(
        (0.4 + _PANEL * len(sigmas), _PANEL + 1.1),
        dpi=_DPI,
        layout="constrained",
    )
    panels = figure.subplots(1, len(sigmas), squeeze=False)[0]
    for axes, sigma in zip(panels, sigmas, strict=True):
        _draw_arrows(axes, denoiser, sigma, center, half, arrows)
        ways = restore(
            denoiser,
            starts,
            sigma=sigma,
            step_size=step_size,
            max_steps=max_steps,
            trajectory=True,
        ).trajectory.numpy()
        _draw_ways(axes, ways)
        axes.scatter(*data.T, s=26, color=_DATA, zorder=3, label="data")
        axes.set(
            xlim=(center[0] - half, center[0] + half),
            ylim=(center[1] - half, center[1] + half),
            aspect="equal",
            title=f"sigma = {sigma:g}",
        )
    _explain(figure, panels[0])
    return _picture(figure)


def restoration_rows(
    trajectory, *, columns=8, clean=None, title="Images being restored"
):
    """Draws images being restored, a row each, with the step above.

    Args:
        trajectory: float array `[1 + steps, batch, height, width, channels]`,
            as of `restore(..., trajectory=True)`; 1 channel (grey) or 3,
            shown from 0 to 1 and clipped.
        columns: int >= 2, how many steps are shown, closer at first, where
            most happens; all, if there are fewer.
        clean: float array `[batch, height, width, channels]`, what was there
            before the noise: one more column.
        title: one line of text.

    Returns:
        uint8 array `[height, width, 3]`.

    Raises:
        UserError: if the arrays are not of such shapes.
    """
    trajectory = np.asarray(trajectory)
    _check(
        trajectory.ndim == 5
        and trajectory.size
        and trajectory.shape[-1] in (1, 3),
        "trajectory must have shape [1 + steps, batch, height, width, 1 or "
        f"3], got {trajectory.shape}",
    )
    _check(columns >= 2, f"columns must be >= 2, got {columns}")
    steps = _chosen_steps(len(trajectory), columns)
    tiles = [*trajectory[steps]]
    headings = [f"step {step}" for step in steps]
    headings[0] = "start"
    if clean is not None:
        clean = np.asarray(clean)
        _check(
            clean.shape == trajectory.shape[1:],
            f"clean must have shape {trajectory.shape[1:]}, got {clean.shape}",
        )
        tiles.append(clean)
        headings.append("clean")
    images = np.clip(np.stack(tiles, axis=1), 0, 1)
    images = images.reshape(-1, *images.shape[2:])
    return _picture(_tiles(images, len(tiles), title, headings))


def singular_images(denoiser, num=16, *, columns=8):
    """Draws the first singular images of V V', signed, one like an image.

    White is 0, red is positive and blue negative, each image to its own
    largest size; of 3 channels they are shown as colours around grey. Above
    each stands its number and its share of the sum of the eigenvalues that
    the denoiser keeps, which are variances along the images.

    Args:
        denoiser: adapted `LinearDenoiser` of images.
        num: int >= 1, how many; all, if there are fewer.
        columns: int >= 1, images in a row.

    Returns:
        uint8 array `[height, width, 3]`.

    Raises:
        UserError: if `num` or `columns` is out of range, or the events are no
            images.
    """
    _check(num >= 1, f"num must be >= 1, got {num}")
    _check(columns >= 1, f"columns must be >= 1, got {columns}")
    vectors = np.moveaxis(np.asarray(denoiser.eigenvectors), -1, 0)
    _check(
        vectors.ndim == 4 and vectors.shape[-1] in (1, 3),
        "singular images need events [height, width, 1 or 3], got "
        f"{vectors.shape[1:]}",
    )
    eigenvalues = np.asarray(denoiser.eigenvalues, np.float64)
    total = eigenvalues.sum()
    shares = eigenvalues / total if total > 0 else eigenvalues
    num = min(num, len(vectors))
    columns = min(columns, num)
    headings = [
        f"{index + 1}: {100 * share:.2g} %"
        for index, share in enumerate(shares[:num])
    ]
    images = np.stack([_signed(vector) for vector in vectors[:num]])
    title = (
        f"Singular images, and their share of the {len(vectors)} eigenvalues "
        "kept"
    )
    return _picture(_tiles(images, columns, title, headings))


def _draw_arrows(axes, denoiser, sigma, center, half, arrows):
    offsets = (np.arange(arrows) + 0.5) / arrows * 2 - 1
    x = np.stack(np.meshgrid(*(c + half * offsets for c in center)), axis=-1)
    x = x.reshape(-1, 2).astype(center.dtype)
    # One whole denoising: `restore` checks x and sigma, and compiles.
    denoised = restore(
        denoiser, x, sigma=sigma, step_size=1.0, max_steps=1, tolerance=0.0
    ).x.numpy()
    noise = x - denoised
    longest = max(np.linalg.norm(noise, axis=1).max(), 1e-12)
    cell = 2 * half / arrows
    axes.quiver(
        *x.T,
        *(noise * cell / longest).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0032,
        headwidth=4,
        color=_ARROWS,
        zorder=1,
    )


def _draw_ways(axes, ways):
    lines = axes.plot(*np.moveaxis(ways, -1, 0), color=_PATHS, lw=1.3, zorder=2)
    lines[0].set_label("trajectories")
    axes.scatter(
        *ways[0].T,
        s=18,
        facecolor="white",
        edgecolor=_PATHS,
        zorder=3,
        label="starts",
    )
    axes.scatter(
        *ways[-1].T,
        s=60,
        marker="x",
        color=_ENDS,
        lw=1.6,
        zorder=4,
        label="ends",
    )


def _explain(figure, axes):
    figure.suptitle(
        "Arrows: the predicted noise x - D(x); restoring goes against them",
        fontsize=10.5,
    )
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=9,
        frameon=False,
    )


def _frame(data, margin):
    """Gives center and half of the side of the square that is drawn."""
    low, high = data.min(0), data.max(0)
    extent = (high - low).max()
    return (low + high) / 2, (0.5 + margin) * extent if extent else 1.0


def _around(center, half):
    """Gives starts near the edge of the square, and some further inside."""
    rings = []
    for count, reach in ((12, 0.93), (8, 0.3)):
        angles = 2 * np.pi * (np.arange(count) + 0.5) / count
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        square = circle / np.abs(circle).max(axis=1, keepdims=True)
        rings.append(center + reach * half * square)
    return np.concatenate(rings)


def _chosen_steps(count, columns):
    """Gives rising numbers of steps from 0 to count - 1, closer at first."""
    if count <= columns:
        return list(range(count))
    chosen = np.geomspace(1, count, columns).round().astype(int) - 1
    # Where rounding made two of one, the next step is taken.
    for place in range(1, columns):
        chosen[place] = max(chosen[place], chosen[place - 1] + 1)
    return chosen.tolist()


def _signed(vector):
    """Gives an RGB image `[height, width, 3]` of values about 0."""
    largest = np.abs(vector).max()
    scaled = vector / largest if largest > 0 else vector
    if vector.shape[-1] == 3:
        return 0.5 + scaled / 2
    red = np.where(scaled < 0, 1 + 0.87 * scaled, 1 - 0.16 * scaled)
    green = 1 - 0.72 * np.abs(scaled)
    blue = np.where(scaled > 0, 1 - 0.82 * scaled, 1 + 0.24 * scaled)
    return np.concatenate([red, green, blue], axis=-1)


def _tiles(images, columns, title, headings):
    """Draws `[n, height, width, channels]` row by row.

    `headings` go above the first ones.
    """
    rows = math.ceil(len(images) / columns)
    high = _TILE * images.shape[1] / images.shape[2]
    headed = math.ceil(len(headings) / columns)
    figure = Figure(
        (columns * (_TILE + 0.08), rows * (high + 0.06) + headed * 0.2 + 0.4),
        dpi=_DPI,
        layout="constrained",
    )
    figure.get_layout_engine().set(
        w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image in zip(panels, images, strict=False):
        axes.imshow(
            np.repeat(image, 3 // image.shape[-1], axis=-1),
            interpolation="nearest",
        )
        axes.set(xticks=[], yticks=[])
        # Where an image is white it still shows where it ends.
        axes.spines[:].set(color="0.75", linewidth=0.5)
    for axes in panels[len(images) :]:
        axes.set_axis_off()
    for axes, heading in zip(panels, headings, strict=False):
        axes.set_title(heading, fontsize=8.5, pad=3)
    figure.suptitle(title, fontsize=10.5)
    return figure


def _picture(figure):
    buffer = io.BytesIO()
    # Cut to what is drawn: a title may be wider than the images.
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.1)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _points(name, points):
    points = np.asarray(points)
    if points.dtype.kind != "f":
        points = points.astype(np.float32)
    _check(
        points.ndim == 2 and points.shape[1] == 2 and len(points),
        f"{name} must have shape [n, 2], got {points.shape}",
    )
    return points


def _check(is_right, message):
    if not is_right:
        raise UserError(message)
