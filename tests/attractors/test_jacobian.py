"""Eigenvalues of the Jacobian and local dimension, against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist
from support.closed_forms import (
    SIGMA,
    STORED,
    A,
    adapted,
    linear,
    scale_of_fixed_point,
    small_images,
    two_points,
)

from keras_genmodels import attractors, operators
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.denoisers import EmpiricalDenoiser, LinearDenoiser


def leading(matrix, count):
    values = np.linalg.eigvals(matrix)
    return values[np.argsort(-np.abs(values))][:count]


def assert_same_spectrum(actual, expected, atol):
    """Compares sets of eigenvalues, as equal moduli may swap places."""
    assert actual.shape == expected.shape
    assert np.abs(actual[:, None] - expected).min(1).max() < atol
    assert np.abs(actual[:, None] - expected).min(0).max() < atol


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

    def test_signs_are_not_those_of_noise_of_the_same_seed(self):
        """Of J = (|x|_1 I + x sign(x)') / M signs of x make twice the trace."""
        x = operators.gaussian(np.zeros((2, 400)), 1.0, seed=0)
        size = np.abs(x).sum(1)

        def denoise(x, sigma):
            return x * tf.norm(x, ord=1, axis=1, keepdims=True) / 400

        found = attractors.local_dimension(denoise, x, num_probes=2, seed=0)
        np.testing.assert_allclose(found.dimension, size, rtol=0.05)

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
