"""An exported VAE with a learned prior answers as the model."""

import pytest
from support.exported_models import LATENT
from support.small_priors import make_prior
from support.small_vaes import make_vae

from keras_genmodels.export import export
from keras_genmodels.export.check import check_version


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vamp", marks=pytest.mark.slow),
        pytest.param("flow", marks=pytest.mark.exhaustive),
        pytest.param("mixture", marks=pytest.mark.exhaustive),
    ],
)
def test_an_export_with_a_learned_prior_passes_its_check(kind, tmp_path):
    """The loader of the check has no TFP."""
    model = make_vae(prior=make_prior(kind))
    export(model, tmp_path, "model", **LATENT)
    found = check_version(tmp_path / "model" / "1", model, sizes=(1, 3))
    assert found.problems == []
