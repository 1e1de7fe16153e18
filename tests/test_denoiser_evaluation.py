"""What is measured of denoisers."""

import keras
import numpy as np
import pytest
from evaluated_runs import MAKE, adapted, digits

import keras_genmodels as kgm
from keras_genmodels import (
    denoiser_evaluation,
)


@pytest.mark.parametrize("sigma", [0.05, 0.25, 1.0])
def test_the_rank_is_the_best_on_the_training_images(sigma):
    images = digits().train.images / 255.0
    centred = (images - images.mean(0)).reshape(len(images), -1)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(images))
    values, vectors = values[::-1], vectors[:, ::-1]
    errors = []
    for rank in range(1, 65):
        kept = vectors[:, :rank]
        lost = np.square(centred - centred @ kept @ kept.T).sum(1).mean()
        errors.append(lost + rank * sigma**2)
    best = denoiser_evaluation.best_rank(values, sigma)
    assert best == 1 + np.argmin(errors)


def test_who_knows_the_image_reads_the_noise_and_does_no_harm():
    train = digits().train.images
    exact = adapted(kgm.EmpiricalDenoiser())
    section = denoiser_evaluation.denoising(exact, train, train[:40], seed=0)
    level = section.measures["noise_level/0.1"].estimate
    # Of 64 pixels each: the root mean square of noise is a little low.
    expected = 0.1 * (1 - 1 / 256)
    assert level.value == pytest.approx(expected, abs=4 * level.standard_error)
    assert section.measures["harm/0.1"].estimate.value == 0
    assert "exact" not in section.measures["psnr/0.1"].references


def test_the_nearest_training_image_harms_a_clean_one():
    exact = adapted(kgm.EmpiricalDenoiser())
    section = denoiser_evaluation.denoising(
        exact, digits().train.images, digits().test.images, seed=0
    )
    assert section.measures["harm/0.01"].estimate.value == 1
    assert section.measures["harm/0.01"].references["Wiener"].value < 0.1


def test_what_is_no_number_does_harm():
    train = digits().train.images
    broken = adapted(kgm.LinearDenoiser())
    (eigenvalues,) = [w for w in broken.weights if w.name == "eigenvalues"]
    eigenvalues.assign(np.full(64, np.nan))
    section = denoiser_evaluation.denoising(broken, train, train[:5], seed=0)
    assert section.measures["harm/0.1"].estimate.value == 1


def test_a_denoiser_that_does_nothing_has_no_memory():
    """Of all axes but a few, so that training images stay where they are."""
    train, held_out = digits().train.images, digits().test.images
    section = denoiser_evaluation.fixed_points(
        adapted(kgm.LinearDenoiser(rank=50)), train, held_out, seed=0
    )
    assert section.measures["settled"].estimate.value == 1
    assert section.measures["num_fixed_points"].estimate.value == 32
    assert section.measures["memorized_fixed_points"].estimate.value == 0


@pytest.mark.parametrize(
    ("policy", "decibels"), [("float64", 1e-4), ("mixed_bfloat16", 0.2)]
)
def test_denoising_depends_on_precision_by_rounding_alone(
    monkeypatch, policy, decibels
):
    """And not at all on how many images are denoised at a time."""
    train, images = digits().train.images, digits().test.images[:40]
    denoiser = MAKE["learned"]()
    first = denoiser_evaluation.denoising(denoiser, train, images, seed=0)
    monkeypatch.setattr(denoiser_evaluation, "_PART", 7)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        other = MAKE["learned"]()
    finally:
        keras.config.set_dtype_policy(before)
    other.set_weights(denoiser.get_weights())
    again = denoiser_evaluation.denoising(other, train, images, seed=0)
    for name, measure in again.measures.items():
        scale = {"psnr": 1, "harm": 0.5}.get(name.partition("/")[0], 0.05)
        same = first.measures[name]
        tolerance = decibels * scale
        assert measure.estimate.value == pytest.approx(
            same.estimate.value, abs=tolerance
        ), name
        for kind, estimate in measure.references.items():
            assert estimate.value == pytest.approx(
                same.references[kind].value, abs=1e-5
            )
