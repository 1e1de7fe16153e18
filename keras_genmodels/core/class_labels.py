"""Class labels as the condition of a model, and classifier-free guidance."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import assertions, replicas, seeds
from keras_genmodels.core.events import num_events
from keras_genmodels.core.keras_verbs import as_one_tensor
from keras_genmodels.core.validation import check, check_count
from keras_genmodels.core.wording import kind_of, with_article

# Keeps the random numbers of label dropout apart from others of the same seed.
_DROPOUT_STREAM = 2


class ClassLabels:
    """Conditions that are class labels, integers `[batch]`.

    Args:
        num_classes: int >= 1, number of classes.
        dropout: in [0, 1), probability of dropping the label in training.
            Above 0, `num_classes` is a label as well: "no label".
    """

    def __init__(self, num_classes, dropout=0.0):
        self.num_classes = num_classes
        self.dropout = dropout
        self.highest = num_classes - (0 if dropout else 1)

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
        assertion = assertions.require(
            tf.reduce_all(are_known), message, unknown
        )
        with tf.control_dependencies([assertion]):
            return tf.cast(labels, tf.int32)

    def is_label(self, labels):
        """Returns bool `[batch]`, which labels are known."""
        return (labels >= 0) & (labels <= self.highest)

    def missing(self, num):
        """Returns "no label" `num` times, int32 `[num]`.

        Raises:
            ValueError: for a model without label dropout.
        """
        check(
            self.dropout,
            "this model needs a condition: it was trained without label "
            "dropout",
        )
        return tf.fill([num], self.num_classes)

    def drop(self, labels, seed, num_draws=1):
        """Replaces labels by "no label", each with probability `dropout`.

        Args:
            labels: int32 tensor `[batch]`.
            seed: int32 tensor `[2]`, such as that of a training step.
            num_draws: int >= 1, how often to draw for each label.

        Returns:
            int32 tensor `[num_draws * batch]`: the batch, once for each draw.
        """
        repeated = tf.tile(labels, (num_draws,))
        if not self.dropout:
            return repeated
        uniform = replicas.repeated(
            tf.random.stateless_uniform,
            num_draws,
            (num_events(labels),),
            seeds.fold_in(seed, _DROPOUT_STREAM),
        )
        return tf.where(uniform < self.dropout, self.num_classes, repeated)

    def examples(self, num):
        """Returns the highest label `num` times."""
        return tf.fill([num], self.highest)

    def input_spec(self):
        """Returns a `keras.InputSpec` of labels."""
        return keras.InputSpec(shape=(None,), dtype="int32")


def check_label_arguments(num_classes, label_dropout):
    """Raises ValueError for arguments out of range or that do not fit."""
    if num_classes is not None:
        check_count("num_classes", num_classes)
    check(
        0 <= label_dropout < 1,
        f"label_dropout must be in [0, 1), got {label_dropout}",
    )
    check(
        not label_dropout or num_classes is not None,
        "label_dropout requires num_classes",
    )


def check_guidance(guidance, condition, label_dropout):
    """Raises ValueError for a guidance that a model cannot apply.

    Args:
        guidance: float, or a tensor, of which known values are checked.
        condition: the condition of the samples, or None.
        label_dropout: float, as of the model.
    """
    value = (
        tf.get_static_value(guidance) if tf.is_tensor(guidance) else guidance
    )
    if value is None:
        return
    lowest, highest = np.min(value), np.max(value)
    is_allowed = condition is not None and label_dropout > 0
    check(
        lowest >= 0 and highest < np.inf and (is_allowed or highest == 0),
        "guidance must be >= 0 and finite, and 0 without a label or for a "
        f"model without label dropout, got {guidance}",
    )


def check_guidance_of_rows(guidance, num):
    """Raises ValueError unless a guidance is a number or one for each sample.

    Args:
        guidance: float, array or tensor.
        num: number of samples; a tensor if it is not known.
    """
    shape = guidance.shape if tf.is_tensor(guidance) else np.shape(guidance)
    num = None if tf.is_tensor(num) else num
    shape = tf.TensorShape(shape)
    check(
        shape.is_compatible_with([]) or shape.is_compatible_with([num]),
        "guidance must be a number, or one for each of the "
        f"{'samples' if num is None else f'{num} samples'}, got an array of "
        f"shape {shape}",
    )


def image_and_condition(inputs, kind, other_key="label"):
    """Returns the image and the condition of a batch of data.

    Args:
        inputs: what a conditional model is called on.
        kind: name of the model, for messages.
        other_key: key of the condition in a dict without `condition`; None if
            there is no other.

    Returns:
        dict of tensors `image` and `condition`.

    Raises:
        ValueError: for anything other than a dict that has both.
    """
    expected = (
        f"{with_article(kind)} takes dicts of image and condition, "
        '{"image": x, "condition": c} (map a data set of (x, c) to such), '
    )
    check(isinstance(inputs, dict), f"{expected}got {kind_of(inputs)}")
    has_other = "condition" not in inputs and other_key in inputs
    keys = {
        "image": "image",
        "condition": other_key if has_other else "condition",
    }
    for name, key in keys.items():
        check(
            key in inputs,
            f"{expected}{name!r} is missing: got {sorted(inputs)}",
        )
    return {
        name: as_one_tensor(inputs[key], kind) for name, key in keys.items()
    }
