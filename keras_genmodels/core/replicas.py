"""The rows of a batch that one replica of `tf.distribute` computes.

A training step divides its batch among the replicas: each has consecutive
rows of the global batch, in the order of the replicas. Every draw is that of
the global batch, of which a replica takes its own rows, so that the step does
not depend on the number of replicas. Normal numbers are drawn for the own
rows only, at their place in the sequence of random numbers.
"""

import math

import tensorflow as tf

from keras_genmodels.core.seeds import philox

# Normal numbers that Philox makes at once, of 128 bits.
_GROUP = {tf.float64: 2, tf.float32: 4, tf.float16: 4}


def count():
    """Returns the number of replicas of the strategy in scope, int >= 1."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def are_outside():
    """Returns whether the call is not made by one replica of several."""
    is_inside = not tf.distribute.in_cross_replica_context()
    return not is_inside or count() == 1


def global_rows(num_rows):
    """Returns where the rows of this replica are in the global batch.

    Args:
        num_rows: int or int32 scalar tensor, rows of this replica.

    Returns:
        `(first, total)`: index of the first row, and number of rows of the
        global batch; `(0, num_rows)` outside of a replica.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return 0, num_rows
    index = replica.replica_id_in_sync_group
    if tf.get_static_value(num_rows) is not None:
        # Only equal parts of a batch have a known size.
        return index * num_rows, replica.num_replicas_in_sync * num_rows
    sizes = replica.all_gather(tf.reshape(num_rows, [1]), axis=0)
    return tf.reduce_sum(sizes[:index]), tf.reduce_sum(sizes)


def mean(rows):
    """Averages the rows `[batch, ...]` of the global batch, without gradient.

    Returns:
        tensor of the shape of one row, the same on all replicas.
    """
    num_rows = tf.shape(rows)[0]
    _, total = global_rows(num_rows)
    if total is num_rows:
        return tf.reduce_mean(rows, axis=0)
    replica = tf.distribute.get_replica_context()
    sums = replica.all_reduce(
        tf.distribute.ReduceOp.SUM, tf.reduce_sum(rows, axis=0)
    )
    return sums / tf.cast(total, sums.dtype)


def normal(shape, seed, dtype="float32", axis=0):
    """Draws standard normal numbers for the rows of this replica.

    Args:
        shape: list of ints and int32 scalars, the shape of the draw.
        seed: int32 tensor `[2]`, the same on all replicas.
        dtype: dtype of the draw.
        axis: 0 or 1, that of the rows of the batch.

    Returns:
        tensor of `shape`: the rows that this replica has of a draw for the
        global batch.
    """
    first, total = global_rows(shape[axis])
    if total is shape[axis]:
        return tf.random.stateless_normal(shape, seed, dtype=dtype)
    own = _own_normals(
        shape[0] if axis else 1, (first, shape[axis], total), shape[axis + 1 :]
    )
    return tf.reshape(own(seed, dtype), shape)


def repeated(draw, num_draws, shape, seed, dtype="float32"):
    """Draws numbers several times for the rows of this replica.

    Args:
        draw: `tf.random.stateless_normal` or another of its kind.
        num_draws: int >= 1.
        shape: list of ints and int32 scalars, the shape of one draw, rows
            first.
        seed: int32 tensor `[2]`, the same on all replicas.
        dtype: dtype of the draw.

    Returns:
        tensor `[num_draws * rows, ...]`, the rows once for each draw.
    """
    num_rows, *rest = shape
    first, total = global_rows(num_rows)
    if total is not num_rows and draw is tf.random.stateless_normal:
        own = _own_normals(num_draws, (first, num_rows, total), rest)
        return own(seed, dtype)
    # One axis, as under XLA numbers depend on the shape of a draw.
    values = draw([num_draws * total, *rest], seed, dtype=dtype)
    if total is num_rows:
        return values
    values = tf.reshape(values, [num_draws, total, *rest])
    values = tf.gather(values, first + tf.range(num_rows), axis=1)
    return tf.reshape(values, [num_draws * num_rows, *rest])


def _own_normals(num_draws, rows, shape):
    """Draws the numbers of own rows alone.

    Args:
        num_draws: int >= 1.
        rows: index of the first row, number of own rows, and of all rows.
        shape: list of ints, of a row.

    Returns:
        function of a seed and a dtype that returns the own rows, `[num_draws *
        rows, *shape]`, of `tf.random.stateless_normal([num_draws * total,
        *shape], seed, dtype=dtype)`, as it is without XLA.
    """
    first, num_rows, total = (tf.cast(it, tf.int64) for it in rows)
    size = math.prod(shape)

    def draw(seed, dtype):
        parts = [
            _normals_from(
                (i * total + first) * size, num_rows * size, seed, dtype
            )
            for i in range(num_draws)
        ]
        return tf.reshape(tf.concat(parts, 0), [-1, *shape])

    return draw


def _normals_from(start, num, seed, dtype):
    """Returns numbers of `tf.random.stateless_normal` from one on, `[num]`."""
    group = _GROUP[tf.as_dtype(dtype)]
    values = tf.raw_ops.StatelessRandomNormalV2(
        **philox(seed, start // group),
        shape=[num + group - 1],
        alg=3,  # That of the device, as `stateless_normal`.
        dtype=dtype,
    )
    start %= group
    return values[start : start + num]


def as_logs(metrics):
    """Returns the metrics of a step in a form that Keras can average.

    For workers of several machines Keras averages vectors, but no scalars, and
    each by messages of its own: they become one vector.

    Args:
        metrics: dict of scalar tensors of one dtype.

    Returns:
        `metrics`; for workers, a tensor `[1, number of metrics]`.
    """
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return metrics
    return tf.stack(list(metrics.values()))[tf.newaxis]


def from_logs(logs, names):
    """Returns metrics as a dict of scalar tensors.

    Args:
        logs: what Keras averaged of `as_logs`.
        names: strings, those of the metrics.
    """
    if isinstance(logs, dict):
        return logs
    # A single worker keeps the first axis.
    return dict(zip(names, tf.unstack(tf.reshape(logs, [-1])), strict=True))
