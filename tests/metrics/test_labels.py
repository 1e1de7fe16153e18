"""Label accuracy and diversity of class-conditional samples."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets

from keras_genmodels import datasets
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.metrics import labels as label_metrics

NUM_TRAIN = 1437


def digits():
    values, labels = sklearn.datasets.load_digits(return_X_y=True)
    return (values / 16).reshape(-1, 8, 8, 1).astype(np.float32), labels


@pytest.fixture(scope="module")
def judged():
    """A classifier, and images and labels that it has not seen."""
    images, labels = digits()
    classifier = label_metrics.fit_label_classifier(
        images[:NUM_TRAIN], labels[:NUM_TRAIN]
    )
    return classifier, images[NUM_TRAIN:], labels[NUM_TRAIN:]


def few(count=4, labels=(3, 7), seed=0):
    """Random images, `count` of each label, not in the order of labels."""
    generator = np.random.default_rng(seed)
    labels = np.tile(labels, count)
    return generator.random((len(labels), 2, 3, 1)), labels


def test_the_accuracy_of_real_images_is_that_of_the_classifier(judged):
    classifier, images, labels = judged
    figures = label_metrics.label_accuracy(classifier, images, labels)
    accuracy = classifier.score(images.reshape(len(images), -1), labels)
    assert figures["accuracy"] == pytest.approx(accuracy)
    # The last 360 digits are of other writers: 0.94 to 0.95 for 5 seeds.
    assert accuracy > 0.92
    hits = round(accuracy * 360)
    posterior = scipy.stats.beta(1 + hits, 1 + 360 - hits)
    assert figures["accuracy_standard_error"] == pytest.approx(posterior.std())
    assert figures["num_examples"] == 360


def test_a_subsample_is_evenly_spaced_and_limited_in_size(monkeypatch):
    split = datasets.Split(np.arange(10.0)[:, None, None, None], np.arange(10))
    assert label_metrics.subsample(split) is split
    monkeypatch.setattr(label_metrics, "_MAX_VALUES", 4)
    some = label_metrics.subsample(split)
    # From all over it, as data may be sorted by their labels.
    np.testing.assert_array_equal(some.labels, [0, 3, 6, 9])
    np.testing.assert_array_equal(some.images.ravel(), some.labels)


def test_each_label_has_an_accuracy(judged):
    classifier, images, labels = judged
    figures = label_metrics.label_accuracy(classifier, images, labels)
    guesses = classifier.predict(images.reshape(len(images), -1))
    for label in range(10):
        of_label = figures["labels"][str(label)]
        right = [
            guess == truth
            for guess, truth in zip(guesses, labels, strict=True)
            if truth == label
        ]
        assert of_label["num_examples"] == len(right)
        assert of_label["accuracy"] == pytest.approx(sum(right) / len(right))
    assert len(figures["labels"]) == 10


def test_the_error_is_above_0_where_all_are_right(judged):
    classifier, images, labels = judged
    guesses = classifier.predict(images.reshape(len(images), -1))
    is_right = guesses == labels
    of_right = label_metrics.label_accuracy(
        classifier, images[is_right], labels[is_right]
    )
    assert of_right["accuracy"] == 1
    # Of no miss in n, about 1 / n.
    error = of_right["accuracy_standard_error"]
    assert error == pytest.approx(1 / is_right.sum(), rel=0.02)


def test_shuffled_labels_are_as_good_as_chance(judged):
    classifier, images, labels = judged
    figures = label_metrics.label_accuracy(
        classifier, images, np.random.default_rng(0).permutation(labels)
    )
    assert figures["accuracy"] == pytest.approx(
        0.1, abs=4 * math.sqrt(0.1 * 0.9 / 360)
    )


def test_the_same_seed_gives_the_same_classifier():
    images, labels = digits()
    images, labels = images[:200], labels[:200]
    as_bytes = (images * 255).round().astype(np.uint8)
    rows = digits()[0][200:].reshape(-1, 64)
    votes = [
        label_metrics.fit_label_classifier(
            data, labels, seed=seed
        ).predict_proba(rows)
        for data, seed in (
            (as_bytes, 0),
            (as_bytes / np.float32(255), 0),
            (as_bytes, 1),
        )
    ]
    np.testing.assert_array_equal(votes[0], votes[1])
    assert (votes[0] != votes[2]).any()


def mean_distance(images):
    """Over all pairs, one by one."""
    pairs = list(itertools.combinations(images, 2))
    return sum(np.sqrt(((a - b) ** 2).sum()) for a, b in pairs) / len(pairs)


def jackknife_error(images):
    left_out = [
        mean_distance(np.delete(images, i, axis=0)) for i in range(len(images))
    ]
    count = len(images)
    return math.sqrt(
        (count - 1) / count * np.sum((left_out - np.mean(left_out)) ** 2)
    )


def loops_over_labels(images, labels):
    """The mean distance of labels 3 and 7, and their average's error."""
    parts = [images[labels == label] for label in (3, 7)]
    errors = [jackknife_error(part) for part in parts]
    return [mean_distance(part) for part in parts], math.hypot(*errors) / 2


def test_diversity_against_loops_over_pairs():
    images, labels = few()
    real_images, real_labels = few(seed=1)
    real_images *= 2
    figures = label_metrics.diversity(images, labels, real_images, real_labels)
    own, own_error = loops_over_labels(images, labels)
    real, real_error = loops_over_labels(real_images, real_labels)
    ratio = np.mean(own) / np.mean(real)
    assert figures["distance"] == pytest.approx(np.mean(own))
    assert figures["distance_standard_error"] == pytest.approx(own_error)
    assert figures["real_distance"] == pytest.approx(np.mean(real))
    assert figures["real_distance_standard_error"] == pytest.approx(real_error)
    assert figures["diversity"] == pytest.approx(ratio)
    assert figures["diversity_standard_error"] == pytest.approx(
        ratio * math.hypot(own_error / np.mean(own), real_error / np.mean(real))
    )
    assert figures["num_labels"] == 2
    of_label = figures["labels"]["7"]
    assert of_label["diversity"] == pytest.approx(own[1] / real[1])
    assert of_label["num_examples"] == of_label["num_real_examples"] == 4


@pytest.mark.slow
def test_the_standard_error_is_the_spread_of_repetitions():
    figures = [
        label_metrics.diversity(
            *few(20, seed=seed), *few(30, seed=1000 + seed), seed=seed
        )
        for seed in range(200)
    ]
    spread = np.std([figure["diversity"] for figure in figures])
    errors = [figure["diversity_standard_error"] for figure in figures]
    # The spread of 200 is known to 5 %.
    assert np.mean(errors) == pytest.approx(spread, rel=0.2)


def test_real_images_are_as_diverse_as_themselves():
    images, labels = digits()
    figures = label_metrics.diversity(images, labels, images, labels)
    assert figures["diversity"] == pytest.approx(1, abs=1e-12)
    assert figures["num_labels"] == 10


def test_one_image_repeated_has_no_diversity():
    images, labels = digits()
    repeated = images[[int(np.argmax(labels == label)) for label in labels]]
    figures = label_metrics.diversity(repeated, labels, images, labels)
    assert figures["diversity"] == pytest.approx(0, abs=1e-12)
    assert figures["diversity_standard_error"] == pytest.approx(0, abs=1e-12)


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    images, labels = digits()
    arguments = images[:500], labels[:500], images[500:], labels[500:]
    whole = label_metrics.diversity(*arguments)
    # MiB: about three rows of 50 distances.
    monkeypatch.setattr(label_metrics, "_WORKING_MEMORY", 1e-3)
    parts = label_metrics.diversity(*arguments)
    assert parts["diversity"] == pytest.approx(whole["diversity"], rel=1e-12)


def test_as_many_real_images_are_drawn_and_by_the_seed():
    images, labels = few(3)
    real_images, real_labels = few(9, (3, 7, 8), seed=1)
    figures = [
        label_metrics.diversity(
            images, labels, real_images, real_labels, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    assert figures[0] == figures[1]
    assert figures[0]["real_distance"] != figures[2]["real_distance"]
    assert set(figures[0]["labels"]) == {"3", "7"}
    assert figures[0]["labels"]["3"]["num_real_examples"] == 3


def test_bytes_are_read_as_value_over_255():
    images, labels = few()
    as_bytes = (images * 255).round().astype(np.uint8)
    figures = [
        label_metrics.diversity(data, labels, images, labels)
        for data in (as_bytes, as_bytes / np.float32(255))
    ]
    assert figures[0] == figures[1]


def test_labels_of_too_few_images_are_left_out():
    images, labels = few(3)
    figures = label_metrics.diversity(images[:5], labels[:5], *few(seed=1))
    assert set(figures["labels"]) == {"3"}
    with pytest.raises(NotMeasured, match="no label has 3 images"):
        label_metrics.diversity(images[:4], labels[:4], *few(seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :, :, 0], y), "must have shape .n, height"),
        (lambda x, y: (x[:0], y[:0]), "no data"),
        (lambda x, y: (np.where(x > 0.5, np.nan, x), y), "not finite"),
        (lambda x, y: (x.astype(np.int64), y), "uint8"),
        (lambda x, y: (x, None), "labels are missing"),
        (lambda x, y: (x, y[:-1]), "labels must be 8 integers"),
        (lambda x, y: (x, y.astype(float)), "labels must be 8 integers"),
    ],
)
def test_bad_images_and_labels_are_errors(judged, change, message):
    images, labels = change(*few())
    with pytest.raises(ValueError, match=message):
        label_metrics.fit_label_classifier(images, labels)
    with pytest.raises(ValueError, match=message):
        label_metrics.label_accuracy(judged[0], images, labels)
    with pytest.raises(ValueError, match=message):
        label_metrics.diversity(images, labels, *few())
    with pytest.raises(ValueError, match=f"real_.*{message}"):
        label_metrics.diversity(*few(), images, labels)


def test_data_that_do_not_match_are_errors(judged):
    classifier, images, labels = judged
    with pytest.raises(NotMeasured, match="at least two labels"):
        label_metrics.fit_label_classifier(images, np.full_like(labels, 5))
    with pytest.raises(ValueError, match=r"images have 6 values.* 64"):
        label_metrics.label_accuracy(classifier, *few())
    with pytest.raises(NotMeasured, match=r"\[10\] are not among the classif"):
        label_metrics.label_accuracy(classifier, images, labels + 1)
    with pytest.raises(NotMeasured, match=r"\[3\] are not among real_labels"):
        label_metrics.diversity(*few(), *few(labels=(7, 8)))
    with pytest.raises(ValueError, match=r"\(2, 3, 1\).*\(8, 8, 1\)"):
        label_metrics.diversity(*few(), images, labels)
    same = np.ones((6, 2, 3, 1)), np.full(6, 3)
    with pytest.raises(NotMeasured, match="all the same"):
        label_metrics.diversity(*few(labels=(3,)), *same)
