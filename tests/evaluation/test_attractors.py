"""The attractors section of denoisers."""

import numpy as np
import pytest
import tensorflow as tf
from support.evaluated_runs import adapted, digits
from support.known_denoisers import ByLabel

import keras_genmodels as kgm
from keras_genmodels.core import arrays
from keras_genmodels.evaluation import attractors


def test_a_denoiser_that_changes_nothing_has_no_memory():
    """All axes but a few, so that training images stay where they are."""
    train, held_out = digits().train.images, digits().test.images
    measures = attractors.section(
        adapted(kgm.LinearDenoiser(rank=50)), train, held_out, seed=0
    ).measures
    assert measures["converged"].estimate.value == 1
    assert measures["num_fixed_points"].estimate.value == 32
    assert measures["memorized_fixed_points"].estimate.value == 0


@pytest.mark.slow
def test_duplicates_among_the_test_images_only_leave_out_memorisation():
    train = digits().train.images
    section = attractors.section(
        adapted(kgm.EmpiricalDenoiser()), train, train[:20], seed=0
    )
    assert {*section.measures} == {
        *("converged", "num_fixed_points", "spectral_radius")
    }
    (note,) = [note for note in section.notes if "duplicates" in note]
    assert note.startswith("Memorised fixed points not measured: 100 %")


@pytest.mark.slow
def test_a_conditional_denoiser_is_analysed_for_one_label():
    one_image = kgm.EmpiricalDenoiser()
    one_image.adapt(digits().train.images[:1])
    denoiser = ByLabel(adapted(kgm.EmpiricalDenoiser()), one_image)
    train, held_out = digits().train.images, digits().test.images
    section = attractors.section(denoiser, train, held_out, seed=0)
    assert section.measures["num_fixed_points"].estimate.value == 1
    assert section.notes[0].endswith("Without a label.")
    denoiser.label_dropout = 0.0
    section = attractors.section(denoiser, train, held_out, seed=0, label=0)
    assert section.measures["num_fixed_points"].estimate.value > 1
    assert section.notes[0].endswith("For the label 0.")


class _InfiniteSlope(kgm.LinearDenoiser):
    """Changes nothing, by a root whose derivative is infinite at 0."""

    def _denoise(self, x, sigma):
        return x + tf.sqrt(x - x)


def test_a_derivative_that_is_not_finite_leaves_out_the_spectral_radius():
    train = digits().train.images[:4]
    denoiser = adapted(_InfiniteSlope())
    section = attractors.section(denoiser, train, train, seed=0)
    assert "converged" in section.measures
    assert "spectral_radius" not in section.measures
    (note,) = [note for note in section.notes if "derivative" in note]
    assert note.startswith("Spectral radius not measured:")


def test_the_search_starts_from_images_of_all_labels():
    """Though those of a folder are sorted by label."""
    train = digits().train
    order = np.argsort(train.labels, kind="stable")
    exact = adapted(kgm.EmpiricalDenoiser())
    labels = {
        image.tobytes(): label
        for image, label in zip(
            arrays.as_float(train.images), train.labels, strict=True
        )
    }
    drawn = []
    for seed in (0, 0, 1):
        starts = attractors._starts(exact, train.images[order], seed)
        drawn.append([image.tobytes() for image in starts[:16]])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({*drawn[0]}) == 16
    assert len({labels[image] for image in drawn[0]}) >= 5
