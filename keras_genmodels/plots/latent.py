"""Sheets of images that show what a latent-variable model does."""

import statistics

import numpy as np

from keras_genmodels.distributions import latents
from keras_genmodels.models import batched_sampling
from keras_genmodels.operators.masks import fill_unobserved
from keras_genmodels.plots import image_grid, titled

_PAIRED_COLUMNS = 8
_COMPLETED = 8
_DRAWS = 6
_OF_EACH_LABEL = 10
# Draws of the prior whose quantiles the latent plane shows.
_PLANE_DRAWS = 2000
MOST_LABELS = 20


def pictures(model, x, condition=None, *, seed, label_names=None, labels=None):
    """Draws reconstructions and samples of a latent-variable model of images.

    Args:
        model: a `LatentVariableModel` of images.
        x: float array `[n, height, width, channels]` in [0, 1].
        condition: array `[n, ...]` for a conditional model, else None.
        seed: int, seed of the samples.
        label_names: list of str, or None to show the labels' numbers.
        labels: list of the labels to draw; None for all.

    Returns:
        dict of names to uint8 pictures `[height, width, 3]`:
        `reconstructions`; without conditions also `samples`, `interpolation`
        and, with 2 latents, `latent_plane`; conditioned on labels also
        `samples` of the first 20; conditioned on a part of the image also
        `completions`.
    """
    shown = {"reconstructions": _reconstructions(model, x[:32], condition)}
    if model.condition_kind is None:
        shown["samples"] = titled(
            image_grid(model.sample(64, seed=seed)),
            "Samples: mean of p(x|z), z from the prior",
        )
        shown["interpolation"] = _interpolation(model, x[:16])
        if model.latent_size == 2:
            shown["latent_plane"] = _latent_plane(model)
    elif model.condition_kind == "label":
        labels = labels or range(model.num_classes)
        images = batched_sampling.sample_each_label(
            model, _OF_EACH_LABEL, seed=seed, labels=labels[:MOST_LABELS]
        )
        shown["samples"] = label_sheet(images, label_names, labels)
    else:
        given = x[:_COMPLETED]
        shown["completions"] = completion_sheet(
            given,
            batched_sampling.complete(model, given, _DRAWS, seed=seed),
            model.observed_mask,
        )
    return shown


def label_sheet(
    images, label_names=None, labels=None, columns="has the same latent"
):
    """Draws a sheet of images with one row per label.

    Args:
        images: float array `[num_classes, n, height, width, channels]`.
        label_names: list of str, or None to show the labels' numbers.
        labels: list of the labels of the rows; None for 0, 1, ...
        columns: str, what each column has in common.

    Returns:
        uint8 picture `[height, width, 3]`.
    """
    labels = range(len(images)) if labels is None else labels
    names = [label_names[i] if label_names else str(i) for i in labels]
    return titled(
        image_grid(images.reshape(-1, *images.shape[2:]), images.shape[1]),
        f"One row per label; each column {columns}",
        rows=names[: len(images)],
    )


def completion_sheet(x, completions, observed_mask):
    """Draws a row per image: its observed part, completions, the original.

    Args:
        x: float array `[n, height, width, channels]`, the original images.
        completions: float array `[n, num, height, width, channels]`.
        observed_mask: bool array `[height, width, channels]`, true where
            pixels are observed; the others are drawn grey.

    Returns:
        uint8 picture `[height, width, 3]`.
    """
    given = fill_unobserved(x, observed_mask, 0.5)[:, np.newaxis]
    rows = np.concatenate([given, completions, x[:, np.newaxis]], axis=1)
    return titled(
        image_grid(rows.reshape(-1, *x.shape[1:]), rows.shape[1]),
        f"Observed part, {completions.shape[1]} completions, original",
    )


def _reconstructions(model, x, condition):
    return titled(
        image_grid(reconstruction_rows(model, x, condition), _PAIRED_COLUMNS),
        "Rows of images, each above its reconstructions",
    )


def reconstruction_rows(model, x, condition=None):
    """Returns alternating rows of 8 images and their 8 reconstructions.

    Args:
        model: see `pictures`.
        x: float array `[n, height, width, channels]` in [0, 1].
        condition: array of at least n rows for a conditional model, or None.

    Returns:
        float array `[m, height, width, channels]`, m a multiple of 16; the
        last two rows are padded with white images.
    """
    missing = -len(x) % _PAIRED_COLUMNS
    given = () if condition is None else (condition[: len(x)],)
    z = latents.center(model.encode(x, *given))
    decoded = model.keep_observed(x, model.decode(z, *given).mean())
    rows = [
        np.pad(
            images, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1
        ).reshape(-1, 1, _PAIRED_COLUMNS, *x.shape[1:])
        for images in (x, decoded)
    ]
    return np.concatenate(rows, axis=1).reshape(-1, *x.shape[1:])


def _interpolation(model, x, steps=10):
    """Decodes straight lines between the latents of pairs of images."""
    z = latents.center(model.encode(x)).numpy()
    pairs = max(1, len(z) // 2)
    start, end = z[:pairs, np.newaxis], z[-pairs:, np.newaxis]
    weight = np.linspace(0, 1, steps, dtype=z.dtype)[:, np.newaxis]
    path = ((1 - weight) * start + weight * end).reshape(-1, z.shape[-1])
    return titled(
        image_grid(model.decode(path).mean(), steps),
        "Interpolation between two images in latent space",
    )


def _latent_plane(model, side=20):
    """Decodes a lattice at equal quantiles of the prior of each latent."""
    quantiles = (np.arange(side) + 0.5) / side
    prior = model.prior()
    if latents.is_gaussian(prior):
        axis = [*map(statistics.NormalDist().inv_cdf, quantiles)]
        lattice = _lattice(axis, axis)
        z = latents.transform(prior, np.asarray(lattice, np.float32))
        axes = axis, axis
    else:
        drawn = prior.sample(_PLANE_DRAWS, seed=(0, 0)).numpy()
        axes = np.quantile(drawn, quantiles, axis=0).T
        z = _lattice(*axes).astype(drawn.dtype)
    return titled(
        image_grid(model.decode(z).mean(), side),
        "Latent plane, decoded at equal quantiles of the prior",
        x_label=f"z_1 from {axes[0][0]:.2f} to {axes[0][-1]:.2f}",
        y_label=f"z_2 from {axes[1][0]:.2f} to {axes[1][-1]:.2f}, upwards",
    )


def _lattice(first, second):
    """Returns the points of a lattice, the highest row first."""
    return np.array([(right, up) for up in second[::-1] for right in first])
