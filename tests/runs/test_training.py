"""`runs.train` as a script calls it: every family, and a user's own models."""

import json

import keras
import numpy as np
import pytest
from support.cheap_training import without_xla_and_figures
from support.small_vaes import SHAPE, make_vae
from support.tiny_data import tiny_data

import keras_genmodels as kgm
from keras_genmodels import datasets, runs
from keras_genmodels.runs import job, latent

TINY = {"epochs": 1, "batch_size": 4, "jit_compile": False, "verbose": 0}
ARGUMENTS = {
    "seed": 3,
    "binarization": "threshold",
    "learning_rate": 0.01,
    **TINY,
}


pytestmark = pytest.mark.usefixtures("without_xla")


@keras.saving.register_keras_serializable("tests")
class OwnVAE(kgm.VAE):
    """A user's kind of latent-variable model."""


@keras.saving.register_keras_serializable("tests")
class HalfWay(kgm.Denoiser):
    """A user's kind of denoiser, which only adapts: half way to the mean."""

    def adapt(self, data):
        self.mean = self.add_weight(
            shape=data.shape[1:], trainable=False, name="mean"
        )
        self.mean.assign(data.mean(0) / 255)
        self.built = True

    def get_build_config(self):
        return {"shape": self.event_shape}

    def build_from_config(self, config):
        self.adapt(np.zeros((1, *config["shape"]), np.uint8))

    @property
    def event_shape(self):
        return tuple(self.mean.shape) if hasattr(self, "mean") else None

    @property
    def data_mean(self):
        return self.mean

    @property
    def sigma_range(self):
        return 0.1, 1.0

    def _denoise(self, x, sigma):
        return (x + self.mean) / 2


def own_vae():
    plain = make_vae()
    return OwnVAE(
        plain.encoder, plain.decoder, plain.posterior, plain.likelihood
    )


@pytest.mark.parametrize(
    ("make", "options"),
    [pytest.param(own_vae, TINY, marks=pytest.mark.slow), (HalfWay, {})],
)
def test_a_kind_of_model_of_the_user_is_trained_and_loaded(
    tmp_path, make, options
):
    data = tiny_data(9, 4)
    metrics = runs.train(make(), data, tmp_path, **options)
    assert metrics["kind"] == make().__class__.__name__
    model = runs.load_model(tmp_path)
    assert type(model) is type(make())
    assert runs.Workdir(tmp_path).read_run().kind == type(model).__name__


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a finished run of a script, and its metrics."""
    workdir = runs.Workdir(tmp_path_factory.mktemp("runs") / "vae")
    with without_xla_and_figures():
        metrics = runs.train(
            make_vae(beta=2.0), tiny_data(9, 4), workdir, **ARGUMENTS
        )
    return workdir, metrics


def test_run_json_holds_what_a_script_passed(trained):
    workdir, _ = trained
    run = workdir.read_run()
    assert (run.seed, run.binarization, run.epochs) == (3, "threshold", 1)
    assert run.settings["learning_rate"] == 0.01
    assert run.settings["beta"] == 2
    assert run.settings["batch_size"] == 4
    content = json.loads(workdir.run.read_text())
    assert content["data"]["source"] is None
    assert not workdir.flags.exists()


def test_a_finished_run_is_left_as_it_is_and_another_is_refused(
    trained, capsys
):
    workdir, metrics = trained
    data = tiny_data(9, 4)
    again = runs.train(make_vae(beta=2.0), data, workdir, **ARGUMENTS)
    assert again == metrics
    assert "This run is finished" in capsys.readouterr().out
    with pytest.raises(kgm.UserError, match=r"beta=3\.0 \(was 2\.0\)"):
        runs.train(make_vae(beta=3.0), data, workdir, **ARGUMENTS)
    with pytest.raises(kgm.UserError, match=r"kind of model \(VAE"):
        runs.train(kgm.LinearDenoiser(), data, workdir)


def test_the_default_binarization_suits_the_likelihood():
    for likelihood, binarization in (
        ("bernoulli", "dynamic"),
        ("gaussian", "none"),
    ):
        model = make_vae(likelihood=likelihood)
        assert latent.default_binarization(model) == binarization


@pytest.mark.parametrize(
    ("model", "arguments", "error", "named"),
    [
        (make_vae, {"learning_rat": 1}, TypeError, "learning_rat"),
        (kgm.LinearDenoiser, {"epochs": 3}, TypeError, "epochs"),
        (
            lambda: kgm.DenoisingAutoencoder(
                kgm.mlp_denoiser((8, 8, 1), hidden_sizes=(4,))
            ),
            {"binarization": "none"},
            TypeError,
            "binarization",
        ),
        (make_vae, {"batch_size": 10}, kgm.UserError, "batch_size"),
        (
            make_vae,
            {"learning_rate": -1.0, "batch_size": 4},
            kgm.UserError,
            "learning_rate",
        ),
        (
            lambda: keras.Sequential([keras.Input((2,))]),
            {},
            TypeError,
            "Sequential",
        ),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(
    tmp_path, model, arguments, error, named
):
    workdir = tmp_path / "run"
    with pytest.raises(error, match=named):
        runs.train(model(), tiny_data(9, 4), workdir, verbose=0, **arguments)
    assert not workdir.exists()


def test_data_that_do_not_suit_a_denoiser_end_in_a_user_error(tmp_path):
    data = tiny_data(9, 4)
    constant = datasets.Split(np.zeros_like(data.train.images), None)
    data = datasets.ImageDataset("constant", constant, None, data.test)
    with pytest.raises(kgm.UserError, match="constant: "):
        runs.train(kgm.LinearDenoiser(rank=100), data, tmp_path / "run")


def test_weights_of_another_model_are_refused_with_the_difference(tmp_path):
    path = tmp_path / "model.keras"
    make_vae(latent_size=2).save(path)
    for model, reason in (
        (kgm.EmpiricalDenoiser(), "a VAE, not an EmpiricalDenoiser"),
        (make_vae(latent_size=3), r"shape \[.*\], not \["),
    ):
        with pytest.raises(kgm.UserError, match=f"^init_from.*{reason}"):
            job.start_from_weights(model, path, SHAPE)
