"""Checks of the data of Keras' verbs, in whatever form they come."""

import contextlib
import re
import types

import keras
import tensorflow as tf

from keras_genmodels.core import assertions


class RefusedBatchError(ValueError):
    """A wrong batch of a generator, which TensorFlow names by its class."""


_OF_GENERATOR = re.compile(rf"{RefusedBatchError.__name__}: ([^\n]*)")


def check_batches(x, y, check_batch):
    """Checks data, or returns data that are checked as they are read.

    Args:
        x, y: as of `keras.Model.fit`.
        check_batch: function of the inputs and the targets (or None) of a
            batch. It raises a ValueError, or in a graph adds an assertion.

    Returns:
        `x`. Arrays have been checked, and of a `PyDataset` the first batch.
        Of a `tf.data.Dataset` and a generator each batch is checked when it
        is read.
    """
    if isinstance(x, tf.data.Dataset):
        return _checked_data_set(x, check_batch)
    if isinstance(x, types.GeneratorType):
        return _checked_batches(x, check_batch)
    if isinstance(x, keras.utils.PyDataset):
        if x.num_batches:
            _check_item(x[0], check_batch)
    elif hasattr(x, "shape") or isinstance(x, dict | list | tuple):
        check_batch(x, y)
    return x


def _checked_data_set(data, check_batch):
    is_tuple = isinstance(data.element_spec, tuple)

    # Autograph would add lines to the messages.
    @tf.autograph.experimental.do_not_convert
    def checked(*item):
        item = item if is_tuple else item[0]
        _check_item(item, check_batch)
        return item

    return data.map(checked)


def _checked_batches(batches, check_batch):
    for item in batches:
        try:
            _check_item(item, check_batch)
        except ValueError as error:
            raise RefusedBatchError(error) from error
        yield item


def _check_item(item, check_batch):
    x, y, _ = keras.utils.unpack_x_y_sample_weight(item)
    check_batch(x, y)


@contextlib.contextmanager
def errors_in_one_line():
    """Raises a ValueError of one line for data that a check refused."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        message = _refusal_in(str(error))
        if message is None:
            raise
        raise ValueError(message) from None


def _refusal_in(message):
    """Returns the sentence of a check in an error of TensorFlow, or None."""
    if found := _OF_GENERATOR.search(message):
        return found[1]
    parts = assertions.parts_of(message)
    if not parts or parts[-1] != assertions.DATA:
        return None
    return " ".join(parts[:-1])
