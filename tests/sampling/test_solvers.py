"""The solvers of `generate`: closed forms, orders, numbers of evaluations."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from sklearn.datasets import load_digits
from support.known_denoisers import AXES, EXACT, MEAN, VARIANCES, Gaussian

from keras_genmodels import datasets
from keras_genmodels.core import seeds
from keras_genmodels.core.precision import policy_scope
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser
from keras_genmodels.sampling.generation import generate
from keras_genmodels.sampling.schedules import falling_levels

# The distance of what is generated to the data, for 9, 19, 35 and 99
# evaluations from 40 to 0.02, started at m + 40 eps.
DISTANCES = {
    ("euler", "geometric"): (0.4599, 0.2209, 0.1230, 0.0495),
    ("heun", "karras"): (1.7182, 0.2736, 0.0677, 0.0180),
    ("dpmpp_2m", "geometric"): (0.0601, 0.0259, 0.0188, 0.0188),
}


@pytest.fixture(scope="module")
def wiener():
    """Returns the Wiener filter of the digits, in float64."""
    with policy_scope("float64"):
        denoiser = LinearDenoiser()
        denoiser.adapt(load_digits().images[:1437, ..., None] / 16)
    return denoiser


def gains(denoiser, start, **settings):
    """Returns the factors of x - m along the axes, for starts `[M]`."""
    axes = np.moveaxis(np.asarray(denoiser.eigenvectors), -1, 0)
    scaled = axes * np.sqrt(start).reshape(-1, 1, 1, 1)
    mean = np.asarray(denoiser.data_mean)
    found = generate(
        denoiser,
        mean.shape,
        len(axes),
        seed=0,
        initial=mean + scaled,
        **settings,
    )
    along = ((found - mean) * axes).numpy().sum((1, 2, 3))
    return along / np.sqrt(start)


def computed_gains(variances, solver, levels):
    """Returns the factors of the solver, one number for each axis."""

    def denoise(gain, sigma):
        return gain * variances / (variances + sigma**2)

    gain, before, last = np.ones_like(variances), None, None
    for sigma, lower in itertools.pairwise(levels):
        denoised = extrapolated = denoise(gain, sigma)
        if solver == "dpmpp_2m" and last and lower:
            r = np.log(last / sigma) / np.log(sigma / lower)
            extrapolated = denoised + (denoised - before) / (2 * r)
        predicted = gain + (1 - lower / sigma) * (extrapolated - gain)
        if solver == "heun" and lower:
            slopes = (gain - denoised) / sigma
            slopes += (predicted - denoise(predicted, lower)) / lower
            predicted = gain + (lower - sigma) * slopes / 2
        gain, before, last = predicted, denoised, sigma
    return gain


@pytest.mark.parametrize(
    ("solver", "schedule"),
    [
        pytest.param(*kind, marks=[pytest.mark.slow] * (kind[0] == "euler"))
        for kind in DISTANCES
    ],
)
def test_generated_digits_are_as_far_as_computed(wiener, solver, schedule):
    variances = np.asarray(wiener.eigenvalues)
    start = np.full(64, 40.0**2)
    found = []
    for num_steps in (9, 19, 35, 99):
        gain = gains(
            wiener,
            start,
            solver=solver,
            schedule=schedule,
            num_steps=num_steps,
            sigma_max=40.0,
            sigma_min=0.02,
        )
        num_levels = (num_steps + 1) // 2 if solver == "heun" else num_steps
        levels = falling_levels(40.0, 0.02, num_levels, schedule)
        expected = computed_gains(variances, solver, levels)
        np.testing.assert_allclose(gain, expected, rtol=1e-6, atol=1e-9)
        errors = np.sqrt(variances) - np.abs(gain) * np.sqrt(start)
        found.append(np.sqrt((errors**2).sum()))
    np.testing.assert_allclose(
        found, DISTANCES[solver, schedule], rtol=1e-3, atol=5e-5
    )


def test_the_default_walk_keeps_the_variance_of_the_data(wiener):
    variances = np.asarray(wiener.eigenvalues)
    start = variances + wiener.sigma_range[1] ** 2
    kept = gains(wiener, start) ** 2 * start
    np.testing.assert_allclose(kept[:10] / variances[:10], 1, atol=0.02)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("solver", "schedule", "order"),
    [
        ("euler", "geometric", 1),
        ("heun", "geometric", 2),
        ("heun", "karras", 2),
        ("dpmpp_2m", "geometric", 2),
        ("dpmpp_2m", "karras", 2),
    ],
)
def test_solvers_have_their_order_of_convergence(solver, schedule, order):
    # The exact ODE, followed by a denoising step.
    fallen = (VARIANCES + 0.2**2) / (VARIANCES + 4.0**2)
    kept = np.sqrt(fallen) * VARIANCES / (VARIANCES + 0.2**2)
    denoiser, errors = Gaussian(), []
    counts = np.array([41, 81, 161, 321])
    for count in counts:
        found = generate(
            denoiser,
            (4,),
            4,
            seed=0,
            solver=solver,
            schedule=schedule,
            num_steps=int(count),
            sigma_min=0.2,
            initial=MEAN + AXES.T,
        )
        errors.append(np.abs((found - MEAN) @ AXES - np.diag(kept)).max())
    found = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(found - order) < 0.1 * order


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("solver", "stochasticity"),
    [("euler", 0.3), ("heun", 0.0), ("dpmpp_2m", 0.0)],
)
def test_d_is_evaluated_exactly_as_often_as_stated(solver, stochasticity):
    levels = []

    def denoise(x, sigma):
        tf.py_function(lambda s: levels.append(s.numpy()[0]), [sigma], [])
        return x / (1 + sigma[:, None])

    for num_steps in (1, 7):
        levels.clear()
        generate(
            denoise,
            (3,),
            2,
            seed=0,
            solver=solver,
            num_steps=num_steps,
            stochasticity=stochasticity,
            sigma_max=2.0,
            sigma_min=0.1,
            initial=np.ones((2, 3)),
        )
        assert len(levels) == num_steps
        ends = levels[0], levels[-1]
        np.testing.assert_allclose(ends, (2.0, 0.1 if num_steps > 1 else 2.0))


@pytest.mark.usefixtures("float64")
def test_each_row_may_have_its_own_number_of_steps():
    denoiser, x = Gaussian(), MEAN + AXES.T[:3]
    for solver, as_counts in (("dpmpp_2m", tf.constant), ("heun", list)):
        settings = {"seed": 0, "solver": solver}
        counts = [1, 9, 5]
        found = generate(
            denoiser,
            (4,),
            3,
            num_steps=as_counts(counts),
            initial=x,
            **settings,
        )
        for row, count in enumerate(counts):
            alone = generate(
                denoiser,
                (4,),
                1,
                num_steps=count,
                initial=x[row : row + 1],
                **settings,
            )
            np.testing.assert_allclose(found[row], alone[0], **EXACT)


@pytest.mark.usefixtures("float64")
def test_stochastic_heun_steps_have_the_stated_variance():
    variances, repeats, beta = np.array([2.0, 0.5, 0.05]), 4000, 0.5
    denoiser = Gaussian(
        np.zeros(3 * repeats), np.repeat(variances, repeats), axes=None
    )
    found = generate(
        denoiser,
        (3 * repeats,),
        2,
        seed=0,
        solver="heun",
        num_steps=61,
        stochasticity=1 - beta,
    )
    spread = 16.0 + np.zeros(3)
    for level, following in itertools.pairwise(falling_levels(4.0, 0.01, 31)):
        h = min((1 - following / level) / beta, 1)
        down = max((1 - h) * level, 0.01) if following else 0.0
        slope = level / (variances + level**2)
        factor = 1 + (down - level) * slope
        if following:
            corrected = down / (variances + down**2) * factor
            factor = 1 + (down - level) * (slope + corrected) / 2
        spread = factor**2 * spread + following**2 - down**2
    measured = (found.numpy().reshape(2, 3, repeats) ** 2).mean((0, 2))
    # Four standard errors of a variance from 8000 draws.
    np.testing.assert_allclose(measured, spread, rtol=4 * np.sqrt(2 / 8000))
    np.testing.assert_allclose(spread, variances, rtol=0.04)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun"])
def test_the_trajectory_goes_from_the_start_to_the_result(solver):
    denoiser, x = Gaussian(), (MEAN + AXES.T[:3]).astype("float32")
    settings = {"seed": 0, "solver": solver, "num_steps": 5, "initial": x}
    steps = generate(denoiser, (4,), 3, trajectory=True, **settings)
    assert steps.shape == (6, 3, 4)
    np.testing.assert_array_equal(steps[0], x)
    np.testing.assert_array_equal(
        steps[-1], generate(denoiser, (4,), 3, **settings)
    )


class Mixture:
    """The best denoiser of three Gaussians in the plane, and their noise."""

    weights = np.array([0.2, 0.3, 0.5])
    means = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])
    stddev, sigma_range = 0.2, (0.01, 10.0)

    def denoise(self, x, sigma):
        """Returns the posterior mean."""
        total = self.stddev**2 + sigma[:, None] ** 2
        squares = tf.reduce_sum((x[:, None] - self.means) ** 2, -1)
        logits = tf.math.log(self.weights) - squares / (2 * total)
        mean = tf.nn.softmax(logits) @ tf.constant(self.means)
        return mean + self.stddev**2 / total * (x - mean)


@pytest.mark.usefixtures("float64")
def test_samples_have_the_weights_of_a_mixture():
    mixture, num, rng = Mixture(), 20000, np.random.default_rng(0)
    centre = mixture.means[rng.choice(3, num, p=mixture.weights)]
    spread = np.hypot(mixture.stddev, 10.0)
    initial = centre + spread * rng.normal(size=(num, 2))
    found = generate(mixture, (2,), num, seed=0, initial=initial)
    squares = ((found.numpy()[:, None] - mixture.means) ** 2).sum(-1)
    shares = np.bincount(squares.argmin(1)) / num
    error = np.sqrt(mixture.weights * (1 - mixture.weights) / num)
    np.testing.assert_array_less(np.abs(shares - mixture.weights), 3 * error)


@pytest.mark.slow
def test_a_finite_set_is_generated_equally_often():
    images = datasets.load("digits").train.images[:50]
    denoiser = EmpiricalDenoiser()
    denoiser.adapt(images)
    images = images.reshape(50, -1) / 255
    rows = seeds.row_seeds(0, 200_000).numpy()
    counts, moment = np.zeros(50), 0.0
    _, _, axes = np.linalg.svd(images - images.mean(0), full_matrices=False)
    for part in np.split(rows, 10):
        found = denoiser.sample(len(part), seed=part).numpy()
        found = found.reshape(len(part), -1)
        along = (found - images.mean(0)) @ axes[:10].T
        moment = moment + (along**2).mean(0) / 10
        squares = (found**2).sum(1)[:, None] - 2 * found @ images.T
        nearest = (squares + (images**2).sum(1)).argmin(1)
        counts += np.bincount(nearest, minlength=50)
    variances = (((images - images.mean(0)) @ axes[:10].T) ** 2).mean(0)
    np.testing.assert_allclose(moment / variances, 1, atol=0.03)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
