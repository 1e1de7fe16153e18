"""Draws of a conditional VAE that belong side by side."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import map_batches

_BATCH_SIZE = 256


def sample(model, conditions, *, seed, guidance=0.0):
    """Draws one event for each condition, in parts.

    Args:
        model: a `ConditionalVAE`.
        conditions: array `[n, ...]`.
        seed: int, int32 `[2]` or `[n, 2]`; event i depends on the i-th row
            seed and condition alone.
        guidance: as in `ConditionalVAE.sample`.

    Returns:
        float array `[n, *event_shape]`.
    """
    rows = seeds.row_seeds(seed, len(conditions))
    return map_batches(
        lambda conditions, rows: model.sample(
            conditions, seed=rows, guidance=guidance
        ),
        conditions,
        rows,
        batch_size=_BATCH_SIZE,
    )


def sample_each_label(model, num, *, seed, labels=None, guidance=0.0):
    """Draws the same latents for each label.

    Args:
        model: a `ConditionalVAE` of labels.
        num: int >= 1, how many for each.
        labels: which labels; None for all.
        seed: int, int32 `[2]` or `[num, 2]`; the j-th of each label has the
            j-th row seed.
        guidance: as in `ConditionalVAE.sample`.

    Returns:
        float array `[len(labels), num, *event_shape]`; with a prior that knows
        the label, of the same noise, moved and scaled by the label.
    """
    rows = seeds.row_seeds(seed, num)
    labels = np.arange(model.num_labels) if labels is None else labels
    images = sample(
        model,
        np.repeat(np.asarray(labels, np.int32), num),
        seed=tf.tile(rows, (len(labels), 1)),
        guidance=guidance,
    )
    return images.reshape(len(labels), num, *images.shape[1:])


def complete(model, x, num, *, seed):
    """Completes the known part of each event several times.

    Args:
        model: a `ConditionalVAE` with `known`.
        x: float array `[n, *event_shape]`, of which the known entries alone
            are looked at.
        num: int >= 1, how many completions of each.
        seed: int, int32 `[2]` or `[n, 2]`; the completions of event i depend
            on the i-th row seed and its known entries alone.

    Returns:
        float array `[n, num, *event_shape]`, known entries as they were.
    """
    rows = seeds.row_seeds(seed, len(x))
    # As tensors, lest each number be traced anew.
    numbers = tf.unstack(tf.range(num))
    draws = [sample(model, x, seed=seeds.fold_in(rows, j)) for j in numbers]
    return np.stack(draws, axis=1)
