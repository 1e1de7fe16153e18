"""log p(x) of a VAE under a learned prior and its own, by the same draws."""

import math

import numpy as np
import tensorflow as tf

from keras_genmodels.core import counter_rng, memory, seeds
from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.validation import check_count


def compare_priors(model, x, *, num_samples=100, seed=0, chunk_size=None):
    """Estimates log p(x) under the learned prior and the VAE's own one.

    Both are importance-weighted estimates by the same draws of z ~ q(z|x), so
    that much of their error cancels in the difference. Each draw takes about
    60 evaluations of the denoiser and of its Jacobian: with 50 latents and a
    network of 256-256-256, 100 draws of 1000 images take half an hour on two
    cores.

    Args:
        model: a `LatentDiffusion`.
        x: float array `[n, *event_shape]`, binarised as in the training.
        num_samples: int >= 1, draws of z for each image.
        seed: int, int32 `[2]` or `[n, 2]`; the draws are those of
            `kgm.log_likelihood` for the same seed.
        chunk_size: int >= 1, number of z that are decoded at once, at least
            those of one image. By default as in
            `likelihood.importance_weighted`.

    Returns:
        dict of float64 arrays `[n]`: `distortion`, and `elbo`, `rate`,
        `log_likelihood` (in nats) and `effective_samples` under the learned
        prior, and those with the suffix `_own` under the VAE's own prior. elbo
        and rate are averages over the draws.

    Raises:
        ValueError: for images that the model does not take, and for more than
            256 latents.
    """
    if chunk_size is None:
        chunk_size = memory.draws_at_once(model)
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    rows = seeds.row_seeds(seed, len(x)).numpy()
    numbers = tf.range(num_samples)[:, tf.newaxis]
    dtype = tf.as_dtype(model.statistics_dtype)

    def terms(x, rows):
        noise = counter_rng.normals(
            tf.constant(rows),
            tf.tile(numbers, (1, len(x))),
            model.latent_size,
            dtype,
        )
        weights = model.log_weights_of_priors(x, noise=noise)
        distortion = tf.reduce_mean(weights["distortion"], axis=0)
        return {
            "distortion": distortion,
            **_estimates(weights["learned"], distortion, ""),
            **_estimates(weights["own"], distortion, "_own"),
        }

    found = map_batches(
        terms, x, rows, batch_size=max(1, chunk_size // num_samples)
    )
    return {name: value.astype(np.float64) for name, value in found.items()}


def _estimates(log_weights, distortion, suffix):
    log_sum = tf.reduce_logsumexp(log_weights, axis=0)
    log_squares = tf.reduce_logsumexp(2 * log_weights, axis=0)
    elbo = tf.reduce_mean(log_weights, axis=0)
    found = {
        "elbo": elbo,
        "rate": -elbo - distortion,
        "log_likelihood": log_sum - math.log(log_weights.shape[0]),
        "effective_samples": tf.exp(2 * log_sum - log_squares),
    }
    return {f"{name}{suffix}": value for name, value in found.items()}
