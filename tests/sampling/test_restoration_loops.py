"""Compiled loops of restore: one for each denoiser, freed with it."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from support.known_denoisers import (
    EXACT,
    Blind,
    Halver,
    X,
)

from keras_genmodels.core import loop_cache
from keras_genmodels.denoisers import LinearDenoiser
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.restoration import restore


class Slotted:
    """A denoiser without weak references."""

    __slots__ = ("share",)

    def __init__(self):
        self.share = 0.5

    def __call__(self, x, sigma):
        return self.share * x


class Unhashable:
    """A denoiser without a hash."""

    __hash__ = None

    def __call__(self, x, sigma):
        return x / 2


def scaled(x, sigma, factor):
    """A denoiser once `factor` is bound."""
    return factor * x


KINDS = {
    "function": lambda: lambda x, sigma: x / 2,
    "partial": lambda: functools.partial(scaled, factor=0.5),
    "object": Halver,
    "callable": Unhashable,
    "slots": Slotted,
    "Denoiser": lambda: Blind([0.5, 0.5]),
    "tf.function": lambda: tf.function(lambda x, sigma: x / 2),
}


@pytest.mark.parametrize("kind", [*KINDS, "method"])
def test_denoisers_of_all_kinds_are_accepted(kind):
    denoiser = Halver().denoise if kind == "method" else KINDS[kind]()
    x = np.array([[1.0, 2.0]], "float32")
    for _ in range(2):
        found = restore(denoiser, x, step_size=1, max_steps=3)
        np.testing.assert_array_equal(found.x, x / 8)


def test_a_bound_method_is_traced_once():
    traces = []

    class Counting:
        def denoise(self, x, sigma):
            traces.append(x)
            return x / 2

    denoiser, x = Counting(), np.ones((1, 2), "float32")
    restore(denoiser.denoise, x)
    first = len(traces)
    restore(denoiser.denoise, x)
    restore(denoiser, x)
    assert len(traces) == first


def test_loops_of_different_options_are_different():
    def denoise(x, sigma):
        return x / 2 if sigma is None else x / 4

    one = {"step_size": 1, "max_steps": 1}
    for x in (X, X.astype("float64"), X[:, :2]):
        found = restore(denoise, x, **one)
        np.testing.assert_array_equal(found.x, x / 2)
        assert found.x.dtype == x.dtype and found.trajectory is None
    found = restore(denoise, X, sigma=1.0, trajectory=True, **one)
    np.testing.assert_array_equal(found.trajectory, [X, X / 4])
    levels = {"sigma_max": 1, "sigma_min": 0.5, "solver": "euler"}
    draw = functools.partial(generate, denoise, (3,), 2, seed=0, **levels)
    plain, noisy = (
        draw(num_steps=2, stochasticity=stochasticity, initial=X)
        for stochasticity in (0, 0.5)
    )
    # Half of a step to x / 4, then a whole one.
    np.testing.assert_allclose(plain, X * 5 / 32, rtol=1e-6)
    assert np.all(np.abs(noisy - plain) > 1e-6)


def test_denoisers_of_one_class_have_their_own_loops():
    x = np.ones((1, 2), "float32")
    both = [Blind([0.5, 0.5]), Blind([0.25, 0.25])]
    found = [restore(d, x, step_size=1, max_steps=1).x for d in both]
    np.testing.assert_array_equal(found, [x / 2, x / 4])


def assert_loops_are_freed(kind, options):
    """Restores with each (trajectory, jit_compile), and drops the denoiser."""
    gc.collect()
    before = len(loop_cache._loops)
    denoiser = KINDS[kind]()
    x = np.ones((1, 2), "float32")
    for trajectory, jit_compile in options:
        restore(denoiser, x, trajectory=trajectory, jit_compile=jit_compile)
    gone = weakref.ref(denoiser)
    del denoiser
    gc.collect()
    assert gone() is None
    assert len(loop_cache._loops) == before


# All but `slots`, which has no weak references.
FREED = [kind for kind in KINDS if kind != "slots"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=[pytest.mark.slow] * (kind in ("callable", "object"))
        )
        for kind in FREED
        if kind != "partial"
    ],
)
def test_loops_are_freed_with_their_denoiser(kind):
    # With XLA and a trajectory, another function refers to the denoiser.
    both = kind == "Denoiser"
    flags = (False, True) if both else (False,)
    assert_loops_are_freed(kind, [(flag, flag) for flag in flags])


@pytest.mark.slow
@pytest.mark.parametrize("trajectory", [False, True])
@pytest.mark.parametrize("kind", FREED)
def test_loops_of_all_options_are_freed(kind, trajectory):
    assert_loops_are_freed(kind, [(trajectory, False), (trajectory, True)])


@pytest.mark.usefixtures("float64")
def test_a_second_adapt_replaces_the_loop():
    denoiser = LinearDenoiser(rank=1)
    x = np.array([[3.0, 4.0]])
    for axis in (0, 1):
        data = np.zeros((2, 2))
        data[:, axis] = [-1, 1]
        denoiser.adapt(data)
        found = restore(denoiser, x, step_size=1, max_steps=1)
        np.testing.assert_allclose(found.x, x * np.eye(2)[axis], **EXACT)


def test_changed_weights_are_used():
    class Scaling(Blind):
        def _denoise(self, x, sigma):
            return x * tf.cast(self.evaluations, x.dtype)

    denoiser, x = Scaling([0.0, 0.0]), np.ones((1, 2), "float32")
    for value in (2, 5):
        denoiser.evaluations.assign(value)
        found = restore(denoiser, x, step_size=1, max_steps=1)
        np.testing.assert_array_equal(found.x, value * x)


def test_a_denoiser_of_unknown_static_shape_is_accepted():
    def denoise(x, sigma):
        return tf.numpy_function(lambda v: v / 2, [x], x.dtype)

    x = np.ones((2, 3), "float32")
    found = restore(denoise, x, step_size=1, max_steps=2, jit_compile=False)
    np.testing.assert_array_equal(found.x, x / 4)
