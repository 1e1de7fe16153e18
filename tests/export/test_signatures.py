"""Signatures of exported models, by Python's and TensorFlow's C++ loader."""

import contextlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.exported_models import (
    KINDS,
    KNOWN,
    LATENT,
    LATENT_KINDS,
    SHAPE,
    WALK,
    make,
    settings,
    tokens,
)

import keras_genmodels as kgm
from keras_genmodels.export import (
    example_requests,
    export,
    loader,
    read_description,
)
from keras_genmodels.export.check import check_version
from keras_genmodels.export.fields import checked
from keras_genmodels.export.signatures import settings_of, signatures_of
from keras_genmodels.models.likelihood import importance_weighted


@pytest.fixture(scope="module")
def loaded(exports):
    """SavedModels by kind, loaded by TensorFlow's Python loader."""

    class Loaded(dict):
        def __missing__(self, kind):
            self[kind] = tf.saved_model.load(exports[kind][1])
            return self[kind]

    return Loaded()


@pytest.fixture
def session():
    """Loads a version with TensorFlow's C++ loader; returns its `run`."""
    with contextlib.ExitStack() as stack:
        yield lambda version: stack.enter_context(loader.Loader(version)).run
    # Other tests of this process compile.
    loader._open_library()._ZN10tensorflow20EnableXlaCompilationEv()


def inputs_of(version, signature, rows):
    return example_requests.valid_inputs(
        read_description(version), signature, rows
    )


def run_signature(loaded, signature, inputs):
    outputs = loaded.signatures[signature](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    return {name: value.numpy() for name, value in outputs.items()}


def assert_close(outputs, expected, tolerance=1e-5):
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            outputs[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )


# What the signatures return.


def expected_of_latent(model, signature, image=None, **given):
    """Computes the outputs of a VAE's signature with the model's methods."""
    condition = given.get("condition")
    more = () if condition is None else (condition,)
    if signature == "encode":
        posterior = model.encode(image, *more)
        if isinstance(model.posterior, kgm.MultivariateNormalTriL):
            return {"loc": posterior.loc, "scale_tril": posterior.scale_tril}
        return {"loc": posterior.loc, "stddev": posterior.stddev()}
    if signature == "generate":
        num = len(given["seed"]) if condition is None else None
        return {"image": model.sample(num, condition, seed=given["seed"])}
    if signature == "log_likelihood":
        terms = model.elbo_terms(image, *more, seed=given["seed"])
        return {
            "log_likelihood": importance_weighted(
                model, image, *more, seed=given["seed"], jit_compile=False,
                **LATENT,
            ).log_likelihood,
            "elbo": -terms["rate"] - terms["distortion"],
            "rate": terms["rate"],
            "distortion": terms["distortion"],
        }  # fmt: skip
    kept = image if signature == "reconstruct" else condition
    z = given.get("z")
    if z is None:
        z = model.encode(image, *more).loc
    decoded = model.decode(z, *more).mean()
    if model.observed_mask is not None:
        decoded = np.where(model.observed_mask, kept, decoded)
    return {"image": decoded}


def expected_density(model, image, sigma):
    if isinstance(model, kgm.EmpiricalDenoiser | kgm.LinearDenoiser):
        nats = model.noisy_data(sigma).log_prob(image)
        error = np.zeros(len(image))
    else:
        # Steps of one length; those of controlled length differ by less than
        # the errors that both report.
        found, controlled = (
            kgm.probability_flow(
                model, image, sigma, jit_compile=False, **settings
            )
            for settings in ({"tolerance": 1e-300, "max_steps": 32}, {})
        )
        difference = np.abs(found.log_density - controlled.log_density)
        errors = found.solver_error + controlled.solver_error
        assert np.all(difference < 0.01 + errors)
        nats, error = found.log_density, found.solver_error
    return {"log_density": np.float32(nats), "solver_error": np.float32(error)}


def expected_of_denoiser(
    model, signature, image=None, sigma=None, condition=None, **given
):
    if signature == "denoise":
        return {"denoised": model.denoise(image, sigma, condition)}
    if signature == "noise":
        return {"noise": image - model.denoise(image, sigma, condition)}
    if signature == "log_density":
        return expected_density(model, image, sigma)
    if signature in ("generate", "generate_with"):
        steps = given.get("num_steps", WALK["num_steps"])
        image = kgm.generate(
            model,
            SHAPE,
            len(given["seed"]),
            seed=given["seed"],
            condition=condition,
            guidance=given.get("guidance", 0.0),
            num_steps=tf.constant(steps) if np.ndim(steps) else steps,
            jit_compile=False,
        )
        return {"image": image}
    loop = given or {"max_steps": WALK["max_steps"]}
    loop |= {"condition": condition, "jit_compile": False}
    result = kgm.restore(model, image, sigma=sigma, **loop)
    return {
        "image": result.x,
        "num_steps": result.num_steps,
        "residual": result.residual,
    }


def mark_of(kind):
    """Returns the mark of a test that needs an export of its own."""
    is_common = kind in ("vae", "labels", "range", "exact")
    return pytest.mark.slow if is_common else pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((kind, 33) for kind in ("vae", "labels")),
        pytest.param("range", 257, marks=pytest.mark.slow),
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
    count = len(description["signatures"]) * 3
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


@pytest.mark.parametrize(
    "kind",
    [
        "labels",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("range", "vae", "exact")
        ),
    ],
)
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
        pytest.param("labels", "generate", marks=pytest.mark.slow),
        ("range", "restore_with"),
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


# Refusals, by TensorFlow's C++ session.

SEED = np.array([[1, 2]], np.int32)
IMAGE = np.full((1, *SHAPE), 0.5, np.float32)
ONE = np.ones(1, np.float32)
FIVE = np.full(1, 5, np.int32)
WITH = {
    "image": IMAGE,
    "sigma": ONE,
    "step_size": ONE,
    "max_steps": FIVE,
    "tolerance": ONE,
}


def spoilt(array, value):
    array = np.array(array)
    array.reshape(-1)[-1] = value
    return array


REFUSED = {
    "vae": [
        (
            "decode",
            {"z": np.zeros((0, 2**40), np.float32)},
            f"z must have shape [batch, 3], got [0 {2**40}]",
        ),
        (
            "reconstruct",
            {"image": np.zeros((1, 4, 16, 1), np.float32)},
            "image must have shape [batch, 8, 8, 1], got [1 4 16 1]",
        ),
        (
            "reconstruct",
            {"image": np.zeros((2, 64), np.float32)},
            "image must have shape [batch, 8, 8, 1], got [2 64]",
        ),
        (
            "encode",
            {"image": spoilt(IMAGE, np.nan)},
            "image must be finite and in [-1, 2]",
        ),
        (
            "decode",
            {"z": np.full((1, 3), np.inf, np.float32)},
            "z must be finite, got inf",
        ),
        (
            "generate",
            {"seed": np.ones((1, 3), np.int32)},
            "seed must have shape [batch, 2], got [1 3]",
        ),
        (
            "generate",
            {"seed": np.ones(2, np.int32)},
            "seed must have shape [batch, 2], got [2]",
        ),
        (
            "generate",
            {"seed": np.ones((1025, 2), np.int32)},
            "seed must have 1 to 1024 rows, got 1025",
        ),
        (
            "generate",
            {"seed": np.ones((0, 2), np.int32)},
            "seed must have 1 to 1024 rows, got 0",
        ),
        (
            "log_likelihood",
            {"image": IMAGE, "seed": SEED},
            "image must be 0 or 1, got 0.5",
        ),
        (
            "log_likelihood",
            {"image": np.zeros((2, *SHAPE), np.float32), "seed": SEED},
            "seed must have as many rows as image, got 1",
        ),
    ],
    "labels": [
        (
            "log_likelihood",
            {
                "image": IMAGE + 1,
                "condition": np.array([1], np.int32),
                "seed": SEED,
            },
            "image must be in [0, 1], got 1.5",
        ),
    ]
    + [
        (
            "generate",
            {"seed": SEED, "condition": np.array([value], np.int32)},
            "condition must be a label from 0 to 2, or 3 for no label, got "
            f"{value}",
        )
        for value in (-1, 4)
    ],
    "completion": [
        (
            "log_likelihood",
            {"image": IMAGE, "condition": IMAGE, "seed": SEED},
            "image must be k / 255 for an integer k in [0, 255], got 0.5",
        ),
        (
            "generate",
            {"condition": spoilt(IMAGE, np.nan), "seed": SEED},
            "condition must be finite and in [-1, 2], as pixels are in [0, 1]",
        ),
    ],
    "range": [
        *(
            (
                "denoise",
                {"image": IMAGE, "sigma": np.full(1, sigma, np.float32)},
                f"sigma must be in (0, 15], got {sigma}",
            )
            for sigma in (0, -1, np.nan, np.inf)
        ),
        (
            "restore",
            {"image": spoilt(IMAGE, -np.inf), "sigma": ONE},
            "image must be finite and within 10 + 8 sigma of 0",
        ),
        (
            "restore_with",
            {**WITH, "step_size": 2 * ONE},
            "step_size must be in (0, 2), got 2",
        ),
        (
            "restore_with",
            {**WITH, "max_steps": FIVE + 8},
            "max_steps must be in [0, 12], got 13",
        ),
        (
            "restore_with",
            {**WITH, "max_steps": -FIVE},
            "max_steps must be in [0, 12], got -5",
        ),
        (
            "restore_with",
            {**WITH, "tolerance": -ONE},
            "tolerance must be >= 0 and finite, got -1",
        ),
        (
            "denoise",
            {"image": 255 * IMAGE, "sigma": ONE},
            "image must be finite and within 10 + 8 sigma of 0",
        ),
        (
            "denoise",
            {"image": IMAGE, "sigma": 25 * ONE},
            "sigma must be in (0, 15], got 25",
        ),
    ],
    "attributes": [
        (
            "decode",
            {"z": np.full((1, 3), 3e38, np.float32),
             "condition": np.zeros((1, 5), np.float32)},
            "image is not finite: some of z, condition are",
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        *("vae", "labels"),
        *(
            pytest.param(k, marks=mark_of(k))
            for k in REFUSED
            if k not in ("vae", "labels")
        ),
    ],
)
def test_the_session_refuses_by_name_and_goes_on(kind, exports, session):
    version = exports[kind][1]
    run = session(version)
    for name, inputs, message in REFUSED[kind]:
        with pytest.raises(loader.RunError) as refused:
            run(name, inputs)
        assert refused.value.code == loader.INVALID_ARGUMENT, message
        assert message in refused.value.message
        valid = run(name, inputs_of(version, name, 2))
        assert all(np.isfinite(value).all() for value in valid.values())


def test_a_refusal_ends_with_the_input_and_a_code(exports, session):
    run = session(exports["vae"][1])
    image = {"image": IMAGE, "seed": SEED}
    for inputs, reason in (
        (image, "image:binary"),
        ({**image, "image": IMAGE[0]}, "image:shape"),
        ({**image, "image": IMAGE[:0]}, "image:rows"),
    ):
        with pytest.raises(loader.RunError) as refused:
            run("log_likelihood", inputs)
        assert f"] [{reason}]" in refused.value.message


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([[]], r"must have shape \[batch, 1 to 4096\], got \[1 0\]"),
        ([[0] * 4097], r"must have shape \[batch, 1 to 4096\], got \[1 4097\]"),
        ([[0, -1]], r"must be in \[0, 4\], got -1"),
        ([[0, 5]], r"must be in \[0, 4\], got 5"),
    ],
)
def test_integers_other_than_labels_are_indices(condition, message):
    model = tokens()
    signature = signatures_of(model, settings_of(model, {}))["decode"]

    @tf.function(input_signature=[signature.specs()])
    def run(inputs):
        return checked(signature.fields, inputs, 10)

    z = tf.zeros((1, 3))
    valid = tf.constant([[0, 4, 2] * 1000])
    np.testing.assert_array_equal(
        run({"z": z, "condition": valid})["condition"], valid
    )
    condition = tf.constant(condition, tf.int32)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"condition {message}"
    ):
        run({"z": z, "condition": condition})


# Precision.


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
