"""Assertions in graphs, whose messages end with a code for programs."""

import re

import tensorflow as tf

# How TensorFlow formats the data of a failed assertion.
_FAILED = re.compile(r"assertion failed: \[(.*?)(?:\] \[Condition |\]?\n|\]?$)")
# The code of assertions about the data of a model.
DATA = "data:values"


def require(is_right, message, *values, code=DATA):
    """Adds an assertion to a graph; checks at once if eager.

    Args:
        is_right: bool scalar tensor.
        message: str or string tensor, one line. XLA cannot compile
            `tf.strings.format`.
        *values: tensors that end the message.
        code: str, the last part of the message, by which programs know it.

    Returns:
        the operation, or None if eager.

    Raises:
        tf.errors.InvalidArgumentError: if eager, and `is_right` is False.
    """
    return tf.debugging.Assert(is_right, [message, *values, code])


def parts_of(message):
    """Returns the data of the assertion that failed, or None.

    Args:
        message: str, of an error of TensorFlow.

    Returns:
        list of str: of `require` the message, the values and the code.
    """
    found = _FAILED.search(message)
    return found and found[1].split("] [")
