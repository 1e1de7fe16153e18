"""Conditions other than class labels, and their checks."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.operators.masks import fill_unobserved


class NetworkInputs:
    """Conditions of the one shape and dtype that a network takes.

    Args:
        network: Keras network with one input of a fixed shape.
        observed_mask: bool array if conditions are events of which only the
            observed entries may be used, else None.
        dtype: dtype to which floating conditions are cast.

    Raises:
        ValueError: if the input of the network is not known.
    """

    def __init__(self, network, observed_mask, dtype):
        inputs = getattr(network, "inputs", None) or ()
        if len(inputs) != 1:
            raise ValueError(
                "condition_network must have one input of a given shape "
                "(keras.Input), or num_classes must be given"
            )
        self.shape = tuple(inputs[0].shape[1:])
        self.input_dtype = tf.as_dtype(inputs[0].dtype)
        self.observed_mask = observed_mask
        self.dtype = dtype

    def validate(self, condition):
        """Returns a condition as a tensor, zero where it is not observed.

        Raises:
            ValueError: for another shape or dtype.
        """
        condition = tf.convert_to_tensor(condition)
        if (
            _kind(condition.dtype) != _kind(self.input_dtype)
            or not condition.shape[1:].is_compatible_with(self.shape)
            or not condition.shape.rank
        ):
            raise ValueError(
                f"condition must be {self.input_dtype.name} [batch, "
                f"{', '.join(map(str, self.shape))}], got "
                f"{condition.dtype.name} {condition.shape}"
            )
        if condition.dtype.is_floating:
            condition = tf.cast(condition, self.dtype)
        if self.observed_mask is None:
            return condition
        zeros = tf.zeros_like(condition)
        return fill_unobserved(condition, self.observed_mask, zeros)

    def examples(self, num):
        """Returns `num` conditions of zeros."""
        sides = [1 if side is None else side for side in self.shape]
        return tf.zeros((num, *sides), self.input_dtype)

    def input_spec(self):
        """Returns a `keras.InputSpec` of conditions."""
        floating = self.input_dtype.is_floating
        dtype = self.dtype if floating else self.input_dtype.name
        return keras.InputSpec(shape=(None, *self.shape), dtype=dtype)


def check_observed_mask(mask, event_shape, condition_shape):
    """Returns an observed mask as a bool array.

    Raises:
        ValueError: if it has another dtype or shape than a bool mask of
            events, observes every entry, or does not fit the condition.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != event_shape:
        raise ValueError(
            f"observed_mask must be bool {event_shape}, got {mask.dtype} "
            f"{mask.shape}"
        )
    if mask.all():
        raise ValueError("observed_mask leaves nothing to complete")
    if condition_shape != event_shape:
        raise ValueError(
            "with observed_mask the condition is a part of the event, of shape "
            f"{event_shape}; condition_network takes {condition_shape}"
        )
    return mask


def _kind(dtype):
    """Groups dtypes that networks accept for each other."""
    if dtype.is_floating:
        return "floating"
    return "integer" if dtype.is_integer else dtype.name
