"""The dtype policy of a model, and the precision of matrix products."""

import contextlib
import contextvars
import functools
import operator

import keras
import tensorflow as tf

from keras_genmodels.core import devices, private_api

# TF32 keeps 11 bits of a factor: where this multiple is added and subtracted
# again, the other 13 of float32 are rounded off (after Dekker, 1971). Multiples
# by a power of two are exact, so that fused multiply-adds, which compilers for
# GPUs use, round the same. In Dekker's order they can undo the rounding.
_MULTIPLE = 2.0**13

# Longest sum of one product in TF32: tensor cores truncate each addition.
_LONGEST_SUM = 1024

_for_any_machine = contextvars.ContextVar("for_any_machine", default=False)


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


def matmul(a, b, **settings):
    """Multiplies float matrices with at least the precision of float32.

    Where a device may multiply in TF32 the product is one in float64.

    Args:
        a, b: float tensors of one dtype.
        **settings: as of `tf.matmul`.
    """

    def multiply():
        return tf.matmul(a, b, **settings)

    def multiply_wide():
        wide = (tf.cast(it, tf.float64) for it in (a, b))
        return tf.cast(tf.matmul(*wide, **settings), a.dtype)

    if a.dtype != tf.float32:
        return multiply()
    return choose(splits_factors(), multiply_wide, multiply)


@contextlib.contextmanager
def for_any_machine():
    """Makes programs that are traced within a `with` block fit any machine.

    Only those that XLA compiles need it: see `splits_factors`.
    """
    token = _for_any_machine.set(True)
    try:
        yield
    finally:
        _for_any_machine.reset(token)


def traced_for():
    """Returns for what programs are traced now, which must not share them.

    Returns:
        tuple of bool: whether XLA compiles them, whether they are traced
        `for_any_machine`, and whether this machine has a GPU.
    """
    return (
        private_api.is_traced_for_xla(),
        _for_any_machine.get(),
        devices.has_gpu(),
    )


def splits_factors():
    """Returns whether float32 products may be TF32, where this runs.

    They may be everywhere but on a CPU. The program decides when it runs,
    because it may be traced on another machine, and because TF32 can be turned
    on after that. XLA does not say for which device it compiles: its programs
    split factors, unless this machine has no GPU and they are not traced
    `for_any_machine`, as exports are.

    Returns:
        bool, or a scalar tensor of a program that decides when it runs.
    """
    for_xla, for_any_machine, has_gpu = traced_for()
    if for_xla:
        return for_any_machine or has_gpu
    return tf.not_equal(tf.raw_ops.DeviceIndex(device_names=["CPU"]), 0)


def split_roundoff(splits):
    """Returns the relative rounding error of a sum by `split_matmul`.

    A product without splits has the error of float32, 2^-24 for each value.
    With splits a factor is off by 2^-22, or both and their product by 3 2^-22;
    and sums are rounded worse (Ootomo and Yokota, 2022). Callers allow for
    several times this error.

    Args:
        splits: as of `split_matmul`.

    Returns:
        float32 tensor, scalar.
    """
    return tf.where(splits, 2.0**-22, 2.0**-24)


def split_matmul(a, b, splits, *, short=(), transpose_a=False):
    """Multiplies float matrices, in float32 also on devices with TF32.

    Where `splits`, each float32 factor is written as a sum of two matrices
    that TF32 represents, and the products of these are added.

    Args:
        a, b: float matrices of one dtype and known shape.
        splits: bool, or a scalar tensor, as of `splits_factors`.
        short: which of "a" and "b" consist of integers below 2048 in modulus,
            which need no splitting.
        transpose_a: as of `tf.matmul`.

    #### References

    Dekker (1971), A floating-point technique for extending the available
    precision, Numerische Mathematik 18. Ootomo and Yokota (2022), Recovering
    single precision accuracy from tensor cores while surpassing the FP32
    theoretical peak performance, IJHPCA 36.
    """

    def multiply(a, b):
        return tf.matmul(a, b, transpose_a=transpose_a)

    def multiply_parts(a, b):
        left = [a] if "a" in short else _split(a)
        right = [b] if "b" in short else _split(b)
        # The smallest first; that of both rests is below rounding.
        parts = [(left[0], factor) for factor in right[1:]]
        parts += [(factor, right[0]) for factor in left[1:]]
        return functools.reduce(
            operator.add,
            (multiply(*factors) for factors in [*parts, (left[0], right[0])]),
        )

    def multiply_slices():
        length = b.shape[0]
        rest = length % _LONGEST_SUM
        whole = length - rest
        axis = 0 if transpose_a else 1
        total = 0
        if rest:
            total = multiply_parts(_last(a, whole, axis), _last(b, whole, 0))
        if whole:
            # As one product of many matrices each, which fills a GPU.
            slices = multiply_parts(
                _sliced(a, whole, axis), _sliced(b, whole, 0)
            )
            total += tf.reduce_sum(slices, axis=0)
        return total

    if a.dtype != tf.float32:
        return multiply(a, b)
    return choose(splits, multiply_slices, lambda: multiply(a, b))


def _last(matrix, start, axis):
    """Returns the rows (axis 0) or columns of a matrix from one on."""
    return matrix[start:] if axis == 0 else matrix[:, start:]


def _sliced(matrix, stop, axis):
    """Returns the rows or columns before one, in slices of `_LONGEST_SUM`.

    Returns:
        tensor `[slices, _LONGEST_SUM, n]`, or of columns `[slices, m,
        _LONGEST_SUM]`.
    """
    if axis == 0:
        shape = (-1, _LONGEST_SUM, tf.shape(matrix)[1])
        return tf.reshape(matrix[:stop], shape)
    shape = (tf.shape(matrix)[0], -1, _LONGEST_SUM)
    return tf.transpose(tf.reshape(matrix[:, :stop], shape), (1, 0, 2))


def choose(condition, if_true, if_false):
    """Returns the result of one of two functions.

    Args:
        condition: as of `splits_factors`.
        if_true, if_false: functions without arguments.
    """
    if isinstance(condition, bool):
        return if_true() if condition else if_false()
    return tf.cond(condition, if_true, if_false)


def _split(x):
    """Returns two float32 tensors of 11 bits with sum x, up to 2^-22 |x|."""
    rest = tf.stop_gradient(x - _shorten(x))
    return x - rest, _shorten(rest)


def _shorten(x):
    """Rounds float32 values to 11 bits."""
    multiple = _MULTIPLE * x
    return (multiple + x) - multiple
