"""The likelihood section of a VAE whose prior is a denoiser."""

import numpy as np
import pytest
from support.evaluated_runs import digits
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels import datasets
from keras_genmodels.evaluation import evaluate_briefly, learned_prior, model

_NAMES = ("elbo", "rate", "log_likelihood", "effective_samples")


def make_prior(latent_size=2):
    network = kgm.mlp_denoiser((latent_size,), hidden_sizes=(4,))
    denoiser = kgm.DenoisingAutoencoder(network, sigma=(0.02, 5))
    return kgm.LatentDiffusion(make_vae(latent_size=latent_size), denoiser)


@pytest.fixture
def measured(monkeypatch):
    """Replaces the measurement; returns the numbers of images and draws."""
    calls = []

    def compare_priors(model, x, *, num_samples, seed, chunk_size):
        calls.append((len(x), num_samples))
        learned = {name: np.arange(len(x)) + 2.0 for name in _NAMES}
        own = {f"{name}_own": value - 0.5 for name, value in learned.items()}
        return {"distortion": np.zeros(len(x)), **learned, **own}

    monkeypatch.setattr(learned_prior, "compare_priors", compare_priors)
    return calls


def test_the_bounds_are_paired_and_their_number_is_limited(measured):
    prior = make_prior()
    section = evaluate_briefly(prior, digits(), binarization="dynamic")
    found = section["likelihood"].measures
    assert found["gain"].estimate == (0.5, 0.0)
    for name in _NAMES:
        (own,) = found[name].references.values()
        assert own.value == found[name].estimate.value - 0.5
    assert "10 draws" in found["log_likelihood"].label
    assert any("50 test images" in note for note in section["likelihood"].notes)
    settings = {"num_samples": 5000, "seed": 0}
    split = datasets.Split(np.zeros((300, 8, 8, 1), np.uint8), None)
    most = learned_prior.MOST
    model._likelihood(prior, split, "none", most, **settings).section()
    assert measured == [(50, 10), (200, 25)]
    assert model.num_measured(prior, digits()) == 50


def test_a_prior_of_many_latents_is_not_measured():
    prior = make_prior(latent_size=257)
    section = evaluate_briefly(prior, digits())["likelihood"]
    assert section.measures.keys() == {"latent_size"}
    assert any("256 latents" in note for note in section.notes)


def test_more_draws_than_are_made_are_named():
    prior = make_prior()
    assert "num_samples" not in model.unused_settings(prior, num_samples=25)
    reason = model.unused_settings(prior, num_samples=26)["num_samples"]
    assert "at most 25 draws" in reason
    vae = make_vae(latent_size=2)
    assert "num_samples" not in model.unused_settings(vae, num_samples=5000)
