"""Radii of basins of attraction, against closed forms."""

import numpy as np
from scipy.spatial.distance import cdist
from support.closed_forms import (
    SIGMA,
    STORED,
    A,
    adapted,
    linear,
    scale_of_fixed_point,
    two_points,
)

from keras_genmodels import attractors
from keras_genmodels.denoisers import LinearDenoiser


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
