"""Events that the replicas of a `tf.distribute.Strategy` share."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_genmodels.core.precision import splits_factors
from keras_genmodels.core.validation import check
from keras_genmodels.denoisers._events import Events, Sums
from keras_genmodels.denoisers._weighted_sums import EventSet


class _SharedFields(NamedTuple):
    strategy: tf.distribute.Strategy
    size: int
    data: tf.distribute.DistributedValues
    half_squares: tf.distribute.DistributedValues
    mean: tf.Tensor
    radius: tf.Tensor


class SharedEvents(_SharedFields, Events):
    """Events of which each replica holds an n-th part, consecutive rows.

    Each method computes on all replicas and merges their results there, so
    that it must be called outside of a replica, by all workers.

    Args:
        strategy: `tf.distribute.Strategy`.
        size: int, number of events, N, of all replicas.
        data, half_squares: per replica, as of its `EventSet`.
        mean: floating `[M]`, of all events.
        radius: float64 scalar, the largest |x_i - mean| of all events.
    """

    spans_devices = True

    @classmethod
    def divide(cls, strategy, data, half_squares, mean):
        """Places on each replica the events that are its own.

        Args:
            strategy: `tf.distribute.Strategy`.
            data: list of arrays `[m, M]`, consecutive parts of the data.
            half_squares: float64 array `[N]`.
            mean: floating array `[M]`.

        Raises:
            ValueError: for fewer events than replicas.
        """
        size, num_replicas = len(half_squares), strategy.num_replicas_in_sync
        check(
            size >= num_replicas,
            f"{num_replicas} replicas cannot share {size} events: each needs "
            "one at least",
        )
        devices = iter(strategy.extended.worker_devices)

        def place(context):
            index = context.replica_id_in_sync_group
            start, stop = (
                _first_row(i, size, num_replicas) for i in (index, index + 1)
            )
            with tf.device(next(devices)):
                return (
                    tf.convert_to_tensor(_rows(data, start, stop)),
                    tf.convert_to_tensor(half_squares[start:stop]),
                )

        parts = strategy.experimental_distribute_values_from_function(place)
        radius = tf.constant(np.sqrt(2 * half_squares.max()))
        return cls(strategy, size, *parts, tf.convert_to_tensor(mean), radius)

    @property
    def settings(self):
        """The arguments that are no tensors, a tuple."""
        return self[:2]

    @property
    def tensors(self):
        """The other arguments, a tuple."""
        return self[2:]

    @property
    def specs(self):
        """The `tf.TypeSpec` of each of the `tensors`, a tuple."""
        return tuple(map(tf.type_spec_from_value, self.tensors))

    @property
    def is_uint8(self):
        """Whether the data are uint8, read as value / 255."""
        return self._local(self.data)[0].dtype == tf.uint8

    def arrays(self):
        """Returns the data, `[N, M]`, and `half_squares`, as arrays.

        Raises:
            ValueError: if workers of several machines hold them.
        """
        data, half_squares = map(self._local, (self.data, self.half_squares))
        check(
            len(data) == self.strategy.num_replicas_in_sync,
            "the data of this denoiser are shared among several workers: to "
            "save it, adapt one on a single machine",
        )
        return np.concatenate(data), np.concatenate(half_squares)

    def sums(self, query, k, average=True):
        """Computes `Sums`; see `Events`.

        The largest logit, the sum of the weights and the weighted sum of each
        replica are merged as those of blocks are, as in FlashAttention.
        """

        def merge(events, first, query):
            own = events.sums(_on_this_replica(query), k, average)
            # As floats, which every way of adding supports.
            places = tf.cast(own.indices + first, tf.float64)
            logits, places = _gather(own.logits), _gather(places)
            # In the order of the replicas, so that of ties the first wins.
            logits, order = tf.math.top_k(logits, k)
            places = tf.gather(places, order, batch_dims=1)
            decay = tf.exp(own.peak - logits[:, 0])
            total, weighted = _sum(
                [own.total * decay, own.weighted * decay[:, None]]
            )
            indices = tf.cast(places, tf.int32)
            return Sums(logits[:, 0], total, weighted, logits, indices)

        return self._run(merge, query)

    def covariance_sums(self, query, vectors, shift, weights):
        """Computes the sums of `covariance`; see `Events`."""

        def add(events, first, query, vectors, shift, weights):
            own = weights._replace(indices=weights.indices - first)
            here = _on_this_replica(query)
            return _sum(events.covariance_sums(here, vectors, shift, own))

        return self._run(add, query, vectors, shift, weights)

    def rows(self, indices, dtype):
        """Returns rows of the data, `[..., M]`, for int32 indices `[...]`."""

        def take(events, first, indices):
            places, is_own = _own(events, indices - first)
            rows = events.rows(places, dtype)
            return _sum(tf.where(is_own[..., None], rows, 0))

        return self._run(take, indices)

    def half_squares_of(self, indices):
        """Returns |x_i - mean|^2 / 2, float64 `[...]`, for `[...]`."""

        def take(events, first, indices):
            places, is_own = _own(events, indices - first)
            return _sum(tf.where(is_own, events.half_squares_of(places), 0))

        return self._run(take, indices)

    def _run(self, function, *args):
        """Returns the result of a function that is the same on all replicas.

        Args:
            function: of the replica's `EventSet`, the index of its first
                event, and args.
            *args: structures of tensors.
        """
        num_replicas = self.strategy.num_replicas_in_sync

        def run(data, half_squares, mean, *args):
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            events = EventSet(data, half_squares, mean)
            return function(
                events, _first_row(index, self.size, num_replicas), *args
            )

        own = (self.data, self.half_squares, self.mean)
        found = self.strategy.run(run, args=(*own, *args))
        return tf.nest.map_structure(lambda it: self._local(it)[0], found)

    def _local(self, values):
        """Returns the values of the replicas of this process, a tuple."""
        return self.strategy.experimental_local_results(values)


def _first_row(index, size, num_replicas):
    """Returns the first row of a replica: all have equally many, or one more.

    Args:
        index: int or int32 scalar tensor, of the replica.
        size: int, rows of all.
        num_replicas: int.
    """
    rows, more = divmod(size, num_replicas)
    is_int = isinstance(index, int)
    return index * rows + (
        min(index, more) if is_int else tf.minimum(index, more)
    )


def _rows(parts, start, stop):
    """Returns rows of arrays as if these were joined, without joining them."""
    found, first = [], 0
    for part in parts:
        own = part[max(start - first, 0) : max(stop - first, 0)]
        found += [own] if len(own) else []
        first += len(part)
    return np.concatenate(found)


def _on_this_replica(query):
    """Returns the query for products of the device of this replica."""
    return query._replace(splits=splits_factors())


def _own(events, places):
    """Returns row numbers within range, and whether they were so before."""
    last = events.size - 1
    clipped = tf.clip_by_value(places, 0, last)
    return clipped, clipped == places


def _gather(part):
    """Returns the tensors `[batch, k]` of all replicas, side by side.

    By all-reduce, which works in every place and for every float.
    """
    replica = tf.distribute.get_replica_context()
    num_replicas = replica.num_replicas_in_sync
    own = tf.range(num_replicas) == replica.replica_id_in_sync_group
    slots = _sum(tf.where(own[:, None, None], part, 0))
    return tf.concat(tf.unstack(slots, num_replicas), axis=1)


def _sum(values):
    """Returns the sum over all replicas, on each of them."""
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)
