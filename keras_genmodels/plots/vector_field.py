"""The vector field of a denoiser in the plane."""

import numpy as np
from matplotlib.figure import Figure

from keras_genmodels.plots.grid import DPI, rasterize
from keras_genmodels.sampling.restoration import restore

_PANEL = 4.6  # inches
# Distinguishable with colour blindness (Okabe and Ito, 2008).
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
    """Draws the predicted noise of a denoiser in the plane, and trajectories.

    One panel per noise level shows the data, the predicted noise
    x - D(x, sigma) on a lattice of points as arrows that point away from the
    data, and the trajectories of `restore`, which follow the arrows backwards.
    Arrows of one panel are scaled so that the longest has the length of one
    cell of the lattice.

    Args:
        denoiser: object with `denoise(x, sigma)`, or a function of both, for
            events of shape (2,).
        data: float array `[n, 2]`.
        sigmas: one noise level > 0 or a sequence; a panel is drawn for each.
        starts: float array `[num_starts, 2]`, start points of the
            trajectories; by default 20 points around and among the data.
        arrows: int >= 2, number of arrows along each side.
        margin: float >= 0, margin around the data in units of their larger
            extent.
        step_size, max_steps: see `restore`.

    Returns:
        uint8 array `[height, width, 3]`.

    Raises:
        ValueError: if an argument is out of range, or the denoiser does not
            take events of shape (2,).
    """
    data = _as_points("data", data)
    sigmas = np.atleast_1d(np.asarray(sigmas, float))
    _validate(sigmas, arrows, margin)
    center, half = _frame(data, margin)
    starts = _default_starts(center, half) if starts is None else starts
    starts = _as_points("starts", starts).astype(data.dtype)
    figure = Figure(
        (0.4 + _PANEL * len(sigmas), _PANEL + 1.1),
        dpi=DPI,
        layout="constrained",
    )
    panels = figure.subplots(1, len(sigmas), squeeze=False)[0]
    for axes, sigma in zip(panels, sigmas, strict=True):
        _draw_arrows(axes, denoiser, sigma, center, half, arrows)
        trajectory = restore(
            denoiser,
            starts,
            sigma=sigma,
            step_size=step_size,
            max_steps=max_steps,
            trajectory=True,
        ).trajectory.numpy()
        _draw_trajectories(axes, trajectory)
        axes.scatter(*data.T, s=26, color=_DATA, zorder=3, label="data")
        _frame_axes(axes, center, half, f"sigma = {sigma:g}")
    _add_legend(figure, panels[0])
    return rasterize(figure, tight=True)


def _validate(sigmas, arrows, margin):
    if sigmas.ndim != 1 or not sigmas.size or not (sigmas > 0).all():
        raise ValueError(
            f"sigmas must be one or several numbers > 0, got {sigmas.tolist()}"
        )
    if arrows < 2:
        raise ValueError(f"arrows must be >= 2, got {arrows}")
    if margin < 0:
        raise ValueError(f"margin must be >= 0, got {margin}")


def _as_points(name, points):
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"{name} must have shape [n, 2], got {points.shape}")
    return points if points.dtype.kind == "f" else points.astype(np.float32)


def _frame(data, margin):
    """Returns the center of the drawn square, and half its side."""
    low, high = data.min(0), data.max(0)
    extent = (high - low).max()
    return (low + high) / 2, (0.5 + margin) * extent if extent else 1.0


def _default_starts(center, half):
    """Returns 12 points near the edge of the square and 8 further inside."""
    rings = []
    for count, reach in ((12, 0.93), (8, 0.3)):
        angles = 2 * np.pi * (np.arange(count) + 0.5) / count
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        square = circle / np.abs(circle).max(axis=1, keepdims=True)
        rings.append(center + reach * half * square)
    return np.concatenate(rings)


def _draw_arrows(axes, denoiser, sigma, center, half, arrows):
    offsets = (np.arange(arrows) + 0.5) / arrows * 2 - 1
    x = np.stack(np.meshgrid(*(c + half * offsets for c in center)), axis=-1)
    x = x.reshape(-1, 2).astype(center.dtype)
    # One full step of `restore` is D(x); `restore` also checks its shape.
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


def _draw_trajectories(axes, x):
    """Draws trajectories `[1 + steps, num_starts, 2]` with their ends."""
    lines = axes.plot(*np.moveaxis(x, -1, 0), color=_PATHS, lw=1.3, zorder=2)
    lines[0].set_label("trajectories")
    circle = {"s": 18, "facecolor": "white", "edgecolor": _PATHS, "zorder": 3}
    axes.scatter(*x[0].T, label="starts", **circle)
    cross = {"s": 60, "marker": "x", "color": _ENDS, "lw": 1.6, "zorder": 4}
    axes.scatter(*x[-1].T, label="ends", **cross)


def _frame_axes(axes, center, half, title):
    axes.set(
        xlim=(center[0] - half, center[0] + half),
        ylim=(center[1] - half, center[1] + half),
        aspect="equal",
        title=title,
    )


def _add_legend(figure, axes):
    figure.suptitle(
        "Arrows: predicted noise x - D(x); restoring moves against them",
        fontsize=10.5,
    )
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=9,
        frameon=False,
    )
