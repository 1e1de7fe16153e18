"""The loop over denoisers whose every step has a closed form."""

import functools
import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels import _compiled, noise_schedules, restoration, seeds
from keras_genmodels.denoisers import LinearDenoiser
from keras_genmodels.denoisers.base import Denoiser
from keras_genmodels.errors import UserError
from keras_genmodels.restoration import generate, restore

# What float64 leaves of some hundred steps.
EXACT = {"rtol": 1e-11, "atol": 1e-13}

MEAN = np.array([0.5, -0.25, 0.125, 1.0])
VARIANCES = np.array([2.0, 0.5, 0.03, 0.0])
AXES = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0]

X = np.ones((2, 3), "float32")


class Gaussian(Denoiser):
    """The best denoiser of N(mean, axes diag(variances) axes')."""

    def __init__(self, mean=MEAN, variances=VARIANCES, axes=AXES):
        super().__init__()
        self.mean, self.variances, self.axes = mean, variances, axes

    event_shape = property(lambda self: self.mean.shape)
    data_mean = property(lambda self: tf.constant(self.mean, self.dtype))
    sigma_range = property(lambda self: (0.01, 4.0))

    def _denoise(self, x, sigma):
        kept = self.variances / (self.variances + sigma[:, None] ** 2)
        if self.axes is None:
            return self.mean + kept * (x - self.mean)
        return self.mean + ((x - self.mean) @ self.axes * kept) @ self.axes.T


class Blind(Denoiser):
    """Multiplies coordinates by shares, whatever the noise level."""

    needs_sigma = False

    def __init__(self, shares, sigma_range=(0.01, 2.0)):
        super().__init__()
        self.shares, self._range = np.array(shares), sigma_range
        self.evaluations = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    event_shape = property(lambda self: self.shares.shape)
    data_mean = property(lambda self: tf.zeros(self.shares.shape, self.dtype))
    sigma_range = property(lambda self: self._range)

    def _denoise(self, x, sigma):
        self.evaluations.assign_add(1)
        return x * tf.constant(self.shares, x.dtype)


def halve(x, sigma):
    """Is a linear denoiser without a noise level."""
    return x / 2


def closed_form(start, shares, eta, num_steps):
    """Gives all x on the way of a linear D, `[1 + num_steps, batch, M]`."""
    t = np.arange(num_steps + 1)[:, None, None]
    along = (start - MEAN) @ AXES
    way = (1 - np.reshape(eta, (-1, 1)) * (1 - shares)) ** t * along
    return MEAN + way @ AXES.T


def events(count, seed=0, scale=1.0):
    """Gives events `[count, 4]` that are not at the mean."""
    draws = np.random.default_rng(seed).normal(size=(count, len(MEAN)))
    return MEAN + scale * draws


# -- restore --------------------------------------------------------------


@pytest.mark.usefixtures("float64")
def test_coordinates_shrink_as_in_the_closed_form():
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
def test_each_image_stops_by_itself_where_predicted():
    scales = np.array([3.0, 1.0, 0.1, 0.03, 0.01, 0.0])
    x = MEAN + scales[:, None] * (events(6) - MEAN)
    eta, limit, tolerance = 0.4, 9, 0.004
    shares = VARIANCES / (VARIANCES + 0.25)
    way = closed_form(x, shares, eta, limit)
    changes = ((way - MEAN) @ AXES) * (1 - shares)
    residuals = np.sqrt((changes**2).mean(-1))
    rests = residuals <= tolerance
    steps = np.where(rests.any(0), rests.argmax(0), limit)
    # Else the test would not tell a common stop from one for each image.
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
    np.testing.assert_allclose(found.x, way[steps, rows], **EXACT)
    # D is not evaluated again after the last of `max_steps` updates.
    last = np.minimum(steps, limit - 1)
    np.testing.assert_allclose(found.residual, residuals[last, rows], **EXACT)
    stays = np.minimum(np.arange(limit + 1)[:, None], steps)
    np.testing.assert_allclose(found.trajectory, way[stays, rows], **EXACT)


def test_the_trajectory_ends_with_the_last_step():
    # Three halvings, and the evaluation that finds that x rests.
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
def test_one_whole_step_is_one_denoising():
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
def test_the_projection_moves_only_what_is_off_the_subspace():
    x = np.random.default_rng(0).normal(size=(3, 6))
    shares = np.array([1, 1, 0, 0, 0, 0.0])
    found = restore(Blind(shares), x, step_size=0.5, tolerance=1e-6)
    np.testing.assert_array_equal(found.x[:, :2], x[:, :2])
    # The residual is of the x before the last step, at most 1e-6.
    np.testing.assert_allclose(found.x[:, 2:], np.zeros((3, 4)), atol=3e-6)
    assert np.all(found.num_steps < 30)


def test_no_steps_give_x_itself():
    x = np.ones((2, 3), "float32")
    found = restore(halve, x, max_steps=0, trajectory=True)
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.num_steps, [0, 0])
    np.testing.assert_array_equal(found.trajectory, x[None])


def test_an_empty_batch_comes_back():
    found = restore(halve, np.zeros((0, 3), "float32"), trajectory=True)
    assert found.x.shape == (0, 3) and found.trajectory.shape == (1, 0, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_last_finite_x_stays_where_the_denoiser_fails(bad):
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
def test_xla_does_what_the_plain_graph_does(trajectory):
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


def test_generating_with_other_settings_does_not_trace_again():
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


# -- kinds of denoisers, and what is kept of them --------------------------


class Halver:
    """Has a method; is no `Denoiser`."""

    def denoise(self, x, sigma):
        return x / 2


class Slotted:
    """Can't be referred to weakly."""

    __slots__ = ("share",)

    def __init__(self):
        self.share = 0.5

    def __call__(self, x, sigma):
        return self.share * x


class Unhashable:
    """Can't be a key."""

    __hash__ = None

    def __call__(self, x, sigma):
        return x / 2


def scaled(x, sigma, factor):
    """Is a denoiser once `factor` is bound."""
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
def test_denoisers_of_all_kinds_are_walked(kind):
    denoiser = Halver().denoise if kind == "method" else KINDS[kind]()
    x = np.array([[1.0, 2.0]], "float32")
    for _ in range(2):
        found = restore(denoiser, x, step_size=1, max_steps=3)
        np.testing.assert_array_equal(found.x, x / 8)


def test_a_method_is_traced_once_though_each_access_makes_a_new_one():
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


def test_one_denoiser_is_walked_under_all_options():
    def denoise(x, sigma):
        return x / 2 if sigma is None else x / 4

    one = {"step_size": 1, "max_steps": 1}
    for x in (X, X.astype("float64"), X[:, :2]):
        found = restore(denoise, x, **one)
        np.testing.assert_array_equal(found.x, x / 2)
        assert found.x.dtype == x.dtype and found.trajectory is None
    found = restore(denoise, X, sigma=1.0, trajectory=True, **one)
    np.testing.assert_array_equal(found.trajectory, [X, X / 4])
    draw = functools.partial(
        generate, denoise, (3,), 2, seed=0, sigma_max=1, sigma_min=0.5
    )
    plain, noisy = (
        draw(num_steps=2, stochasticity=stochasticity, initial=X)
        for stochasticity in (0, 0.5)
    )
    # A half of the way to x / 4, then all of the way.
    np.testing.assert_allclose(plain, X * 5 / 32, rtol=1e-6)
    assert np.all(np.abs(noisy - plain) > 1e-6)


def test_two_denoisers_of_a_class_are_told_apart():
    x = np.ones((1, 2), "float32")
    both = [Blind([0.5, 0.5]), Blind([0.25, 0.25])]
    found = [restore(d, x, step_size=1, max_steps=1).x for d in both]
    np.testing.assert_array_equal(found, [x / 2, x / 4])


@pytest.mark.parametrize("trajectory", [False, True])
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "slots"])
def test_loops_are_freed_with_their_denoiser(kind, trajectory):
    gc.collect()
    before = len(_compiled._loops)
    denoiser = KINDS[kind]()
    x = np.ones((1, 2), "float32")
    for jit_compile in (False, True):
        restore(denoiser, x, trajectory=trajectory, jit_compile=jit_compile)
    gone = weakref.ref(denoiser)
    del denoiser
    gc.collect()
    assert gone() is None
    assert len(_compiled._loops) == before


@pytest.mark.usefixtures("float64")
def test_a_second_adapt_is_not_walked_with_the_first_data():
    denoiser = LinearDenoiser(rank=1)
    x = np.array([[3.0, 4.0]])
    for axis in (0, 1):
        data = np.zeros((2, 2))
        data[:, axis] = [-1, 1]
        denoiser.adapt(data)
        found = restore(denoiser, x, step_size=1, max_steps=1)
        np.testing.assert_allclose(found.x, x * np.eye(2)[axis], **EXACT)


def test_weights_that_training_changes_are_read_anew():
    class Scaling(Blind):
        def _denoise(self, x, sigma):
            return x * tf.cast(self.evaluations, x.dtype)

    denoiser, x = Scaling([0.0, 0.0]), np.ones((1, 2), "float32")
    for value in (2, 5):
        denoiser.evaluations.assign(value)
        found = restore(denoiser, x, step_size=1, max_steps=1)
        np.testing.assert_array_equal(found.x, value * x)


def test_a_denoiser_of_unknown_static_shape_is_walked():
    def denoise(x, sigma):
        return tf.numpy_function(lambda v: v / 2, [x], x.dtype)

    x = np.ones((2, 3), "float32")
    found = restore(denoise, x, step_size=1, max_steps=2, jit_compile=False)
    np.testing.assert_array_equal(found.x, x / 4)


# -- generate --------------------------------------------------------------


@pytest.mark.usefixtures("float64")
def test_each_step_is_the_lectures_update():
    denoiser, x = Gaussian(), events(3, scale=2.0)
    found = generate(denoiser, (4,), 3, seed=0, num_steps=6, initial=x)
    levels = noise_schedules.falling_levels(4.0, 0.01, 6)
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
    """Gives what the exact ODE, and D at the end, multiply coordinates by."""
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
            denoiser, (4,), 4, seed=0, num_steps=int(count), initial=x
        )
        errors.append(np.abs(found - exact).max())
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    # Terms of order two are still seen: 0.97 to 1.01.
    assert 0.93 < order < 1.07
    assert errors[-1] < 0.01


@pytest.mark.usefixtures("float64")
def test_generated_events_end_with_the_datas_covariance():
    draws = np.random.default_rng(0).normal(size=(64, 4))
    draws -= draws.mean(0)
    # Covariance 1 to the last digit, so that no Monte Carlo error is left.
    draws @= np.linalg.inv(np.linalg.cholesky(draws.T @ draws / 64).T)
    x = MEAN + (draws * np.sqrt(VARIANCES + 16)) @ AXES.T
    found = generate(Gaussian(), (4,), 64, seed=0, num_steps=300, initial=x)
    covariance = np.cov(found.numpy().T, bias=True)
    # Of order one: 2% with 300 steps, 4% with 150.
    np.testing.assert_allclose(
        covariance, (AXES * VARIANCES) @ AXES.T, atol=0.02
    )
    np.testing.assert_allclose(found.numpy().mean(0), MEAN, atol=1e-12)


def variances_of_the_stochastic_walk(variances, levels, beta):
    """Gives what is left of N(0, variances + sigma_max^2), step by step."""
    spread = variances + levels[0] ** 2
    for sigma, lower in itertools.pairwise(levels):
        h = min(1, (1 - lower / sigma) / beta)
        put_back = lower**2 - (1 - h) ** 2 * sigma**2
        kept = 1 - h * sigma**2 / (variances + sigma**2)
        spread = kept**2 * spread + put_back
    return spread


@pytest.mark.usefixtures("float64")
def test_noise_put_back_keeps_the_datas_variance():
    # Many coordinates of three variances rather than many events.
    variances, copies = np.array([2.0, 0.5, 0.05]), 20000
    denoiser = Gaussian(
        np.zeros(3 * copies), np.repeat(variances, copies), axes=None
    )
    predicted = []
    for num_steps in (8, 40):
        found = generate(
            denoiser,
            (3 * copies,),
            2,
            seed=0,
            num_steps=num_steps,
            stochasticity=0.5,
        )
        levels = noise_schedules.falling_levels(4.0, 0.01, num_steps)
        expected = variances_of_the_stochastic_walk(variances, levels, 0.5)
        measured = (found.numpy().reshape(2, 3, copies) ** 2).mean((0, 2))
        # Four standard errors of a variance from 40000 draws.
        np.testing.assert_allclose(
            measured, expected, rtol=4 * np.sqrt(2 / 40000)
        )
        predicted.append(expected)
    coarse, fine = np.abs(np.array(predicted) / variances - 1).max(1)
    limit = variances_of_the_stochastic_walk(
        variances, noise_schedules.falling_levels(4.0, 0.01, 4000), 0.5
    )
    assert fine < coarse / 3
    np.testing.assert_allclose(limit, variances, rtol=0.01)


@pytest.mark.usefixtures("float64")
def test_the_start_is_the_mean_plus_noise_of_the_highest_level():
    denoiser = Gaussian(np.full(40000, 3.0), np.full(40000, 1e12), axes=None)
    # To so broad a prior all of x is signal: D(x) = x, but for 1e-11.
    for given, level in ((None, 4.0), (2.5, 2.5)):
        x = generate(denoiser, (40000,), 1, seed=1, sigma_max=given).numpy()
        assert abs(x.mean() - 3) < 4 * level / 200
        assert abs(x.std() / level - 1) < 4 / np.sqrt(2 * 40000)


@pytest.mark.usefixtures("float64")
def test_equal_levels_are_one_denoising():
    x, denoiser = events(3), Gaussian()
    found = generate(
        denoiser, (4,), 3, seed=0, sigma_max=1, sigma_min=1, initial=x
    )
    np.testing.assert_allclose(found, denoiser.denoise(x, 1), **EXACT)


@pytest.mark.usefixtures("float64")
def test_blind_generation_reads_the_level_off_the_residual():
    shares = np.array([0.9, 0.5, 0.0, 0.2])
    scales = np.array([3.0, 1.0, 0.3, 0.1, 0.01])
    x = scales[:, None] * np.random.default_rng(2).normal(size=(5, 4))
    found = generate(
        Blind(shares), (4,), 5, seed=0, sigma_min=0.05, num_steps=12, initial=x
    )
    h = noise_schedules.growing_steps(2.0, 0.05, 12)
    left = np.cumprod(1 - h[:-1, None] * (1 - shares), axis=0)
    way = np.concatenate([x[None], left[:, None] * x])
    levels = np.sqrt((((1 - shares) * way) ** 2).mean(-1))
    levels[-1] = 0
    stops = (levels <= 0.05).argmax(0)
    assert len(set(stops)) >= 3 and stops.max() == 11
    np.testing.assert_allclose(
        found, shares * way[stops, np.arange(5)], **EXACT
    )


@pytest.mark.usefixtures("float64")
def test_blind_generation_stops_by_itself_on_the_manifold():
    # A point: the level read off is right. It is too high by 4, so that the
    # steps for sigma_max 2 do not do, or too low, so that fewer do.
    denoiser = Blind(np.zeros(16))
    h = noise_schedules.growing_steps(2.0, 0.1, 20)
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
def test_blind_noise_put_back_explores_the_manifold():
    # Two coordinates of 400 lie in the subspace. D leaves them alone, and
    # they gather all noise: gamma^2 of levels that fall as without it.
    shares = np.zeros(400)
    shares[:2] = 1
    denoiser = Blind(shares)
    found = generate(
        denoiser, (400,), 1500, seed=3, num_steps=10, stochasticity=0.6
    ).numpy()
    beta = 0.4
    h = noise_schedules.growing_steps(2.0, 0.01, 10, 0.6)[:-1]
    levels = 2.0 * np.concatenate([[1], np.cumprod(1 - beta * h)[:-1]])
    expected = 4 + (((1 - beta * h) ** 2 - (1 - h) ** 2) * levels**2).sum()
    assert expected > 4.5
    # Four standard errors; 398 of 400 coordinates make the level read off
    # too low by 0.3%, its variance by 0.5%.
    np.testing.assert_allclose(
        found[:, :2].var(), expected, rtol=4 * np.sqrt(2 / 3000) + 0.005
    )
    np.testing.assert_allclose(found[:, 2:], 0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_model_of_one_level_is_walked_by_the_plain_loop():
    denoiser = Blind([0.9, 0.5, 0.0], sigma_range=(0.5, 0.5))
    rows = seeds.row_seeds(7, 4)
    start = 0.5 * seeds.normal(rows, (3,), "float64")
    found = generate(denoiser, (3,), 4, seed=7, num_steps=25)
    left = (1 - 0.1 * (1 - denoiser.shares)) ** 25
    np.testing.assert_allclose(found, start * left, **EXACT)


def blind():
    return Blind([0.95, 0.5, 0.0, 0.3])


@pytest.mark.parametrize("make", [Gaussian, blind])
@pytest.mark.parametrize("stochasticity", [0.0, 0.5])
def test_an_image_depends_on_its_seed_alone(make, stochasticity):
    denoiser = make()
    draw = functools.partial(
        generate, denoiser, (4,), num_steps=9, stochasticity=stochasticity
    )
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


def test_the_noise_put_back_is_new_at_each_step_and_for_each_image():
    # D(x) = 0 and h = 1: an x is nothing but the noise of its step, gamma
    # eps with gamma the next level.
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
        num_steps=5,
        stochasticity=0.99,
        initial=np.zeros((2, 3), "float32"),
    )
    draws = np.array(noise)[1:].reshape(-1)
    assert len(np.unique(draws)) == 4 * 2 * 3
    assert 0.6 < draws.std() < 1.5


def test_xla_generates_what_the_plain_graph_does(monkeypatch):
    # As on a GPU.
    denoiser = Gaussian()
    plain = generate(denoiser, (4,), 3, seed=0, num_steps=9)
    monkeypatch.setattr(restoration, "_use_xla", lambda jit_compile: True)
    compiled = generate(denoiser, (4,), 3, seed=0, num_steps=9)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-5)
    for make in (Gaussian, blind):
        draw = functools.partial(
            generate, make(), (4,), num_steps=9, stochasticity=0.5
        )
        whole, one = draw(3, seed=0), draw(1, seed=0)
        np.testing.assert_allclose(one, whole[:1], rtol=1e-4, atol=1e-5)


# -- what is refused --------------------------------------------------------


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
            r"the denoiser must give what has the shape of x, \(None, 3\), got "
            r"\(None, 1\)",
            {"denoiser": lambda x, sigma: x[:, :1]},
        ),
        (
            r"has to be told the noise level",
            {"denoiser": Gaussian(), "x": events(2)},
        ),
        (
            r"x must have shape \[batch, 4\], got \(2, 3\)",
            {"denoiser": Gaussian(), "sigma": 1},
        ),
    ],
)
def test_restore_says_what_is_wrong(message, arguments):
    arguments = {"denoiser": halve, "x": X, **arguments}
    with pytest.raises(UserError, match=message):
        restore(arguments.pop("denoiser"), arguments.pop("x"), **arguments)


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
        (r"no sigma_range: give sigma_max and sigma_min", {"denoiser": halve}),
        (
            r"no data_mean to start from: give initial",
            {"denoiser": halve, "sigma_max": 1, "sigma_min": 0.1},
        ),
        (
            r"puts no noise back .* leave out stochasticity",
            {"denoiser": ONE_LEVEL, "stochasticity": 0.5},
        ),
        (
            r"stays at the level: leave out .* sigma_min",
            {"denoiser": ONE_LEVEL, "sigma_min": 0.1},
        ),
        (r"3 row seeds for 2 rows", {"seed": np.ones((3, 2), np.int32)}),
        (r"seed must be an int", {"seed": None}),
        (r"call adapt\(data\) first", {"denoiser": LinearDenoiser()}),
    ],
)
def test_generate_says_what_is_wrong(message, arguments):
    arguments = {
        "denoiser": Blind([0.5, 0.5, 0.5]),
        "shape": (3,),
        "num": 2,
        "seed": 0,
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        generate(**arguments)


def test_a_blind_object_without_a_range_is_told_the_levels():
    denoiser = Halver()
    denoiser.needs_sigma = False
    found = generate(
        denoiser, (3,), 2, seed=0, sigma_max=1, sigma_min=0.5, initial=X
    )
    # Its residual begins at 0.5: it is denoised, and done.
    np.testing.assert_array_equal(found, X / 2)
