"""The importance-weighted estimate of log p(x) of each example."""

import functools
import math
import typing

import tensorflow as tf

from keras_genmodels.core import loop_cache, memory, seeds, xla
from keras_genmodels.core.counter_rng import normals
from keras_genmodels.core.validation import check_count

# Largest number of draws of one row that are weighed per pass of its encoder.
_MAX_DRAWS_PER_ROW = 100


class ImportanceWeighted(typing.NamedTuple):
    """Result of `importance_weighted`, float tensors `[batch]`.

    Attributes:
        log_likelihood: nats; in expectation at most log p(x|c).
        effective_samples: in [1, num_samples], (sum w)^2 / sum w^2 of the
            importance weights w: the number of equally weighted draws of the
            same variance. Near 1 a single draw dominates, and the estimate is
            far too low; if q(z|x, c) is the true posterior it is
            `num_samples`.
    """

    log_likelihood: tf.Tensor
    effective_samples: tf.Tensor


def log_likelihood(
    model,
    x,
    condition=None,
    *,
    num_samples=None,
    seed=0,
    chunk_size=None,
    jit_compile="auto",
):
    """Estimates log p(x), or log p(x|c), of each example.

    It is the first part of `importance_weighted`, which documents the
    arguments and errors. A low value marks an anomaly: an image less likely
    than all but a few held-out images. The converse does not hold: simple
    images of another kind may be as likely as those of the training data, or
    more (Nalisnick et al. 2018). Here an all-black image is more likely under
    a model of Fashion-MNIST than any garment.

    Returns:
        float tensor `[batch]`, nats.

    #### References

    Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan (2018), Do deep
    generative models know what they don't know?, arXiv:1810.09136.
    """
    return importance_weighted(
        model,
        x,
        condition,
        num_samples=num_samples,
        seed=seed,
        chunk_size=chunk_size,
        jit_compile=jit_compile,
    ).log_likelihood


def importance_weighted(
    model,
    x,
    condition=None,
    *,
    num_samples=None,
    seed=0,
    chunk_size=None,
    jit_compile="auto",
):
    """Estimates log p(x), or log p(x|c), and how reliable the estimate is.

        log 1/k sum_j p(x, z_j|c) / q(z_j|x, c),   z_1 ... z_k ~ q(z|x, c)

    In expectation it rises with k = `num_samples` to log p(x|c). For a model
    with an `observed_mask` it covers the unobserved entries only.

    The result of a row depends only on its values, its seed and
    `num_samples`, up to rounding: draw j of a row is a function of the row's
    seed and j. The loop is compiled once for any number of rows; multiples of
    100 samples share one loop.

    Args:
        model: a `LatentVariableModel`.
        x: float tensor or array `[batch, *event_shape]`.
        condition: as in the model's `encode`.
        num_samples: int >= 1, k; by default 5000, or 100 if the prior is a
            denoiser (`LatentDiffusion`).
        seed: int, int32 `[2]` or `[batch, 2]`.
        chunk_size: int >= 1, maximum number of draws, of one row or several,
            that are decoded at once; it bounds the memory. By default 2000, or
            on a GPU up to 100 000 (`core.memory.draws_at_once`).
        jit_compile: whether XLA compiles the body of the loop: a bool, or
            "auto" for `core.xla.should_compile`.

    Returns:
        `ImportanceWeighted`: `log_likelihood`, nats, and `effective_samples`,
        float tensors `[batch]`.

    Raises:
        ValueError: for events, conditions or labels of another shape or dtype,
            a missing condition, or a bad argument.
        tf.errors.InvalidArgumentError: for values outside the support of the
            likelihood, such as grey pixels under a Bernoulli.

    #### References

    Burda, Grosse and Salakhutdinov (2015), Importance weighted autoencoders,
    arXiv:1509.00519, equation 8. Kong (1992), A note on importance sampling
    using standardized weights, University of Chicago (effective samples).
    """
    if num_samples is None:
        num_samples = 100 if model.has_costly_prior else 5000
    check_count("num_samples", num_samples)
    x, condition = model.validate_inputs(x, condition)
    if chunk_size is None:
        needed = (x.shape[0] or 0) * num_samples
        chunk_size = memory.draws_at_once(model, needed or None)
    check_count("chunk_size", chunk_size)
    # NumPy's integers have 64 bits, which TensorFlow does not mix with 32.
    num_samples, chunk_size = int(num_samples), int(chunk_size)
    rows = seeds.row_seeds(seed, tf.shape(x)[0])
    inputs = [x] if condition is None else [x, condition]
    num_blocks = -(-num_samples // min(_MAX_DRAWS_PER_ROW, chunk_size))
    draws = -(-num_samples // num_blocks)
    specs = tuple(
        tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in inputs
    )
    # XLA makes no denoiser's ODE faster on a CPU, but compiles it for long.
    compiled = None if model.has_costly_prior else model
    settings = draws, chunk_size // draws, xla.resolve(jit_compile, compiled)
    run = loop_cache.cached(
        model,
        (_build_loop, specs, settings),
        lambda reference: _build_loop(reference, specs, *settings),
    )
    estimate = ImportanceWeighted(*run(tf.constant(num_samples), rows, *inputs))
    if tf.executing_eagerly():
        _raise_if_off_support(model, inputs, estimate.log_likelihood)
    return estimate


def _raise_if_off_support(model, inputs, log_likelihoods):
    """Raises the error that XLA drops, for values of log-likelihood -inf."""
    impossible = log_likelihoods == -math.inf
    if tf.reduce_any(impossible):
        rows = [tf.boolean_mask(value, impossible)[:1] for value in inputs]
        noise = tf.zeros((1, 1, model.latent_size), log_likelihoods.dtype)
        model.log_weights(*rows, noise=noise)


def _build_loop(reference, specs, draws, groups, jit_compile):
    """Builds the compiled loop.

    The work is a list of blocks of `draws` draws of one row each. A round of
    the loop takes `groups` blocks, so that all rounds have one shape.

    Args:
        reference: function that returns the model.
        specs: tuple of `tf.TensorSpec`, of x and perhaps the condition.
        draws: int, draws per block.
        groups: int, blocks per round.
        jit_compile: bool.

    Returns:
        function of the number of samples, row seeds and inputs.
    """
    draw, weigh = _build_steps(reference, jit_compile)

    def run(num_samples, rows, *inputs):
        num_rows = tf.shape(rows)[0]
        num_blocks = -(-num_samples // draws)
        num_rounds = -(-num_rows * num_blocks // groups)

        def advance(i, sums):
            block = i * groups + tf.range(groups)
            row = tf.minimum(block // num_blocks, num_rows - 1)
            first = block % num_blocks * draws
            numbers = first + tf.range(draws)[:, tf.newaxis]
            part = weigh(
                draw(tf.gather(rows, row), numbers),
                numbers < num_samples,
                *(tf.gather(value, row) for value in inputs),
            )
            return i + 1, sums.write(i, part)

        sums = tf.TensorArray(
            specs[0].dtype, num_rounds, element_shape=(groups, 2)
        )
        _, sums = tf.while_loop(
            lambda i, _: i < num_rounds,
            advance,
            (0, sums),
            parallel_iterations=1,
        )
        sums = tf.reshape(sums.stack(), (-1, 2))[: num_rows * num_blocks]
        return _combine(
            tf.reshape(sums, (num_rows, num_blocks, 2)), num_samples
        )

    signature = [
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None, 2], tf.int32),
        *specs,
    ]
    compiled = tf.function(run, input_signature=signature, autograph=False)
    # Traced now, or TensorFlow would warn about tracing several loops.
    return compiled.get_concrete_function()


def _combine(sums, num_samples):
    """Computes both estimates from sums per block, `[batch, blocks, 2]`."""
    log_sum, log_squares = tf.unstack(tf.reduce_logsumexp(sums, 1), axis=-1)
    count = tf.cast(num_samples, sums.dtype)
    effective = tf.exp(2 * log_sum - log_squares)
    return (
        log_sum - tf.math.log(count),
        tf.clip_by_value(effective, 1, count),
    )


def _build_steps(reference, jit_compile):
    """Builds the two functions of a round: drawing noise and weighing it.

    They are compiled separately, as XLA would draw again for each use of a
    draw.
    """
    compiled = functools.partial(
        tf.function, jit_compile=jit_compile, autograph=False
    )

    @compiled
    def draw(rows, numbers):
        model = reference()
        dtype = tf.as_dtype(model.statistics_dtype)
        return normals(rows, numbers, model.latent_size, dtype)

    @compiled
    def weigh(noise, is_counted, *inputs):
        log_weights = reference().log_weights(*inputs, noise=noise)
        log_weights = tf.where(is_counted, log_weights, -math.inf)
        return tf.stack(
            [
                tf.reduce_logsumexp(log_weights, 0),
                tf.reduce_logsumexp(2 * log_weights, 0),
            ],
            axis=-1,
        )

    return draw, weigh
