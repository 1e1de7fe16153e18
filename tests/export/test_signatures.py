"""Signatures of exported models, by Python's and TensorFlow's C++ loader."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.exported_models import (
    KINDS,
    KNOWN,
    LATENT_KINDS,
)
from support.signature_calls import (
    assert_close,
    expected_of_denoiser,
    expected_of_latent,
    inputs_of,
    mark_of,
)

from keras_genmodels.export import (
    read_description,
)
from keras_genmodels.export.check import check_version


@pytest.fixture(scope="module")
def loaded(exports):
    """SavedModels by kind, loaded by TensorFlow's Python loader."""

    class Loaded(dict):
        def __missing__(self, kind):
            self[kind] = tf.saved_model.load(exports[kind][1])
            return self[kind]

    return Loaded()


def run_signature(loaded, signature, inputs):
    outputs = loaded.signatures[signature](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        # In the quick tests, the check of a `VAE` in tests/apps/test_export.py.
        pytest.param("vae", 33, marks=pytest.mark.slow),
        pytest.param("labels", 33, marks=pytest.mark.slow),
        pytest.param("range", 257, marks=pytest.mark.exhaustive),
        # The check, below, compares every kind at 257 rows.
        *(
            pytest.param(kind, 257, marks=pytest.mark.exhaustive)
            for kind in ("completion", "labelled", "exact")
        ),
    ],
)
def test_signatures_return_what_the_model_returns(kind, size, exports, loaded):
    model, version = exports[kind]
    is_latent = kind in LATENT_KINDS
    expect = expected_of_latent if is_latent else expected_of_denoiser
    names = (
        "reconstruct encode decode generate log_likelihood"
        if is_latent
        else "denoise noise restore restore_with generate generate_with"
    ).split()
    if not is_latent and model.needs_sigma:
        names += ["log_density"]
    assert {*loaded[kind].signatures} == {*names, "serving_default"}
    for name in names:
        for rows in (1, size):
            inputs = inputs_of(version, name, rows)
            outputs = run_signature(loaded[kind], name, inputs)
            assert_close(outputs, expect(model, name, **inputs))
            kinds = {value.dtype.name for value in outputs.values()}
            assert kinds <= {"float32", "int32"}
            if name == names[0]:
                default = run_signature(loaded[kind], "serving_default", inputs)
                assert_close(default, outputs, 0)


# Quick tests: a `VAE` in tests/apps/test_export.py, a `LinearDenoiser` in
# test_check.py.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=mark_of(kind)) for kind in KINDS]
)
def test_the_check_finds_no_problem(kind, exports):
    model, version = exports[kind]
    report = check_version(version, model)
    assert report.problems == []
    description = read_description(version)
    # Images of any size are not batched.
    count = len(description["signatures"]) * (1 if kind == "any_size" else 3)
    assert f"{count} warm-up records" in report.table
    for name in description["signatures"]:
        (line,) = (
            line
            for line in report.table.splitlines()
            if line.partition(" ")[0] == name
        )
        # Rows were compared, and wrong inputs were sent.
        _, _, eager, alone, refused = line.split()
        assert float(eager) < 1e-5
        assert float(alone) < 1e-5
        assert int(refused) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labels", "range", "vae", "exact"])
def test_a_seed_returns_the_same_image_at_any_place(kind, exports, loaded):
    inputs = inputs_of(exports[kind][1], "generate", 40)
    images = run_signature(loaded[kind], "generate", inputs)["image"]
    order = np.random.default_rng(1).permutation(40)
    permuted = {name: value[order] for name, value in inputs.items()}
    mixed = run_signature(loaded[kind], "generate", permuted)["image"]
    np.testing.assert_allclose(mixed, images[order], atol=1e-5)
    single = {name: value[7:8] for name, value in inputs.items()}
    np.testing.assert_allclose(
        run_signature(loaded[kind], "generate", single)["image"],
        images[7:8],
        atol=1e-5,
    )
    # The samples of the exact denoiser are among its 30 images.
    least = 40 if kind != "exact" else 10
    assert len(np.unique(images.round(4).reshape(40, -1), axis=0)) >= least


@pytest.mark.slow
def test_completion_keeps_observed_pixels(exports, session):
    version = exports["completion"][1]
    run = session(version)
    for name, given in (
        ("generate", "condition"),
        ("decode", "condition"),
        ("reconstruct", "image"),
    ):
        inputs = inputs_of(version, name, 5)
        images = run(name, inputs)["image"]
        np.testing.assert_array_equal(images[:, KNOWN], inputs[given][:, KNOWN])


# Other ways to load a version.


@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        pytest.param("vae", "generate", marks=pytest.mark.slow),
        ("labels", "generate"),
        pytest.param("range", "restore_with", marks=pytest.mark.slow),
        pytest.param("range", "serving_default", marks=pytest.mark.slow),
    ],
)
def test_a_keras_layer_runs_a_signature(kind, signature, exports, loaded):
    version = exports[kind][1]
    layer = keras.layers.TFSMLayer(version, call_endpoint=signature)
    inputs = inputs_of(version, signature, 3)
    expected = run_signature(loaded[kind], signature, inputs)
    assert_close(layer(inputs), expected)
    if len(inputs) == 1:
        (only,) = inputs.values()
        assert_close(layer(only), expected)


BLOCKED = """
import sys

BLOCKED = ("keras_genmodels", "tensorflow_probability")

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np, tensorflow as tf
for path in sys.argv[1:]:
    generate = tf.saved_model.load(path).signatures["generate"]
    seed = tf.constant([[1, 2]])
    if "condition" in generate.structured_input_signature[1]:
        image = generate(seed=seed, condition=tf.constant([1]))["image"]
    else:
        image = generate(seed=seed)["image"]
    print(path, float(tf.reduce_sum(image)))
import keras
layer = keras.layers.TFSMLayer(sys.argv[1], call_endpoint="generate")
given = {"seed": tf.constant([[1, 2]]), "condition": tf.constant([1])}
assert layer(given)["image"].shape == (1, *image.shape[1:])
assert not {*BLOCKED} & {*sys.modules}
"""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("range", marks=pytest.mark.slow),
        pytest.param("exact", marks=pytest.mark.exhaustive),
    ],
)
def test_loading_needs_neither_this_package_nor_tfp(kind, exports, loaded):
    kinds = ("labels", kind)
    process = subprocess.run(
        [sys.executable, "-c", BLOCKED, *(exports[k][1] for k in kinds)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    given = {"seed": np.array([[1, 2]], np.int32)}
    for kind, line in zip(kinds, process.stdout.splitlines(), strict=True):
        if kind == "labels":
            given = {**given, "condition": np.array([1], np.int32)}
        else:
            given.pop("condition", None)
        image = run_signature(loaded[kind], "generate", given)["image"]
        path, total = line.split()
        assert path == str(exports[kind][1])
        assert float(total) == pytest.approx(image.sum(), abs=1e-3)


def test_weights_are_tensorflow_variables(exports, loaded):
    model, weights = exports["vae"][0], loaded["vae"].weights
    for weight, variable in zip(weights, model.variables, strict=True):
        assert isinstance(weight, tf.Variable)
        np.testing.assert_array_equal(weight, variable.value)
