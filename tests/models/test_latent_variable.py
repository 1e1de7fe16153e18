"""What all latent-variable models share: one signature, files, dtype policy."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.small_cvaes import (
    NUM_CLASSES,
    OBSERVED,
    assemble,
    images,
    labels,
    of_labels,
)
from support.small_cvaes import of_parts as of_observed
from support.small_vaes import binary_images, make_vae

import keras_genmodels as kgm
from keras_genmodels.models import latent_variable


def labelled(**kwargs):
    settings = {"learned": True, "label_dropout": 0.1}
    return of_labels("full", **settings, **kwargs)


# By kind of condition: constructor, x and condition.
KINDS = {
    "none": (make_vae, binary_images(4), None),
    "label": (labelled, images(4), labels(4)),
    "observed": (of_observed, images(4), images(4)),
}

# Of other posteriors and likelihoods.
OTHER_KINDS = {
    "none of densities": (
        functools.partial(make_vae, "full", "gaussian"),
        *KINDS["none"][1:],
    ),
    "label of densities": (
        functools.partial(labelled, likelihood="gaussian"),
        *KINDS["label"][1:],
    ),
    "observed of levels": (
        functools.partial(of_observed, "discretized_logistic"),
        *[images(4, levels=256)] * 2,
    ),
}


def test_all_kinds_have_the_same_attributes():
    vae, label, observed = (make() for make, _, _ in KINDS.values())
    found = [(m.num_classes, m.label_dropout) for m in (vae, label, observed)]
    assert found == [(None, 0), (NUM_CLASSES, 0.1), (None, 0)]
    assert vae.observed_mask is label.observed_mask is None
    np.testing.assert_array_equal(observed.observed_mask, OBSERVED)
    kinds = [m.condition_kind for m in (vae, label, observed)]
    assert kinds == [None, "label", "observed"]


def test_a_model_without_conditions_refuses_them():
    model, x, y = make_vae(), binary_images(2), labels(2)
    for use in (
        lambda: model.encode(x, y),
        lambda: model.prior(y),
        lambda: model.sample(condition=y, seed=0),
        lambda: model.elbo(x, y, seed=0),
    ):
        with pytest.raises(ValueError, match="takes no condition"):
            use()
    with pytest.raises(ValueError, match="guidance"):
        model.sample(2, seed=0, guidance=1.0)
    with pytest.raises(ValueError, match="num must be an int >= 1"):
        model.sample(0, seed=0)


# --- Old spellings. --------------------------------------------------------


def test_the_old_order_of_sample_warns_and_works():
    model, y = of_labels(label_dropout=0.1), labels(4)
    for old, new in (
        (lambda: model.sample(y, seed=0), {"condition": y}),
        (lambda: model.sample(list(y), seed=0), {"condition": y}),
        (lambda: model.sample(None, num=3, seed=0), {"num": 3}),
    ):
        with pytest.warns(DeprecationWarning, match="condition=condition"):
            found = old()
        np.testing.assert_array_equal(found, model.sample(**new, seed=0))


def test_old_names_of_arguments_and_attributes_warn_and_work():
    with pytest.warns(DeprecationWarning, match="num_classes"):
        network = kgm.label_embedding(NUM_CLASSES, 5)
        model = assemble(network, 5, num_labels=NUM_CLASSES)
    with pytest.warns(DeprecationWarning, match="num_classes"):
        assert model.num_labels == NUM_CLASSES
    with pytest.warns(DeprecationWarning, match="LatentVariableModel"):
        assert latent_variable.VariationalModel is kgm.LatentVariableModel
    vae = make_vae()
    with pytest.warns(DeprecationWarning, match="validate_inputs"):
        vae.read(binary_images(2))
    parts = (vae.encoder, vae.decoder, vae.posterior, vae.likelihood)
    with pytest.warns(DeprecationWarning, match="positional beta, seed"):
        model = kgm.VAE(*parts, 0.5, 7)
    assert (model.beta, model.seed) == (0.5, 7)
    with pytest.raises(TypeError, match="two values for beta"):
        kgm.VAE(*parts, 0.5, beta=0.5)


# --- Files. ----------------------------------------------------------------


def test_a_config_of_format_2_loads():
    for make, old, new in (
        (of_labels, "num_labels", "num_classes"),
        (of_observed, "known", "observed_mask"),
    ):
        model = make()
        config = json.loads(json.dumps(model.get_config()))
        del config["dtype_policy"]
        config |= {"format": 2, old: config.pop(new)}
        copy = kgm.ConditionalVAE.from_config(config)
        np.testing.assert_array_equal(getattr(copy, new), getattr(model, new))


def test_a_file_of_a_newer_format_is_refused():
    config = json.loads(json.dumps(make_vae().get_config()))
    config["format"] += 1
    with pytest.raises(ValueError, match="upgrade the package"):
        kgm.VAE.from_config(config)


def outputs(model, x, c):
    """What a file has to keep, by name; float64 events are not rounded."""
    dtype = model.statistics_dtype
    x = x.astype(dtype)
    c = c if c is None or c.dtype.kind == "i" else c.astype(dtype)
    z = np.random.default_rng(0).standard_normal((4, model.latent_size)) / 3
    given = {"num": 4} if c is None else {"condition": c}
    return {
        "elbo": model.elbo(x, c, seed=5).numpy(),
        "covariance": model.encode(x, c).covariance().numpy(),
        "prior": model.prior(c).mean().numpy(),
        "decoded": model.decode(z, c).mean().numpy(),
        "sample": model.sample(**given, seed=6).numpy(),
        "settings": np.array(
            [
                *(model.beta, model.seed),
                *(model.rate_warmup_steps, model.label_dropout),
            ]
        ),
    }


_LOAD = """
import sys
import keras, numpy as np
import keras_genmodels
from test_latent_variable import KINDS, OTHER_KINDS, outputs

folder = sys.argv[1]
for name in sys.argv[2:]:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    _, x, c = {**KINDS, **OTHER_KINDS}[name.split("-")[0]]
    np.savez(f"{folder}/{name}.npz", **outputs(model, x, c))
"""


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(KINDS, marks=pytest.mark.exhaustive),
        pytest.param(OTHER_KINDS, marks=pytest.mark.slow),
    ],
    ids=["bernoulli", "others"],
)
def test_a_fresh_process_computes_the_same_whatever_the_dtype_policy(
    tmp_path, kinds
):
    expected = {}
    for policy in ("float32", "float64", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        try:
            for kind, (make, x, c) in kinds.items():
                model = make(beta=0.5, seed=7, rate_warmup_steps=9)
                model.save(tmp_path / f"{kind}-{policy}.keras")
                expected[f"{kind}-{policy}"] = outputs(model, x, c)
        finally:
            keras.config.set_dtype_policy("float32")
    folders = [str(pathlib.Path(__file__).parent), *sys.path]
    subprocess.run(
        [sys.executable, "-c", _LOAD, tmp_path, *expected],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )
    for name, values in expected.items():
        found = np.load(tmp_path / f"{name}.npz")
        for key, value in values.items():
            assert found[key].dtype == value.dtype, (name, key)
            tolerance = 1e-12 if value.dtype == np.float64 else 1e-6
            np.testing.assert_allclose(
                found[key], value, rtol=tolerance, atol=tolerance, err_msg=name
            )


def test_saving_and_loading_warns_of_no_old_name(tmp_path, recwarn):
    """Keras reads all attributes that `dir` lists when it saves a model."""
    of_labels().save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")
    assert not [w for w in recwarn if "deprecated: use" in str(w.message)]
