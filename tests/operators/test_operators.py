"""Noise of the right level and seed; masks of quadrants."""

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels import operators
from keras_genmodels.core import seeds


def test_noise_has_the_level_of_its_row():
    x = np.full((3, 100, 100, 1), 0.5)
    levels = np.array([0.1, 1.0, 5.0])
    noise = (operators.gaussian(x, levels, seed=0) - x).numpy()
    # Four standard errors from 10000 draws.
    np.testing.assert_allclose(
        noise.std((1, 2, 3)), levels, rtol=4 / np.sqrt(2 * 10000)
    )
    assert np.all(np.abs(noise.mean((1, 2, 3))) < 4 * levels / 100)
    # Rows are independent, and nothing is clipped.
    assert abs(np.corrcoef(noise.reshape(3, -1))[0, 1]) < 4 / 100
    assert noise.min() < -0.5


def test_noise_is_sigma_times_the_draws_of_the_seed():
    x = np.random.default_rng(0).random((4, 3)).astype("float32")
    eps = seeds.normal(seeds.row_seeds(9, 4), (3,))
    noisy = operators.gaussian(x, 0.25, seed=9)
    assert noisy.dtype == tf.float32
    np.testing.assert_allclose(noisy, x + 0.25 * eps, rtol=1e-6)


def test_a_row_depends_on_its_seed_alone():
    x = np.random.default_rng(0).random((5, 4, 4)).astype("float32")
    rows = seeds.row_seeds(3, 5)
    whole = operators.gaussian(x, 0.5, seed=3).numpy()
    alone = operators.gaussian(x[2:3], 0.5, seed=rows[2:3])
    np.testing.assert_array_equal(alone, whole[2:3])
    turned = operators.gaussian(x[::-1], 0.5, seed=rows[::-1])
    np.testing.assert_array_equal(turned, whole[::-1])
    assert not np.any(operators.gaussian(x, 0.5, seed=4) == whole)


def test_a_graph_of_unknown_batch_size_draws_the_same():
    x = np.random.default_rng(0).random((5, 4)).astype("float32")
    spec = [tf.TensorSpec([None, 4]), tf.TensorSpec([None])]
    compiled = tf.function(
        lambda x, sigma: operators.gaussian(x, sigma, seed=3),
        input_signature=spec,
    )
    sigma = np.linspace(0.1, 1, 5, dtype="float32")
    np.testing.assert_allclose(
        compiled(x, sigma), operators.gaussian(x, sigma, seed=3), rtol=1e-6
    )


@pytest.mark.parametrize("sigma", [0, -1.0, np.nan, np.inf])
def test_bad_levels_are_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be > 0 and finite, got"):
        operators.gaussian(np.ones((2, 3), "float32"), sigma, seed=0)


def test_bad_shapes_and_dtypes_are_refused():
    x = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match=r"sigma must be a scalar or \[batch"):
        operators.gaussian(x, [0.1] * 3, seed=0)
    with pytest.raises(ValueError, match=r"floating type .* got uint8"):
        operators.gaussian(x.astype(np.uint8), 0.1, seed=0)
    with pytest.raises(ValueError, match="3 row seeds for 2 rows"):
        operators.gaussian(x, 0.1, seed=np.ones((3, 2), np.int32))


@pytest.mark.parametrize("num_quadrants", [1, 2, 3])
def test_quadrants_are_added_in_order(num_quadrants):
    """Lower left, upper left, lower right."""
    observed = operators.observed_quadrants((5, 7, 2), num_quadrants)
    expected = np.zeros((5, 7, 2), bool)
    for part in range(num_quadrants):
        rows = slice(0, 2) if part == 1 else slice(2, 5)
        columns = slice(3, 7) if part == 2 else slice(0, 3)
        expected[rows, columns] = True
    np.testing.assert_array_equal(observed, expected)


@pytest.mark.parametrize(
    ("shape", "num_quadrants", "message"),
    [
        ((4, 4, 1), 0, "1, 2 or 3, got 0"),
        ((4, 4, 1), 4, "1, 2 or 3, got 4"),
        ((1, 4, 1), 1, "1x4 pixels"),
    ],
)
def test_bad_quadrants_are_refused(shape, num_quadrants, message):
    with pytest.raises(ValueError, match=message):
        operators.observed_quadrants(shape, num_quadrants)


def test_known_quadrants_is_a_deprecated_alias():
    with pytest.warns(DeprecationWarning, match="observed_quadrants"):
        old = operators.known_quadrants((4, 4, 1), 2)
    np.testing.assert_array_equal(
        old, operators.observed_quadrants((4, 4, 1), 2)
    )
