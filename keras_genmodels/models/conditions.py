"""What the condition of a conditional model may be, and its checks."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.operators.masks import fill_unobserved


class ClassLabels:
    """Conditions that are class labels, integers `[batch]`.

    Args:
        num_classes: int, number of classes.
        has_no_label: whether `num_classes`, for "no label", is one as well.
    """

    def __init__(self, num_classes, has_no_label):
        self.num_classes = num_classes
        self.highest = num_classes - (0 if has_no_label else 1)

    def validate(self, condition):
        """Returns labels as an int32 tensor.

        Raises:
            ValueError: for another shape or dtype, or an unknown label.
            tf.errors.InvalidArgumentError: for an unknown label in a graph.
        """
        labels = tf.convert_to_tensor(condition)
        if not labels.dtype.is_integer or labels.shape.rank != 1:
            column = ": pass labels[:, 0]" if labels.shape[1:] == (1,) else ""
            raise ValueError(
                "condition must be integer labels [batch], got "
                f"{labels.dtype.name} {labels.shape}{column}"
            )
        # Before any arithmetic, which would wrap in a smaller type.
        labels = tf.cast(labels, tf.int64)
        message = f"labels must be 0 to {self.num_classes - 1}, got"
        values = tf.get_static_value(labels)
        if values is not None:
            unknown = values[~self.is_label(values)]
            if unknown.size:
                raise ValueError(f"{message} {unknown[0]}")
            return tf.cast(labels, tf.int32)
        are_known = self.is_label(labels)
        unknown = tf.reduce_max(tf.where(are_known, labels.dtype.min, labels))
        check = tf.debugging.Assert(
            tf.reduce_all(are_known), [message, unknown]
        )
        with tf.control_dependencies([check]):
            return tf.cast(labels, tf.int32)

    def is_label(self, labels):
        """Returns bool `[batch]`, which labels are known."""
        return (labels >= 0) & (labels <= self.highest)

    def examples(self, num):
        """Returns the highest label `num` times."""
        return tf.fill([num], self.highest)

    def input_spec(self):
        """Returns a `keras.InputSpec` of labels."""
        return keras.InputSpec(shape=(None,), dtype="int32")


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
