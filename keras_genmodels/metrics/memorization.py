"""Whether images repeat the training set: distances to their nearest ones."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min

from keras_genmodels.core.arrays import as_float, concatenate, map_batches
from keras_genmodels.core.events import event_batches
from keras_genmodels.core.validation import check

# Images at a time: in float64 25 MB of 784 values each.
_BLOCK = 4096


class Memorization(NamedTuple):
    """What `memorization` returns; distances are Euclidean.

    Args:
        rate: float in [0, 1], the share of images that are memorised.
        memorized: bool `[n]`, whether each image is.
        threshold: float, below which distance to the nearest training image
            one counts as memorised.
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
    """Tells how many fixed points or samples repeat the training set.

    An image is memorised if it is closer to a training image than any
    held-out image is: its distance to the nearest training image is below
    `threshold`, the smallest distance from a held-out image to the nearest
    training image. New images of the same distribution are that close with
    probability at most 1 / (num_held_out + 1), however large the training
    set is. A held-out image that is also in the training set makes the
    threshold 0, so that nothing counts as memorised: a small `quantile`
    passes over such.

    The training set is read in blocks, and is never in memory as floats as a
    whole. Neighbours are found and distances computed in float64.

    Args:
        images: array `[n, ...]`, fixed points or samples. These and the
            others may be floating, or uint8, read as value / 255.
        train: array `[num_train, ...]`, or a `tf.data.Dataset` of batches of
            such, or of dicts with a batch under `image`; at best with
            batches of some thousand. It is read more than once: a data set
            must have a fixed order for the indices to mean something.
        held_out: the same, images that were not trained on.
        quantile: in [0, 1), the largest share of the held-out images that may
            be closer to a training image than `threshold`; 0 is none.

    Returns:
        Memorization.

    Raises:
        UserError: if there are no data, if they are not finite, of another
            type or of differing shapes, if `quantile` is out of range, or if
            so many held-out images are training images that none is closer.

    #### References

    Meehan, Chaudhuri and Dasgupta (2020), A non-parametric test to detect
    data-copying in generative models, arXiv:2004.05675.
    """
    check(0 <= quantile < 1, f"quantile must be in [0, 1), got {quantile}")
    images = concatenate(event_batches(images, "images"))
    held_out = concatenate(event_batches(held_out, "held_out"))
    distances, indices = _nearest(images, "train", train)
    reference, _ = _nearest(held_out, "train", train)
    held_out_distances, held_out_indices = _nearest(
        images, "held_out", held_out
    )
    threshold = float(np.quantile(reference, quantile, method="lower"))
    check(
        threshold > 0,
        "held_out has copies of training images, to which nothing can be "
        f"closer: raise quantile above {np.mean(reference == 0):g}",
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
        data: as `event_batches` takes it.

    Returns:
        distances, float64 `[n]`, and which of `data` it is, int `[n]`.
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
            f"{name} has events of shape {batch.shape[1:]}, and it is "
            f"compared with events of shape {block.shape[1:]}",
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
