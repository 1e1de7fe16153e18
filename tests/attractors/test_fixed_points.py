"""Fixed points of denoisers, against closed forms."""

import numpy as np
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

from keras_genmodels import attractors
from keras_genmodels.denoisers import LinearDenoiser


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
