"""Exported VAEs with learned priors and several layers answer as models."""

import pytest
from support.exported_models import LATENT, NUM_CLASSES, vae
from support.small_hierarchies import make_hvae
from support.small_priors import LEARNED, make_prior
from support.small_vaes import make_vae

import keras_genmodels as kgm
from keras_genmodels.export import export, read_description
from keras_genmodels.export.check import check_version


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEARNED)
def test_an_export_with_a_learned_prior_passes_its_check(kind, tmp_path):
    """The loader of the check has no TFP."""
    model = make_vae(prior=make_prior(kind))
    export(model, tmp_path, "model", **LATENT)
    found = check_version(tmp_path / "model" / "1", model, sizes=(1, 3))
    assert found.problems == []


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vamp", marks=pytest.mark.slow),
        pytest.param("flow", marks=pytest.mark.exhaustive),
        pytest.param("mixture", marks=pytest.mark.exhaustive),
    ],
)
def test_an_export_with_a_conditional_prior_passes_its_check(kind, tmp_path):
    model = vae(
        condition_network=kgm.label_embedding(NUM_CLASSES, 4),
        prior=make_prior(kind, condition_size=4),
        num_classes=NUM_CLASSES,
        label_dropout=0.1,
    )
    version = export(model, tmp_path, "model", **LATENT)
    assert check_version(version, model, sizes=(1, 5)).problems == []


@pytest.mark.slow
def test_an_export_of_several_layers_of_latents_passes_its_check(tmp_path):
    model = make_hvae((3, 2), prior="mixture")
    version = export(model, tmp_path, "model", **LATENT)
    assert check_version(version, model, sizes=(1, 3)).problems == []
    signatures = read_description(version)["signatures"]
    # The point that `decode` takes.
    ((name, encoded),) = signatures["encode"]["outputs"].items()
    assert encoded["shape"] == signatures["decode"]["inputs"][name]["shape"]
