"""The labels section of class-conditional models."""

import numpy as np
import pytest
from support.evaluated_runs import digits

from keras_genmodels import datasets
from keras_genmodels.evaluation import labels


def section_of(samples, train, **kwargs):
    return labels.section(samples, digits().test, train, seed=0, **kwargs)


def test_real_images_have_the_accuracy_and_diversity_of_real_images():
    test, train = digits().test, digits().train
    section = section_of(test.images / np.float32(255), train)
    accuracy = section.measures["label_accuracy"]
    assert accuracy.estimate == accuracy.references["real test images"]
    assert accuracy.estimate.value > 0.7
    diversity = section.measures["diversity"].estimate
    assert diversity.value == pytest.approx(1)
    assert len(section.notes) == 1


def test_what_one_training_label_does_not_allow_is_a_note():
    test, train = digits().test, digits().train
    same = datasets.Split(train.images, np.full_like(train.labels, 3))
    section = section_of(test.images / np.float32(255), same)
    assert {*section.measures} == {"diversity"}
    assert section.notes[1].startswith("Label accuracy not measured: ")


def test_samples_that_are_not_finite_are_a_note():
    samples = np.full(digits().test.images.shape, np.nan, np.float32)
    section = section_of(samples, digits().train)
    assert not section.measures
    assert "not finite" in section.notes[0]


def test_thresholded_images_have_another_title_and_key():
    samples = np.full(digits().test.images.shape, np.nan, np.float32)
    grey, thresholded = (
        section_of(samples, digits().train, thresholded=value)
        for value in (False, True)
    )
    assert grey.title == "Labels" and grey.key == "grey"
    assert "thresholded at 0.5" in thresholded.title
    assert thresholded.key == "thresholded"
