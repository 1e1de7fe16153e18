"""Runs of latent-variable models, in one process."""

import json
import math

import numpy as np
import pytest
from support.small_cvaes import SHAPE, of_labels
from support.small_vaes import make_vae
from support.tiny_data import tiny_data

import keras_genmodels as kgm
from keras_genmodels import datasets, runs
from keras_genmodels.metrics.estimates import as_text, average
from keras_genmodels.metrics.likelihood import likelihood_terms
from keras_genmodels.runs import metrics_file, results
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import fit
from keras_genmodels.training import inputs as latent_inputs

pytestmark = pytest.mark.usefixtures("without_xla")


def measures_of(metrics):
    return metrics["test"]["sections"]["likelihood"]["measures"]


def train(model, data, workdir, binarization):
    return runs.train(
        model,
        data,
        workdir,
        binarization=binarization,
        epochs=1,
        batch_size=4,
        jit_compile=False,
        verbose=0,
    )


@pytest.mark.slow
def test_a_run_needs_one_test_image_and_no_validation(tmp_path):
    workdir = Workdir(tmp_path / "run")
    metrics = train(make_vae(), tiny_data(9, 1), workdir, "dynamic")
    assert metrics["test"]["num_images"] == 1
    assert metrics["training"]["validation_loss"] is None
    assert "cross entropies" not in metrics_file.summary(workdir)
    options = fit.Options(epochs=1, steps_per_epoch=2)
    assert results.is_finished(workdir, options)
    assert type(workdir.load_model()) is kgm.VAE


@pytest.mark.slow
def test_a_run_starts_a_vamp_prior_from_its_training_images(tmp_path):
    data = tiny_data(9, 4)
    model = make_vae(prior=kgm.VampPrior((8, 8, 1), 6))
    settings = {"binarization": "threshold", "batch_size": 4, "verbose": 0}
    settings |= {"epochs": 1, "jit_compile": False, "learning_rate": 1e-9}
    runs.train(model, data, tmp_path / "run", **settings)
    found = Workdir(tmp_path / "run").load_model().prior_layer
    assert found.adapted
    images = data.train.images > 127
    for each in found.get_weights()[0] > 0.5:
        assert (each == images).all((1, 2, 3)).any()
    # A run that starts from the weights of another keeps its pseudo-inputs.
    path = str(tmp_path / "run" / "model.keras")
    other = make_vae(prior=kgm.VampPrior((8, 8, 1), 6), seed=1)
    runs.train(other, data, tmp_path / "b", init_from=path, **settings)
    np.testing.assert_allclose(
        other.prior_layer.get_weights()[0], found.get_weights()[0], atol=1e-6
    )
    slow = make_vae(rate_warmup_steps=2)
    with pytest.raises(kgm.UserError, match=r"rate_warmup_steps must be in"):
        runs.train(slow, data, tmp_path / "c", **settings)
    averaged = settings | {"ema_momentum": 0.5}
    with pytest.raises(kgm.UserError, match="leaves 25% of the initial"):
        runs.train(make_vae(), data, tmp_path / "c", **averaged)
    many = make_vae(prior=kgm.VampPrior((8, 8, 1), 10))
    with pytest.raises(
        kgm.UserError, match="num_pseudo_inputs must be at most"
    ):
        runs.train(many, data, tmp_path / "c", **settings)
    # The workdir is still free for a run that suits.
    assert not (tmp_path / "c" / "run.json").exists()


@pytest.mark.slow
def test_the_summary_says_that_a_cross_entropy_is_no_likelihood(tmp_path):
    likelihood = kgm.IndependentBernoulli((8, 8, 1), grey_values=True)
    plain = make_vae()
    model = kgm.VAE(plain.encoder, plain.decoder, plain.posterior, likelihood)
    workdir = Workdir(tmp_path / "run")
    train(model, tiny_data(9, 4), workdir, "none")
    assert "not likelihoods" in metrics_file.summary(workdir)


@pytest.mark.slow
def test_measures_that_are_not_finite_are_reported_as_such(tmp_path):
    """A posterior so wide that its variance overflows, of test images alone."""
    data = tiny_data(9, 4)
    data.train.images[:, 0, 0] = 0
    data.test.images[:, 0, 0] = 255
    plain = make_vae()
    encoder = kgm.mlp_encoder((8, 8, 1), plain.posterior.params_size, ())
    kernel, bias = encoder.get_weights()
    kernel[0, 3:] = 1e20
    encoder.set_weights([kernel, bias])
    likelihood = kgm.IndependentDiscretizedLogistic((8, 8, 1))
    decoder = kgm.mlp_decoder(3, likelihood.params_shape, ())
    model = kgm.VAE(encoder, decoder, plain.posterior, likelihood)
    workdir = Workdir(tmp_path / "run")
    metrics = train(model, data, workdir, "none")
    assert json.loads(workdir.metrics.read_text()) == metrics
    test = measures_of(metrics)
    for name in ("elbo", "rate", "loss", "bits_per_dimension"):
        assert test[name]["value"] is test[name]["standard_error"] is None
    lines = metrics_file.summary(workdir).splitlines()
    for label in ("Evidence", "Rate", "Bits"):
        (line,) = [x for x in lines if x.startswith(f"  {label}")]
        assert "infinite" in line or "not finite" in line


@pytest.mark.slow
def test_every_average_of_a_run_has_an_error(tmp_path):
    """The loss and the bits, by the test images one by one."""
    model = make_vae(likelihood="discretized_logistic", beta=3.0)
    data, workdir = tiny_data(9, 7), Workdir(tmp_path / "run")
    test = measures_of(train(model, data, workdir, "none"))
    model = workdir.load_model()
    inputs = latent_inputs.Inputs(model, data, "none", 0)
    terms = likelihood_terms(
        model, inputs.batches(data.test), seed=0, num_samples=1
    )
    loss = terms["distortion"] + 3 * terms["rate"]
    bits = -terms["elbo"] / (64 * math.log(2))
    for name, values in (("loss", loss), ("bits_per_dimension", bits)):
        error = np.std(values, ddof=1) / 7**0.5
        assert test[name]["value"] == pytest.approx(values.mean(), rel=1e-5)
        found = test[name]["standard_error"]
        assert found == pytest.approx(error, rel=1e-4)
    text = as_text(bits.mean(), error, "bits")
    assert text in metrics_file.summary(workdir)


@pytest.mark.slow
def test_the_loss_of_several_draws_has_an_error(tmp_path):
    model = make_vae(num_importance_samples=3)
    data, workdir = tiny_data(9, 7), Workdir(tmp_path / "run")
    test = measures_of(train(model, data, workdir, "dynamic"))
    model = workdir.load_model()
    inputs = latent_inputs.Inputs(model, data, "dynamic", 0)
    terms = likelihood_terms(
        model, inputs.batches(data.test), seed=0, num_samples=3
    )
    mean, error = average(-terms["log_likelihood"])
    assert test["loss"]["value"] == pytest.approx(mean, rel=1e-5)
    assert test["loss"]["standard_error"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(labels, marks=pytest.mark.slow)
        for labels in ([0, 1, 2] * 8, [1] * 24)
    ],
)
def test_labels_are_measured_where_they_can_be(tmp_path, labels):
    data = tiny_data(12, 12, labels, SHAPE)
    workdir = Workdir(tmp_path / "run")
    metrics = train(of_labels(), data, workdir, "dynamic")
    found = metrics["test"]["sections"]["labels"]
    assert 0 < found["measures"]["diversity"]["value"] < 2
    text = metrics_file.summary(workdir)
    if len(set(labels)) > 1:
        accuracy = found["measures"]["label_accuracy"]
        reference = accuracy["references"]["real test images"]
        assert 0 <= accuracy["value"] <= 1 and 0 <= reference["value"] <= 1
        assert "Label accuracy  " in text
    else:
        assert "Label accuracy not measured: " in text
    test = measures_of(metrics)
    assert test["log_likelihood"]["label"].endswith("100 draws")
    assert test["log_likelihood"]["value"] > test["elbo"]["value"]


def test_a_run_is_described_before_it_starts():
    text = results.describe(
        tiny_data(9, 4),
        Workdir("/a/b"),
        fit.Options(epochs=3, steps_per_epoch=2),
    )
    for part in ("9 training, 4 test", "8x8x1", "3 epochs of 2", "/a/b"):
        assert part in text


def test_the_fingerprint_of_data_depends_on_their_pixels():
    data, same = tiny_data(9, 4), tiny_data(9, 4)
    assert data.fingerprint() == same.fingerprint()
    assert data.fingerprint().startswith("9+4 images")
    changed = data.train.images.copy()
    changed[0, 0, 0, 0] ^= 1
    other = datasets.ImageDataset(
        "tiny", datasets.Split(changed, None), None, data.test, None
    )
    assert other.fingerprint() != data.fingerprint()


@pytest.mark.parametrize("times", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_folder_without_a_checkpoint_is_no_start(tmp_path, times):
    workdir = Workdir(tmp_path)
    workdir.checkpoints.mkdir()
    if times:
        train(make_vae(), tiny_data(9, 1), workdir, "dynamic")
    assert workdir.has_checkpoint() == bool(times)
