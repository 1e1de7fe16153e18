"""`restore` with denoisers whose every step has a closed form."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from support.known_denoisers import (
    AXES,
    EXACT,
    MEAN,
    VARIANCES,
    Blind,
    Gaussian,
    Halver,
    X,
    closed_form,
    events,
    halve,
)

from keras_genmodels.core import loop_cache
from keras_genmodels.denoisers import LinearDenoiser
from keras_genmodels.sampling import restoration
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.restoration import restore


@pytest.mark.usefixtures("float64")
def test_iterates_agree_with_the_closed_form():
    x = events(3)
    found = restore(
        Gaussian(), x, sigma=0.5, step_size=0.3, max_steps=17, tolerance=0
    )
    shares = VARIANCES / (VARIANCES + 0.25)
    np.testing.assert_allclose(
        found.x, closed_form(x, shares, 0.3, 17)[-1], **EXACT
    )
    np.testing.assert_array_equal(found.num_steps, [17] * 3)
    assert found.trajectory is None


@pytest.mark.usefixtures("float64")
def test_each_event_stops_at_its_own_step():
    scales = np.array([3.0, 1.0, 0.1, 0.03, 0.01, 0.0])
    x = MEAN + scales[:, None] * (events(6) - MEAN)
    eta, limit, tolerance = 0.4, 9, 0.004
    shares = VARIANCES / (VARIANCES + 0.25)
    iterates = closed_form(x, shares, eta, limit)
    changes = ((iterates - MEAN) @ AXES) * (1 - shares)
    residuals = np.sqrt((changes**2).mean(-1))
    converged = residuals <= tolerance
    steps = np.where(converged.any(0), converged.argmax(0), limit)
    # So that a common stop would fail the test.
    assert steps.min() == 0 and steps.max() == limit and len(set(steps)) >= 4
    found = restore(
        Gaussian(),
        x,
        sigma=0.5,
        step_size=eta,
        max_steps=limit,
        tolerance=tolerance,
        trajectory=True,
    )
    rows = np.arange(6)
    np.testing.assert_array_equal(found.num_steps, steps)
    np.testing.assert_allclose(found.x, iterates[steps, rows], **EXACT)
    # D is not evaluated again after the last of `max_steps` updates.
    last = np.minimum(steps, limit - 1)
    np.testing.assert_allclose(found.residual, residuals[last, rows], **EXACT)
    repeated = np.minimum(np.arange(limit + 1)[:, None], steps)
    np.testing.assert_allclose(
        found.trajectory, iterates[repeated, rows], **EXACT
    )


def test_the_trajectory_ends_with_the_last_step():
    # Three updates, and the evaluation at which x has converged.
    found = restore(
        halve,
        np.ones((2, 3), "float32"),
        step_size=1,
        tolerance=0.1,
        trajectory=True,
    )
    np.testing.assert_array_equal(
        found.trajectory[:, 1, 0], [1, 0.5, 0.25, 0.125]
    )
    np.testing.assert_array_equal(found.num_steps, [3, 3])


@pytest.mark.usefixtures("float64")
def test_one_step_of_size_1_is_one_denoising():
    x, denoiser = events(5), Gaussian()
    found = restore(denoiser, x, sigma=0.7, step_size=1, max_steps=1)
    np.testing.assert_allclose(found.x, denoiser.denoise(x, 0.7), **EXACT)
    np.testing.assert_array_equal(found.num_steps, [1] * 5)


@pytest.mark.usefixtures("float64")
def test_every_row_has_its_own_settings():
    x = events(4)
    settings = {
        "sigma": np.array([0.25, 0.5, 1.0, 2.0]),
        "step_size": np.array([0.1, 1.0, 1.5, 0.7]),
        "max_steps": np.array([5, 0, 3, 100]),
        "tolerance": np.array([0.0, 0.0, 0.1, 0.01]),
    }
    denoiser = Gaussian()
    found = restore(denoiser, x, **settings)
    for i in range(4):
        own = {name: values[i] for name, values in settings.items()}
        alone = restore(denoiser, x[i : i + 1], **own)
        assert found.num_steps[i] == alone.num_steps[0]
        for name in ("x", "residual"):
            np.testing.assert_allclose(
                getattr(found, name)[i], getattr(alone, name)[0], **EXACT
            )
    assert found.num_steps[1] == 0 and 1 <= found.num_steps[3] < 100


@pytest.mark.usefixtures("float64")
def test_a_projection_changes_only_coordinates_off_its_subspace():
    x = np.random.default_rng(0).normal(size=(3, 6))
    shares = np.array([1, 1, 0, 0, 0, 0.0])
    found = restore(Blind(shares), x, step_size=0.5, tolerance=1e-6)
    np.testing.assert_array_equal(found.x[:, :2], x[:, :2])
    # The residual is of the x before the last step, at most 1e-6.
    np.testing.assert_allclose(found.x[:, 2:], np.zeros((3, 4)), atol=3e-6)
    assert np.all(found.num_steps < 30)


def test_no_steps_return_x():
    x = np.ones((2, 3), "float32")
    found = restore(halve, x, max_steps=0, trajectory=True)
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.num_steps, [0, 0])
    np.testing.assert_array_equal(found.trajectory, x[None])


def test_an_empty_batch_is_returned():
    found = restore(halve, np.zeros((0, 3), "float32"), trajectory=True)
    assert found.x.shape == (0, 3) and found.trajectory.shape == (1, 0, 3)


@pytest.mark.parametrize(
    "bad", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)]
)
def test_the_last_finite_x_is_returned_if_d_is_not_finite(bad):
    def fails_near_zero(x, sigma):
        small = tf.reduce_max(tf.abs(x), axis=1, keepdims=True) < 0.3
        return tf.where(small, tf.constant(bad, x.dtype), x / 2)

    x = np.array([[1.0, 0.5], [16.0, 8.0]], "float32")
    found = restore(fails_near_zero, x, step_size=1, max_steps=5)
    np.testing.assert_array_equal(found.x, [[0.25, 0.125], [0.5, 0.25]])
    np.testing.assert_array_equal(found.num_steps, [2, 5])
    assert not np.isfinite(found.residual[0])
    assert np.isfinite(found.residual[1])


@pytest.mark.parametrize("trajectory", [False, True])
def test_xla_agrees_with_the_plain_graph(trajectory):
    x = events(5).astype("float32")
    compiled, plain = (
        restore(
            Gaussian(),
            x,
            sigma=[0.1, 0.2, 0.4, 0.8, 1.6],
            step_size=0.5,
            tolerance=0.01,
            trajectory=trajectory,
            jit_compile=jit_compile,
        )
        for jit_compile in (True, False)
    )
    assert len(set(plain.num_steps.numpy())) > 2
    for name in restoration.Restoration._fields:
        if (expected := getattr(plain, name)) is not None:
            np.testing.assert_allclose(
                getattr(compiled, name), expected, rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_other_settings_do_not_trace_again(jit_compile):
    traces = []

    def denoise(x, sigma):
        traces.append(x)
        return x / (1 + sigma[:, None])

    def run(count=2, sigma=0.5, **settings):
        x = np.ones((count, 3), "float32")
        restore(denoise, x, sigma=sigma, jit_compile=jit_compile, **settings)

    run()
    first = len(traces)
    run(sigma=0.7)
    run(sigma=[0.7, 0.8])
    run(step_size=0.3, max_steps=3, tolerance=0.5)
    run(step_size=[0.3, 0.2], max_steps=[3, 7], tolerance=[0.5, 0])
    run(count=5, step_size=1)
    assert len(traces) == first


# Kinds of denoisers, and the cache of their loops.


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


@pytest.mark.parametrize("kind", [k for k in FREED if k != "partial"])
def test_loops_are_freed_with_their_denoiser(kind):
    # With XLA and a trajectory, another function refers to the denoiser.
    both = kind in ("function", "Denoiser")
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


# Bad arguments.


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"step_size must be in \(0, 2\), got 0", {"step_size": 0}),
        (r"step_size must be in \(0, 2\), got 2", {"step_size": 2.0}),
        (r"step_size must be in \(0, 2\), got nan", {"step_size": np.nan}),
        (r"step_size must be a scalar or \[batch\]", {"step_size": [0.1] * 3}),
        (r"max_steps must be an int in \[0, 2\*\*31\)", {"max_steps": -1}),
        (r"max_steps must be an int .* got 1.5", {"max_steps": 1.5}),
        (r"max_steps must be an int", {"max_steps": 2**32}),
        (r"max_steps must be an int", {"max_steps": np.array([2**32, 1])}),
        (r"tolerance must be >= 0, got -1", {"tolerance": -1.0}),
        (r"tolerance must be >= 0, got nan", {"tolerance": np.nan}),
        (r"tolerance must be a scalar", {"tolerance": [[0.1]]}),
        (r"sigma must be > 0 and finite, got 0", {"sigma": 0}),
        (r"sigma must be a scalar or \[batch\]", {"sigma": [1.0, 1, 1]}),
        (r"x must be of floating type .* got int64", {"x": X.astype("int64")}),
        (r"x must have shape \[batch, ...\], got \(2,\)", {"x": X[:, 0]}),
        (r"x has values that are not finite", {"x": X * np.inf}),
        (r"denoiser must have denoise\(x, sigma\)", {"denoiser": 3}),
        (
            r"the denoiser must return .* \(None, 3\), got \(None, 1\)",
            {"denoiser": lambda x, sigma: x[:, :1]},
        ),
        (
            r"needs the noise level: pass sigma",
            {"denoiser": Gaussian(), "x": events(2)},
        ),
        (
            r"x must have shape \[batch, 4\], got \(2, 3\)",
            {"denoiser": Gaussian(), "sigma": 1},
        ),
    ],
)
def test_bad_arguments_are_refused(message, arguments):
    arguments = {"denoiser": halve, "x": X, **arguments}
    with pytest.raises(ValueError, match=message):
        restore(arguments.pop("denoiser"), arguments.pop("x"), **arguments)


def test_none_for_jit_compile_is_deprecated():
    with pytest.warns(DeprecationWarning, match="auto"):
        found = restore(halve, X, max_steps=1, step_size=1, jit_compile=None)
    np.testing.assert_array_equal(found.x, X / 2)
