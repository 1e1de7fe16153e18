"""The samples section, of any model."""

import functools

import numpy as np
import pytest
from support.evaluated_runs import KNOWN, MAKE, NUM_TRAIN, digits

from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.evaluation import comparison, nearest, samples
from keras_genmodels.metrics import classifier


@functools.cache
def compared():
    """Some training images, what they are compared with, and features."""
    features = comparison.Features(
        lambda x: arrays.as_float(x).reshape(len(x), -1)[:, :20],
        "some pixels",
        True,
    )
    return compared_with(digits()), features


def compared_with(data, num_images=50, binarization="none"):
    everything = comparison.all_training_images(data)
    return comparison.comparison(
        data, everything, num_images, binarization, seed=0
    )


def features_of(data, folder):
    everything = comparison.all_training_images(data)
    return comparison.features(data, everything, folder, num_steps=1)


def test_real_images_are_ideal_samples():
    images, features = compared()
    section = samples.section(arrays.as_float(images.real), images, features)
    found = {k: m.estimate.value for k, m in section.measures.items()}
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["frechet_classifier_distance"] == pytest.approx(0, abs=1e-6)
    assert found["memorized"] == 1


def test_held_out_images_are_not_memorised():
    images, features = compared()
    drawn = arrays.as_float(images.test.images)
    section = samples.section(drawn, images, features)
    assert section.measures["memorized"].estimate.value <= 0.02
    for measure in section.measures.values():
        if measure.references:
            same = measure.references["test images"]
            assert measure.estimate == same


@pytest.mark.parametrize("held", [2**24, 64 * 30])
def test_the_sheet_shows_the_nearest_and_the_furthest(monkeypatch, held):
    """However many training images are compared at once."""
    monkeypatch.setattr(nearest, "_MAX_VALUES", held)
    images, features = compared()
    shown = []
    monkeypatch.setattr(
        nearest.plots,
        "image_grid",
        lambda grid, columns: shown.append((grid, columns)),
    )
    monkeypatch.setattr(nearest.plots, "titled", lambda grid, *_, **__: grid)
    copies = arrays.as_float(digits().train.images[-8:])
    drawn = np.concatenate([images.noise[:8], copies])
    nearest.nearest_sheet(drawn, images, features)
    ((grid, columns),) = shown
    assert columns == 8 and len(grid) == 6 * 8
    near, first, second, furthest, *_ = np.split(grid, 6)
    np.testing.assert_array_equal(near, first)
    np.testing.assert_array_equal(near, copies)
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


def test_memorisation_compares_with_all_training_images():
    images, features = compared()
    assert len(images.train.images) == NUM_TRAIN
    copies = arrays.as_float(digits().train.images[-50:])
    section = samples.section(copies, images, features)
    assert section.measures["memorized"].estimate.value == 1


def test_thresholded_images_are_compared_with_thresholded_ones():
    images = compared_with(digits(), 50, "threshold")
    for values in (images.train.images, images.real, images.test.images):
        assert {*np.unique(values)} == {0, 255} and values.dtype == np.uint8
    white = arrays.as_float(digits().train.images) >= 0.5
    np.testing.assert_array_equal(images.train.images > 0, white)
    nothing = np.full_like(images.noise, np.nan)
    section = samples.section(nothing, images, compared()[1])
    assert section.title == "Samples, thresholded at 0.5"


def test_samples_that_are_not_finite_are_a_note():
    images, features = compared()
    nothing = np.full_like(images.noise, np.nan)
    section = samples.section(nothing, images, features)
    assert section.title == "Samples" and not section.measures
    assert "not finite" in section.notes[0]


def repeated():
    """The digits, two of whose 60 test images are training images."""
    data = digits()
    images = data.test.images.copy()
    images[:2] = data.train.images[:2]
    test = datasets.Split(images, data.test.labels)
    return datasets.ImageDataset("digits", data.train, None, test, None)


def test_duplicates_among_the_test_images_only_leave_out_memorisation():
    images = compared_with(repeated(), 60)
    section = samples.section(images.noise, images, compared()[1])
    assert {*section.measures} == {
        *("precision", "recall", "density", "coverage"),
        "frechet_classifier_distance",
    }
    (note,) = [note for note in section.notes if "duplicates" in note]
    assert note.startswith("Memorised samples not measured: 3.33 % of")


def test_too_few_images_are_a_note_and_a_wrong_shape_is_an_error():
    images, features = compared()
    few = compared_with(digits(), 12)
    section = samples.section(few.noise, few, features)
    assert {*section.measures} == {"memorized"}
    assert "Precision and Recall not measured: " in section.notes[1]
    constant = comparison.Features(
        lambda x: features.extract(images.noise), "pixels", True
    )
    with pytest.raises(ValueError, match="events of shape"):
        samples.section(images.noise[:, :4], images, constant)


def test_without_labels_the_pixels_are_compared(tmp_path):
    plain = datasets.ImageDataset(
        "plain",
        *(
            split and datasets.Split(split.images, None)
            for split in (digits().train, None, digits().test)
        ),
        None,
    )
    images = compared_with(plain)
    section = samples.section(
        images.noise, images, features_of(plain, tmp_path)
    )
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


@pytest.mark.slow
def test_the_scale_is_the_same_for_runs_of_other_seeds(tmp_path):
    drawn = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    found = []
    for data in (digits(), split_by(1)):
        features = features_of(data, tmp_path)
        section = samples.section(drawn, compared_with(data), features)
        found.append({k: m.references for k, m in section.measures.items()})
    assert found[0] == found[1]
    assert {"test images", "noise"} == {*found[0]["precision"]}
    assert len([*tmp_path.glob("*.keras")]) == 1


def test_all_training_images_have_the_same_order_for_every_split():
    one, other = (
        comparison.all_training_images(split_by(seed)) for seed in (0, 1)
    )
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.labels, other.labels)
    key = [image.tobytes() for image in one.images]
    own = [image.tobytes() for image in digits().train.images]
    assert sorted(key) == sorted(own) and key != own
    labels = dict(zip(own, digits().train.labels, strict=True))
    assert [labels[image] for image in key] == [*one.labels]


@pytest.mark.slow
def test_noise_is_worse_than_blends_and_blends_than_real_images():
    """In the features of a classifier that has learned non-images."""
    data = datasets.load("digits", validation_split=0)
    trained = classifier.train_classifier(data.train, num_steps=150)
    features = comparison.Features(
        functools.partial(classifier.classifier_features, trained),
        "a classifier",
        True,
    )
    images = compared_with(data, 300)
    rows = np.random.default_rng(0).integers(0, 1000, (300, 3))
    blends = arrays.as_float(data.train.images)[rows].mean(1)
    section = samples.section(blends, images, features)
    for name in ("precision", "recall", "density", "coverage"):
        measure = section.measures[name]
        noise = measure.references["noise"].value
        real = measure.references["test images"].value
        assert noise < 0.05 < measure.estimate.value, name
        assert noise < 0.05 < 0.7 < real, name
    measure = section.measures["frechet_classifier_distance"]
    assert measure.references["test images"].value < measure.estimate.value
    assert measure.estimate.value < measure.references["noise"].value / 4


def test_completions_keep_the_observed_pixels():
    test = digits().test
    grey = arrays.as_float(test.images)
    drawn = samples.draw(MAKE["quadrants"](), test, "threshold", seed=0)
    np.testing.assert_array_equal(drawn[:, KNOWN], grey[:, KNOWN])
    assert not np.array_equal(drawn, grey)
