"""(model, data) in, numbers with standard errors out."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import concatenate
from keras_genmodels.metrics.estimates import averages
from keras_genmodels.models import likelihood


def evaluate_bound(model, batches, *, seed):
    """Measures the evidence lower bound over a data set.

    Args:
        model: a `LatentVariableModel`.
        batches: iterable of float tensors `[batch, *event_shape]`, or, for a
            conditional one, of dicts of `image`, such a tensor, and
            `condition`. A batch without a condition is one without labels.
        seed: int or int32 `[2]`. The draw for example i depends on i alone,
            so that the figures do not depend on the batch size.

    Returns:
        dict of floats, nats per example: `elbo`, `rate` and `distortion`,
        each with its `..._standard_error`; and the int `num_examples`. Where
        the model completes events, they are of the unseen entries.

    Raises:
        ValueError: if there is no example, and for batches that the model
            does not take.
    """
    values = bound_terms(model, batches, seed=seed)
    return {**averages(values), "num_examples": len(values["elbo"])}


def bound_terms(model, batches, *, seed):
    """Gives the evidence lower bound of each example, and its parts.

    Args:
        model, batches, seed: as in `evaluate_bound`.

    Returns:
        dict of float64 arrays `[n]`, nats: `elbo`, `rate` and `distortion`.

    Raises:
        ValueError: as `evaluate_bound`.
    """
    terms = tf.function(
        lambda inputs, rows: _without_image(
            model.elbo_terms(*inputs, seed=rows)
        ),
        reduce_retracing=True,
        autograph=False,
    )
    values = _per_example(model, batches, seed, terms)
    return {"elbo": -(values["rate"] + values["distortion"]), **values}


def evaluate_monte_carlo(model, batches, *, seed):
    """Measures log p(x|c) over a data set by one draw of the prior each.

    Args:
        model, batches, seed: as in `evaluate_bound`.

    Returns:
        dict: the floats `log_likelihood`, nats per example, as of the models'
        `monte_carlo`, and its `..._standard_error`; the int `num_examples`.

    Raises:
        ValueError: as `evaluate_bound`.
    """
    terms = tf.function(
        lambda inputs, rows: {
            "log_likelihood": model.monte_carlo(*inputs, seed=rows)
        },
        reduce_retracing=True,
        autograph=False,
    )
    values = _per_example(model, batches, seed, terms)
    return {
        **averages(values),
        "num_examples": len(values["log_likelihood"]),
    }


def evaluate_likelihood(model, batches, *, seed, num_samples=5000, **settings):
    """Measures the importance-weighted log-likelihood over a data set.

    It takes `num_samples` decoded images for each example; see `likelihood`.

    Args:
        model, batches, seed: as in `evaluate_bound`.
        num_samples: int >= 1, draws of z for each example.
        **settings: `chunk_size` and `jit_compile` of
            `likelihood.importance_weighted`.

    Returns:
        dict of floats: `log_likelihood`, nats per example, in expectation at
        most log p(x) or log p(x|c) and at least the elbo; and
        `effective_samples`, in [1, num_samples], how many draws its weights
        amount to; each with its `..._standard_error` over examples; and the
        ints `num_samples` and `num_examples`.

    Raises:
        ValueError: as `evaluate_bound`, and for a bad `num_samples`.
    """
    values = likelihood_terms(
        model, batches, seed=seed, num_samples=num_samples, **settings
    )
    return {
        **averages(values),
        "num_samples": int(num_samples),
        "num_examples": len(values["log_likelihood"]),
    }


def likelihood_terms(model, batches, *, seed, num_samples=5000, **settings):
    """Gives the importance-weighted log-likelihood of each example.

    Args:
        model, batches, seed, num_samples, **settings: as in
            `evaluate_likelihood`.

    Returns:
        dict of float64 arrays `[n]`: `log_likelihood`, nats, and
        `effective_samples`.

    Raises:
        ValueError: as `evaluate_likelihood`.
    """

    def terms(inputs, rows):
        return likelihood.importance_weighted(
            model, *inputs, num_samples=num_samples, seed=rows, **settings
        )._asdict()

    return _per_example(model, batches, seed, terms)


def bits_per_dimension(nats, event_size):
    """Turns nats per event into bits per entry of the event."""
    return nats / (event_size * math.log(2))


def _per_example(model, batches, seed, terms):
    """Gathers the terms of all examples, as float64 arrays `[n]`.

    Args:
        model, batches, seed: as in `evaluate_bound`.
        terms: function of the inputs of a batch, checked, and its row seeds;
            gives a dict of tensors `[batch]`.
    """
    seed, parts, start = seeds.as_seed(seed), [], 0
    for batch in batches:
        x, condition = model.validate_inputs(*_event_and_condition(batch))
        inputs = (x,) if condition is None else (x, condition)
        parts.append(terms(inputs, seeds.row_seeds(seed, len(x), start)))
        start += len(x)
    if not start:
        raise ValueError("there is nothing to evaluate: no batches")
    found = concatenate(parts)
    return {name: value.astype(np.float64) for name, value in found.items()}


def _event_and_condition(batch):
    """Takes a batch apart; what has no condition is an event alone."""
    if not isinstance(batch, dict):
        return (batch,)
    for key in ("image", "condition"):
        if key not in batch:
            raise ValueError(
                f"batches are events or dicts of image and condition, {key!r} "
                "is missing"
            )
    return batch["image"], batch["condition"]


def _without_image(terms):
    return {name: terms[name] for name in ("rate", "distortion")}
