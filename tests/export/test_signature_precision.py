"""Dtypes of the signatures of an export, and XLA."""

import numpy as np
import pytest
import tensorflow as tf
from support.exported_models import (
    make,
    settings,
)
from support.signature_calls import (
    assert_close,
    expected_of_denoiser,
    expected_of_latent,
    inputs_of,
)

import keras_genmodels as kgm
from keras_genmodels.core import precision
from keras_genmodels.export import (
    export,
    loader,
    read_description,
    signatures,
)
from keras_genmodels.export.check import check_version


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        pytest.param("float64", "rank", marks=pytest.mark.slow),
        pytest.param("float64", "vae", marks=pytest.mark.exhaustive),
        pytest.param("float64", "range", marks=pytest.mark.exhaustive),
        pytest.param("bfloat16", "vae", marks=pytest.mark.slow),
        pytest.param("bfloat16", "range", marks=pytest.mark.exhaustive),
    ],
)
def test_inputs_and_outputs_are_float32(
    policy, kind, tmp_path, request, session
):
    request.getfixturevalue(policy)
    model = make(kind)
    version = export(model, tmp_path, kind, **settings(kind))
    description = read_description(version)
    names = {
        spec["dtype"]
        for signature in description["signatures"].values()
        for specs in signature.values()
        for spec in specs.values()
    }
    assert names == {"float32", "int32"}
    run = session(version)
    expect = expected_of_latent if kind == "vae" else expected_of_denoiser
    # Numbers of 8 significant bits, and their sums.
    tolerance = 1e-5 if policy == "float64" else 3e-2
    for name in description["signatures"].keys() - {"serving_default"}:
        inputs = inputs_of(version, name, 3)
        expected = expect(model, name, **inputs)
        assert_close(run(name, inputs), expected, tolerance)
    if policy == "bfloat16":
        assert not check_version(version, model).problems


def test_signatures_are_traced_for_any_machine(monkeypatch):
    """So that those that XLA compiles are as precise on a GPU."""
    found = []

    class Recorder(kgm.LinearDenoiser):
        def _denoise(self, *args):
            found.append(precision.traced_for()[1])
            return super()._denoise(*args)

    denoiser = Recorder(rank=1)
    denoiser.adapt(np.eye(3, dtype="float32"))
    denoiser.denoise(tf.zeros([1, 3]))
    monkeypatch.setattr(tf.saved_model, "save", lambda *args, **_: None)
    signatures.save(denoiser, "folder", signatures.settings_of(denoiser, {}))
    assert found[0] is False
    assert {*found[1:]} == {True}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("labels", marks=pytest.mark.slow),
        *(
            pytest.param(kind, marks=pytest.mark.exhaustive)
            for kind in ("vae", "range", "exact")
        ),
    ],
)
def test_xla_compiles_if_requested(kind, tmp_path, session):
    model = make(kind)
    version = export(model, tmp_path, kind, jit_compile=True, **settings(kind))
    # XLA compiles each signature for each size.
    sizes = (1, 3, 257) if kind == "vae" else (1, 3)
    report = check_version(version, model, sizes)
    assert report.problems == []
    assert "loaded by Python alone" in report.table
    with pytest.raises(loader.RunError, match="XLA"):
        session(version)("generate", inputs_of(version, "generate", 1))
    # XLA drops the model's own checks.
    generate = tf.saved_model.load(version).signatures["generate"]
    given = {"seed": tf.zeros((1, 2), tf.int32)}
    if kind == "labels":
        given["condition"] = tf.constant([9])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="condition must be"
        ):
            generate(**given)
