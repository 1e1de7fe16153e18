"""What is measured of samples."""

import functools

import numpy as np
import pytest
from support.evaluated_runs import NUM_TRAIN, digits

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.evaluation import samples as sample_evaluation
from keras_genmodels.metrics import classifier as classifier_features


@functools.cache
def compared():
    """Some training images, what they are compared with, and features."""
    images = sample_evaluation.comparison(digits(), 50, "dynamic", seed=0)
    features = sample_evaluation.Features(
        lambda x: arrays.as_float(x).reshape(len(x), -1)[:, :20],
        "some pixels",
        True,
    )
    return images, features


def test_real_images_are_ideal_samples():
    images, features = compared()
    samples = arrays.as_float(images.real)
    section = sample_evaluation.measure(samples, images, features)
    found = {k: m.estimate.value for k, m in section.measures.items()}
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["frechet_classifier_distance"] == pytest.approx(0, abs=1e-6)
    assert found["memorized"] == 1


def test_held_out_images_are_not_memorised():
    images, features = compared()
    samples = arrays.as_float(images.test.images)
    section = sample_evaluation.measure(samples, images, features)
    assert section.measures["memorized"].estimate.value <= 0.02
    for measure in section.measures.values():
        if measure.references:
            same = measure.references["test images"]
            assert measure.estimate == same


@pytest.mark.parametrize("held", [2**24, 64 * 30])
def test_the_sheet_shows_the_nearest_and_the_furthest(monkeypatch, held):
    """However many training images are looked at in one go."""
    monkeypatch.setattr(sample_evaluation, "_MOST_VALUES", held)
    images, features = compared()
    shown = []
    monkeypatch.setattr(
        sample_evaluation.plots,
        "image_grid",
        lambda grid, columns: shown.append((grid, columns)),
    )
    monkeypatch.setattr(
        sample_evaluation.plots, "titled", lambda grid, *_, **__: grid
    )
    copies = arrays.as_float(digits().train.images[-8:])
    samples = np.concatenate([images.noise[:8], copies])
    sample_evaluation.extremes(samples, images, features)
    ((grid, columns),) = shown
    assert columns == 8 and len(grid) == 6 * 8
    nearest, first, second, furthest, *_ = np.split(grid, 6)
    np.testing.assert_array_equal(nearest, first)
    np.testing.assert_array_equal(nearest, copies)
    assert not np.isclose(first, second).all((1, 2, 3)).any()
    assert {image.tobytes() for image in furthest} == {
        image.tobytes() for image in images.noise[:8]
    }
    every = features.extract(digits().train.images)
    distances = np.linalg.norm(
        features.extract(copies)[:, None] - every, axis=-1
    )
    np.testing.assert_allclose(
        np.linalg.norm(
            features.extract(second) - features.extract(copies), axis=1
        ),
        np.sort(distances, axis=1)[:, 1],
        rtol=1e-5,
    )


def test_all_training_images_are_looked_for_in_samples():
    images, features = compared()
    assert len(images.train.images) == NUM_TRAIN
    copies = arrays.as_float(digits().train.images[-50:])
    section = sample_evaluation.measure(copies, images, features)
    assert section.measures["memorized"].estimate.value == 1


def test_a_damaged_classifier_is_told(tmp_path):
    feature_function = functools.partial(
        sample_evaluation.feature_function, digits(), tmp_path, num_steps=1
    )
    feature_function()
    (path,) = tmp_path.glob("*.keras")
    path.write_bytes(b"nonsense")
    with pytest.raises(kgm.UserError, match="is damaged: delete it"):
        feature_function()


def test_cut_images_are_compared_with_cut_ones():
    images = sample_evaluation.comparison(digits(), 50, "threshold", seed=0)
    for values in (images.train.images, images.real, images.test.images):
        assert {*np.unique(values)} == {0, 255} and values.dtype == np.uint8
    cut = arrays.as_float(digits().train.images) >= 0.5
    np.testing.assert_array_equal(images.train.images > 0, cut)


def test_cut_images_have_a_table_of_their_own():
    titles = []
    for binarization in ("none", "dynamic", "threshold"):
        images = sample_evaluation.comparison(
            digits(), 50, binarization, seed=0
        )
        _, features = compared()
        section = sample_evaluation.measure(images.noise, images, features)
        titles.append(section.title)
    assert titles == ["Samples", "Samples", "Samples, cut at 0.5"]


def repeated():
    """The digits, two of whose 60 test images are training images."""
    data = digits()
    images = data.test.images.copy()
    images[:2] = data.train.images[:2]
    test = datasets.Split(images, data.test.labels)
    return datasets.ImageDataset("digits", data.train, None, test, None)


def test_copies_among_the_test_images_leave_out_one_row_alone():
    images = sample_evaluation.comparison(repeated(), 60, "none", seed=0)
    _, features = compared()
    section = sample_evaluation.measure(images.noise, images, features)
    assert {*section.measures} == {
        *("precision", "recall", "density", "coverage"),
        "frechet_classifier_distance",
    }
    (note,) = [note for note in section.notes if "copies" in note]
    assert note == (
        "3.33 % of the test images are copies of training images, than which "
        "nothing can be nearer: how many samples are memorised is not told."
    )


def test_other_errors_of_samples_are_told():
    images, features = compared()
    narrow = images.noise[:, :4]
    constant = sample_evaluation.Features(
        lambda x: features.extract(images.noise), "pixels", True
    )
    with pytest.raises(ValueError, match="events of shape"):
        sample_evaluation.measure(narrow, images, constant)


def test_without_labels_the_pixels_are_compared(tmp_path):
    plain = datasets.ImageDataset(
        "plain",
        *(
            split and datasets.Split(split.images, None)
            for split in (digits().train, None, digits().test)
        ),
        None,
    )
    features = sample_evaluation.feature_function(plain, tmp_path, num_steps=1)
    images = sample_evaluation.comparison(plain, 50, "none", seed=0)
    section = sample_evaluation.measure(images.noise, images, features)
    assert "the pixels" in section.notes[0]
    assert "frechet_classifier_distance" not in section.measures
    assert section.measures["precision"].estimate.value == 0


def split_by(seed):
    """The digits, 20 of which are held out for validation by the seed."""
    data = digits()
    order = np.random.default_rng(seed).permutation(NUM_TRAIN)
    rest, held = (
        datasets.Split(data.train.images[rows], data.train.labels[rows])
        for rows in (np.sort(order[20:]), order[:20])
    )
    return datasets.ImageDataset("digits", rest, held, data.test, None)


def test_the_scale_is_the_same_for_runs_of_other_seeds(tmp_path):
    samples = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    found = []
    for data in (digits(), split_by(0), split_by(1)):
        features = sample_evaluation.feature_function(
            data, tmp_path, num_steps=1
        )
        images = sample_evaluation.comparison(data, 50, "none", seed=0)
        section = sample_evaluation.measure(samples, images, features)
        found.append({k: m.references for k, m in section.measures.items()})
    assert found[1] == found[2] == found[0]
    assert {"test images", "noise"} == {*found[0]["precision"]}
    assert len([*tmp_path.glob("*.keras")]) == 1


def test_all_training_images_are_in_an_order_of_their_own():
    one, other = (
        sample_evaluation.all_training_images(split_by(seed)) for seed in (0, 1)
    )
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.labels, other.labels)
    key = [image.tobytes() for image in one.images]
    own = [image.tobytes() for image in digits().train.images]
    assert sorted(key) == sorted(own) and key != own
    labels = dict(zip(own, digits().train.labels, strict=True))
    assert [labels[image] for image in key] == [*one.labels]


def test_noise_is_the_worst():
    """In the features of a classifier that has learned what no images are."""
    data = datasets.load("digits", validation_split=0)
    classifier = classifier_features.train_classifier(data.train, num_steps=600)
    features = sample_evaluation.Features(
        functools.partial(classifier_features.classifier_features, classifier),
        "a classifier",
        True,
    )
    images = sample_evaluation.comparison(data, 300, "none", seed=0)
    rows = np.random.default_rng(0).integers(0, 1000, (300, 3))
    blends = arrays.as_float(data.train.images)[rows].mean(1)
    section = sample_evaluation.measure(blends, images, features)
    for name in ("precision", "recall", "density", "coverage"):
        measure = section.measures[name]
        noise = measure.references["noise"].value
        real = measure.references["test images"].value
        assert noise < 0.05 < measure.estimate.value, name
        assert noise < 0.05 < 0.7 < real, name
    measure = section.measures["frechet_classifier_distance"]
    assert measure.references["test images"].value < measure.estimate.value
    assert measure.estimate.value < measure.references["noise"].value / 4
