"""The denoising section of denoisers."""

import keras
import numpy as np
import pytest
from support.evaluated_runs import MAKE, adapted, digits

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.core import arrays
from keras_genmodels.evaluation import comparison, denoising
from keras_genmodels.metrics import denoising as denoising_metrics
from keras_genmodels.metrics import image_quality

LEVELS = [0.1, 0.25, 0.5, 1.0]


@pytest.fixture
def only(monkeypatch):
    """Limits a section to some noise levels, as each takes a second.

    Without the estimates of these, which take most of it, unless asked for.
    """

    def limit(*levels, estimates=False):
        monkeypatch.setattr(denoising, "levels_of", lambda _: [*levels])
        if not estimates:
            monkeypatch.setattr(
                denoising.noise_level,
                "estimate_levels",
                lambda denoiser, noisy, labels, seed: np.zeros(len(noisy)),
            )

    return limit


def measures_of(denoiser, images, train=None):
    train = digits().train.images if train is None else train
    return denoising.section(denoiser, train, images, seed=0).measures


def test_the_rank_is_the_best_on_the_training_images():
    images = digits().train.images / 255.0
    centred = (images - images.mean(0)).reshape(len(images), -1)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(images))
    values, vectors = values[::-1], vectors[:, ::-1]
    for sigma in (0.05, 0.25, 1.0):
        errors = []
        for rank in range(1, 65):
            kept = vectors[:, :rank]
            lost = np.square(centred - centred @ kept @ kept.T).sum(1).mean()
            errors.append(lost + rank * sigma**2)
        best = denoising.best_rank(values, sigma)
        assert best == 1 + np.argmin(errors)


def test_levels_are_the_common_ones_and_the_lowest_of_the_denoiser():
    wiener = adapted(kgm.LinearDenoiser())
    assert denoising.levels_of(wiener) == [0.01, *LEVELS]


@pytest.mark.slow
def test_a_denoiser_that_knows_the_image_finds_the_noise_and_does_no_harm(only):
    only(0.1, estimates=True)
    images = digits().train.images[:40]
    found = measures_of(adapted(kgm.EmpiricalDenoiser()), images)
    level = found["noise_level/0.1"].estimate
    # Of 64 pixels each: the root mean square of noise is a little low.
    expected = 0.1 * (1 - 1 / 256)
    assert level.value == pytest.approx(expected, abs=4 * level.standard_error)
    assert found["harm/0.1"].estimate.value == 0
    assert "exact" not in found["psnr/0.1"].references


@pytest.mark.slow
@pytest.mark.parametrize("levels", [(0.1, 0.5), (0.25,)])
def test_the_noise_level_is_estimated_without_sigma(only, levels):
    """The noise that is removed at the true sigma would be too little."""
    only(*levels, estimates=True)
    images = digits().train.images[:40]
    found = measures_of(adapted(kgm.LinearDenoiser()), images)
    for sigma in levels:
        measure = found[f"noise_level/{sigma:g}"]
        # At 0.1, 0.067 were removed. The first 32 draws are 1 % off, too.
        assert measure.estimate.value == pytest.approx(sigma, rel=0.05)
        assert measure.estimate.value == pytest.approx(
            measure.references["Wiener"].value, rel=1e-5
        )


def test_the_nearest_training_image_harms_a_clean_one(only):
    only(0.01)
    exact = adapted(kgm.EmpiricalDenoiser())
    harm = measures_of(exact, digits().test.images)["harm/0.01"]
    assert harm.estimate.value == 1
    assert harm.references["Wiener"].value < 0.1


def test_nan_is_harm(only):
    only(0.1)
    broken = adapted(kgm.LinearDenoiser())
    (eigenvalues,) = [w for w in broken.weights if w.name == "eigenvalues"]
    eigenvalues.assign(np.full(64, np.nan))
    found = measures_of(broken, digits().train.images[:5])
    assert found["harm/0.1"].estimate.value == 1


def test_images_below_the_window_of_ssim_have_a_note(only):
    only(0.1)
    images = digits().train.images[:30, :6, :6]
    denoiser = kgm.LinearDenoiser()
    denoiser.adapt(images)
    section = denoising.section(denoiser, images, images[:5], seed=0)
    assert {*section.measures} == {"psnr/0.1", "noise_level/0.1", "harm/0.1"}
    assert section.notes[1].startswith("SSIM not measured: ")


def test_images_too_large_for_a_covariance_have_a_note(only, monkeypatch):
    only(0.1)
    monkeypatch.setattr(denoising, "MAX_PIXELS", 63)
    train = digits().train.images
    section = denoising.section(MAKE["learned"](), train, train[:5], seed=0)
    assert [*section.measures["psnr/0.1"].references] == ["noisy", "exact"]
    (note,) = [n for n in section.reference_notes if "covariance" in n]
    assert "63" in note


@pytest.mark.slow
def test_the_references_are_the_same_for_runs_of_other_seeds(only):
    """Adapted to all images for training, whichever were held out."""
    only(0.1)
    data = digits()
    found = []
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(len(data.train.images))
        rest, held = (
            datasets.Split(data.train.images[rows], data.train.labels[rows])
            for rows in (order[20:], order[:20])
        )
        own = datasets.ImageDataset("digits", rest, held, data.test, None)
        measures = measures_of(
            MAKE["learned"](),
            data.test.images,
            comparison.all_training_images(own).images,
        )
        found.append({k: m.references for k, m in measures.items()})
    assert found[0] == found[1]
    assert {*found[0]["psnr/0.1"]} == {"noisy", "V V'", "Wiener", "exact"}


@pytest.mark.parametrize(
    ("policy", "decibels", "levels", "num_images"),
    [
        pytest.param("float64", 1e-4, LEVELS, 40, marks=pytest.mark.exhaustive),
        pytest.param("mixed_bfloat16", 0.2, LEVELS, 40, marks=pytest.mark.slow),
    ],
)
def test_precision_and_batch_size_change_measures_by_rounding_only(
    monkeypatch, only, policy, decibels, levels, num_images
):
    only(*levels, estimates=True)
    images = digits().test.images[:num_images]
    denoiser = MAKE["learned"]()
    first = measures_of(denoiser, images)
    monkeypatch.setattr(denoising_metrics, "_BATCH_SIZE", 7)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        other = MAKE["learned"]()
    finally:
        keras.config.set_dtype_policy(before)
    other.set_weights(denoiser.get_weights())
    for name, measure in measures_of(other, images).items():
        scale = {"psnr": 1, "harm": 0.5}.get(name.partition("/")[0], 0.05)
        same = first[name]
        assert measure.estimate.value == pytest.approx(
            same.estimate.value, abs=decibels * scale
        ), name
        for kind, estimate in measure.references.items():
            assert estimate.value == pytest.approx(
                same.references[kind].value, abs=1e-5
            )


def test_the_brief_section_is_the_psnr_of_the_protocol():
    """Noise sigma times `default_rng(0).standard_normal`, nothing clipped."""
    images = digits().test.images
    wiener = adapted(kgm.LinearDenoiser())
    section = denoising.brief_section(wiener, images)
    assert [*section.measures] == [
        f"psnr/{s}" for s in ("0.1", "0.25", "0.5", "1")
    ]
    clean = arrays.as_float(images)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    noisy = (clean + 0.25 * noise).astype(np.float32)
    measure = section.measures["psnr/0.25"]
    found = {"own": measure.estimate, **measure.references}
    expected = {"own": wiener.denoise(noisy, 0.25), "noisy": noisy}
    assert found.keys() == expected.keys()
    for name, output in expected.items():
        psnr = image_quality.psnr(output, clean)
        assert found[name].value == pytest.approx(psnr.mean(), rel=1e-5)
        error = psnr.std(ddof=1) / len(psnr) ** 0.5
        assert found[name].standard_error == pytest.approx(error, rel=1e-4)


def test_a_new_quantity_is_one_line_and_has_references(only, monkeypatch):
    only(0.1)
    quantity = (
        "Mean absolute error",
        lambda images, truth: np.abs(images - truth).mean((1, 2, 3)),
        "Lower is better.",
    )
    monkeypatch.setitem(denoising.IMAGE_MEASURES, "mae", quantity)
    images = digits().test.images[:5]
    measure = measures_of(adapted(kgm.LinearDenoiser()), images)["mae/0.1"]
    assert measure.label == "Mean absolute error at sigma 0.1"
    assert measure.references["noisy"].value > measure.estimate.value > 0
