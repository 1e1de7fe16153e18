"""Matrix products whose precision does not depend on the device."""

import numpy as np
import pytest
import tensorflow as tf
from support import tf32

from keras_genmodels.core import loop_cache, precision

# Of integers as in images, of floats, and longer than one sum.
ROWS, DEPTH, COLUMNS = 5, 1500, 3


def factors(short):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((ROWS, DEPTH)).astype(np.float32)
    b = rng.standard_normal((DEPTH, COLUMNS)).astype(np.float32)
    if "a" in short:
        a = rng.integers(0, 256, a.shape).astype(np.float32)
    if "b" in short:
        b = rng.integers(0, 256, b.shape).astype(np.float32)
    return a, b


def errors(product, a, b):
    """Returns errors in units of the sum of |a_ij b_jk|."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.abs(product - a @ b) / (np.abs(a) @ np.abs(b))


@pytest.mark.parametrize("short", ["", "a", "b"])
@pytest.mark.parametrize("transpose_a", [False, True])
def test_split_products_are_exact_in_tf32(monkeypatch, short, transpose_a):
    a, b = factors(short)
    tf32.emulate_products(monkeypatch)

    def multiply(splits):
        product = precision.split_matmul(
            tf.constant(a.T if transpose_a else a),
            tf.constant(b),
            splits,
            short=tuple(short),
            transpose_a=transpose_a,
        )
        return errors(product, a, b)

    assert multiply(tf.constant(True)).max() < 2.0**-21
    assert multiply(tf.constant(False)).max() > 2.0**-17


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_program_for_this_cpu_splits_nothing(jit_compile):
    splits = tf.function(precision.splits_factors, jit_compile=jit_compile)
    assert not splits()
    assert not precision.splits_factors()


def test_programs_of_xla_split_for_machines_with_a_gpu(monkeypatch):
    """XLA does not say for which device it compiles."""
    a, b = factors("")

    def error():
        multiply = tf.function(
            lambda: precision.split_matmul(
                tf.constant(a), tf.constant(b), precision.splits_factors()
            ),
            jit_compile=True,
        )
        return errors(multiply(), a, b).max()

    tf32.emulate_products(monkeypatch)
    assert error() > 2.0**-17
    with precision.for_any_machine():
        assert error() < 2.0**-21
    assert error() > 2.0**-17
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: ["GPU"])
    assert error() < 2.0**-21


def test_compiled_loops_for_this_machine_are_not_used_for_others():
    owner = tf.Module()

    def build():
        made = loop_cache.cached(owner, "name", lambda _: object())
        assert made is loop_cache.cached(owner, "name", lambda _: object())
        return made

    here = build()
    with precision.for_any_machine():
        assert build() is not here
    assert build() is here


def test_a_wide_product_is_in_float64_unless_it_runs_on_a_cpu(monkeypatch):
    a, b = factors("")
    rows = tf.constant(b.T)
    multiply = tf.function(
        lambda: precision.matmul(tf.constant(a), rows, transpose_b=True)
    )
    expected = tf.matmul(a, rows, transpose_b=True)
    np.testing.assert_array_equal(multiply(), expected)
    tf32.emulate_products(monkeypatch)
    anywhere = tf.function(multiply.python_function, jit_compile=True)
    with precision.for_any_machine():
        assert errors(anywhere(), a, b).max() < 2.0**-23


class Fused:
    """Float32 values with fused multiply-adds: products are rounded late."""

    def __init__(self, values):
        # Twice the bits hold the exact products and sums.
        self.values = values.astype(np.float64)

    def __rmul__(self, factor):
        return Fused(factor * self.values)

    def __add__(self, other):
        return Fused(np.float32(self.values + other.values))

    def __sub__(self, other):
        return Fused(np.float32(self.values - other.values))


def test_fused_multiply_adds_split_in_the_same_way():
    """Compilers for GPUs may fuse."""
    x = np.random.default_rng(0).standard_normal(10**4, np.float32)
    short = precision._shorten(x)
    assert (short.view(np.int32) % 2**13 == 0).all()
    assert (np.abs(x - short) <= 2.0**-11 * np.abs(x)).all()
    np.testing.assert_array_equal(precision._shorten(Fused(x)).values, short)


def test_split_products_have_the_gradients_of_a_product():
    a, b = map(tf.constant, factors(""))

    def gradients(splits):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            product = precision.split_matmul(a, b, tf.constant(splits))
            loss = tf.reduce_sum(tf.square(product))
        return tape.gradient(loss, [a, b])

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)
