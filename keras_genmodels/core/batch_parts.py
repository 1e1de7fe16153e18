"""Parts of batches: the rows that each worker reads and each replica takes.

A replica has consecutive rows of the global batch, in the order of the
replicas, and a worker those of its replicas.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Part(NamedTuple):
    """One of several equal parts of each batch, of consecutive rows.

    Attributes:
        index: int in [0, count).
        count: int >= 1, number of parts.
    """

    index: int = 0
    count: int = 1

    def rows(self, size):
        """Returns the first row and the number of rows, of a batch of a size.

        Raises:
            ValueError: if there are no equal parts.
        """
        if size % self.count:
            raise ValueError(
                f"{self.count} workers cannot share a batch of {size} equally: "
                f"give a multiple of {self.count}"
            )
        num_rows = size // self.count
        return self.index * num_rows, num_rows


WHOLE = Part()


@dataclasses.dataclass(frozen=True, eq=False)
class PartialBatches:
    """Batches for `fit` of which each worker reads its own part alone.

    Args:
        read: function of a `Part` that returns a `tf.data.Dataset` with that
            part of each batch.
    """

    read: Callable


def distribute(dataset, strategy):
    """Divides the batches of a data set among replicas, by order of rows.

    TensorFlow itself orders parts of a batch by worker last. Each worker reads
    whole batches; see `distribute_parts`.

    Args:
        dataset: `tf.data.Dataset` of batches.
        strategy: `tf.distribute.Strategy`.

    Returns:
        distributed data set; `dataset` for one replica, for batches of an
        unknown size or one that replicas cannot share equally, and for an
        unknown number of batches.
    """
    num_replicas, size = strategy.num_replicas_in_sync, _size(dataset)
    if (
        num_replicas == 1
        or size is None
        or size % num_replicas
        or dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    ):
        return dataset

    def read(part):
        first, num_rows = part.rows(size)
        return dataset.map(
            _each(lambda rows: rows[first : first + num_rows], dataset)
        )

    return distribute_parts(read, strategy)


def distribute_parts(read, strategy):
    """Divides the batches of each worker among its replicas, by order of rows.

    Args:
        read: as of `PartialBatches`.
        strategy: `tf.distribute.Strategy`.

    Returns:
        distributed data set.

    Raises:
        ValueError: for batches of an unknown size, or one that replicas cannot
            share equally.
    """

    def divided(context):
        num_workers = context.num_input_pipelines
        dataset = read(Part(context.input_pipeline_id, num_workers))
        count = strategy.num_replicas_in_sync // num_workers
        size = _size(dataset)
        if size is None or size % count:
            raise ValueError(
                f"{count} replicas of a worker cannot share {size} rows of a "
                f"batch equally: give a multiple of {count}"
            )

        def divide(rows):
            shape = [[count, size // count], tf.shape(rows)[1:]]
            parts = tf.reshape(rows, tf.concat(shape, axis=0))
            parts.set_shape((count, size // count, *rows.shape[1:]))
            return parts

        known = dataset.cardinality()
        # Without a length, workers would ask each other at each step whether
        # data are left.
        return (
            dataset.map(_each(divide, dataset))
            .unbatch()
            .apply(
                tf.data.experimental.assert_cardinality(
                    known if known < 0 else known * count
                )
            )
        )

    return strategy.distribute_datasets_from_function(divided)


def _size(dataset):
    """Returns the number of rows of the batches, or None."""
    shape = tf.nest.flatten(dataset.element_spec)[0].shape
    return shape[0] if shape.rank else None


def _each(function, dataset):
    """Returns a function of an item that applies one to all its tensors."""
    is_tuple = isinstance(dataset.element_spec, tuple)

    @tf.autograph.experimental.do_not_convert
    def apply(*item):
        item = item if is_tuple else item[0]
        return tf.nest.map_structure(function, item)

    return apply
