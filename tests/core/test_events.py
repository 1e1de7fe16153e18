"""Data of `adapt` in the forms that Keras takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core import events

BATCH = np.zeros((2, 3), np.float32)


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, i):
        return BATCH


@pytest.mark.parametrize(
    "data",
    [tf.data.Dataset.from_tensors(BATCH).repeat(), Endless()],
    ids=["data set", "PyDataset"],
)
def test_endless_data_are_refused(data):
    with pytest.raises(ValueError, match="adapt got an infinite data set"):
        next(iter(events.event_batches(data)))
