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
    LATENT,
    LATENT_KINDS,
    SHAPE,
    WALK,
    make,
    settings,
    tokens,
)

import keras_genmodels as kgm
from keras_genmodels.export import example_requests, export, read_description
from keras_genmodels.export.check import check_version
from keras_genmodels.export.fields import checked
from keras_genmodels.export.latent_signatures import latent_signatures
from keras_genmodels.export.replay import replay
from keras_genmodels.export.signatures import settings_of
from keras_genmodels.models.likelihood import importance_weighted

SIZES = (1, 257)


@pytest.fixture(scope="module")
def loaded(exports):
    """Signatures by kind, as TensorFlow's Python loader gives them."""

    class Loaded(dict):
        def __missing__(self, kind):
            self[kind] = tf.saved_model.load(exports[kind][1])
            return self[kind]

    return Loaded()


def inputs_of(version, signature, rows):
    return example_requests.right_inputs(
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


# What the signatures give.


def expected_of_latent(model, signature, image=None, **given):
    """Gives what a VAE's signature should, by the verbs of the model."""
    condition = given.get("condition")
    more = () if condition is None else (condition,)
    known = getattr(model, "known", None)
    if signature == "encode":
        posterior = model.encode(image, *more)
        if isinstance(model.posterior, kgm.MultivariateNormalTriL):
            return {"loc": posterior.loc, "scale_tril": posterior.scale_tril}
        return {"loc": posterior.loc, "stddev": posterior.stddev()}
    if signature == "generate":
        # A VAE takes how many, a conditional one for which conditions.
        first = more or (len(given["seed"]),)
        return {"image": model.sample(*first, seed=given["seed"])}
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
    if known is not None:
        decoded = np.where(known, kept, decoded)
    return {"image": decoded}


def expected_of_denoiser(model, signature, image=None, sigma=None, **given):
    if signature == "denoise":
        return {"denoised": model.denoise(image, sigma)}
    if signature == "noise":
        return {"noise": image - model.denoise(image, sigma)}
    if signature == "generate":
        return {
            "image": kgm.generate(
                model,
                SHAPE,
                len(given["seed"]),
                seed=given["seed"],
                num_steps=WALK["num_steps"],
                jit_compile=False,
            )
        }
    loop = given or {"max_steps": WALK["max_steps"]}
    result = kgm.restore(model, image, sigma=sigma, jit_compile=False, **loop)
    return {
        "image": result.x,
        "num_steps": result.num_steps,
        "residual": result.residual,
    }


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow)
        if kind not in ("vae", "labels", "range", "exact")
        else kind
        for kind in KINDS
    ],
)
def test_signatures_give_what_the_model_gives(kind, exports, loaded):
    model, version = exports[kind]
    is_latent = kind in LATENT_KINDS
    expect = expected_of_latent if is_latent else expected_of_denoiser
    names = (
        "reconstruct encode decode generate log_likelihood"
        if is_latent
        else "denoise noise restore restore_with generate"
    ).split()
    assert {*loaded[kind].signatures} == {*names, "serving_default"}
    for name in names:
        for size in SIZES:
            inputs = inputs_of(version, name, size)
            outputs = run_signature(loaded[kind], name, inputs)
            assert_close(outputs, expect(model, name, **inputs))
            kinds = {value.dtype.name for value in outputs.values()}
            assert kinds <= {"float32", "int32"}
            if name == names[0]:
                default = run_signature(loaded[kind], "serving_default", inputs)
                assert_close(default, outputs, 0)


# The others quickly: a `VAE` in test_export_app.py, a `LinearDenoiser` in
# test_export_check.py.
CHECKED = [
    kind if kind == "range" else pytest.param(kind, marks=pytest.mark.slow)
    for kind in KINDS
]


@pytest.mark.parametrize("kind", CHECKED)
def test_the_check_finds_nothing_wrong(kind, exports):
    model, version = exports[kind]
    report = check_version(version, model)
    assert report.problems == []
    description = read_description(version)
    count = len(description["signatures"]) * 3
    assert f"{count} warm-up records" in report.table
    for name in description["signatures"]:
        # Wrong inputs were tried, and rows compared.
        (line,) = (
            line
            for line in report.table.splitlines()
            if line.partition(" ")[0] == name
        )
        _, _, eager, alone, refused = line.split()
        assert float(eager) < 1e-5
        assert float(alone) < 1e-5
        assert int(refused) >= 2


@pytest.mark.parametrize("kind", ["vae", "labels", "range", "exact"])
def test_a_seed_gives_its_image_wherever_it_stands(kind, exports, loaded):
    inputs = inputs_of(exports[kind][1], "generate", 40)
    whole = run_signature(loaded[kind], "generate", inputs)["image"]
    order = np.random.default_rng(1).permutation(40)
    turned = {name: value[order] for name, value in inputs.items()}
    mixed = run_signature(loaded[kind], "generate", turned)["image"]
    np.testing.assert_allclose(mixed, whole[order], atol=1e-5)
    alone = {name: value[7:8] for name, value in inputs.items()}
    np.testing.assert_allclose(
        run_signature(loaded[kind], "generate", alone)["image"],
        whole[7:8],
        atol=1e-5,
    )
    # The exact denoiser has but 30 images for its walks to end in.
    least = 40 if kind != "exact" else 10
    assert len(np.unique(whole.round(4).reshape(40, -1), axis=0)) >= least


def test_completion_keeps_known_pixels(exports, loaded):
    for name, given in (
        ("generate", "condition"),
        ("decode", "condition"),
        ("reconstruct", "image"),
    ):
        inputs = inputs_of(exports["completion"][1], name, 5)
        images = run_signature(loaded["completion"], name, inputs)["image"]
        np.testing.assert_array_equal(images[:, KNOWN], inputs[given][:, KNOWN])


# Where it is loaded.


@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        ("vae", "generate"),
        pytest.param("labels", "generate", marks=pytest.mark.slow),
        ("range", "restore_with"),
        ("range", "serving_default"),
    ],
)
def test_a_keras_layer_takes_a_signature(kind, signature, exports, loaded):
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


def test_neither_this_package_nor_tfp_is_needed(exports, loaded):
    kinds = ("labels", "exact")
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
        told, total = line.split()
        assert told == str(exports[kind][1])
        assert float(total) == pytest.approx(image.sum(), abs=1e-3)


def test_the_weights_are_no_keras_objects(exports, loaded):
    # What a loaded model holds: it is read by any TensorFlow.
    model, weights = exports["vae"][0], loaded["vae"].weights
    for weight, variable in zip(weights, model.variables, strict=True):
        assert isinstance(weight, tf.Variable)
        np.testing.assert_array_equal(weight, variable.value)


# Refusals, as the C++ session gives them.

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
            "image must be finite, got nan",
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
            "condition must be finite, got nan",
        ),
    ],
    "range": [
        *(
            (
                "denoise",
                {"image": IMAGE, "sigma": np.full(1, sigma, np.float32)},
                f"sigma must be > 0 and finite, got {sigma}",
            )
            for sigma in (0, -1, np.nan, np.inf)
        ),
        (
            "restore",
            {"image": spoilt(IMAGE, -np.inf), "sigma": ONE},
            "image must be finite, got -inf",
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
            "tolerance must be >= 0, got -1",
        ),
        (
            "denoise",
            {"image": 3e38 * (-1) ** np.arange(64).reshape(IMAGE.shape)
             .astype(np.float32), "sigma": 1e-30 * ONE},
            "denoised that comes of image, sigma is not finite",
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_the_session_refuses_by_name_and_goes_on(kind, exports):
    version = exports[kind][1]
    following = [
        (name, inputs_of(version, name, 2)) for name, *_ in REFUSED[kind]
    ]
    asked = [(name, inputs) for name, inputs, _ in REFUSED[kind]]
    pairs = zip(asked, following, strict=True)
    answers = replay(version, [request for pair in pairs for request in pair])
    for (*_, told), refusal, after in zip(
        REFUSED[kind], answers[::2], answers[1::2], strict=True
    ):
        assert refusal.code == 3, told
        assert told in refusal.message
        assert all(np.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ([[]], r"must have shape \[batch, 1 to 4096\], got \[1 0\]"),
        ([[0] * 4097], r"must have shape \[batch, 1 to 4096\], got \[1 4097\]"),
        ([[0, -1]], r"must be in \[0, 4\], got -1"),
        ([[0, 5]], r"must be in \[0, 4\], got 5"),
    ],
)
def test_integers_that_are_no_labels_are_places_in_a_table(condition, told):
    signature = latent_signatures(tokens(), settings_of(tokens(), {}))["decode"]

    @tf.function(input_signature=[signature.specs()])
    def run(inputs):
        return checked(signature.fields, inputs, 10)

    z = tf.zeros((1, 3))
    right = tf.constant([[0, 4, 2] * 1000])
    np.testing.assert_array_equal(
        run({"z": z, "condition": right})["condition"], right
    )
    condition = tf.constant(condition, tf.int32)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"condition {told}"
    ):
        run({"z": z, "condition": condition})


# Precision.


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ("float64", "rank"),
        pytest.param("float64", "vae", marks=pytest.mark.slow),
        pytest.param("float64", "range", marks=pytest.mark.slow),
        pytest.param("bfloat16", "vae", marks=pytest.mark.slow),
        pytest.param("bfloat16", "range", marks=pytest.mark.slow),
    ],
)
def test_the_border_is_float32(policy, kind, tmp_path, request):
    request.getfixturevalue(policy)
    model = make(kind)
    version = export(model, tmp_path, kind, **settings(kind))
    description = read_description(version)
    names = {
        spec["dtype"]
        for told in description["signatures"].values()
        for specs in told.values()
        for spec in specs.values()
    }
    assert names == {"float32", "int32"}
    requests = [
        (name, inputs_of(version, name, 3))
        for name in description["signatures"]
    ]
    answers = replay(version, requests)
    expect = expected_of_latent if kind == "vae" else expected_of_denoiser
    for (name, inputs), outputs in zip(requests, answers, strict=True):
        if name == "serving_default":
            continue
        # In 8 bits, and sums of so rounded numbers.
        tolerance = 1e-5 if policy == "float64" else 3e-2
        assert_close(outputs, expect(model, name, **inputs), tolerance)
    if policy == "bfloat16":
        assert not check_version(version, model).problems


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "labels", "range", "exact"])
def test_xla_if_asked_for(kind, tmp_path):
    model = make(kind)
    version = export(model, tmp_path, kind, jit_compile=True, **settings(kind))
    report = check_version(version, model)
    assert report.problems == []
    assert "loaded by Python alone" in report.table
    answer = replay(version, [("generate", inputs_of(version, "generate", 1))])
    assert "XLA" in answer[0].message
    # Within XLA the model's own checks are dropped.
    generate = tf.saved_model.load(version).signatures["generate"]
    given = {"seed": tf.zeros((1, 2), tf.int32)}
    if kind == "labels":
        given["condition"] = tf.constant([9])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="condition must be"
        ):
            generate(**given)
