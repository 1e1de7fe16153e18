"""The processes of a training on several machines."""

import contextlib

import tensorflow as tf

from keras_genmodels.training.errors import TrainingError

# What TensorFlow raises where another worker does not answer.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


class Workers:
    """The processes that train together, of which one is the chief.

    Args:
        strategy: the `tf.distribute.Strategy` of the training; None for a
            single process.
    """

    def __init__(self, strategy=None):
        self.strategy = strategy
        self.are_several = isinstance(
            strategy, tf.distribute.MultiWorkerMirroredStrategy
        )

    @property
    def is_chief(self):
        """Whether this process writes the files of the training."""
        if not self.are_several:
            return True
        resolver = self.strategy.cluster_resolver
        has_chief = "chief" in resolver.cluster_spec().jobs
        own = resolver.task_type, resolver.task_id
        return own == ("chief" if has_chief else "worker", 0)

    def agree(self, number=0):
        """Returns the number of the chief on all workers.

        All workers must call it, and wait for each other there.

        Args:
            number: int in [0, 2**31); only that of the chief matters.
        """
        if not self.are_several:
            return int(number)

        def of_replica(context):
            is_first = context.replica_id_in_sync_group == 0
            return tf.constant(int(number) if is_first else 0, tf.int32)

        values = self.strategy.experimental_distribute_values_from_function(
            of_replica
        )
        return int(
            self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        )

    @contextlib.contextmanager
    def raising_lost_workers(self):
        """Raises an error of the communication as a `TrainingError`."""
        try:
            yield
        except _LOST as error:
            if not self.are_several:
                raise
            reason = " ".join(str(error).split())[:150]
            raise TrainingError(
                f"another worker ended or cannot be reached ({reason}): start "
                "all workers again with the same command, which resumes"
            ) from error
