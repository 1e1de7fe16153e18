"""What is measured of samples."""

import functools

import numpy as np
import pytest
from evaluated_runs import NUM_TRAIN, digits

import keras_genmodels as kgm
from keras_genmodels import (
    datasets,
    evaluation,
    sample_evaluation,
)


@functools.cache
def compared():
    """Some training images, what they are compared with, and features."""
    images = sample_evaluation.comparison(digits(), 50, "dynamic", seed=0)
    features = sample_evaluation.Features(
        lambda x: evaluation.as_float(x).reshape(len(x), -1)[:, :20],
        "some pixels",
        True,
    )
    return images, features


def test_real_images_are_ideal_samples():
    images, features = compared()
    samples = evaluation.as_float(images.real)
    section = sample_evaluation.measure(samples, images, features)
    found = {k: m.estimate.value for k, m in section.measures.items()}
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["frechet_classifier_distance"] == pytest.approx(0, abs=1e-6)
    assert found["memorized"] == 1


def test_held_out_images_are_not_memorised():
    images, features = compared()
    samples = evaluation.as_float(images.test.images)
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
    copies = evaluation.as_float(digits().train.images[-8:])
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
    copies = evaluation.as_float(digits().train.images[-50:])
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
    cut = evaluation.as_float(digits().train.images) >= 0.5
    np.testing.assert_array_equal(images.train.images > 0, cut)


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


def test_the_classifier_is_the_same_for_runs_of_other_seeds(tmp_path):
    data = digits()
    order = np.random.default_rng(0).permutation(NUM_TRAIN)
    rest, held = (
        datasets.Split(data.train.images[rows], data.train.labels[rows])
        for rows in (np.sort(order[20:]), order[:20])
    )
    other = datasets.ImageDataset("digits", rest, held, data.test, None)
    for some in (data, other):
        sample_evaluation.feature_function(some, tmp_path, num_steps=1)
    assert len([*tmp_path.glob("*.keras")]) == 1
