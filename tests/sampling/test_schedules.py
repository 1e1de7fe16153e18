"""The schedules: their formulas and the levels they lead to."""

import numpy as np
import pytest

from keras_genmodels.sampling.schedules import falling_levels, growing_steps


def test_levels_fall_by_a_constant_factor_and_end_at_zero():
    levels = falling_levels(8.0, 0.5, 5)
    np.testing.assert_allclose(levels, [8, 4, 2, 1, 0.5, 0], rtol=1e-14)


def test_one_level_is_the_first():
    np.testing.assert_array_equal(falling_levels(3.0, 0.1, 1), [3, 0])


def test_equal_levels_are_constant():
    np.testing.assert_array_equal(falling_levels(2.0, 2.0, 3), [2, 2, 2, 0])


@pytest.mark.parametrize(
    ("num_steps", "stochasticity"),
    [(2, 0.0), (3, 0.0), (10, 0.5), (300, 0.0), (300, 0.9)],
)
def test_steps_follow_the_formula_and_reach_the_last_level(
    num_steps, stochasticity
):
    h = growing_steps(4.0, 0.05, num_steps, stochasticity)
    assert len(h) == num_steps and h[-1] == 1
    h, t = h[:-1], np.arange(1, num_steps)
    np.testing.assert_allclose(h, h[0] * t / (1 + h[0] * (t - 1)), rtol=1e-12)
    # h_0 is exact to the last digit; 1 - h_t near 0 magnifies its error.
    fallen = np.prod(1 - (1 - stochasticity) * h)
    np.testing.assert_allclose(fallen, 0.05 / 4, rtol=1e-9)


def test_too_few_steps_are_as_large_as_possible():
    # With so much noise the level falls to at least 0.9^9 = 0.39.
    np.testing.assert_allclose(growing_steps(4.0, 0.05, 10, 0.9), np.ones(10))


def test_the_only_step_is_a_whole_denoising():
    np.testing.assert_array_equal(growing_steps(4.0, 0.05, 1), [1])


def test_equal_levels_need_no_steps():
    h = growing_steps(2.0, 2.0, 4)
    np.testing.assert_allclose(h, [0, 0, 0, 1], atol=1e-12)
    assert np.all(h > 0)
