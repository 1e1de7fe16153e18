"""The dtype policy of a model, and the precision of matrix products."""

import contextlib

import keras
import tensorflow as tf


@contextlib.contextmanager
def policy_scope(policy):
    """Makes a dtype policy the global one within a `with` block.

    Files of Keras keep the policy of each layer, but not that of a Functional
    or Sequential network, which casts its inputs by it.

    Args:
        policy: name of a policy, such as "float64"; None keeps the global one
            (for files of formats 1 and 2, which do not hold it).
    """
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def matmul_roundoff():
    """Returns the relative rounding error of factors of a float32 product.

    On GPUs TensorFlow multiplies in TF32, with 11 bits, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)`.
    """
    is_short = tf.config.experimental.tensor_float_32_execution_enabled()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return 2.0**-11 if is_short and on_gpu else 2.0**-24


def matmul(a, b, **settings):
    """Multiplies float matrices with at least the precision of float32.

    Args:
        a, b: float tensors of one dtype.
        **settings: as of `tf.matmul`.
    """
    if a.dtype != tf.float32 or matmul_roundoff() < 1e-6:
        return tf.matmul(a, b, **settings)
    wide = (tf.cast(it, tf.float64) for it in (a, b))
    return tf.cast(tf.matmul(*wide, **settings), a.dtype)
