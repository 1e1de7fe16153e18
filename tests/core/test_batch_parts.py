"""The rows of a batch that workers read and replicas take."""

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core import batch_parts

WORKERS, REPLICAS, BATCH = 3, 6, 12


class Strategy:
    """Calls the function of a data set as a worker of a strategy does."""

    num_replicas_in_sync = REPLICAS

    def __init__(self, worker):
        self.context = tf.distribute.InputContext(WORKERS, worker, REPLICAS)

    def distribute_datasets_from_function(self, function):
        return function(self.context)


def batches():
    counted = tf.data.Dataset.range(10 * BATCH).batch(
        BATCH, drop_remainder=True
    )
    return counted.map(
        lambda rows: {"one": rows, "two": tf.stack([rows] * 2, 1)}
    )


def read(part):
    first, num_rows = part.rows(BATCH)
    return batches().map(
        lambda batch: {k: v[first : first + num_rows] for k, v in batch.items()}
    )


@pytest.mark.parametrize("worker", range(WORKERS))
def test_replicas_take_consecutive_rows_in_their_order(worker):
    strategy = Strategy(worker)
    for dataset in (
        batch_parts.distribute(batches(), strategy),
        batch_parts.distribute_parts(read, strategy),
    ):
        found = [*dataset.as_numpy_iterator()]
        assert len(found) == len(dataset) == 20
        for index, rows in enumerate(found):
            step, replica = divmod(index, 2)
            first = step * BATCH + (2 * worker + replica) * 2
            np.testing.assert_array_equal(rows["one"], [first, first + 1])
            assert rows["two"].shape == (2, 2)


def test_batches_that_cannot_be_shared_equally_are_refused():
    with pytest.raises(ValueError, match="3 workers cannot share a batch of 8"):
        batch_parts.Part(0, 3).rows(8)
    odd = tf.data.Dataset.range(9).batch(3, drop_remainder=True)
    with pytest.raises(ValueError, match=r"2 replicas .* share 3 rows"):
        batch_parts.distribute_parts(lambda part: odd, Strategy(0))
