"""The arguments of estimates of log p of a denoiser: checks and defaults."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.validation import check
from keras_genmodels.sampling import attributes
from keras_genmodels.sampling._inputs import check_scale, validate_inputs
from keras_genmodels.sampling.noisy_data import noisy_data_of

# Images that are computed at once outside of graphs.
BATCH_SIZE = 256


class Levels(NamedTuple):
    """Where log p is known, and where it is wanted.

    Args:
        x: float tensor `[batch, ...]`, checked.
        sigma: float64 `[batch]`, the level of the density that is wanted.
        sigma_max: float, the highest level.
        end: p_sigma_max, an object with `log_prob(x)`.
    """

    x: tf.Tensor
    sigma: tf.Tensor
    sigma_max: float
    end: object


def resolve(denoiser, x, sigma, sigma_max, noisy_data):
    """Checks the arguments of an estimate of log p, and fills in defaults.

    Returns:
        `Levels`.

    Raises:
        ValueError: as `probability_flow`.
    """
    check(
        attributes.needs_sigma(denoiser),
        "log p needs D at every noise level, and this denoiser does not take "
        "sigma",
    )
    check(
        attributes.is_for_all_rows(denoiser),
        "log p takes one condition for all events",
    )
    lowest, highest = attributes.sigma_range(denoiser) or (None, None)
    sigma = lowest if sigma is None else sigma
    sigma_max = highest if sigma_max is None else sigma_max
    check(
        sigma is not None and sigma_max is not None,
        "this denoiser has no sigma_range: pass sigma and sigma_max",
    )
    check(
        np.ndim(sigma_max) == 0
        and np.asarray(sigma_max).dtype.kind in "fiu"
        and 0 < sigma_max < math.inf,
        f"sigma_max must be a number > 0 and finite, got {sigma_max!r}",
    )
    x, level = validate_inputs(denoiser, x, sigma)
    check_scale(denoiser, x, level)
    if not tf.is_tensor(sigma):
        level = tf.constant(sigma, tf.float64)
    level = tf.broadcast_to(tf.cast(level, tf.float64), tf.shape(x)[:1])
    value = tf.get_static_value(level)
    check(
        value is None or np.all(value <= sigma_max),
        f"sigma must be at most {sigma_max:g}, the level where the density is "
        f"known, got {sigma}",
    )
    if noisy_data is None:
        check(
            hasattr(denoiser, "noisy_data"),
            "this denoiser does not know the distribution at sigma_max: pass "
            "noisy_data",
        )
        noisy_data = noisy_data_of(denoiser, sigma_max, x.shape[1:])
    return Levels(x, level, float(sigma_max), noisy_data)


def density_seeds(seed, x, stream):
    """Returns the seeds of the draws of an estimate, int32 `[batch, 2]`.

    Args:
        seed: as of `probability_flow`.
        x: tensor `[batch, ...]`.
        stream: int, a number of its own for each kind of estimate. x may be a
            sample of the same seeds, and the estimates are unbiased for draws
            that x does not depend on.
    """
    rows = seeds.row_seeds(seed, tf.shape(x)[0])
    return seeds.fold_in(rows, stream)


def in_batches(run, *rows, batch_size=BATCH_SIZE):
    """Applies a function to rows, in batches unless in a graph."""
    if not tf.executing_eagerly():
        return run(*rows)
    found = map_batches(run, *rows, batch_size=batch_size)
    return tuple(map(tf.convert_to_tensor, found))
