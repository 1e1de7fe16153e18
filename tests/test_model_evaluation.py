"""What is measured of a finished run, of every kind of model."""

import copy
import dataclasses
import functools
import json
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.datasets
from small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import (
    corruptions,
    datasets,
    denoiser_evaluation,
    evaluation,
    evaluation_tables,
    files,
    latent_evaluation,
    latent_inputs,
    model_evaluation,
    runs,
    sample_evaluation,
)
from keras_genmodels.workdir import Workdir

SHAPE = (8, 8, 1)
NUM_TRAIN, NUM_TEST = 200, 60
SETTINGS = model_evaluation.Settings(
    num_images=50, num_samples=20, seed=1, classifier_steps=30
)
KNOWN = corruptions.known_quadrants(SHAPE, 2)


@functools.cache
def digits():
    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    split = functools.partial(datasets.Split)
    train, test = slice(NUM_TRAIN), slice(-NUM_TEST, None)
    labels = bunch.target.astype(np.int32)
    return datasets.ImageDataset(
        "digits",
        split(images[train], labels[train]),
        None,
        split(images[test], labels[test]),
        None,
    )


def make_cvae(condition_network, size, **kwargs):
    posterior = kgm.MultivariateNormalDiag(3)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    sizes = {"hidden_sizes": (16,), "condition_size": size}
    return kgm.ConditionalVAE(
        kgm.mlp_encoder(SHAPE, posterior.params_size, **sizes),
        kgm.mlp_decoder(3, likelihood.params_shape, **sizes),
        posterior,
        likelihood,
        condition_network,
        kgm.mlp_prior(size, posterior.params_size, (8,)),
        **kwargs,
    )


def adapted(denoiser):
    denoiser.adapt(digits().train.images)
    return denoiser


MAKE = {
    "vae": make_vae,
    "labels": lambda: make_cvae(kgm.label_embedding(10, 5), 5, num_labels=10),
    "quadrants": lambda: make_cvae(
        kgm.mlp_encoder(SHAPE, 5, (8,)), 5, known=KNOWN
    ),
    "learned": lambda: adapted(
        kgm.DenoisingAutoencoder(kgm.mlp_denoiser(SHAPE, True, (8,)))
    ),
    "linear": lambda: adapted(kgm.LinearDenoiser()),
    "exact": lambda: adapted(kgm.EmpiricalDenoiser()),
}
LATENT = ("vae", "labels", "quadrants")


def finish(model, workdir, binarization="dynamic", data=None, **flags):
    """Leaves what a training does, as far as an evaluation reads it."""
    flags = {"seed": "0", "binarization": binarization, **flags}
    workdir.claim("train", (data or digits()).fingerprint(), flags)
    with files.replacing(workdir.model) as beside:
        model.save(beside)
    metrics = {"kind": type(model).__name__, "planned_epochs": None}
    files.write_json(workdir.metrics, {**metrics, **runs.written()})
    return workdir


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Gives, for a kind, an evaluated run's workdir and what was found."""
    folder = tmp_path_factory.mktemp("evaluated")

    @functools.cache
    def evaluate(kind):
        workdir = finish(MAKE[kind](), Workdir(folder / kind))
        found = model_evaluation.evaluate(
            workdir, digits(), SETTINGS, folder / "classifiers"
        )
        return workdir, found

    return evaluate


def value(found, section, name):
    return found["sections"][section]["measures"][name]["value"]


# A run of each kind.


@pytest.mark.parametrize("kind", MAKE)
def test_an_evaluation_holds_what_its_kind_has(evaluated, kind):
    workdir, found = evaluated(kind)
    assert files.read_json(workdir.metrics)["evaluation"] == found
    names = {
        section: {*content["measures"]}
        for section, content in found["sections"].items()
    }
    assert names["samples"] == {
        *("precision", "recall", "density", "coverage"),
        *("frechet_classifier_distance", "memorized"),
    }
    if kind in LATENT:
        assert names["likelihood"] == {
            *("elbo", "rate", "distortion", "log_likelihood"),
            *("effective_samples", "entropy", "excess"),
            *("log_likelihood_excess", "latent_size", "active_units"),
        }
    else:
        lowest = 0.05 if kind == "learned" else 0.01
        levels = [f"{s:g}" for s in (lowest, *evaluation.NOISE_LEVELS)]
        assert names["denoising"] == {
            f"{name}/{level}"
            for name in ("psnr", "ssim", "noise_level", "harm")
            for level in levels
        }
        assert {"settled", "num_fixed_points"} <= names["attractors"]
    assert ("labels" in names) == (kind == "labels")


@pytest.mark.parametrize("kind", MAKE)
def test_averages_have_errors_and_all_numbers_are_json(evaluated, kind):
    workdir, found = evaluated(kind)

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(workdir.metrics.read_text(), parse_constant=refuse)
    without = {"latent_size", "active_units", "num_fixed_points"}
    if kind == "learned":
        assert value(found, "attractors", "num_fixed_points") == 1
        without.add("spectral_radius")
    for section in found["sections"].values():
        for name, measure in section["measures"].items():
            assert measure["meaning"].endswith(".")
            assert math.isfinite(measure["value"]), name
            assert (measure["standard_error"] is None) == (name in without)


@pytest.mark.parametrize("kind", MAKE)
def test_the_samples_can_be_read_by_their_scale(evaluated, kind):
    _, found = evaluated(kind)
    for name, best in (("precision", max), ("coverage", max)):
        scale = found["sections"]["samples"]["measures"][name]["references"]
        values = {k: scale[k]["value"] for k in ("test images", "noise")}
        assert best(values, key=values.get) == "test images"
    workdir, _ = evaluated(kind)
    assert (workdir.figures / "nearest_training_images.png").exists()


def test_the_training_s_own_metrics_are_left_alone(evaluated):
    workdir, _ = evaluated("exact")
    assert runs.is_finished(workdir)
    assert {*files.read_json(workdir.metrics)} >= {"kind", "planned_epochs"}


def test_what_is_measured_is_measured_once(evaluated, tmp_path):
    workdir, found = evaluated("linear")
    current = functools.partial(model_evaluation.read_current, workdir)
    assert current(SETTINGS) == found
    others = {"num_images": 51, "num_samples": 21, "seed": 2}
    for name, other in others.items():
        changed = {**vars(SETTINGS), name: other}
        assert current(model_evaluation.Settings(**changed)) is None
    moved = finish(adapted(kgm.LinearDenoiser(2)), Workdir(tmp_path))
    files.write_json(moved.metrics, files.read_json(workdir.metrics))
    assert model_evaluation.read_current(moved, SETTINGS) is None


def test_a_run_that_is_extended_meanwhile_is_told(tmp_path, monkeypatch):
    run = finish(adapted(kgm.LinearDenoiser()), Workdir(tmp_path))

    def extend(*_):
        finish(adapted(kgm.LinearDenoiser(2)), run)
        return {}, None

    monkeypatch.setattr(model_evaluation, "_measured", extend)
    with pytest.raises(kgm.UserError, match="trained further meanwhile"):
        model_evaluation.evaluate(run, digits(), SETTINGS)
    assert "evaluation" not in files.read_json(run.metrics)


def test_data_of_another_shape_are_refused(evaluated):
    workdir, _ = evaluated("vae")
    images = np.zeros((12, 4, 4, 1), np.uint8)
    split = datasets.Split(images, None)
    other = datasets.ImageDataset("other", split, None, split, None)
    with pytest.raises(kgm.UserError, match=r"\(8, 8, 1\).*\(4, 4, 1\)"):
        model_evaluation.evaluate(workdir, other, SETTINGS)


def test_a_run_that_is_not_there_is_told(tmp_path):
    with pytest.raises(kgm.UserError, match="no directory"):
        model_evaluation.read_current(Workdir(tmp_path / "none"), SETTINGS)


# Latent-variable models.


@pytest.mark.parametrize("kind", LATENT)
def test_bounds_are_those_of_the_library(evaluated, kind):
    workdir, found = evaluated(kind)
    model = workdir.load_model()
    split = sample_evaluation.first(digits().test, SETTINGS.num_images)
    batches = latent_inputs.as_trained(split, workdir, SETTINGS.seed).map(
        latent_inputs.input_of(model)
    )
    bound = evaluation.evaluate_bound(model, batches, seed=1)
    weighted = evaluation.evaluate_likelihood(
        model, batches, seed=1, num_samples=20
    )
    for name in ("elbo", "rate", "distortion"):
        measure = found["sections"]["likelihood"]["measures"][name]
        assert measure["value"] == pytest.approx(bound[name], rel=1e-5)
        error = bound[f"{name}_standard_error"]
        assert measure["standard_error"] == pytest.approx(error, rel=1e-4)
    for name in ("log_likelihood", "effective_samples"):
        found_value = value(found, "likelihood", name)
        assert found_value == pytest.approx(weighted[name], rel=1e-5)


def test_the_floor_of_the_digits():
    """theory.md, section 6: 13.30 nats, the last 360 in their order."""
    images = sklearn.datasets.load_digits().images[-360:, :, :, None] / 16
    floor = latent_evaluation.entropies(make_vae(), images)
    assert floor.shape == (360,)
    assert floor.mean() == pytest.approx(13.30, abs=0.005)


def test_the_floor_is_that_of_the_unseen_pixels():
    images = np.random.default_rng(0).random((5, *SHAPE))
    floor = latent_evaluation.entropies(MAKE["quadrants"](), images)
    every = scipy.special.entr(images) + scipy.special.entr(1 - images)
    np.testing.assert_allclose(floor, (every * ~KNOWN).sum((1, 2, 3)))


@pytest.mark.parametrize("kind", LATENT)
def test_no_model_is_below_the_floor(evaluated, kind):
    _, found = evaluated(kind)
    excess = value(found, "likelihood", "excess")
    elbo, entropy = (value(found, "likelihood", n) for n in ("elbo", "entropy"))
    assert excess == pytest.approx(-elbo - entropy)
    assert 0 < value(found, "likelihood", "log_likelihood_excess") <= excess


def test_who_knows_the_grey_values_is_at_the_floor(tmp_path):
    """A VAE of one image, whose latent says nothing."""
    grey = digits().test.images[:1]
    plain = make_vae(latent_size=2)
    layer = plain.posterior
    encoder = kgm.mlp_encoder(SHAPE, layer.params_size, ())
    # Standard normal, as softplus(x) + 1e-4 is 1.
    raw_scale = np.log(np.expm1(1 - 1e-4))
    encoder.set_weights(
        [np.zeros((64, 4)), np.array([0, 0, raw_scale, raw_scale])]
    )
    decoder = kgm.mlp_decoder(2, plain.likelihood.params_shape, ())
    # Grey of 1 / 255 and more, or a logit would be infinite.
    grey = np.clip(grey, 20, 235)
    logits = scipy.special.logit(grey / 255).ravel()
    decoder.set_weights([np.zeros((2, 64)), logits])
    model = kgm.VAE(encoder, decoder, layer, plain.likelihood)
    workdir = finish(model, Workdir(tmp_path))
    split = datasets.Split(np.repeat(grey, 2000, 0), None)
    found = latent_evaluation.bounds(
        model, split, workdir, num_samples=3, seed=0
    ).measures
    for name in ("excess", "log_likelihood_excess"):
        above = found[name].estimate
        assert abs(above.value) < 4 * above.standard_error
        assert above.standard_error < 0.01 * found["entropy"].estimate.value


def test_a_run_s_own_seed_draws_nothing(tmp_path):
    model, split = make_vae(), sample_evaluation.first(digits().test, 20)
    first, other = (
        latent_evaluation.bounds(
            model,
            split,
            finish(model, Workdir(tmp_path / seed), seed=seed),
            num_samples=3,
            seed=5,
        )
        for seed in ("0", "1")
    )
    assert first == other


def test_bits_are_told_of_levels_alone(tmp_path):
    model = make_vae(likelihood="discretized_logistic")
    workdir = finish(model, Workdir(tmp_path), "none")
    split = sample_evaluation.first(digits().test, 20)
    section = latent_evaluation.bounds(
        model, split, workdir, num_samples=3, seed=0
    )
    assert not {"entropy", "excess"} & {*section.measures}
    elbo = section.measures["elbo"].estimate
    bits = section.measures["bits_per_dimension"].estimate
    assert bits.value == pytest.approx(-elbo.value / (64 * math.log(2)))
    error = elbo.standard_error / (64 * math.log(2))
    assert bits.standard_error == pytest.approx(error)


def test_a_cross_entropy_is_called_by_its_name(tmp_path):
    plain = make_vae()
    likelihood = kgm.IndependentBernoulli(SHAPE, grey_values=True)
    model = kgm.VAE(plain.encoder, plain.decoder, plain.posterior, likelihood)
    workdir = finish(model, Workdir(tmp_path), "none")
    split = sample_evaluation.first(digits().test, 20)
    section = latent_evaluation.bounds(
        model, split, workdir, num_samples=3, seed=0
    )
    assert "not likelihoods" in " ".join(section.notes)
    assert "excess" not in section.measures


@pytest.mark.parametrize(
    ("likelihood", "binarization", "title"),
    [
        ("bernoulli", "dynamic", "Likelihood of drawn pixels"),
        ("bernoulli", "threshold", "Likelihood of pixels cut at 0.5"),
        ("gaussian", "none", "Density of grey values"),
        ("gaussian", "threshold", "Density of pixels cut at 0.5"),
        ("discretized_logistic", "none", "Likelihood of 256 levels"),
    ],
)
def test_what_does_not_compare_has_another_title(
    tmp_path, likelihood, binarization, title
):
    model = make_vae(likelihood=likelihood)
    workdir = finish(model, Workdir(tmp_path), binarization)
    section = latent_evaluation.bounds(
        model,
        sample_evaluation.first(digits().test, 2),
        workdir,
        num_samples=1,
        seed=0,
    )
    assert section.title == title


def test_completions_have_a_title_of_their_own(evaluated):
    title = evaluated("quadrants")[1]["sections"]["likelihood"]["title"]
    assert title == "Likelihood of drawn pixels, of the unseen ones"


def test_a_pixel_that_rounding_put_above_1_has_no_entropy():
    images = np.full((1, *SHAPE), np.nextafter(np.float32(1), 2))
    assert latent_evaluation.entropies(make_vae(), images) == 0


def test_wide_networks_take_fewer_images_at_a_time():
    images_at_once = latent_inputs.images_at_once
    assert images_at_once(make_vae(), 2000) == 2000
    posterior = kgm.MultivariateNormalDiag(2)
    likelihood = kgm.IndependentBernoulli((128, 128, 1))
    for filters, count in ((1, 2000), (16, 256), (64, 64)):
        model = kgm.VAE(
            kgm.conv_encoder((128, 128, 1), posterior.params_size, filters),
            kgm.conv_decoder(2, likelihood.params_shape, filters),
            posterior,
            likelihood,
        )
        # 4 bytes for each of 128 x 128 values of a channel.
        assert images_at_once(model, 2000) == count


def two_means(scale):
    """An encoder of two means: the first pixel times a scale, and 5."""
    model = make_vae(latent_size=2)
    posterior = model.posterior
    encoder = kgm.mlp_encoder(SHAPE, posterior.params_size, ())
    kernel, bias = np.zeros((64, 4)), np.array([0, 5.0, 0, 0])
    kernel[0, 0] = scale
    encoder.set_weights([kernel, bias])
    return kgm.VAE(encoder, model.decoder, posterior, model.likelihood)


@pytest.mark.parametrize(("scale", "count"), [(0.21, 1), (0.19, 0)])
def test_a_unit_is_active_if_its_mean_varies(scale, count):
    """The pixel is 0 or 1 by halves: the variance is scale^2 / 4."""
    x = np.zeros((10, *SHAPE), np.float32)
    x[::2, 0, 0] = 1
    model = two_means(scale)
    assert latent_evaluation.active_units(model, [(x[:4],), (x[4:],)]) == count


def test_what_the_condition_tells_is_no_activity():
    """An encoder that looks at the label alone, as the prior does."""
    model = MAKE["labels"]()
    shared = kgm.mlp_prior(5, model.posterior.params_size, ())
    model = kgm.ConditionalVAE(
        kgm.mlp_encoder(
            SHAPE,
            model.posterior.params_size,
            hidden_sizes=(),
            condition_size=5,
        ),
        model.decoder,
        model.posterior,
        model.likelihood,
        model.condition_network,
        shared,
        num_labels=10,
    )
    kernel, bias = model.encoder.get_weights()
    kernel[:64] = 0
    kernel[64:] = 10 * np.random.default_rng(0).normal(size=kernel[64:].shape)
    model.encoder.set_weights([kernel, bias])
    arguments = (digits().test.images / np.float32(255), digits().test.labels)
    assert latent_evaluation.active_units(model, [arguments]) == 3
    shared.set_weights([kernel[64:], bias])
    assert latent_evaluation.active_units(model, [arguments]) == 0


# Denoisers.


def test_the_wiener_filter_is_what_it_is_compared_with(evaluated):
    _, found = evaluated("linear")
    for name, measure in found["sections"]["denoising"]["measures"].items():
        same = measure["references"]["Wiener"]
        assert measure["value"] == pytest.approx(same["value"]), name
    levels = evaluation.evaluate_denoiser(
        adapted(kgm.LinearDenoiser()),
        digits().test.images[:50],
        sigmas=(0.25,),
        seed=1,
    )["0.25"]
    psnr = found["sections"]["denoising"]["measures"]["psnr/0.25"]
    assert psnr["value"] == pytest.approx(levels["psnr"])
    error = levels["psnr_standard_error"]
    assert psnr["standard_error"] == pytest.approx(error)
    noisy = psnr["references"]["noisy"]["value"]
    assert noisy == pytest.approx(levels["noisy_psnr"])


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


def test_the_exact_denoiser_comes_to_rest_at_training_images(evaluated):
    _, found = evaluated("exact")
    assert value(found, "attractors", "settled") == 1
    assert value(found, "attractors", "memorized_fixed_points") > 0.5
    assert value(found, "attractors", "spectral_radius") < 1


# Samples.


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


def test_completions_keep_what_was_given(evaluated):
    workdir, _ = evaluated("quadrants")
    model = workdir.load_model()
    given = (digits().test.images > 127).astype(np.float32)
    samples = sample_evaluation.draw(model, digits().test, given, seed=0)
    grey = evaluation.as_float(digits().test.images)
    np.testing.assert_array_equal(samples[:, KNOWN], grey[:, KNOWN])
    assert not np.array_equal(samples, grey)


# Tables.


def tables_of(**evaluations):
    return {t.title: t for t in evaluation_tables.tables(evaluations)}


def test_tables_show_the_references_that_all_have_alike(evaluated):
    one, other = evaluated("linear")[1], evaluated("vae")[1]
    references = ["noisy", "V V'", "Wiener", "exact"]
    denoising = tables_of(this=one)["Denoising"]
    assert denoising.header == ["this", *references]
    assert "Ranks of V V'" in " ".join(denoising.notes)
    tables = tables_of(a=one, b=other)
    assert tables["Denoising"] == dataclasses.replace(
        denoising, header=["a", *references]
    )
    assert tables["Samples"].header == ["a", "b", "test images", "noise"]
    changed = copy.deepcopy(one)
    for measure in changed["sections"]["denoising"]["measures"].values():
        if "exact" in measure["references"]:
            measure["references"]["exact"]["value"] += 1
    changed["sections"]["denoising"]["notes"] = ["Of its own."]
    denoising = tables_of(a=one, b=changed)["Denoising"]
    assert denoising.header == ["a", "b", *references[:-1]]
    told = [note for note in denoising.notes if ": " in note]
    assert told[0].startswith("a: Over 50 test images")
    assert "b: Of its own." in told
    # What is beside it is told only if it is.
    assert not any("exact posterior mean" in note for note in denoising.notes)


def test_numbers_that_do_not_compare_stand_in_tables_of_their_own(
    evaluated, tmp_path
):
    drawn = evaluated("vae")[1]
    model = make_vae(likelihood="gaussian")
    workdir = finish(model, Workdir(tmp_path), "none")
    split = sample_evaluation.first(digits().test, 20)
    section = latent_evaluation.bounds(
        model, split, workdir, num_samples=3, seed=0
    )
    density = {"sections": {"likelihood": section.as_dict()}}
    likelihood, other, *_ = evaluation_tables.tables({"a": drawn, "b": density})
    assert likelihood.title == "Likelihood of drawn pixels"
    assert likelihood.header == ["a"]
    assert other.title == "Density of grey values"
    assert other.header == ["b"]


def test_a_table_is_aligned_in_a_terminal(evaluated):
    tables = tables_of(a=evaluated("linear")[1], b=evaluated("vae")[1])
    text = evaluation_tables.as_text([*tables.values()])
    precision = next(r for r in tables["Samples"].rows if "Prec" in r.label)
    (line,) = [s for s in text.splitlines() if s.startswith("Precision")]
    assert all(cell in line for cell in precision.cells)
