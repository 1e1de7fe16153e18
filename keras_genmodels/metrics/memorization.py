"""Whether images repeat the training set."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min

from keras_genmodels.core.arrays import as_float, concatenate, map_batches
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.events import event_batches
from keras_genmodels.core.validation import check

# Images that are compared at once: 25 MB in float64 of 784 values each.
_BLOCK = 4096


class Memorization(NamedTuple):
    """The result of `memorization`; distances are Euclidean.

    Args:
        rate: float in [0, 1], the share of memorised images.
        memorized: bool `[n]`, whether each image is memorised.
        threshold: float; an image is memorised if its distance to the nearest
            training image is smaller.
        nearer_train_rate: float in [0, 1], the share of images whose nearest
            training image is nearer than their nearest held-out image. New
            images are nearer to the larger set more often: compare it with
            num_train / (num_train + num_held_out).
        train_distances: float64 `[n]`, to the nearest training image.
        train_indices: int `[n]`, which that is.
        held_out_distances: float64 `[n]`, to the nearest held-out image.
        held_out_indices: int `[n]`, which that is.
    """

    rate: float
    memorized: np.ndarray
    threshold: float
    nearer_train_rate: float
    train_distances: np.ndarray
    train_indices: np.ndarray
    held_out_distances: np.ndarray
    held_out_indices: np.ndarray


def memorization(images, train, held_out, *, quantile=0.0):
    """Computes how many fixed points or samples repeat the training set.

    An image is memorised if it is closer to a training image than every
    held-out image is: its distance to the nearest training image is below
    `threshold`, the smallest distance from a held-out image to the nearest
    training image. A new image of the same distribution is that close with
    probability at most 1 / (num_held_out + 1), however large the training
    set is. A `quantile` > 0 ignores that share of the held-out images, such
    as exact duplicates of training images.

    The training set is read in blocks, and never held in memory as floats.
    Neighbours are found and distances computed in float64.

    Args:
        images: array `[n, ...]`, fixed points or samples. These and the
            others may be floating, or uint8, read as value / 255.
        train: array `[num_train, ...]`, or a `tf.data.Dataset` of batches of
            such, or of dicts with a batch under `image`, preferably batches
            of some thousand, in a fixed order.
        held_out: the same, images that were not trained on.
        quantile: in [0, 1), the largest share of the held-out images that may
            be closer to a training image than `threshold`.

    Returns:
        `Memorization`.

    Raises:
        NotMeasured: if more than `quantile` of the held-out images are exact
            duplicates of training images: no image can be closer.
        ValueError: if there are no data, if they are not finite, of another
            type or of differing shapes, or if `quantile` is out of range.

    #### References

    Meehan, Chaudhuri and Dasgupta (2020), A non-parametric test to detect
    data-copying in generative models, arXiv:2004.05675.
    """
    check(0 <= quantile < 1, f"quantile must be in [0, 1), got {quantile}")
    images = concatenate(event_batches(images, "images"))
    held_out = concatenate(event_batches(held_out, "held_out"))
    held_out_distances, held_out_indices = _nearest(
        images, "held_out", held_out
    )
    # The training set is the largest: it is read once.
    queries = np.concatenate(
        [as_float(queries, "float64") for queries in (images, held_out)]
    )
    distances, indices = _nearest(queries, "train", train)
    reference = distances[len(images) :]
    distances, indices = distances[: len(images)], indices[: len(images)]
    threshold = float(np.quantile(reference, quantile, method="lower"))
    if not threshold > 0:
        raise NotMeasured(
            f"{100 * np.mean(reference == 0):.3g} % of the held-out images are "
            "exact duplicates of training images, so no threshold for "
            "memorisation exists"
        )
    memorized = distances < threshold
    return Memorization(
        rate=float(memorized.mean()),
        memorized=memorized,
        threshold=threshold,
        nearer_train_rate=float((distances < held_out_distances).mean()),
        train_distances=distances,
        train_indices=indices,
        held_out_distances=held_out_distances,
        held_out_indices=held_out_indices,
    )


def _nearest(queries, name, data):
    """Finds the nearest of `data` to each query.

    Args:
        queries: array `[n, ...]`.
        name: of `data`, for the messages.
        data: as in `event_batches`.

    Returns:
        distances, float64 `[n]`, and indices into `data`, int `[n]`.
    """
    return map_batches(
        lambda block: _nearest_of_block(block, name, data),
        queries,
        batch_size=_BLOCK,
    )


def _nearest_of_block(block, name, data):
    queries = _as_rows(block)
    best = np.full(len(queries), np.inf)
    indices = np.zeros(len(queries), int)
    start = 0
    for batch in event_batches(data, name):
        check(
            batch.shape[1:] == block.shape[1:],
            f"{name} has events of shape {batch.shape[1:]}, but is compared "
            f"with events of shape {block.shape[1:]}",
        )
        rows = _as_rows(batch)
        nearest, _ = pairwise_distances_argmin_min(queries, rows)
        # |a|^2 - 2 a'b + |b|^2 leaves 1e-7 between equal images.
        distances = np.linalg.norm(queries - rows[nearest], axis=1)
        closer = distances < best
        best[closer] = distances[closer]
        indices[closer] = start + nearest[closer]
        start += len(batch)
    return best, indices


def _as_rows(batch):
    return as_float(batch, "float64").reshape(len(batch), -1)
