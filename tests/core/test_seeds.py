"""Draws depend on their seed, not on the batch around them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels.core import seeds


def test_row_seeds_do_not_depend_on_the_number_of_rows():
    many = seeds.row_seeds(7, 50).numpy()
    few = seeds.row_seeds(7, 3).numpy()
    np.testing.assert_array_equal(many[:3], few)
    assert len(np.unique(many, axis=0)) == 50


def test_row_seeds_come_in_parts():
    whole = seeds.row_seeds(7, 10).numpy()
    part = seeds.row_seeds(7, 4, first_row=6).numpy()
    np.testing.assert_array_equal(whole[6:], part)


def test_neighbouring_seeds_share_no_rows():
    rows = np.concatenate([seeds.row_seeds(n, 100) for n in range(20)])
    assert len(np.unique(rows, axis=0)) == 2000


def test_an_int_n_stands_for_the_pair_0_n():
    np.testing.assert_array_equal(
        seeds.row_seeds(5, 4), seeds.row_seeds(tf.constant([0, 5]), 4)
    )
    np.testing.assert_array_equal(seeds.as_seed(np.int64(5)), [0, 5])


def test_numpy_integers_give_the_same_rows():
    rows = seeds.row_seeds(5, np.int64(4), first_row=np.int64(2))
    assert rows.dtype == tf.int32
    np.testing.assert_array_equal(rows, seeds.row_seeds(5, 4, first_row=2))


def test_seeds_beyond_int32_are_refused():
    with pytest.raises(ValueError, match="int32"):
        seeds.as_seed(np.array([[2**32 + 5, 1], [5, 1]]))


def test_a_seed_for_each_row_is_passed_through():
    given = np.array([[1, 2], [3, 4]], np.int32)
    np.testing.assert_array_equal(seeds.row_seeds(given, 2), given)


def test_seeds_derived_for_rows_stay_what_they_are():
    """Threefry-2x32, computed in Python's integers."""
    rows = seeds.row_seeds(7, 4)
    np.testing.assert_array_equal(
        rows,
        [
            [-2078207094, -1037778948],
            [957837142, -702426009],
            [902253457, 380373094],
            [424745471, -590297543],
        ],
    )
    folded = seeds.fold_in(rows, 3).numpy()
    np.testing.assert_array_equal(
        folded[:2], [[1997807064, 1884152106], [143583963, 282257159]]
    )
    alone = np.concatenate(
        [seeds.fold_in(rows[i : i + 1], 3) for i in range(4)]
    )
    np.testing.assert_array_equal(folded, alone)
    # Also with a tensor, such as the counter of a loop.
    np.testing.assert_array_equal(seeds.fold_in(rows, tf.constant(3)), folded)
    both = np.concatenate([rows, folded, seeds.fold_in(rows, 4)])
    assert len(np.unique(both, axis=0)) == 12


@pytest.mark.parametrize(
    ("seed", "data", "first"), [(7, 3, 1081226029), (0, 1, -409271666)]
)
def test_the_seed_of_a_step_of_training_stays_what_it_is(seed, data, first):
    """Philox-4x32 in Python's integers; a resumed run goes on with it."""
    step = tf.constant(data, tf.int64)
    folded = seeds.fold_in(seeds.as_seed(seed), tf.cast(step, tf.int32))
    np.testing.assert_array_equal(folded, [first, data])


def test_normal_rows_are_standard_normal_and_independent():
    draws = seeds.normal(seeds.row_seeds(0, 4000), (8,), "float64").numpy()
    # Standard errors: 1/sqrt(32000) of the mean, sqrt(2/32000) of the
    # variance, 1/sqrt(4000) of each of 28 correlations; 4.5 of each.
    assert abs(draws.mean()) < 4.5 / np.sqrt(32000)
    assert abs(draws.var() - 1) < 4.5 * np.sqrt(2 / 32000)
    correlation = np.corrcoef(draws.T) - np.eye(8)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(4000)


def test_content_seeds_depend_on_the_row_alone():
    x = np.random.default_rng(0).random((6, 4, 4, 1)).astype("float32")
    whole = seeds.content_seeds(3, x).numpy()
    np.testing.assert_array_equal(
        whole[::-1], seeds.content_seeds(3, x[::-1]).numpy()
    )
    assert len(np.unique(whole, axis=0)) == 6
    assert not np.array_equal(whole, seeds.content_seeds(4, x))


def test_content_seeds_of_binary_images_differ():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (5000, 28, 28)).astype("float32")
    x[1] = x[0]
    x[1, 3, 3] = 1 - x[0, 3, 3]
    rows = seeds.content_seeds(0, x).numpy()
    assert len(np.unique(rows, axis=0)) == 5000


@pytest.mark.parametrize(
    "seed",
    [
        -1,
        2**31,
        np.int64(2**40),
        np.int64(-3),
        None,
        1.5,
        True,
        [1, 2, 3],
        [0.5, 1.5],
        [[[1, 2]]],
    ],
)
def test_invalid_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed must"):
        seeds.as_seed(seed)


def test_a_wrong_number_of_row_seeds_is_refused():
    with pytest.raises(ValueError, match="2 row seeds for 3 rows"):
        seeds.row_seeds(np.zeros((2, 2), np.int32), 3)
