"""The rows of a batch that one replica of `tf.distribute` computes.

A training step divides its batch among the replicas: each has consecutive
rows of the global batch, in the order of the replicas. Every draw is that of
the global batch, of which a replica takes its own rows, so that the step does
not depend on the number of replicas.
"""

import tensorflow as tf


def count():
    """Returns the number of replicas of the strategy in scope, int >= 1."""
    return tf.distribute.get_strategy().num_replicas_in_sync


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
        axis: int, that of the rows of the batch.

    Returns:
        tensor of `shape`: the rows that this replica has of a draw for the
        global batch.
    """
    shape = list(shape)
    num_rows = shape[axis]
    first, shape[axis] = global_rows(num_rows)
    values = tf.random.stateless_normal(shape, seed, dtype=dtype)
    return _take(values, first, num_rows, shape[axis], axis)


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
    # One axis, as under XLA numbers depend on the shape of a draw.
    values = draw([num_draws * total, *rest], seed, dtype=dtype)
    if total is num_rows:
        return values
    values = tf.reshape(values, [num_draws, total, *rest])
    values = _take(values, first, num_rows, total, axis=1)
    return tf.reshape(values, [num_draws * num_rows, *rest])


def _take(values, first, num_rows, total, axis):
    """Returns the rows of this replica along an axis."""
    if total is num_rows:
        return values
    return tf.gather(values, first + tf.range(num_rows), axis=axis)


def as_logs(metrics):
    """Returns the metrics of a step in a form that Keras can average.

    For workers of several machines Keras averages vectors, but no scalars.

    Args:
        metrics: dict of scalar tensors.
    """
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return metrics
    return {name: tf.reshape(it, [1]) for name, it in metrics.items()}


def distribute(dataset, strategy):
    """Divides the batches of a data set among replicas, by order of rows.

    TensorFlow itself orders parts of a batch by worker last.

    Args:
        dataset: `tf.data.Dataset` of batches.
        strategy: `tf.distribute.Strategy`.

    Returns:
        distributed data set; `dataset` for one replica, for batches of an
        unknown size or one that replicas cannot share equally, and for an
        unknown number of batches.
    """
    num_replicas = strategy.num_replicas_in_sync
    first = tf.nest.flatten(dataset.element_spec)[0]
    size = first.shape[0] if first.shape.rank else None
    known = dataset.cardinality()
    if (
        num_replicas == 1
        or size is None
        or size % num_replicas
        or known == tf.data.UNKNOWN_CARDINALITY
    ):
        return dataset

    def part(context):
        num_rows = size // context.num_input_pipelines
        start = context.input_pipeline_id * num_rows
        count = num_replicas // context.num_input_pipelines

        def divide(rows):
            shape = [[count, num_rows // count], tf.shape(rows)[1:]]
            parts = tf.reshape(
                rows[start : start + num_rows], tf.concat(shape, axis=0)
            )
            parts.set_shape((count, num_rows // count, *rows.shape[1:]))
            return parts

        parts = dataset.map(_each(divide, dataset)).unbatch()
        parts_in_all = known if known < 0 else known * count
        # Without a length, workers would ask each other at each step whether
        # data are left.
        return parts.apply(
            tf.data.experimental.assert_cardinality(parts_in_all)
        )

    return strategy.distribute_datasets_from_function(part)


def _each(function, dataset):
    """Returns a function of an item that applies one to all its tensors."""
    is_tuple = isinstance(dataset.element_spec, tuple)

    @tf.autograph.experimental.do_not_convert
    def apply(*item):
        item = item if is_tuple else item[0]
        return tf.nest.map_structure(function, item)

    return apply
