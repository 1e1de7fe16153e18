"""Samples of any kind of model, in batches: single, by label, completions."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.models.latent_variable import accept_old_order

# Samples that are drawn at once.
BATCH_SIZE = 256


@accept_old_order
def sample(model, num=None, condition=None, *, seed, rows=None, **settings):
    """Draws as the `sample` of a model or denoiser, in batches of 256.

    Args:
        model: a `LatentVariableModel` or a `Denoiser`.
        num: int >= 1, number of samples; None with a condition.
        condition: array `[n, ...]`, one sample per row; None for samples
            without a condition.
        seed: int, int32 `[2]` or `[n, 2]`; sample i depends on the i-th row
            seed and condition only.
        rows: `range` of the samples to return, at least one; by default all.
        **settings: further arguments of the model's `sample`.

    Returns:
        float array `[n, *event_shape]`: means of p(x|z), or the images that a
        denoiser generates; or those of `rows` alone, with the same bits.
    """
    row_seeds = seeds.row_seeds(
        seed, num if condition is None else len(condition)
    )

    def draw(row_seeds, condition):
        num = len(row_seeds) if condition is None else None
        return model.sample(num, condition, seed=row_seeds, **settings)

    return map_batches(
        draw, row_seeds, condition, batch_size=BATCH_SIZE, rows=rows
    )


def sample_each_label(model, num, *, seed, labels=None, **settings):
    """Draws samples of each class from the same noise.

    Args:
        model: a `LatentVariableModel` or `Denoiser` of class labels.
        num: int >= 1, number of samples per label.
        labels: array of labels; None for all.
        seed: int, int32 `[2]` or `[num, 2]`; sample j of each label has row
            seed j.
        **settings: further arguments of the model's `sample`.

    Returns:
        float array `[len(labels), num, *event_shape]`.
    """
    labels = np.arange(model.num_classes) if labels is None else labels
    condition, row_seeds = rows_of_each_label(labels, num, seed)
    images = sample(model, condition=condition, seed=row_seeds, **settings)
    return images.reshape(len(labels), num, *images.shape[1:])


def rows_of_each_label(labels, num, seed):
    """Lists the labels and the seeds of samples of each label.

    Args:
        labels, num, seed: as in `sample_each_label`.

    Returns:
        int32 array and int32 tensor `[len(labels) * num]` and
        `[len(labels) * num, 2]`, sorted by label.
    """
    labels = np.repeat(np.asarray(labels, np.int32), num)
    row_seeds = seeds.row_seeds(seed, num)
    return labels, tf.tile(row_seeds, (len(labels) // num, 1))


def complete(model, x, num, *, seed):
    """Draws several completions of the observed part of each event.

    Args:
        model: a `LatentVariableModel` with an `observed_mask`.
        x: float array `[n, *event_shape]`; only its observed entries are used.
        num: int >= 1, number of completions per event.
        seed: int, int32 `[2]` or `[n, 2]`; the completions of event i depend
            on the i-th row seed and its observed entries only.

    Returns:
        float array `[n, num, *event_shape]`, with unchanged observed entries.
    """
    row_seeds = seeds.row_seeds(seed, len(x))
    draws = [
        sample(model, condition=x, seed=seeds.fold_in(row_seeds, j))
        for j in range(num)
    ]
    return np.stack(draws, axis=1)
