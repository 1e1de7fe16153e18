"""`generate` with denoisers whose every step has a closed form."""

import functools
import itertools

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
    events,
)

from keras_genmodels.core import seeds, xla
from keras_genmodels.sampling import schedules
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.restoration import restore


@pytest.mark.usefixtures("float64")
def test_each_step_is_an_update_of_restore():
    denoiser, x = Gaussian(), events(3, scale=2.0)
    found = generate(
        denoiser, (4,), 3, seed=0, solver="euler", num_steps=6, initial=x
    )
    levels = schedules.falling_levels(4.0, 0.01, 6)
    for sigma, lower in itertools.pairwise(levels):
        x = restore(
            denoiser,
            x,
            sigma=np.float64(sigma),
            step_size=1 - lower / sigma,
            max_steps=1,
            tolerance=0,
        ).x
    np.testing.assert_allclose(found, x, **EXACT)


def ode_factors(sigma_max, sigma_min):
    """Returns the factors of the exact ODE, followed by D, per coordinate."""
    fallen = (VARIANCES + sigma_min**2) / (VARIANCES + sigma_max**2)
    return np.sqrt(fallen) * VARIANCES / (VARIANCES + sigma_min**2)


@pytest.mark.usefixtures("float64")
def test_generating_converges_to_the_ode_with_order_one():
    x = MEAN + AXES.T
    exact = MEAN + (ode_factors(4.0, 0.01) * np.eye(4)) @ AXES.T
    denoiser, counts = Gaussian(), np.array([40, 80, 160, 320])
    errors = []
    for count in counts:
        found = generate(
            denoiser,
            (4,),
            4,
            seed=0,
            solver="euler",
            num_steps=int(count),
            initial=x,
        )
        errors.append(np.abs(found - exact).max())
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    # Terms of order two contribute: 0.97 to 1.01.
    assert 0.93 < order < 1.07
    assert errors[-1] < 0.01


@pytest.mark.usefixtures("float64")
def test_generated_events_have_the_covariance_of_the_data():
    draws = np.random.default_rng(0).normal(size=(64, 4))
    draws -= draws.mean(0)
    # Covariance exactly 1, without Monte Carlo error.
    draws @= np.linalg.inv(np.linalg.cholesky(draws.T @ draws / 64).T)
    x = MEAN + (draws * np.sqrt(VARIANCES + 16)) @ AXES.T
    found = generate(
        Gaussian(),
        (4,),
        64,
        seed=0,
        solver="euler",
        num_steps=300,
        initial=x,
    )
    covariance = np.cov(found.numpy().T, bias=True)
    # The error is of order one: 2% with 300 steps, 4% with 150.
    np.testing.assert_allclose(
        covariance, (AXES * VARIANCES) @ AXES.T, atol=0.02
    )
    np.testing.assert_allclose(found.numpy().mean(0), MEAN, atol=1e-12)


def variances_of_stochastic_steps(variances, levels, beta):
    """Propagates N(0, variances + sigma_max^2) through the steps."""
    spread = variances + levels[0] ** 2
    for sigma, lower in itertools.pairwise(levels):
        h = min(1, (1 - lower / sigma) / beta)
        put_back = lower**2 - (1 - h) ** 2 * sigma**2
        kept = 1 - h * sigma**2 / (variances + sigma**2)
        spread = kept**2 * spread + put_back
    return spread


@pytest.mark.usefixtures("float64")
def test_stochastic_sampling_keeps_the_variance_of_the_data():
    # Many coordinates of three variances rather than many events.
    variances, repeats = np.array([2.0, 0.5, 0.05]), 20000
    denoiser = Gaussian(
        np.zeros(3 * repeats), np.repeat(variances, repeats), axes=None
    )
    predicted = []
    for num_steps in (8, 40):
        found = generate(
            denoiser,
            (3 * repeats,),
            2,
            seed=0,
            solver="euler",
            num_steps=num_steps,
            stochasticity=0.5,
        )
        levels = schedules.falling_levels(4.0, 0.01, num_steps)
        expected = variances_of_stochastic_steps(variances, levels, 0.5)
        measured = (found.numpy().reshape(2, 3, repeats) ** 2).mean((0, 2))
        # Four standard errors of a variance from 40000 draws.
        np.testing.assert_allclose(
            measured, expected, rtol=4 * np.sqrt(2 / 40000)
        )
        predicted.append(expected)
    coarse, fine = np.abs(np.array(predicted) / variances - 1).max(1)
    limit = variances_of_stochastic_steps(
        variances, schedules.falling_levels(4.0, 0.01, 4000), 0.5
    )
    assert fine < coarse / 3
    np.testing.assert_allclose(limit, variances, rtol=0.01)


@pytest.mark.usefixtures("float64")
def test_equal_levels_are_one_denoising():
    x, denoiser = events(3), Gaussian()
    found = generate(
        denoiser, (4,), 3, seed=0, sigma_max=1, sigma_min=1, initial=x
    )
    np.testing.assert_allclose(found, denoiser.denoise(x, 1), **EXACT)


def blind():
    return Blind([0.95, 0.5, 0.0, 0.3])


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (Gaussian, {}),
        (Gaussian, {"solver": "heun", "stochasticity": 0.5}),
        (blind, {"stochasticity": 0.5}),
    ],
)
def test_an_event_depends_on_its_seed_alone(make, settings):
    denoiser = make()
    draw = functools.partial(generate, denoiser, (4,), num_steps=9, **settings)
    whole = draw(5, seed=4).numpy()
    rows = seeds.row_seeds(4, 5)
    # float32, in another order of summation. Of other seeds, some coordinates
    # are so close to 0 that they differ by more.
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(draw(2, seed=4), whole[:2], **close)
    np.testing.assert_allclose(draw(1, seed=rows[3:4]), whole[3:4], **close)
    np.testing.assert_allclose(draw(5, seed=rows[::-1]), whole[::-1], **close)
    np.testing.assert_array_equal(draw(5, seed=4), whole)
    everything = np.concatenate([whole, draw(5, seed=5)])[:, 0]
    assert len(np.unique(everything.round(5))) == 10


def test_added_noise_differs_between_steps_and_events():
    # D(x) = 0 and h = 1: x is the noise of its step, gamma eps, with gamma the
    # next level.
    noise = []

    def denoise(x, sigma):
        tf.py_function(
            lambda x, s: noise.append(x / s[:, None]), [x, sigma], []
        )
        return tf.zeros_like(x)

    generate(
        denoise,
        (3,),
        2,
        seed=0,
        sigma_max=1,
        sigma_min=1e-4,
        solver="euler",
        num_steps=5,
        stochasticity=0.99,
        initial=np.zeros((2, 3), "float32"),
    )
    draws = np.array(noise)[1:].reshape(-1)
    assert len(np.unique(draws)) == 4 * 2 * 3
    assert 0.6 < draws.std() < 1.5


def test_xla_agrees_with_the_plain_graph(monkeypatch):
    denoiser = Gaussian()
    plain = generate(denoiser, (4,), 3, seed=0, num_steps=9)
    # "auto" as on a GPU.
    monkeypatch.setattr(xla, "should_compile", lambda model: True)
    compiled = generate(denoiser, (4,), 3, seed=0, num_steps=9)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (Gaussian, {}),
        (Gaussian, {"solver": "heun", "stochasticity": 0.5}),
        (blind, {"stochasticity": 0.5}),
    ],
)
def test_a_row_depends_on_no_other_with_xla(make, settings):
    draw = functools.partial(
        generate, make(), (4,), num_steps=9, jit_compile=True, **settings
    )
    whole, one = draw(3, seed=0), draw(1, seed=0)
    np.testing.assert_allclose(one, whole[:1], rtol=1e-4, atol=1e-5)
    # The noise is the same with and without XLA.
    plain = generate(
        make(), (4,), 3, seed=0, num_steps=9, jit_compile=False, **settings
    )
    np.testing.assert_allclose(plain, whole, rtol=1e-4, atol=1e-5)


def test_other_settings_do_not_trace_again():
    traces = []

    def denoise(x, sigma):
        traces.append(x)
        return x / (1 + sigma[:, None])

    def run(num=2, seed=0, sigma_max=2.0, sigma_min=0.1, **settings):
        initial = np.ones((num, 3), "float32")
        levels = {"sigma_max": sigma_max, "sigma_min": sigma_min}
        generate(
            denoise, (3,), num, seed=seed, initial=initial, **levels, **settings
        )

    run()
    first = len(traces)
    run(num=5, seed=1)
    run(sigma_max=3, sigma_min=0.2, num_steps=7)
    assert len(traces) == first
