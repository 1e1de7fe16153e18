"""Batches are functions of (seed, step): order, binarisation, resumption."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_genmodels import datasets
from keras_genmodels.core import disk_arrays
from keras_genmodels.core.batch_parts import Part
from keras_genmodels.datasets import batches as _batches
from keras_genmodels.datasets import storage

# The one that draws stands for the others.
each_binarization = pytest.mark.parametrize(
    "binarization",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind != "dynamic"))
        for kind in datasets.BINARIZATIONS
    ],
)


def some_split(count=10, shape=(2, 3, 1), labelled=True):
    """Returns a split whose image i is grey value i throughout."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, *shape)
    )
    labels = np.arange(count, dtype=np.int32) if labelled else None
    return datasets.Split(images.copy(), labels)


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize(
    "batch_size", [3, 10, 27, pytest.param(1, marks=pytest.mark.slow)]
)
def test_every_epoch_shows_each_image_once(batch_size):
    batches = datasets.training_batches(
        some_split(), batch_size=batch_size, seed=3
    )
    drawn = take(batches, -(-200 // batch_size))
    labels = np.concatenate([batch["label"] for batch in drawn])[:200]
    orders = labels.reshape(-1, 10)
    np.testing.assert_array_equal(
        np.sort(orders), np.tile(np.arange(10), (20, 1))
    )
    assert len({tuple(order) for order in orders}) == 20
    images = np.concatenate([batch["image"] for batch in drawn])[:200]
    expected = np.broadcast_to(
        labels.astype(np.float32)[:, None, None, None] / 255, images.shape
    )
    np.testing.assert_array_equal(images, expected)


def test_the_order_depends_on_the_seed_and_not_on_the_batch_size():
    def order(seed, batch_size):
        batches = datasets.training_batches(
            some_split(30), batch_size=batch_size, seed=seed
        )
        drawn = take(batches, 60 // batch_size)
        return [label for batch in drawn for label in batch["label"]]

    assert order(0, 4) == order(0, 12)
    assert order(0, 4) != order(1, 4)


def test_orders_look_random():
    count, epochs, batch_size = 60000, 20, 128
    positions = tf.range(count, dtype=tf.int64)
    seed = _batches.stream_seed(0, _batches.ORDER)
    orders = np.stack(
        [
            _batches.shuffled(positions + epoch * count, count, seed)
            for epoch in range(epochs)
        ]
    )
    places = np.argsort(orders)
    correlations = [
        np.corrcoef(*places[i : i + 2])[0, 1] for i in range(epochs - 1)
    ]
    # Standard error count**-0.5; TF's own index_shuffle has 0.1 to 0.4 here.
    assert np.abs(correlations).max() < 5 / np.sqrt(count)
    # Neighbours share a batch as often as by chance: 5 standard errors.
    together = np.sum(np.diff(places // batch_size, axis=1) == 0)
    expected = epochs * batch_size
    assert abs(together - expected) < 5 * np.sqrt(expected)


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 600])
def test_orders_do_not_repeat_after_256_epochs(count):
    batches = datasets.training_batches(some_split(16), batch_size=16, seed=0)
    orders = [tuple(batch["label"]) for batch in take(batches, count)]
    assert len(set(orders)) == count


@each_binarization
def test_start_step_gives_the_later_batches(binarization):
    split = datasets.Split(
        np.random.default_rng(0).integers(0, 256, (10, 5, 3, 1), np.uint8),
        np.arange(10, dtype=np.int32),
    )
    options = dict(batch_size=4, seed=7, binarization=binarization)
    whole = take(datasets.training_batches(split, **options), 12)
    resumed = take(datasets.training_batches(split, start_step=7, **options), 5)
    for batch, again in zip(whole[7:], resumed, strict=True):
        np.testing.assert_array_equal(batch["image"], again["image"])
        np.testing.assert_array_equal(batch["label"], again["label"])


def test_batches_have_static_shapes_and_no_end():
    split = some_split(labelled=False)
    batches = datasets.training_batches(split, batch_size=4, seed=0)
    assert batches.element_spec == {
        "image": tf.TensorSpec((4, 2, 3, 1), tf.float32)
    }
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY


def test_dynamic_binarization_draws_the_grey_value():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    split = datasets.Split(np.repeat(grey, 1280, axis=0), None)
    batches = datasets.training_batches(
        split, batch_size=1280, seed=1, binarization="dynamic"
    )
    drawn = np.concatenate([batch["image"] for batch in take(batches, 10)])
    assert set(np.unique(drawn)) == {0.0, 1.0}
    mean = drawn.mean(axis=0).ravel()
    expected = np.arange(256) / 255
    assert mean[0] == 0 and mean[255] == 1
    error = np.sqrt(expected * (1 - expected) / len(drawn))[1:255]
    scores = (mean - expected)[1:255] / error
    # Bounds for the largest and the mean square of 254 standard normals.
    assert np.abs(scores).max() < 4.5
    assert 0.7 < np.mean(scores**2) < 1.4
    # Two pixels are drawn from one random word: they must not correlate.
    pixels = drawn.reshape(len(drawn), -1)[:, 128:130].T
    assert abs(np.corrcoef(pixels)[0, 1]) < 5 / np.sqrt(len(drawn))


def test_dynamic_binarization_changes_between_epochs():
    split = datasets.Split(np.full((4, 8, 8, 1), 128, np.uint8), None)
    batches = datasets.training_batches(
        split, batch_size=4, seed=0, binarization="dynamic"
    )
    first, second = take(batches, 2)
    assert np.any(first["image"] != second["image"])
    assert np.any(first["image"][0] != first["image"][1])


def test_threshold_binarization():
    images = np.array([0, 127, 128, 255], np.uint8).reshape(4, 1, 1, 1)
    batch = next(
        iter(
            datasets.evaluation_batches(
                datasets.Split(images, None),
                batch_size=4,
                seed=0,
                binarization="threshold",
            )
        )
    )
    np.testing.assert_array_equal(batch["image"].numpy().ravel(), [0, 0, 1, 1])
    half = datasets.Split(np.full((1, 1, 1, 1), 0.5, np.float32), None)
    batches = datasets.training_batches(
        half, batch_size=1, seed=0, binarization="threshold"
    )
    assert take(batches, 1)[0]["image"].item() == 1


@each_binarization
def test_evaluation_does_not_depend_on_the_batch_size(binarization):
    split = datasets.Split(
        np.random.default_rng(0).integers(0, 256, (150, 3, 3, 1), np.uint8),
        np.arange(150, dtype=np.int32),
    )
    passes = []
    for batch_size in (1, 7, 64, 100, 150, 400):
        batches = datasets.evaluation_batches(
            split, batch_size=batch_size, seed=2, binarization=binarization
        )
        drawn = take(batches, -1)
        assert len(drawn) == batches.cardinality() == -(-150 // batch_size)
        assert all(len(b["image"]) == batch_size for b in drawn[:-1])
        labels = np.concatenate([batch["label"] for batch in drawn])
        np.testing.assert_array_equal(labels, split.labels)
        passes.append(np.concatenate([batch["image"] for batch in drawn]))
    for images in passes[1:]:
        np.testing.assert_array_equal(images, passes[0])
    if binarization == "none":
        expected = split.images / np.float32(255)
        np.testing.assert_array_equal(passes[0], expected)


def test_some_rows_are_those_of_the_whole_split():
    split = some_split(150)
    whole = datasets.evaluation_batches(
        split, batch_size=150, seed=1, binarization="dynamic"
    ).get_single_element()
    for rows in (range(70, 71), range(60, 130), range(128, 150)):
        parts = datasets.evaluation_batches(
            split, batch_size=25, seed=1, binarization="dynamic", rows=rows
        )
        drawn = list(parts.as_numpy_iterator())
        assert len(parts) == len(drawn)
        for name, expected in whole.items():
            np.testing.assert_array_equal(
                np.concatenate([batch[name] for batch in drawn]),
                expected[rows.start : rows.stop],
            )


def test_float_images_pass_unchanged():
    images = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2, 1)
    split = datasets.Split(images, None)
    batches = datasets.evaluation_batches(split, batch_size=3, seed=0)
    np.testing.assert_array_equal(take(batches, 1)[0]["image"], images)


@pytest.mark.parametrize(
    "batches", [datasets.training_batches, datasets.evaluation_batches]
)
@pytest.mark.parametrize(
    "options, message",
    [
        (dict(batch_size=0, seed=0), "batch_size must be >= 1, got 0"),
        (dict(batch_size=1, seed=-1), r"seed must be in \[0, 2\*\*31\)"),
        (
            dict(batch_size=1, seed=0, binarization="static"),
            "binarization must be one of .* got 'static'",
        ),
    ],
)
def test_invalid_arguments_are_refused(batches, options, message):
    with pytest.raises(ValueError, match=message):
        batches(some_split(), **options)


@pytest.mark.parametrize(
    "batches", [datasets.training_batches, datasets.evaluation_batches]
)
def test_the_autotuner_is_off(batches):
    """Dropping an iterator would wait for its sleeps, powers of 2 of 10 ms."""
    split = datasets.Split(np.zeros((8, 2, 2, 1), np.uint8), None)
    pipeline = batches(split, batch_size=8, seed=0).map(lambda rows: rows)
    assert pipeline.options().autotune.enabled is False


def test_own_rows_are_drawn_from_their_place_in_the_sequence():
    seed, total = tf.constant([3, -7]), 40
    for shape in ([], [3], [5, 3, 1], [4, 4]):
        size = math.prod(shape)
        words = tf.random.stateless_uniform(
            [(total * size + 1) // 2], seed, None, None, tf.uint32, "philox"
        )
        halves = words.numpy().view(np.uint16)[: total * size]
        whole = ((halves + 0.5) / 2**16).reshape(total, *shape)
        for first, num in ((0, 40), (1, 4), (7, 3), (39, 1), (8, 0)):
            own = _batches._uniform(num, shape, seed, first)
            np.testing.assert_array_equal(own, whole[first : first + num])


@pytest.mark.parametrize(
    "is_on_disk", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_a_worker_reads_only_its_own_rows(tmp_path, monkeypatch, is_on_disk):
    images = np.random.default_rng(0).integers(0, 256, (10, 5, 3, 1), np.uint8)
    split = datasets.Split(images, np.arange(10, dtype=np.int32))
    if is_on_disk:
        np.save(tmp_path / "images.npy", images)
        known = disk_arrays.statistics_of(images)
        on_disk = storage.open_npy(tmp_path / "images.npy", known)
        split = datasets.Split(on_disk, split.labels)
    options = dict(batch_size=12, seed=7, binarization="dynamic", start_step=3)
    whole = take(datasets.training_batches(split, **options), 5)
    read, gather = [], _batches._Tensors.gather

    def counted(data, indices):
        read.append(indices.shape[0])
        return gather(data, indices)

    monkeypatch.setattr(_batches._Tensors, "gather", counted)
    parts = [
        take(datasets.training_batches(split, part=Part(i, 3), **options), 5)
        for i in range(3)
    ]
    assert read == [4, 4, 4]
    for batch, *own in zip(whole, *parts, strict=True):
        for name, rows in batch.items():
            joined = np.concatenate([part[name] for part in own])
            np.testing.assert_array_equal(joined, rows)
