"""What is measured of denoisers."""

import keras
import numpy as np
import pytest
from support.evaluated_runs import MAKE, adapted, digits

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.evaluation import denoiser as denoiser_evaluation
from keras_genmodels.evaluation import samples


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


def test_who_is_told_sigma_estimates_it_blindly():
    """The noise that they take off at the true sigma would be too little."""
    train = digits().train.images
    wiener = adapted(kgm.LinearDenoiser())
    section = denoiser_evaluation.denoising(wiener, train, train[:40], seed=0)
    for sigma in (0.1, 0.25, 0.5):
        measure = section.measures[f"noise_level/{sigma:g}"]
        # 0.067 were taken off at 0.1. The first 32 draws are 1 % off, too.
        assert measure.estimate.value == pytest.approx(sigma, rel=0.05)
        assert measure.estimate.value == pytest.approx(
            measure.references["Wiener"].value, rel=1e-5
        )


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


def test_copies_among_the_test_images_leave_out_one_row_alone():
    train = digits().train.images
    section = denoiser_evaluation.fixed_points(
        adapted(kgm.EmpiricalDenoiser()), train, train[:20], seed=0
    )
    assert {*section.measures} == {
        *("settled", "num_fixed_points", "spectral_radius")
    }
    (note,) = [note for note in section.notes if "copies" in note]
    assert note.startswith("100 % of the test images are copies")


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
        starts = denoiser_evaluation._starts(exact, train.images[order], seed)
        drawn.append([image.tobytes() for image in starts[:16]])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({*drawn[0]}) == 16
    assert len({labels[image] for image in drawn[0]}) >= 5


def test_the_closed_forms_are_the_same_for_runs_of_other_seeds():
    """Of all images that they may train on, whichever they held out."""
    data = digits()
    found = []
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(len(data.train.images))
        rest, held = (
            datasets.Split(data.train.images[rows], data.train.labels[rows])
            for rows in (order[20:], order[:20])
        )
        own = datasets.ImageDataset("digits", rest, held, data.test, None)
        section = denoiser_evaluation.denoising(
            MAKE["learned"](),
            samples.all_training_images(own).images,
            data.test.images,
            seed=0,
        )
        found.append({k: m.references for k, m in section.measures.items()})
    assert found[0] == found[1]
    assert {*found[0]["psnr/0.1"]} == {"noisy", "V V'", "Wiener", "exact"}


@pytest.mark.parametrize(
    ("policy", "decibels"),
    [
        ("float64", 1e-4),
        pytest.param("mixed_bfloat16", 0.2, marks=pytest.mark.slow),
    ],
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
