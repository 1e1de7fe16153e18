"""Exported models: every signature, by TensorFlow's C++ loader as well."""

import csv
import json
import shlex
import signal
import subprocess
import sys
import threading

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from app_runs import ROOT, unfinished
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import keras_genmodels as kgm
from keras_genmodels import files
from keras_genmodels.export import export, read_description
from keras_genmodels.exporting import (
    check,
    example_requests,
    serving_config,
    signatures,
    table,
    versions,
    warmup_records,
)
from keras_genmodels.exporting.check import check_version
from keras_genmodels.exporting.latent_signatures import latent_signatures
from keras_genmodels.exporting.signature import checked
from keras_genmodels.exporting.signatures import settings_of
from keras_genmodels.likelihood import importance_weighted
from keras_genmodels.serving.loader import RunError
from keras_genmodels.serving.replay import replay

SHAPE = (8, 8, 1)
NUM_LABELS = 3
DATA = np.random.default_rng(0).random((30, *SHAPE), np.float32)
# The upper half.
KNOWN = (np.arange(64) < 32).reshape(SHAPE)
SIZES = (1, 257)
# Few, as each step and draw takes time.
LATENT = {"num_samples": 110}
WALK = {"max_steps": 12, "num_steps": 6}


def vae(posterior=kgm.MultivariateNormalDiag, likelihood=None, **kwargs):
    posterior = posterior(3)
    likelihood = (likelihood or kgm.IndependentBernoulli)(SHAPE)
    model, width = kgm.VAE, 0
    if kwargs:
        model, width = kgm.ConditionalVAE, 4
    networks = (
        kgm.mlp_encoder(SHAPE, posterior.params_size, (8,), width),
        kgm.mlp_decoder(3, likelihood.params_shape, (8,), width),
    )
    return model(*networks, posterior, likelihood, **kwargs)


def labels():
    return vae(
        likelihood=lambda shape: kgm.IndependentBernoulli(shape, True),
        condition_network=kgm.label_embedding(NUM_LABELS, 4),
        prior_network=kgm.mlp_prior(4, 6, (8,)),
        num_labels=NUM_LABELS,
        label_dropout=0.1,
    )


def completion():
    return vae(
        kgm.MultivariateNormalTriL,
        kgm.IndependentDiscretizedLogistic,
        condition_network=kgm.image_condition(SHAPE, 4, 2),
        known=KNOWN,
    )


def attributes():
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    return vae(likelihood=kgm.IndependentNormal, condition_network=network)


def tokens():
    """Conditions are integers that are no labels, any number of them."""
    layers = keras.layers
    network = [layers.Embedding(5, 4), layers.GlobalAveragePooling1D()]
    return vae(
        condition_network=keras.Sequential(
            [keras.Input((None,), dtype="int32"), *network]
        )
    )


def learned(conditional=True, **kwargs):
    network = kgm.mlp_denoiser(SHAPE, conditional, hidden_sizes=(8,))
    denoiser = kgm.DenoisingAutoencoder(network, **kwargs)
    for weight in denoiser.trainable_weights:
        # A new network gives zeros.
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) / 9)
    return denoiser


KINDS = {
    "vae": vae,
    "labels": labels,
    "completion": completion,
    "attributes": attributes,
    "tokens": tokens,
    "range": learned,
    "one_level": lambda: learned(False, sigma=0.1),
    "blind": lambda: learned(False, blind=True),
    "rank": lambda: kgm.LinearDenoiser(rank=5),
    "wiener": kgm.LinearDenoiser,
    "exact": kgm.EmpiricalDenoiser,
}
LATENT_KINDS = ("vae", "labels", "completion", "attributes", "tokens")
DENOISERS = [kind for kind in KINDS if kind not in LATENT_KINDS]


def make(kind):
    model = KINDS[kind]()
    if kind in DENOISERS:
        model.adapt(DATA)
    return model


def settings(kind):
    return LATENT if kind in LATENT_KINDS else WALK


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def exports(export_dir):
    """Models and their versions by kind, each exported when first asked for."""

    class Exports(dict):
        def __missing__(self, kind):
            model = make(kind)
            version = export(model, export_dir, kind, **settings(kind))
            self[kind] = model, version
            return self[kind]

    return Exports()


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
        if kind in ("attributes", "tokens", "one_level", "blind", "wiener")
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


# Quick: a `VAE` is checked in test_export_app.py, a `LinearDenoiser` below.
CHECKED = [
    kind
    if kind in ("labels", "range")
    else pytest.param(kind, marks=pytest.mark.slow)
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
    again = tf.saved_model.load(exports[kind][1])
    np.testing.assert_allclose(
        run_signature(again, "generate", alone)["image"],
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


# The files.


def test_a_server_finds_all_models(exports, export_dir):
    version = exports["vae"][1]
    assert version == export_dir / "vae" / "1"
    config = model_server_config_pb2.ModelServerConfig()
    for name in ("vae", "labels", "range"):
        assert exports[name]
    # Neither what holds no version nor what is none.
    (export_dir / "empty").mkdir()
    (export_dir / "other" / "1").mkdir(parents=True)
    (export_dir / "vae" / "notes").mkdir()
    again = export(
        exports["rank"][0], export_dir, "rank", warmup=False,
        serving_root="/models/", **WALK,
    )  # fmt: skip
    assert again == export_dir / "rank" / "2"
    assert not (again / "assets.extra" / warmup_records.FILE).exists()
    text = (export_dir / "models.config").read_text()
    assert text.startswith("# Each export writes this anew")
    text_format.Parse(text, config)
    found = {c.name: c for c in config.model_config_list.config}
    assert found.keys() == {*exports}
    assert len(config.model_config_list.config) == len(exports)
    for name, entry in found.items():
        assert entry.base_path == f"/models/{name}"
        assert entry.model_platform == "tensorflow"


def parsed_batching(path):
    """Parses it as BatchingParameters, strictly: nothing may be left over."""
    wrapped = ("max_batch_size", "batch_timeout_micros",
               "max_enqueued_batches", "num_batch_threads")  # fmt: skip
    found = {"allowed_batch_sizes": []}
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "allowed_batch_sizes:":
            found["allowed_batch_sizes"].append(int(words[1]))
            assert len(words) == 2
        else:
            name, opening, value, number, closing = words
            assert (opening, value, closing) == ("{", "value:", "}")
            assert name in wrapped
            assert name not in found
            found[name] = int(number)
    return found


def test_the_batching_files(exports, export_dir):
    version = exports["vae"][1]
    common = parsed_batching(export_dir / "batching.config")
    own = parsed_batching(version / "batching_params.pbtxt")
    assert own == {k: v for k, v in common.items() if k != "num_batch_threads"}
    assert common["allowed_batch_sizes"] == [1, 8, 32]
    assert common["max_batch_size"] == 32


METRICS = {"dataset": "digits", "label_names": ["a", "b"], "best": np.inf}
TUNED = """\
max_batch_size { value: 5 }  # mine
num_batch_threads {
  value: 2
}
batch_timeout_micros { value: 7 }
thread_pool_name { value: "mine" }
allowed_batch_sizes: 2
allowed_batch_sizes: 5
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A version for a batching file of the user's."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "batching.config").write_text(TUNED)
    return export(
        make("wiener"), folder, "wiener", metrics=METRICS, tolerance=0.5, **WALK
    )


def test_the_users_batching_file_is_kept(tuned):
    assert (tuned.parents[1] / "batching.config").read_text() == TUNED
    # All but what is of all models together.
    assert parsed_batching(tuned / "batching_params.pbtxt") == {
        "max_batch_size": 5,
        "batch_timeout_micros": 7,
        "allowed_batch_sizes": [2, 5],
    }
    records = warmup_records.read(tuned / "assets.extra" / warmup_records.FILE)
    assert {len(x["image"]) for _, x in records if "image" in x} == {2, 5}
    assert len(records) == 2 * 6


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max_batch_size { value: 5 }",
        "max_batch_size { value: 5 }\nallowed_batch_sizes: 4",
        "max_batch_size { value: 5 }\n"
        "allowed_batch_sizes: 5\nallowed_batch_sizes: 4",
    ],
)
def test_a_bad_batching_file_is_refused(text, tmp_path):
    (tmp_path / "batching.config").write_text(text)
    with pytest.raises(kgm.UserError, match="allowed_batch_sizes"):
        export(make("rank"), tmp_path, "linear", **WALK)
    assert versions.versions_in(tmp_path / "linear") == []
    assert not unfinished(tmp_path)


def test_what_model_json_tells(tuned):
    told = json.loads(
        (tuned / "assets.extra" / "model.json").read_text(),
        parse_constant=pytest.fail,
    )
    described = told.pop("signatures")
    low, high = told.pop("sigma_range")
    assert 0 < low < high
    assert told == {
        "name": "wiener",
        "kind": "LinearDenoiser",
        "package_version": kgm.__version__,
        "warmup": True,
        "image_shape": [8, 8, 1],
        "dataset": "digits",
        "label_names": ["a", "b"],
        "num_labels": None,
        "no_label": None,
        "known": False,
        "pixels": "finite",
        "metrics": {**METRICS, "best": None},
        "settings": {
            "max_batch_size": 5,
            "max_rows": 1024,
            "jit_compile": False,
            "step_size": 0.1,
            "max_steps": 12,
            "tolerance": 0.5,
            "num_steps": 6,
            "stochasticity": 0.0,
        },
    }
    image = {"dtype": "float32", "shape": [None, 8, 8, 1]}
    row = {"dtype": "float32", "shape": [None]}
    assert described["restore"] == {
        "inputs": {"image": image, "sigma": row},
        "outputs": {
            "image": image,
            "num_steps": {"dtype": "int32", "shape": [None]},
            "residual": row,
        },
    }


def test_more_records_than_a_server_takes_are_refused(exports, tmp_path):
    description = read_description(exports["rank"][1])
    with pytest.raises(kgm.UserError, match="list fewer allowed_batch_sizes"):
        warmup_records.write(tmp_path / "x", description, range(1, 168))
    assert [*tmp_path.iterdir()] == []


def test_labels_in_model_json(exports):
    told = read_description(exports["labels"][1])
    assert (told["num_labels"], told["no_label"]) == (3, 3)
    assert told["pixels"] == "in [0, 1]"
    assert read_description(exports["completion"][1])["known"] is True


def test_the_weights_are_no_keras_objects(exports):
    # What a loaded model holds: it is read by any TensorFlow.
    model, version = exports["vae"]
    loaded = tf.saved_model.load(version).weights
    for weight, variable in zip(loaded, model.variables, strict=True):
        assert isinstance(weight, tf.Variable)
        np.testing.assert_array_equal(weight, variable.value)


# Versions.


def test_two_exports_at_once_get_two_versions(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "x").write_text("")
    (tmp_path / "08").write_text("")
    barrier = threading.Barrier(8)
    taken = []

    def write(number):
        with versions.writing_version(tmp_path) as writing:
            (writing.path / "saved_model.pb").write_text(str(number))
            # All rename at the same time.
            barrier.wait()
        taken.append((number, writing.version))

    threads = [threading.Thread(target=write, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {version.name for _, version in taken} == {*map(str, range(9, 17))}
    for number, version in taken:
        assert (version / "saved_model.pb").read_text() == str(number)
    assert not unfinished(tmp_path)


def test_no_name_is_lost_by_exports_at_once(tmp_path):
    def add(name):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "saved_model.pb").write_text("")
        serving_config.write_models_config(tmp_path, "/models")

    threads = [
        threading.Thread(target=add, args=[f"model{i}"]) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((tmp_path / "models.config").read_text(), config)
    names = [entry.name for entry in config.model_config_list.config]
    assert sorted(names) == sorted(f"model{i}" for i in range(20))


def test_another_containers_export_is_left_alone(tmp_path, monkeypatch):
    # Its processes are not among ours.
    monkeypatch.setattr(psutil, "pid_exists", lambda number: False)
    folder = tmp_path / "vae"
    with versions.writing_version(folder) as first:
        with versions.writing_version(folder) as second:
            pass
        (first.path / "saved_model.pb").write_text("")
    assert (first.version, second.version) == (folder / "2", folder / "1")
    assert not unfinished(tmp_path)


def test_a_training_in_the_same_folder_holds_nothing_up(tmp_path):
    with files.locked(tmp_path):
        writing = threading.Thread(
            target=serving_config.write_models_config,
            args=(tmp_path, "/models"),
            daemon=True,
        )
        writing.start()
        writing.join(30)
        assert not writing.is_alive()


STALLED = """
import pathlib, sys, time
from keras_genmodels.exporting import versions

def stall(path):
    print("written", flush=True)
    time.sleep(600)

versions._sync_below = stall
with versions.writing_version(pathlib.Path(sys.argv[1])) as writing:
    (writing.path / "saved_model.pb").write_text("all of it")
"""


def test_a_killed_export_leaves_nothing_to_serve(tmp_path):
    folder = tmp_path / "vae"
    with subprocess.Popen(
        [sys.executable, "-c", STALLED, folder],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert versions.versions_in(folder) == []
    assert unfinished(tmp_path)
    assert export(make("rank"), tmp_path, "vae", **WALK) == folder / "1"
    assert not unfinished(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "some/file"),
        tf.errors.ResourceExhaustedError(
            None, None, "some/file; No space left on device"
        ),
    ],
)
def test_a_full_disk_leaves_the_old_version(tmp_path, error):
    with versions.writing_version(tmp_path / "vae") as writing:
        (writing.path / "saved_model.pb").write_text("old")
    with (
        pytest.raises(OSError, match="older versions are as they were") as told,
        versions.writing_version(tmp_path / "vae") as writing,
    ):
        (writing.path / "saved_model.pb").write_text("ne")
        raise error
    assert told.value.errno == 28
    assert told.value.filename == str(tmp_path / "vae")
    ((number, path),) = versions.versions_in(tmp_path / "vae")
    assert number == 1
    assert (path / "saved_model.pb").read_text() == "old"
    assert not unfinished(tmp_path)


def test_other_errors_are_not_told_as_the_disks(tmp_path):
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="shapes"),
        versions.writing_version(tmp_path / "vae"),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")
    assert not unfinished(tmp_path)


# What is refused.


@pytest.mark.parametrize(
    "name",
    ["", "3", "a/b", "../a", ".a", "-a", "a b", "a\n", "ä", "a" * 101, 3],
)
def test_bad_names_are_refused(name, tmp_path):
    with pytest.raises(kgm.UserError, match="name must be"):
        export(make("rank"), tmp_path, name)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("vae", {"max_steps": 3}, "max_steps does not go with a VAE"),
        ("rank", {"num_samples": 3}, "num_samples does not go with a Linear"),
        ("vae", {"num_samples": 0}, "num_samples must be an int >= 1"),
        ("vae", {"max_rows": 0}, "max_rows must be an int >= 1"),
        ("rank", {"step_size": 2.0}, r"step_size must be in \(0, 2\)"),
        ("rank", {"tolerance": -1.0}, "tolerance must be >= 0"),
        ("rank", {"tolerance": np.inf}, "tolerance must be finite"),
        ("rank", {"stochasticity": "much"}, "stochasticity must be in"),
        ("rank", {"max_steps": 0}, "max_steps must be an int >= 1"),
        ("rank", {"stochasticity": 1.0}, r"stochasticity must be in \[0, 1\)"),
        ("one_level", {"stochasticity": 0.5}, "a single noise level"),
        ("vae", {"max_rows": 2**31}, "max_rows must be at most 2147483647"),
        ("vae", {"num_samples": 10**7}, "num_samples must be at most"),
        ("rank", {"num_steps": 10**10}, "num_steps must be at most 100000"),
        ("rank", {"max_steps": 10**10}, "max_steps must be at most"),
        ("vae", {"jit_compile": "no"}, "jit_compile must be a bool, got 'no'"),
        ("rank", {"tolerance": [1e-3]}, "tolerance must be a number"),
        ("vae", {"metrics": {"a": np.float32(1)}}, "must be what JSON holds"),
        ("vae", {"metrics": [1]}, "metrics must be a dict"),
        ("vae", {"serving_root": "models"}, "must be an absolute path"),
        ("vae", {"serving_root": "/"}, "must be an absolute path below /"),
    ],
)
def test_bad_settings_are_refused(kind, given, told, tmp_path):
    with pytest.raises(kgm.UserError, match=told):
        export(make(kind), tmp_path, "name", **given)
    assert [*tmp_path.iterdir()] == []


def test_a_batch_of_the_server_is_never_too_large(tmp_path):
    with pytest.raises(kgm.UserError, match="max_rows must be at least 32"):
        export(make("rank"), tmp_path, "name", max_rows=31)
    assert versions.versions_in(tmp_path / "name") == []


def test_xla_needs_a_flag_of_the_server():
    for compiled in (True, False):
        lines = serving_config.start_lines("/here", "/there", compiled)
        for line in lines.values():
            assert ("--xla_cpu_compilation_enabled" in line) == compiled


def mount_of(line):
    words = shlex.split(line)
    (mount,) = csv.reader([words[words.index("--mount") + 1]])
    return mount


def test_any_path_is_served(tmp_path):
    here = '/a, "b"/c'
    for root in ("/models", here):
        lines = serving_config.start_lines(here, root)
        assert mount_of(lines["container"]) == [
            *("type=bind", f"source={here}", f"target={root}", "readonly")
        ]
        for line in lines.values():
            assert f"--model_config_file={root}/models.config" in shlex.split(
                line
            )


def add_description(version, description, **settings):
    settings = {**description["settings"], **settings}
    path = version / "assets.extra" / "model.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**description, "settings": settings}))
    return version


def test_the_lines_are_for_all_models_that_are_served(exports, tmp_path):
    description = read_description(exports["rank"][1])
    folder = tmp_path / "my models"
    version = add_description(folder / "plain" / "1", description)
    # From elsewhere.
    (folder / "other" / "1").mkdir(parents=True)
    add_description(folder / "fast" / "9", description, jit_compile=True)
    said = table.summary(version)
    assert said.count("--xla_cpu_compilation_enabled") == 2
    told = said.partition("Check it: ")[2]
    assert shlex.split(told)[-1] == f"--check={version}"
    add_description(folder / "fast" / "10", description)
    assert "--xla" not in table.summary(version)


def test_a_version_that_no_config_lists_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    # As on a full disk, it can't be replaced.
    (tmp_path / "models.config").mkdir()
    with pytest.raises(kgm.UserError) as told:
        export(make("rank"), tmp_path, "linear", warmup=False)
    version = tmp_path / "linear" / "1"
    assert str(told.value).startswith(
        f"exported to {version}, but {tmp_path}/models.config could not be "
        "written (Is a directory); if it does not list linear"
    )
    assert read_description(version)["name"] == "linear"
    assert not unfinished(tmp_path)


def test_models_that_are_none_are_refused(tmp_path):
    with pytest.raises(kgm.UserError, match="export takes a VAE"):
        export(keras.Sequential(), tmp_path, "name")
    with pytest.raises(kgm.UserError, match=r"adapt\(data\)"):
        export(learned(), tmp_path, "name")
    with pytest.raises(kgm.UserError, match=r"adapt\(data\) first"):
        export(kgm.EmpiricalDenoiser(), tmp_path, "name")
    broken = make("vae")
    broken.trainable_weights[0].assign(broken.trainable_weights[0] * np.nan)
    with pytest.raises(kgm.UserError, match="is not finite: train again"):
        export(broken, tmp_path, "name")


def test_without_the_extra_it_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(
        kgm.UserError,
        match=r"install the extra `serving` \(pip install .*--nowarmup",
    ):
        export(make("rank"), tmp_path, "name")
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setattr(signatures, "save", lambda *_: {})
    assert export(make("rank"), tmp_path, "name", warmup=False)
    (tmp_path / "records").write_text("")
    with pytest.raises(kgm.UserError, match=r"install [^,]*$"):
        warmup_records.read(tmp_path / "records")


# What the check would find.


def test_the_check_tries_what_it_can(exports):
    description = read_description(exports["range"][1])
    tried = {
        (wrong.field, wrong.what)
        for wrong in example_requests.wrong_inputs(description)
        if wrong.signature == "denoise"
    }
    assert tried == {
        *(("image", f"{what} rows") for what in ("no", "too many")),
        *(("image", what) for what in ("another rank", "another size")),
        *(("image", what) for what in ("nan", "inf")),
        *(("sigma", what) for what in ("another rank", "too few rows")),
        *(("sigma", what) for what in ("nan", "0", "-1", "inf")),
    }
    description["settings"]["max_rows"] = 2**31 - 1
    assert all(
        wrong.what != "too many rows"
        for wrong in example_requests.wrong_inputs(description)
    )


def test_the_check_finds_another_model_and_rows_that_depend_on_others(
    exports, monkeypatch
):
    def uneven(*args):
        answers = replay(*args)
        for answer in answers:
            if not isinstance(answer, RunError) and len(answer) == 1:
                (values,) = answer.values()
                values += 2e-5 * (len(values) == 257)
        return answers

    monkeypatch.setattr(check, "replay", uneven)
    version = exports["rank"][1]
    other = kgm.LinearDenoiser(rank=5)
    other.adapt(DATA[::-1] ** 2)
    problems = check_version(version, other).problems
    assert {told.rpartition("(")[2] for told in problems} == {
        "to eager)",
        "rows alone)",
    }
    with pytest.raises(kgm.UserError, match="made from a LinearDenoiser"):
        check_version(version, make("exact"))


def test_the_check_of_rows_one_by_one_finds_missing_files(tmp_path):
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 1 }\nallowed_batch_sizes: 1\n"
    )
    model = make("rank")
    version = export(model, tmp_path, "name", max_rows=1, warmup=False, **WALK)
    assert check_version(version, model).problems == []
    told = version / "assets.extra" / "model.json"
    told.write_text(json.dumps({**read_description(version), "warmup": True}))
    report = check_version(version, model)
    assert report.problems == ["there are no warm-up records"]
    with pytest.raises(kgm.UserError, match="no version that `export` wrote"):
        check_version(tmp_path)
    (version / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(kgm.UserError, match=r"can't load .*/1: "):
        check_version(version)
