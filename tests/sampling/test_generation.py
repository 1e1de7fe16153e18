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
    Halver,
    X,
    events,
    halve,
)

from keras_genmodels.core import seeds, xla
from keras_genmodels.denoisers import LinearDenoiser
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


@pytest.mark.usefixtures("float64")
def test_blind_generation_estimates_the_level_by_the_residual():
    shares = np.array([0.9, 0.5, 0.0, 0.2])
    scales = np.array([3.0, 1.0, 0.3, 0.1, 0.01])
    x = scales[:, None] * np.random.default_rng(2).normal(size=(5, 4))
    found = generate(
        Blind(shares), (4,), 5, seed=0, sigma_min=0.05, num_steps=12, initial=x
    )
    h = schedules.growing_steps(2.0, 0.05, 12)
    left = np.cumprod(1 - h[:-1, None] * (1 - shares), axis=0)
    iterates = np.concatenate([x[None], left[:, None] * x])
    levels = np.sqrt((((1 - shares) * iterates) ** 2).mean(-1))
    levels[-1] = 0
    stops = (levels <= 0.05).argmax(0)
    assert len(set(stops)) >= 3 and stops.max() == 11
    np.testing.assert_allclose(
        found, shares * iterates[stops, np.arange(5)], **EXACT
    )


@pytest.mark.usefixtures("float64")
def test_blind_generation_stops_on_the_manifold():
    # The manifold is a point, so the estimated level is exact. It starts 4
    # times too high for the steps planned from sigma_max 2, or too low.
    denoiser = Blind(np.zeros(16))
    h = schedules.growing_steps(2.0, 0.1, 20)
    for start, evaluations in ((8.0, 20), (2.0, 20), (0.5, None)):
        if evaluations is None:
            left = start * np.cumprod(1 - h)
            evaluations = 2 + int((left <= 0.1).argmax())
            assert 2 < evaluations < 20
        denoiser.evaluations.assign(0)
        found = generate(
            denoiser,
            (16,),
            1,
            seed=0,
            sigma_min=0.1,
            num_steps=20,
            initial=np.full((1, 16), start),
        )
        assert denoiser.evaluations.value == evaluations
        np.testing.assert_allclose(found, np.zeros((1, 16)), atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "denoiser",
    [
        Blind([0.9, 0.5, 0.2]),
        Blind([0.9, 0.5, 0.2], sigma_range=(0.5, 0.5)),
    ],
    ids=["blind", "single level"],
)
def test_rows_have_their_own_maximum_without_sigma(denoiser):
    x = np.random.default_rng(1).normal(size=(3, 3))
    counts, settings = [1, 7, 60], {"seed": 0, "jit_compile": False}
    found = generate(
        denoiser, (3,), 3, initial=x, num_steps=tf.constant(counts), **settings
    )
    for i, count in enumerate(counts):
        alone = generate(
            denoiser, (3,), 1, initial=x[i : i + 1], num_steps=count, **settings
        )
        np.testing.assert_allclose(found[i : i + 1], alone, **EXACT)


@pytest.mark.usefixtures("float64")
def test_blind_stochastic_sampling_explores_the_manifold():
    # D keeps two coordinates of 400. They accumulate all noise: gamma^2 of
    # levels that fall as without noise.
    shares = np.zeros(400)
    shares[:2] = 1
    denoiser = Blind(shares)
    found = generate(
        denoiser, (400,), 1500, seed=3, num_steps=10, stochasticity=0.6
    ).numpy()
    beta = 0.4
    h = schedules.growing_steps(2.0, 0.01, 10, 0.6)[:-1]
    levels = 2.0 * np.concatenate([[1], np.cumprod(1 - beta * h)[:-1]])
    expected = 4 + (((1 - beta * h) ** 2 - (1 - h) ** 2) * levels**2).sum()
    assert expected > 4.5
    # Four standard errors; the level is estimated by 398 of 400 coordinates,
    # too low by 0.3%, its square by 0.5%.
    np.testing.assert_allclose(
        found[:, :2].var(), expected, rtol=4 * np.sqrt(2 / 3000) + 0.005
    )
    np.testing.assert_allclose(found[:, 2:], 0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_denoiser_of_one_level_uses_restore():
    denoiser = Blind([0.9, 0.5, 0.0], sigma_range=(0.5, 0.5))
    start = denoiser.noisy_data(0.5).draw(seeds.row_seeds(7, 4))
    found = generate(denoiser, (3,), 4, seed=7, num_steps=25)
    left = (1 - 0.1 * (1 - denoiser.shares)) ** 25
    np.testing.assert_allclose(found, start * left, **EXACT)


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
    whole = draw(5, seed=3).numpy()
    rows = seeds.row_seeds(3, 5)
    # float32, in another order of summation.
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(draw(2, seed=3), whole[:2], **close)
    np.testing.assert_allclose(draw(1, seed=rows[3:4]), whole[3:4], **close)
    np.testing.assert_allclose(draw(5, seed=rows[::-1]), whole[::-1], **close)
    np.testing.assert_array_equal(draw(5, seed=3), whole)
    everything = np.concatenate([whole, draw(5, seed=4)])[:, 0]
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


# Bad arguments.


GAUSSIAN = Gaussian()
ONE_LEVEL = Blind([0.5, 0.5, 0.5], sigma_range=(0.5, 0.5))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"num must be an int >= 1, got 0", {"num": 0}),
        (r"num must be an int >= 1, got 1.5", {"num": 1.5}),
        (r"num_steps must be an int >= 1, got 0", {"num_steps": 0}),
        (r"num_steps must be an int >= 1, got 2.5", {"num_steps": 2.5}),
        (r"stochasticity must be in \[0, 1\), got 1", {"stochasticity": 1}),
        (r"stochasticity must be .* got -0.5", {"stochasticity": -0.5}),
        (r"0 < sigma_min <= sigma_max, got sigma_min=0", {"sigma_min": 0}),
        (r"sigma_min=3, sigma_max=2", {"sigma_max": 2, "sigma_min": 3}),
        (r"sigma_max=inf", {"sigma_max": np.inf}),
        (r"sigma_max=nan", {"sigma_max": np.nan}),
        (r"shape must be \(3,\) as the data's, got \(4,\)", {"shape": (4,)}),
        (r"initial must have shape \[2, 3\]", {"initial": np.ones((3, 3))}),
        (
            r"x must be of floating type",
            {"initial": np.ones((2, 3), np.uint8)},
        ),
        (r"not finite", {"initial": np.full((2, 3), np.nan)}),
        (r"no sigma_range: pass sigma_max and sigma_min", {"denoiser": halve}),
        (
            r"to start from: pass initial",
            {"denoiser": halve, "sigma_max": 1, "sigma_min": 0.1},
        ),
        (
            r"of rows must be at most 1000",
            {"denoiser": ONE_LEVEL, "num_steps": tf.constant(1001)},
        ),
        (
            r"single noise level takes no stochasticity",
            {"denoiser": ONE_LEVEL, "stochasticity": 0.5},
        ),
        (
            r"single noise level takes no sigma_min",
            {"denoiser": ONE_LEVEL, "sigma_min": 0.1},
        ),
        (
            r"single noise level .* no solver, got 'euler'",
            {"denoiser": ONE_LEVEL, "solver": "euler"},
        ),
        (r"by its residual: it takes no solver", {"solver": "heun"}),
        (r"by its residual: it takes no schedule", {"schedule": "karras"}),
        (
            r"solver must be one of dpmpp_2m, heun, euler, got 'rk4'",
            {"denoiser": GAUSSIAN, "solver": "rk4"},
        ),
        (
            r"schedule must be one of geometric, karras, got 'linear'",
            {"denoiser": GAUSSIAN, "schedule": "linear"},
        ),
        (
            r"stochasticity requires solver heun or euler, not dpmpp_2m",
            {"denoiser": GAUSSIAN, "stochasticity": 0.5},
        ),
        (
            r"num_steps must be odd for heun.* got 10",
            {"denoiser": GAUSSIAN, "solver": "heun", "num_steps": 10},
        ),
        (r"3 row seeds for 2 rows", {"seed": np.ones((3, 2), np.int32)}),
        (r"seed must be an int", {"seed": None}),
        (r"jit_compile must be", {"jit_compile": 1}),
        (r"call adapt\(data\) first", {"denoiser": LinearDenoiser()}),
    ],
)
def test_bad_arguments_are_refused(message, arguments):
    arguments = {
        "denoiser": Blind([0.5, 0.5, 0.5]),
        "shape": (3,),
        "num": 2,
        "seed": 0,
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        generate(**arguments)


def test_a_blind_object_without_a_range_takes_levels():
    denoiser = Halver()
    denoiser.needs_sigma = False
    found = generate(
        denoiser, (3,), 2, seed=0, sigma_max=1, sigma_min=0.5, initial=X
    )
    # The residual starts at 0.5: one denoising step finishes.
    np.testing.assert_array_equal(found, X / 2)


@pytest.mark.parametrize("final_denoising", [True, False])
def test_heun_takes_the_evaluations_that_its_end_needs(final_denoising):
    denoiser = LinearDenoiser()
    denoiser.adapt(np.random.default_rng(0).normal(size=(20, 2)))
    settings = {"solver": "heun", "final_denoising": final_denoising}
    wrong = 4 if final_denoising else 5
    with pytest.raises(ValueError, match="odd" if final_denoising else "even"):
        generate(denoiser, 2, 1, seed=0, num_steps=wrong, **settings)


def test_a_walk_that_ends_at_sigma_min_needs_the_noise_level():
    denoiser = LinearDenoiser(rank=1)
    denoiser.adapt(np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(ValueError, match="final_denoising"):
        generate(denoiser, 2, 1, seed=0, final_denoising=False)
