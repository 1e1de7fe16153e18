"""Draws of rows against NumPy, published words, and their distribution."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_genmodels.core import counter_rng, seeds

MASK = 2**32 - 1
ROWS = np.array([[-2078207094, -1037778948], [957837142, -702426009]], "i4")


def threefry(key, counter):
    """Threefry-2x32 of 20 rounds in NumPy, on uint64 of 32 bits."""
    key = [np.asarray(word).astype(np.uint64) & MASK for word in key]
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    a, b = (
        (np.asarray(word).astype(np.uint64) + k) & MASK
        for word, k in zip(counter, key, strict=True)
    )
    for i in range(20):
        bits = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        a = (a + b) & MASK
        b = ((b << bits | b >> (32 - bits)) & MASK) ^ a
        if i % 4 == 3:
            j = i // 4 + 1
            a, b = (a + keys[j % 3]) & MASK, (b + keys[(j + 1) % 3] + j) & MASK
    return a, b


def quantiles(key, number, size, bits):
    """Standard normals at the middle of equal intervals, in float64."""
    key = np.asarray(key).astype(np.uint32).T[..., np.newaxis]
    high, low = threefry(key, (number, np.arange(size)))
    words = high << np.uint64(32) | low
    return scipy.special.ndtri(((words >> (64 - bits)) + 0.5) / 2.0**bits)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (2 * (0xFFFFFFFF,), 2 * (0xFFFFFFFF,), (0x1CB996FC, 0xBB002BE7)),
        (
            (0x13198A2E, 0x03707344),
            (0x243F6A88, 0x85A308D3),
            (0xC4923A9C, 0x483DF7A0),
        ),
    ],
)
def test_threefry_gives_the_published_words(key, counter, expected):
    """Those of the authors' library Random123, file kat_vectors."""
    words = [
        [tf.constant(word, tf.uint32) for word in pair]
        for pair in (key, counter)
    ]
    assert tuple(int(w) for w in counter_rng.threefry(*words)) == expected
    assert tuple(map(int, threefry(key, counter))) == expected


def test_threefry_of_arrays_equals_numpy():
    words = np.random.default_rng(0).integers(0, 2**32, (4, 500), np.uint32)
    found = counter_rng.threefry(tf.unstack(words[:2]), tf.unstack(words[2:]))
    expected = threefry(words[:2], words[2:])
    np.testing.assert_array_equal(found, expected)
    eager = counter_rng.threefry(words[:2], words[2:])
    np.testing.assert_array_equal(eager, expected)
    assert eager[0].dtype == eager[1].dtype == np.uint32


def test_many_arrays_are_encrypted_in_blocks():
    key, rows = (np.uint32([[3]]), np.uint32([[7]])), np.arange(3, dtype="u4")
    places = np.arange(2**14 + 1, dtype=np.uint32)
    found = counter_rng.threefry(key, (rows[:, np.newaxis], places))
    expected = threefry(key, (rows[:, np.newaxis], places))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "bits", "tolerance"), [("float32", 23, 2e-6), ("float64", 52, 0)]
)
def test_normals_are_the_quantiles_of_their_words(dtype, bits, tolerance):
    numbers = np.array([[0, 5], [2**31 - 1, 1]], "i4")
    found = counter_rng.normals(ROWS, numbers, 40, dtype)
    expected = [quantiles(ROWS, n[:, np.newaxis], 40, bits) for n in numbers]
    np.testing.assert_allclose(found, expected, rtol=1e-12 + tolerance)
    np.testing.assert_allclose(
        seeds.normal(ROWS, (5, 8), dtype),
        quantiles(ROWS, 2**32 - 2, 40, bits).reshape(2, 5, 8),
        rtol=1e-12 + tolerance,
    )


def test_draws_of_a_seed_stay_what_they_are():
    """Numbers computed in Python's integers from the formula, and SciPy."""
    np.testing.assert_allclose(
        seeds.normal(ROWS, (3,), "float64"),
        [
            [0.2204076911797807, 0.15685914439388915, 0.3661522566939235],
            [-0.49433596212264264, -0.015743014645589793, -0.25801900498312774],
        ],
        rtol=1e-12,
    )
    uniform = seeds.uniform(ROWS, "float64")
    assert uniform.numpy().tolist() == [0.17158517208574098, 0.9899326860545614]
    assert counter_rng.integers(ROWS, 10).numpy().tolist() == [8, 1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_rounded_and_below_1(dtype):
    rows = seeds.row_seeds(0, 4000)
    uniform = seeds.uniform(rows, dtype)
    assert uniform.dtype == dtype
    exact = seeds.uniform(rows, "float64").numpy()
    found = tf.cast(uniform, tf.float64).numpy()
    assert np.all((found <= exact) & (exact < found + 2.0**-8))
    assert found.max() < 1
    normal = seeds.normal(rows[:9], (4,), dtype)
    np.testing.assert_array_equal(
        normal, tf.cast(seeds.normal(rows[:9], (4,)), dtype)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_has_the_same_bits_in_any_batch(dtype):
    """Groups of 4 to 16 numbers are computed at a time, and the rest singly."""
    rows = seeds.row_seeds(3, 41)
    whole = seeds.normal(rows, (3,), dtype)
    graph = tf.function(
        lambda rows: seeds.normal(rows, (3,), dtype),
        input_signature=[tf.TensorSpec([None, 2], tf.int32)],
    )
    for part in (slice(0, 41), slice(40, 41), slice(5, 18), slice(0, 0)):
        np.testing.assert_array_equal(
            seeds.normal(rows[part], (3,), dtype), whole[part]
        )
        np.testing.assert_array_equal(graph(rows[part]), whole[part])


@pytest.mark.slow
def test_xla_draws_all_rows_at_once_and_the_same_up_to_rounding():
    def draw(seed):
        rows = seeds.row_seeds(seed, 50)
        folded = seeds.fold_in(rows, 3)
        wide = [seeds.normal(folded, (9,), it) for it in ("float32", "float64")]
        return rows, folded, seeds.uniform(folded), *wide

    seed = tf.constant([0, 5])
    compiled = tf.function(draw, jit_compile=True)
    program = compiled.experimental_get_compiler_ir(seed)(stage="hlo")
    assert "xor(" in program
    assert " while(" not in program
    plain, compiled = draw(seed), compiled(seed)
    for one, other in zip(plain[:3], compiled[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(compiled[3], plain[3], rtol=1e-5)
    np.testing.assert_allclose(compiled[4], plain[4], rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_normals_are_normal(dtype):
    rows = seeds.row_seeds(2, 40)
    numbers = tf.tile(tf.range(100)[:, tf.newaxis], (1, 40))
    drawn = counter_rng.normals(rows, numbers, 25, dtype).numpy()
    assert drawn.shape == (100, 40, 25)
    assert len(np.unique(drawn)) > 0.98 * drawn.size
    assert scipy.stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    # Neighbours along each axis are uncorrelated.
    for one, other in (
        (drawn[1:], drawn[:-1]),
        (drawn[:, 1:], drawn[:, :-1]),
        (drawn[:, :, 1:], drawn[:, :, :-1]),
    ):
        assert abs(np.mean(one * other)) < 4 / np.sqrt(one.size)


def test_kinds_of_draws_of_a_seed_are_independent():
    rows = seeds.row_seeds(4, 20_000)
    zero = tf.zeros(20_000, tf.int32)
    streams = [
        seeds.normal(rows, (2,), "float64"),
        seeds.normal(seeds.fold_in(rows, 0), (1,), "float64"),
        seeds.normal(seeds.fold_in(rows, 1), (1,), "float64"),
        counter_rng.normals(rows, zero, 1, tf.float64),
        counter_rng.normals(rows, zero + 1, 1, tf.float64),
        seeds.uniform(rows, "float64")[:, tf.newaxis],
        seeds.uniform(seeds.fold_in(rows, 1), "float64")[:, tf.newaxis],
        tf.cast(counter_rng.integers(rows, 1000)[:, tf.newaxis], tf.float64),
    ]
    drawn = np.concatenate(streams, axis=1).T
    # Ranks, their distances from the middle, and those of the row before.
    ranks = scipy.stats.rankdata(drawn, axis=1) / len(rows) - 0.5
    values = [*ranks, *np.abs(ranks), *np.roll(ranks, 1, axis=1)]
    for one, other in itertools.combinations(values, 2):
        # 6 standard errors, of 351 pairs.
        assert abs(np.corrcoef(one, other)[0, 1]) < 6 / np.sqrt(len(rows))


def test_seeds_that_follow_each_other_draw_independently():
    """As of requests whose row seeds count up, without `row_seeds`."""
    counted = np.stack([np.zeros(4000, "i4"), np.arange(4000, dtype="i4")], 1)
    for rows in (counted, counted[:, ::-1]):
        drawn = seeds.normal(rows, (8,), "float64").numpy()
        assert scipy.stats.kstest(drawn.ravel(), "norm").pvalue > 0.001
        columns = np.concatenate([drawn[1:], drawn[:-1]], axis=1)
        correlation = np.corrcoef(columns.T) - np.eye(16)
        assert np.abs(correlation).max() < 5 / np.sqrt(len(columns))
