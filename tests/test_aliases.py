"""Old module paths work, each with a DeprecationWarning."""

import importlib
import sys

import pytest

import keras_genmodels as kgm
from keras_genmodels import _aliases

# A name that each old path was imported for.
NAMES = {
    "attractor_plots": "restoration_rows",
    "corruptions": "gaussian",
    "denoiser_networks": "unet",
    "distribution_layers": "IndependentBernoulli",
    "errors": "UserError",
    "evaluation": "psnr",
    "label_metrics": "diversity",
    "latent_evaluation": "active_units",
    "likelihood": "log_likelihood",
    "models": "DenoisingAutoencoder",
    "models.cvae": "ConditionalVAE",
    "models.dae": "DenoisingAutoencoder",
    "noise_schedules": "falling_levels",
    "restoration": "restore",
    "sample_metrics": "precision_recall",
    "seeds": "as_seed",
    "serving.loader": "Loader",
    "serving.replay": "replay",
    "training": "Options",
    "workdir": "Workdir",
}

# The public functions and classes of version 0.2, less those that
# docs/compatibility.md lists as removed.
PUBLIC = {
    "attractor_plots": "restoration_rows singular_images vector_field",
    "attractors": "BasinRadius FixedPoints JacobianSpectrum LocalDimension "
    "Memorization basin_radius fixed_points jacobian_eigenvalues "
    "local_dimension memorization",
    "corruptions": "gaussian known_quadrants",
    "datasets": "ImageDataset Split evaluation_batches list_pictures load "
    "read_labels read_pictures training_batches",
    "denoiser_networks": "bias_free_unet mlp_denoiser unet",
    "denoisers": "Denoiser EmpiricalDenoiser LinearDenoiser",
    "evaluation": "as_float as_text averages bits_per_dimension bound_terms "
    "evaluate_denoiser evaluate_likelihood evaluate_monte_carlo "
    "likelihood_terms noise_levels psnr ssim",
    "export": "check_name export read_description",
    "label_metrics": "diversity fit_label_classifier label_consistency some",
    "latent_evaluation": "active_units",
    "likelihood": "ImportanceWeighted importance_weighted log_likelihood",
    "models": "ConditionalVAE DenoisingAutoencoder VAE",
    "noise_schedules": "falling_levels growing_steps",
    "plots": "image_grid save_png titled",
    "restoration": "Restoration denoise_once generate restore",
    "sample_metrics": "density_coverage frechet_classifier_distance "
    "nearest_training_images precision_recall",
    "seeds": "as_seed content_seeds fold_in normal row_seeds uniform",
    "serving": "Client Server",
    "training": "Options compile_model fit steps_per_epoch",
    "workdir": "Workdir load_model",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_public_name_of_version_0_2_is_found():
    missing = [
        f"{old}.{name}"
        for old, names in PUBLIC.items()
        for name in names.split()
        if not hasattr(importlib.import_module(f"keras_genmodels.{old}"), name)
    ]
    assert not missing


@pytest.mark.parametrize("old", sorted(_aliases.MODULES))
def test_an_old_path_gives_the_object_at_the_new_one(old, monkeypatch):
    name = NAMES[old]
    if old not in ("evaluation", "models", "training"):
        monkeypatch.delitem(sys.modules, f"keras_genmodels.{old}", False)
    with pytest.warns(DeprecationWarning, match=rf"keras_genmodels\.{old}\b"):
        found = getattr(importlib.import_module(f"keras_genmodels.{old}"), name)
    new = importlib.import_module(f"keras_genmodels.{_aliases.MODULES[old][0]}")
    assert found is getattr(new, name, found)
    assert found.__module__ != f"keras_genmodels.{old}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_module"):
        kgm.no_such_module  # noqa: B018
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("keras_genmodels.models").no_such_name  # noqa: B018


def test_the_warning_points_at_the_line_of_the_user(monkeypatch):
    """Python shows a DeprecationWarning of `__main__` by default."""
    script = (
        "from keras_genmodels import restoration\n"
        "from keras_genmodels.noise_schedules import falling_levels\n"
        "from keras_genmodels.evaluation import psnr\n"
    )
    for old in ("restoration", "noise_schedules"):
        monkeypatch.delitem(sys.modules, f"keras_genmodels.{old}", False)
        monkeypatch.delattr(kgm, old, False)
    with pytest.warns(DeprecationWarning) as warned:
        exec(compile(script, "script.py", "exec"), {"__name__": "__main__"})
    found = {(w.filename, w.lineno) for w in warned}
    assert found == {("script.py", number) for number in (1, 2, 3)}
