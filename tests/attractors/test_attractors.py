"""Attractors of denoisers with known fixed points and Jacobians."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist

from keras_genmodels import attractors
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser

A = np.array([0.9, 1.2])
SIGMA = 1.0


def two_points(x, sigma):
    """The exact denoiser of the two points -A and A."""
    along = tf.linalg.matvec(x, tf.constant(A)) / tf.square(sigma)
    return tf.tanh(along)[:, None] * A


def scale_of_fixed_point(sigma=SIGMA):
    """Returns c > 0 such that c A is a fixed point."""
    c = 1.0
    for _ in range(1000):
        c = np.tanh(c * A @ A / sigma**2)
    return c


def linear(matrix):
    """The denoiser x -> matrix x, on events of any shape."""

    def denoise(x, sigma):
        flat = tf.reshape(x, (-1, len(matrix)))
        y = tf.matmul(flat, tf.constant(matrix, x.dtype), transpose_b=True)
        return tf.reshape(y, tf.shape(x))

    return denoise


def leading(matrix, count):
    values = np.linalg.eigvals(matrix)
    return values[np.argsort(-np.abs(values))][:count]


def assert_same_spectrum(actual, expected, atol):
    """Compares sets of eigenvalues, as equal moduli may swap places."""
    assert actual.shape == expected.shape
    assert np.abs(actual[:, None] - expected).min(1).max() < atol
    assert np.abs(actual[:, None] - expected).min(0).max() < atol


def adapted(denoiser, data):
    denoiser.adapt(data)
    return denoiser


def small_images(n, seed=0, shape=(4, 4, 1)):
    return np.random.default_rng(seed).random((n, *shape)).astype("float32")


STORED = small_images(20)


@pytest.fixture(scope="module")
def exact():
    """The exact denoiser of STORED."""
    return adapted(EmpiricalDenoiser(), STORED)


class TestFixedPoints:
    def test_two_points_attract_their_half_planes(self):
        starts = np.random.default_rng(0).normal(0, 2, (40, 2))
        starts = np.concatenate([starts, [[3.0, 3.0]]])
        found = attractors.fixed_points(
            two_points, starts, sigma=SIGMA, batch_size=16
        )
        c = scale_of_fixed_point()
        right = starts @ A > 0
        expected = np.where(right[:, None], c * A, -c * A)
        np.testing.assert_allclose(found.ends, expected, atol=1e-4)
        assert found.num_not_converged == 0
        assert len(found.points) == 2
        # Sorted by counts, with matching assignments.
        assert found.counts.tolist() == sorted(
            [right.sum(), (~right).sum()], reverse=True
        )
        np.testing.assert_allclose(
            found.points[found.assignments], expected, atol=1e-4
        )

    def test_stored_images_are_fixed_points_at_small_sigma(self, exact):
        noise = 0.05 * np.random.default_rng(1).standard_normal(STORED.shape)
        starts = (STORED + noise).astype("float32")
        found = attractors.fixed_points(exact, starts, sigma=0.05)
        assert len(found.points) == 20
        np.testing.assert_allclose(found.ends, STORED, atol=1e-4)
        np.testing.assert_array_equal(found.counts, 1)

    def test_all_starts_converge_to_the_mean_at_large_sigma(self, exact):
        found = attractors.fixed_points(
            exact, 2 * small_images(20, seed=1), sigma=20.0
        )
        assert found.counts.tolist() == [20]
        np.testing.assert_allclose(found.points[0], STORED.mean(0), atol=1e-3)

    def test_a_projection_fixes_every_point_of_its_subspace(self):
        data = small_images(30)
        denoiser = adapted(LinearDenoiser(rank=3), data)
        starts = denoiser.denoise(small_images(10, seed=1)).numpy()
        found = attractors.fixed_points(denoiser, starts, merge_distance=1e-4)
        assert len(found.points) == 10
        np.testing.assert_allclose(found.ends, starts, atol=1e-5)
        assert (found.num_steps == 0).all()
        # No stored image is fixed.
        stored = attractors.fixed_points(denoiser, data)
        away = np.sqrt(np.square(stored.ends - data).mean((1, 2, 3)))
        assert away.min() > 0.05

    def test_starts_that_do_not_converge_have_no_point(self):
        turn = linear(np.array([[0.0, -1.0], [1.0, 0.0]]))
        found = attractors.fixed_points(
            turn, [[1.0, 0.0], [0.0, 0.0]], max_steps=20
        )
        assert found.assignments.tolist() == [-1, 0]
        assert found.num_not_converged == 1
        np.testing.assert_array_equal(found.points, [[0.0, 0.0]])

    def test_nothing_converges_if_d_is_not_finite(self):
        found = attractors.fixed_points(
            lambda x, sigma: x * np.nan, np.ones((2, 3))
        )
        assert found.num_not_converged == 2
        assert found.points.shape == (0, 3)

    def test_points_are_ordered_by_their_starts(self):
        starts = np.array([[3.0], [1.0], [1.0], [2.0], [1.0], [2.0]])
        found = attractors.fixed_points(lambda x, sigma: x, starts)
        np.testing.assert_array_equal(found.points, [[1.0], [2.0], [3.0]])
        assert found.counts.tolist() == [3, 2, 1]
        assert found.assignments.tolist() == [2, 0, 0, 1, 0, 1]

    def test_ends_are_merged_up_to_the_distance(self):
        starts = np.array([[0.0], [0.01], [0.5]])
        for distance, count in ((0.0, 3), (0.02, 2), (1.0, 1)):
            found = attractors.fixed_points(
                lambda x, sigma: x, starts, merge_distance=distance
            )
            assert len(found.points) == count


class TestJacobianEigenvalues:
    @pytest.mark.parametrize("step_size", [0.3, 1.0])
    def test_a_matrix_that_is_not_symmetric(self, step_size):
        rng = np.random.default_rng(2)
        matrix = rng.standard_normal((30, 30)) / np.sqrt(30)
        update = (1 - step_size) * np.eye(30) + step_size * matrix
        expected = leading(update, 5)
        assert np.abs(expected.imag).max() > 0.1
        spectrum = attractors.jacobian_eigenvalues(
            linear(matrix),
            rng.standard_normal((2, 5, 3, 2)),
            step_size=step_size,
            num_eigenvalues=5,
            tolerance=1e-10,
            seed=0,
        )
        for row in spectrum.eigenvalues:
            # Of a conjugate pair that 5 divides, either may be found.
            np.testing.assert_allclose(row.real, expected.real, atol=1e-8)
            np.testing.assert_allclose(
                np.abs(row.imag), np.abs(expected.imag), atol=1e-8
            )
        np.testing.assert_allclose(
            spectrum.spectral_radius, np.abs(expected[0]), atol=1e-8
        )

    def test_no_dense_jacobian_is_formed(self):
        # Triangular: the eigenvalues are the diagonal.
        matrix = np.triu(np.full((300, 300), 0.01), 1)
        matrix += np.diag(0.7 ** np.arange(300.0))
        spectrum = attractors.jacobian_eigenvalues(
            linear(matrix), np.ones((1, 300)), num_eigenvalues=3, seed=0
        )
        np.testing.assert_allclose(
            spectrum.eigenvalues[0], [1, 0.7, 0.49], rtol=1e-5
        )
        assert spectrum.num_products[0] < 60

    def test_a_matrix_too_small_for_arnoldi(self):
        turn = 0.9 * np.array([[0.6, -0.8], [0.8, 0.6]])
        spectrum = attractors.jacobian_eigenvalues(
            linear(turn), np.ones((1, 2)), seed=0
        )
        assert_same_spectrum(
            spectrum.eigenvalues[0], leading(turn, 2), atol=1e-12
        )
        assert spectrum.num_products.tolist() == [2]

    def test_two_points(self):
        c = scale_of_fixed_point()
        spectrum = attractors.jacobian_eigenvalues(
            two_points, np.stack([c * A, -c * A, 0 * A]), sigma=SIGMA, seed=0
        )
        slope = A @ A / SIGMA**2
        np.testing.assert_allclose(
            spectrum.eigenvalues,
            [[slope * (1 - c**2), 0], [slope * (1 - c**2), 0], [slope, 0]],
            atol=1e-9,
        )
        # The stored points attract, the point between them repels.
        assert (spectrum.spectral_radius[:2] < 1).all()
        assert spectrum.spectral_radius[2] > 1

    def test_stored_images_attract_at_small_sigma(self, exact):
        for step_size in (1.0, 0.4):
            spectrum = attractors.jacobian_eigenvalues(
                exact, STORED[:4], sigma=0.05, step_size=step_size, seed=0
            )
            np.testing.assert_allclose(
                spectrum.spectral_radius, 1 - step_size, atol=1e-6
            )

    def test_the_mean_attracts_at_large_sigma(self, exact):
        spectrum = attractors.jacobian_eigenvalues(
            exact, STORED.mean(0)[None], sigma=20.0, seed=0
        )
        # Cov[clean | x] / sigma^2, with all images as likely.
        covariance = np.cov(STORED.reshape(20, -1).T, bias=True)
        np.testing.assert_allclose(
            spectrum.spectral_radius,
            np.linalg.eigvalsh(covariance)[-1] / 400,
            rtol=1e-3,
        )

    def test_a_projection_has_eigenvalues_1(self):
        data = small_images(30)
        denoiser = adapted(LinearDenoiser(rank=3), data)
        spectrum = attractors.jacobian_eigenvalues(
            denoiser, data[:2], num_eigenvalues=4, step_size=0.5, seed=0
        )
        np.testing.assert_allclose(
            spectrum.eigenvalues, [[1, 1, 1, 0.5]] * 2, atol=1e-5
        )

    def test_the_exact_denoiser_reads_several_blocks(self, float64):
        # More than one block of 4096.
        data = np.random.default_rng(0).random((5000, 5))
        denoiser = adapted(EmpiricalDenoiser(), data)
        x, sigma = data[:1] + 0.05, 0.2
        spectrum = attractors.jacobian_eigenvalues(
            denoiser, x, sigma=sigma, num_eigenvalues=3, seed=0
        )
        weights = np.exp(-np.square(x - data).sum(1) / (2 * sigma**2))
        covariance = np.cov(data.T, aweights=weights, bias=True)
        np.testing.assert_allclose(
            spectrum.eigenvalues[0],
            np.linalg.eigvalsh(covariance)[::-1][:3] / sigma**2,
            rtol=1e-6,
        )

    def test_the_derivative_goes_through_a_loop(self):
        matrix = np.random.default_rng(0).standard_normal((8, 8)) / 3
        once = linear(matrix)

        def thrice(x, sigma):
            return tf.while_loop(
                lambda i, x: i < 3,
                lambda i, x: (i + 1, once(x, None)),
                (0, x),
            )[1]

        spectrum = attractors.jacobian_eigenvalues(
            thrice, np.ones((1, 8)), num_eigenvalues=3, seed=0
        )
        np.testing.assert_allclose(
            np.abs(spectrum.eigenvalues[0]),
            np.abs(leading(np.linalg.matrix_power(matrix, 3), 3)),
            rtol=1e-6,
        )

    def test_a_learned_network(self, float64):
        network = keras.Sequential(
            [
                keras.layers.Conv2D(4, 3, padding="same", activation="silu"),
                keras.layers.GroupNormalization(2),
                keras.layers.Conv2D(1, 3, padding="same"),
            ]
        )
        x = small_images(2).astype("float64")
        denoise = denoiser_of(network, x)
        spectrum = attractors.jacobian_eigenvalues(
            denoise, x, num_eigenvalues=4, tolerance=1e-10, seed=0
        )
        for row in range(2):
            with tf.GradientTape() as tape:
                event = tf.constant(x[row : row + 1])
                tape.watch(event)
                y = denoise(event, None)
            dense = tape.jacobian(y, event).numpy().reshape(16, 16)
            assert np.abs(dense - dense.T).max() > 1e-3
            np.testing.assert_allclose(
                np.abs(spectrum.eigenvalues[row]),
                np.abs(leading(dense, 4)),
                rtol=1e-7,
            )

    def test_traces_once_for_a_shape_and_draws_from_the_seed(self):
        traces = []

        def denoise(x, sigma):
            traces.append(x.shape)
            return tf.tanh(x) / sigma[:, None]

        x = np.random.default_rng(0).standard_normal((3, 12))
        first, second, other = (
            attractors.jacobian_eigenvalues(
                denoise, x, sigma=2.0, seed=seed, num_eigenvalues=2
            )
            for seed in (3, 3, 4)
        )
        count = len(traces)
        alone = attractors.jacobian_eigenvalues(
            denoise, x[:1], sigma=2.0, seed=3, num_eigenvalues=2
        )
        attractors.local_dimension(denoise, x, sigma=0.5, seed=0)
        assert len(traces) == count
        np.testing.assert_array_equal(first.eigenvalues, second.eigenvalues)
        np.testing.assert_array_equal(first.eigenvalues[:1], alone.eigenvalues)
        assert (first.eigenvalues != other.eigenvalues).any()
        np.testing.assert_allclose(first.eigenvalues, other.eigenvalues)

    def test_sigma_may_differ_by_image(self):
        spectrum = attractors.jacobian_eigenvalues(
            lambda x, sigma: x / sigma[:, None],
            np.ones((2, 9)),
            sigma=[2.0, 4.0],
            num_eigenvalues=1,
            seed=0,
        )
        np.testing.assert_allclose(spectrum.spectral_radius, [0.5, 0.25])

    def test_failure_to_converge_is_reported(self):
        # All eigenvalues have modulus 1.
        shift = np.roll(np.eye(400), 1, axis=0)
        with pytest.raises(NotMeasured, match="raise max_restarts"):
            attractors.jacobian_eigenvalues(
                linear(shift), np.ones((1, 400)), max_restarts=1, seed=0
            )


def denoiser_of(network, x):
    network(x)
    return lambda x, sigma: x - 0.5 * network(x)


class TestBasinRadius:
    def test_two_points_share_the_plane_between_them(self):
        c = scale_of_fixed_point()
        unit = A / np.linalg.norm(A)
        across = np.array([-unit[1], unit[0]])
        basin = attractors.basin_radius(
            two_points,
            np.stack([c * A, -c * A]),
            sigma=SIGMA,
            directions=np.stack([-3 * unit, unit, across, across - unit]),
            max_radius=4.0,
            num_bisections=8,
        )
        reach = c * np.linalg.norm(A)
        accuracy = 4.0 / 2**8
        for row, finite in ((0, [0, 3]), (1, [1])):
            expected = np.full(4, np.inf)
            expected[finite] = reach
            if row == 0:
                expected[3] = reach * np.sqrt(2)
            bounded = np.isfinite(expected)
            assert (np.isinf(basin.upper[row]) == ~bounded).all()
            assert (basin.radii[row, ~bounded] == 4.0).all()
            # A lower bound.
            short = (expected - basin.radii[row])[bounded]
            assert (short >= 0).all()
            assert (short <= accuracy).all()
            assert (basin.upper[row, bounded] >= expected[bounded]).all()
        np.testing.assert_array_equal(basin.smallest, basin.radii.min(1))
        np.testing.assert_array_equal(basin.median, np.median(basin.radii, 1))
        np.testing.assert_allclose(basin.attractors, [c * A, -c * A], atol=1e-4)

    def test_random_directions_come_from_the_seed(self):
        x = scale_of_fixed_point() * np.stack([A, -A])

        def measure(x, seed):
            return attractors.basin_radius(
                two_points,
                x,
                sigma=SIGMA,
                seed=seed,
                num_directions=6,
                max_radius=8.0,
            )

        both, again, other = measure(x, 1), measure(x, 1), measure(x, 2)
        np.testing.assert_array_equal(both.radii, again.radii)
        np.testing.assert_array_equal(both.radii[:1], measure(x[:1], 1).radii)
        assert (both.radii != other.radii).any()
        # The distance to the plane is a lower bound.
        least = np.linalg.norm(x, axis=1) - 8 / 2**10
        assert np.isfinite(both.upper).any()
        assert (both.smallest >= least).all()

    def test_basins_of_stored_images_and_of_a_projection(self, exact):
        distances = cdist(STORED.reshape(20, -1), STORED.reshape(20, -1))
        nearest = distances[0, 1:].argmin() + 1
        basin = attractors.basin_radius(
            exact,
            STORED[:1],
            sigma=0.03,
            directions=STORED[nearest][None] - STORED[:1],
        )
        # Between an image and its nearest there is no third.
        half_way = distances[0, nearest] / 2
        assert half_way - 4 / 2**10 <= basin.radii[0, 0] <= half_way
        denoiser = adapted(LinearDenoiser(rank=3), STORED)
        along = np.moveaxis(denoiser.eigenvectors.numpy(), -1, 0)
        flat = attractors.basin_radius(
            denoiser,
            denoiser.denoise(STORED[:1]),
            directions=along,
            return_distance=0.01,
        )
        # sqrt(M) times `return_distance`.
        assert (flat.radii <= 0.04).all()
        assert np.isfinite(flat.upper).all()

    def test_the_mean_attracts_up_to_max_radius(self, exact):
        basin = attractors.basin_radius(
            exact, STORED[:2], sigma=20.0, seed=0, num_directions=4
        )
        assert np.isinf(basin.upper).all()
        np.testing.assert_array_equal(basin.radii, 4.0)

    def test_an_event_that_does_not_converge_has_no_basin(self):
        turn = linear(np.array([[0.0, -1.0], [1.0, 0.0]]))
        basin = attractors.basin_radius(
            turn, [[1.0, 0.0]], seed=0, max_steps=20
        )
        assert np.isnan(basin.radii).all()
        assert np.isnan(basin.smallest).all()


class TestLocalDimension:
    def test_a_projection_keeps_its_rank(self):
        data = small_images(50)
        found = attractors.local_dimension(
            adapted(LinearDenoiser(rank=5), data),
            data[:3],
            num_probes=400,
            batch_size=150,
            seed=0,
        )
        error = np.abs(found.dimension - 5)
        assert (error < 4 * found.standard_error).all()
        # Hutchinson's variance, 2 sum_{i != j} A_ij^2, is at most 2 r.
        assert (found.standard_error < np.sqrt(2 * 5 / 400) * 1.2).all()
        assert (found.standard_error > 0).all()

    def test_wiener_keeps_the_sum_of_its_factors(self):
        data = small_images(50)
        denoiser = adapted(LinearDenoiser(), data)
        sigmas = np.array([0.1, 0.3, 3.0], "float32")
        found = attractors.local_dimension(
            denoiser, data[:3], sigma=sigmas, num_probes=400, seed=0
        )
        variances = np.asarray(denoiser.eigenvalues)
        kept = variances / (variances + sigmas[:, None] ** 2)
        error = np.abs(found.dimension - kept.sum(1))
        assert (error < 4 * found.standard_error).all()

    def test_the_exact_denoiser_keeps_the_posterior_variance(self, exact):
        sigmas = np.array([0.2, 0.5, 3.0], "float32")
        found = attractors.local_dimension(
            exact, STORED[:3], sigma=sigmas, num_probes=400, seed=0
        )
        stored = STORED.reshape(20, -1).astype(float)
        weights = np.exp(
            -cdist(stored[:3], stored, "sqeuclidean")
            / (2 * sigmas[:, None] ** 2)
        )
        for row, sigma in enumerate(sigmas):
            covariance = np.cov(stored.T, aweights=weights[row], bias=True)
            error = found.dimension[row] - np.trace(covariance) / sigma**2
            assert np.abs(error) < 4 * found.standard_error[row]

    def test_signs_are_exact_on_a_diagonal(self):
        shrink = np.linspace(0, 1, 6)
        found = attractors.local_dimension(
            lambda x, sigma: x * shrink, np.ones((2, 6)), num_probes=2, seed=0
        )
        np.testing.assert_allclose(found.dimension, [3.0, 3.0])
        np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)

    def test_a_row_depends_on_its_seed_alone(self):
        matrix = np.random.default_rng(0).standard_normal((6, 6))
        x = np.zeros((3, 2, 3))
        all_rows, again = (
            attractors.local_dimension(
                linear(matrix), x, seed=5, batch_size=batch_size
            )
            for batch_size in (256, 10)
        )
        one = attractors.local_dimension(linear(matrix), x[:1], seed=5)
        # Other batch sizes may sum in another order.
        np.testing.assert_allclose(all_rows.dimension, again.dimension)
        np.testing.assert_allclose(all_rows.dimension[:1], one.dimension)
        assert len(set(all_rows.dimension.round(6))) == 3


IDENTITY_CALLS = {
    "fixed_points": {},
    "jacobian_eigenvalues": {"seed": 0},
    "basin_radius": {"seed": 0},
    "local_dimension": {"seed": 0},
}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fixed_points", {"batch_size": 0}, "batch_size must be an int >= 1"),
        ("fixed_points", {"max_steps": 0}, "max_steps must be an int >= 1"),
        ("basin_radius", {"max_steps": 0}, "max_steps must be an int >= 1"),
        ("fixed_points", {"merge_distance": -1}, "merge_distance must be >= 0"),
        ("fixed_points", {"step_size": 2.0}, r"step_size must be in \(0, 2\)"),
        ("jacobian_eigenvalues", {"step_size": 0}, "step_size must be in"),
        ("jacobian_eigenvalues", {"tolerance": 0}, "tolerance must be > 0"),
        ("jacobian_eigenvalues", {"seed": None}, "seed must be an int"),
        (
            "jacobian_eigenvalues",
            {"num_eigenvalues": 1.5},
            "num_eigenvalues must be an int >= 1, got 1.5",
        ),
        ("jacobian_eigenvalues", {"max_restarts": 0}, "max_restarts must be"),
        ("basin_radius", {"seed": None}, "seed must be an int"),
        ("basin_radius", {"max_radius": 0}, "max_radius must be > 0"),
        ("basin_radius", {"return_distance": 0}, "return_distance must be > 0"),
        ("basin_radius", {"num_bisections": -1}, "num_bisections must be an"),
        ("basin_radius", {"num_directions": 0}, "num_directions must be an"),
        ("basin_radius", {"directions": np.ones((2, 5))}, "must have shape"),
        ("basin_radius", {"directions": np.zeros((2, 3))}, "finite and not 0"),
        (
            "local_dimension",
            {"num_probes": 1},
            "num_probes must be an int >= 2",
        ),
        ("local_dimension", {"seed": 1.5}, "seed must be an int"),
    ],
)
def test_bad_arguments_are_refused(name, changes, message):
    arguments = IDENTITY_CALLS[name] | changes
    with pytest.raises(ValueError, match=message):
        getattr(attractors, name)(
            lambda x, sigma: x, np.ones((2, 3)), **arguments
        )


@pytest.mark.parametrize("name", IDENTITY_CALLS)
def test_bad_images_and_denoisers_are_refused(name):
    call, arguments = getattr(attractors, name), IDENTITY_CALLS[name]
    for x, message in (
        (np.ones((2, 3), int), "floating type"),
        (np.ones(3), r"shape \[batch, ...\]"),
        (np.full((2, 3), np.nan), "not finite"),
        (np.ones((0, 3)), "at least one event"),
    ):
        with pytest.raises(ValueError, match=message):
            call(lambda x, sigma: x, x, **arguments)
    with pytest.raises(ValueError, match="must have denoise"):
        call(None, np.ones((2, 3)), **arguments)
    with pytest.raises(ValueError, match="pass sigma"):
        denoiser = adapted(EmpiricalDenoiser(), np.ones((2, 3)))
        call(denoiser, np.ones((2, 3)), **arguments)


@pytest.mark.parametrize("name", ["jacobian_eigenvalues", "local_dimension"])
def test_a_denoiser_without_derivative_is_refused(name):
    def rounds(x, sigma):
        return tf.numpy_function(np.round, [x], x.dtype)

    with pytest.raises(ValueError, match="the denoiser has no derivative"):
        getattr(attractors, name)(rounds, np.ones((2, 3)), seed=0)
