"""The importance-weighted estimate of log p(x), for each example."""

import functools
import math
import typing
import weakref

import tensorflow as tf

from keras_genmodels.core import seeds, xla
from keras_genmodels.core.counter_rng import normals
from keras_genmodels.core.validation import check_count

# At most so many draws of a row are weighed for one pass of its encoder.
_MOST_DRAWS = 100

# By model: its loops, by what they were made for.
_loops = weakref.WeakKeyDictionary()


class ImportanceWeighted(typing.NamedTuple):
    """What `importance_weighted` gives, float tensors `[batch]`.

    Attributes:
        log_likelihood: nats; in expectation at most log p(x|c).
        effective_samples: in [1, num_samples], (sum w)^2 / sum w^2 of the
            weights w: how many draws of equal weight they amount to. Near 1 a
            single draw makes up the estimate, which is then far too low;
            where q(z|x, c) is the true posterior it is `num_samples`.
    """

    log_likelihood: tf.Tensor
    effective_samples: tf.Tensor


def log_likelihood(
    model,
    x,
    condition=None,
    *,
    num_samples=5000,
    seed=0,
    chunk_size=2000,
    jit_compile="auto",
):
    """Estimates log p(x), or log p(x|c), of each example.

    It is the first part of `importance_weighted`, which see for the arguments
    and errors. The lower it is, the less likely is x under the model, so that
    it can tell anomalies: what is less likely than all but a few of the
    images that were held out. But simple images of another kind may be as
    likely as those of the training, or more so (Nalisnick et al. 2018): ones
    under a model of the other digits are nearly as likely as these, and a
    black image under one of Fashion-MNIST is more likely than each garment.
    A high value alone makes no image a usual one.

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
    num_samples=5000,
    seed=0,
    chunk_size=2000,
    jit_compile="auto",
):
    """Estimates log p(x), or log p(x|c), and says how good the estimate is.

        log 1/k sum_j p(x, z_j|c) / q(z_j|x, c),   z_1 ... z_k ~ q(z|x, c)

    rises with k = `num_samples` to log p(x|c), in expectation. A model that
    completes events (`known`) counts the unseen entries alone.

    The result for a row depends on its values, its seed and `num_samples`
    alone, up to rounding: draw j of a row is drawn from the row's seed and j.
    The loop is compiled once, whatever the number of rows; for multiples of
    100 samples it is the same one.

    Args:
        model: a `VAE` or a `ConditionalVAE`.
        x: float tensor or array `[batch, *event_shape]`.
        condition: for a `ConditionalVAE`, as its `encode` takes it.
        num_samples: int >= 1, k.
        seed: int, int32 `[2]` or `[batch, 2]`.
        chunk_size: int >= 1, at most how many draws are decoded at once, of
            one row or of several; it bounds the memory.
        jit_compile: whether XLA compiles the loop's body. None: on a GPU, and
            on a CPU where the model has no convolutions.

    Returns:
        `ImportanceWeighted`: `log_likelihood`, nats, and `effective_samples`,
        float tensors `[batch]`.

    Raises:
        ValueError: for events, conditions or labels of another shape or type,
            a missing condition, or a bad argument.
        tf.errors.InvalidArgumentError: for values that the likelihood does
            not take, such as grey pixels of a Bernoulli.

    #### References

    Burda, Grosse and Salakhutdinov (2015), Importance weighted autoencoders,
    arXiv:1509.00519, equation 8. Kong (1992), A note on importance sampling
    using standardized weights, University of Chicago (effective samples).
    """
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    # NumPy's integers are of 64 bits, and TensorFlow does not mix them.
    num_samples, chunk_size = int(num_samples), int(chunk_size)
    x, condition = model.read(x, condition)
    rows = seeds.row_seeds(seed, tf.shape(x)[0])
    inputs = [x] if condition is None else [x, condition]
    jit_compile = xla.resolve(jit_compile, model)
    num_blocks = -(-num_samples // min(_MOST_DRAWS, chunk_size))
    draws = -(-num_samples // num_blocks)
    run = _loop_of(model, inputs, draws, chunk_size // draws, jit_compile)
    estimate = ImportanceWeighted(*run(tf.constant(num_samples), rows, *inputs))
    if tf.executing_eagerly():
        _explain(model, inputs, estimate.log_likelihood)
    return estimate


def _explain(model, inputs, log_likelihoods):
    """Raises where values are off the support, to which XLA gives -inf."""
    impossible = log_likelihoods == -math.inf
    if tf.reduce_any(impossible):
        rows = [tf.boolean_mask(value, impossible)[:1] for value in inputs]
        noise = tf.zeros((1, 1, model.latent_size), log_likelihoods.dtype)
        model.log_weights(*rows, noise=noise)


def _loop_of(model, inputs, *settings):
    """Gives the loop for a model and a shape of inputs, made once."""
    specs = tuple(
        tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in inputs
    )
    loops = _loops.setdefault(model, {})
    key = (specs, settings)
    if key not in loops:
        # Weakly, as a loop that held its model would never be freed.
        loops[key] = _loop(weakref.ref(model), specs, *settings)
    return loops[key]


def _loop(reference, specs, draws, groups, jit_compile):
    """Makes the compiled loop.

    Its work is a list of blocks of draws, each of one row; a round takes so
    many `groups` of them, so that all rounds have one shape.
    """
    draw, weigh = _bodies(reference, jit_compile)

    def run(num_samples, rows, *inputs):
        num_rows = tf.shape(rows)[0]
        num_blocks = -(-num_samples // draws)
        num_rounds = -(-num_rows * num_blocks // groups)

        def advance(i, sums):
            work = i * groups + tf.range(groups)
            row = tf.minimum(work // num_blocks, num_rows - 1)
            numbers = work % num_blocks * draws + tf.range(draws)[:, tf.newaxis]
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

    scalar = tf.TensorSpec([], tf.int32)
    compiled = tf.function(
        run,
        input_signature=[scalar, tf.TensorSpec([None, 2], tf.int32), *specs],
        autograph=False,
    )
    # At once, or TensorFlow would warn of the tracing of several loops.
    return compiled.get_concrete_function()


def _combine(sums, num_samples):
    """Gives both estimates from a row's blocks, `[batch, blocks, 2]`."""
    log_sum, log_squares = tf.unstack(tf.reduce_logsumexp(sums, 1), axis=-1)
    count = tf.cast(num_samples, sums.dtype)
    effective = tf.exp(2 * log_sum - log_squares)
    return (
        log_sum - tf.math.log(count),
        tf.clip_by_value(effective, 1, count),
    )


def _bodies(reference, jit_compile):
    """Makes the two parts of a round: drawing, and weighing what was drawn.

    They are compiled apart, as XLA would draw anew for each use of a draw.
    """
    compiled = functools.partial(
        tf.function, jit_compile=jit_compile, autograph=False
    )

    @compiled
    def draw(rows, numbers):
        posterior = reference().posterior
        size, dtype = posterior.event_shape[0], posterior.compute_dtype
        return normals(rows, numbers, size, tf.as_dtype(dtype))

    @compiled
    def weigh(noise, counted, *inputs):
        log_weights = reference().log_weights(*inputs, noise=noise)
        log_weights = tf.where(counted, log_weights, -math.inf)
        return tf.stack(
            [
                tf.reduce_logsumexp(log_weights, 0),
                tf.reduce_logsumexp(2 * log_weights, 0),
            ],
            axis=-1,
        )

    return draw, weigh
