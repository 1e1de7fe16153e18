"""(model, data) in, numbers with standard errors out."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels import seeds


def evaluate_bound(model, batches, *, seed):
    """Measures the evidence lower bound over a data set.

    Args:
        model: a `VAE`.
        batches: iterable of float tensors `[batch, *event_shape]`.
        seed: int or int32 `[2]`. The draw for example i depends on i alone,
            so that the figures do not depend on the batch size.

    Returns:
        dict of floats, nats per example: `elbo`, `rate` and `distortion`,
        each with its `..._standard_error`; and the int `num_examples`.

    Raises:
        ValueError: if there is no example.
    """
    seed = seeds.as_seed(seed)
    terms = tf.function(
        lambda x, rows: _without_image(model.elbo_terms(x, seed=rows)),
        reduce_retracing=True,
        autograph=False,
    )
    parts, start = [], 0
    for x in batches:
        parts.append(terms(x, seeds.row_seeds(seed, len(x), start)))
        start += len(x)
    if not start:
        raise ValueError("there is nothing to evaluate: no batches")
    values = {
        name: np.concatenate([part[name] for part in parts]).astype(np.float64)
        for name in parts[0]
    }
    values = {"elbo": -(values["rate"] + values["distortion"]), **values}
    return {**_averages(values), "num_examples": start}


def bits_per_dimension(nats, event_size):
    """Turns nats per event into bits per entry of the event."""
    return nats / (event_size * math.log(2))


def _without_image(terms):
    return {name: terms[name] for name in ("rate", "distortion")}


def _averages(values):
    """Averages `[n]` arrays, with the standard errors of the averages."""
    averages = {}
    for name, value in values.items():
        averages[name] = float(np.mean(value))
        averages[f"{name}_standard_error"] = float(
            np.std(value) / math.sqrt(len(value))
        )
    return averages
