"""`restore` with denoisers whose every step has a closed form."""

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
    X,
    closed_form,
    events,
    halve,
)

from keras_genmodels.sampling import restoration
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
