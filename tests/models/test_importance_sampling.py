"""Training on the importance-weighted bound, and both of its gradients."""

import json
import pathlib

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from support.importance_bounds import (
    KINDS,
    exact_pair,
    gradients,
    inputs_of,
    pair,
)
from support.linear_gaussian import (
    data,
    log_likelihood,
)
from support.small_cvaes import dicts, images, of_labels
from support.small_vaes import binary_images, make_vae

from keras_genmodels.core import seeds

DATA = pathlib.Path(__file__).parents[1] / "data"


def of_encoder(found):
    return {key: value for key, value in found.items() if key[0] == "encoder"}


def test_with_the_true_posterior_the_bound_is_exact(float64):
    """Each weight is p(x), so that no draw of z moves the bound."""
    x = data(20)
    for model in exact_pair(widen=1.0):
        for training in (False, True):
            model.compile()
            bound = model(x, training=training)["importance_weighted"]
            np.testing.assert_allclose(bound, log_likelihood(x), rtol=1e-9)
        _, found = gradients(model, x)
        largest = max(np.abs(v).max() for v in of_encoder(found).values())
        if model.doubly_reparameterized:
            # It goes through z alone: without variance.
            assert largest < 1e-9
        else:
            assert largest > 1e-2


def test_the_bound_is_that_of_its_weights(run_eagerly):
    """The same by SciPy, from the weights of the same draws."""
    model = make_vae("full", num_importance_samples=7)
    model.compile()
    x = binary_images(5)
    noise = model._call_noise(tf.constant(x), training=False)
    weights = model.log_weights(x, noise=noise).numpy()
    terms = model(x)
    np.testing.assert_allclose(
        terms["importance_weighted"],
        scipy.special.logsumexp(weights, axis=0) - np.log(7),
        rtol=1e-5,
    )
    # The logarithm of a mean is above the mean of logarithms.
    assert (terms["importance_weighted"] > weights.mean(0)).numpy().all()
    z = model.encode(x).mean() + model.encode(x).scale.matvec(noise)
    np.testing.assert_allclose(
        terms["distortion"],
        np.mean([-model.decode(draw).log_prob(x) for draw in z], 0),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        terms["reconstruction"], model.decode(z[0]).mean(), atol=1e-6
    )
    model.compile(run_eagerly=run_eagerly)
    results = model.evaluate(x, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        results["loss"], -np.mean(terms["importance_weighted"]), rtol=1e-5
    )


@pytest.mark.parametrize(
    # XLA compiles once for each size of a batch, here of 24.
    ("kind", "jit_compile", "batch_size"),
    [
        pytest.param("labels", False, 16, marks=pytest.mark.slow),
        pytest.param("parts", True, 24, marks=pytest.mark.slow),
        *(
            pytest.param(kind, True, 16, marks=pytest.mark.exhaustive)
            for kind in KINDS
        ),
    ],
)
def test_training_lowers_the_loss_and_reports_the_elbo(
    kind, jit_compile, batch_size
):
    model = pair(KINDS[kind])[1]
    model.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
    history = model.fit(
        inputs_of(kind), batch_size=batch_size, epochs=10, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0] - 0.1
    assert history["elbo"][-1] < -history["loss"][-1]


@pytest.mark.slow
def test_evaluate_is_the_same_whatever_the_batches(run_eagerly):
    model = make_vae(num_importance_samples=3)
    model.compile(run_eagerly=run_eagerly)
    x = binary_images(20)
    one, other = (
        model.evaluate(x, batch_size=size, verbose=0, return_dict=True)
        for size in (20, 7)
    )
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5)


@pytest.mark.slow
def test_an_unknown_label_is_infinitely_unlikely_to_xla():
    model = of_labels(num_importance_samples=3)
    run = tf.function(model, jit_compile=True)
    x = tf.constant(images(2))
    terms = run({"image": x, "condition": tf.constant([1, 99])})
    assert np.isfinite(terms["importance_weighted"][0])
    assert terms["importance_weighted"][1] == -np.inf


# --- Arguments and files. --------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_importance_samples": 0}, "num_importance_samples must be"),
        ({"num_importance_samples": 2.5}, "num_importance_samples must be"),
        ({"doubly_reparameterized": True}, "2 or more, got 1"),
        ({"doubly_reparameterized": "no"}, "must be True or False, got 'no'"),
        ({"num_importance_samples": 5, "beta": 0.5}, "beta=1, got 0.5"),
    ],
)
@pytest.mark.parametrize("make", [make_vae, of_labels])
def test_bad_arguments_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_one_sample_is_the_elbo():
    model = make_vae(num_importance_samples=1)
    model.compile()
    x = binary_images(9)
    for training in (False, True):
        terms = model(x, training=training)
        assert {*terms} == {"reconstruction", "rate", "distortion"}
        loss = model.compute_loss(x, None, terms, training=training)
        cost = terms["rate"] + terms["distortion"]
        np.testing.assert_allclose(loss, np.mean(cost), rtol=1e-6)


@pytest.mark.slow
def test_the_bound_rises_with_the_draws_in_training():
    x = np.repeat(binary_images(4), 100, axis=0)
    bounds = []
    for count in (2, 8, 32):
        keras.utils.set_random_seed(3)
        model = make_vae(num_importance_samples=count)
        model.compile()
        terms = model(x, training=True)
        bounds.append(np.mean(terms["importance_weighted"]))
    elbo = -np.mean(terms["rate"] + terms["distortion"])
    assert elbo < bounds[0] < bounds[1] < bounds[2]


def test_bfloat16_networks_keep_a_float32_bound(bfloat16):
    model = pair(KINDS["labels"])[1]
    terms = model(dicts(4))
    assert terms["importance_weighted"].dtype == tf.float32
    _, found = gradients(model, dicts(4))
    assert all(np.isfinite(value).all() for value in found.values())


def test_a_model_of_format_1_is_what_it_was(monkeypatch):
    """A VAE with a full posterior, as version 0.1 wrote it."""
    model = keras.saving.load_model(DATA / "vae_of_format_1.keras")
    found = np.load(DATA / "vae_of_format_1.npz")
    x = found["x"]
    # Drawn by the generator of that version.
    drawn = iter([found["noise_of_call"], found["noise_of_e"]])
    monkeypatch.setattr(seeds, "normal", lambda *_: tf.constant(next(drawn)))
    terms = model(x)
    for name in ("rate", "distortion", "reconstruction"):
        np.testing.assert_allclose(terms[name], found[name], rtol=1e-5)
    np.testing.assert_allclose(model.elbo(x, seed=3), found["e"], rtol=1e-5)
    noise = np.ones((7, 5, 3), np.float32)
    np.testing.assert_allclose(
        model.log_weights(x, noise=noise), found["m"], rtol=1e-5
    )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind != "labels"))
        for kind in KINDS
    ],
)
def test_files_keep_the_number_of_importance_samples(tmp_path, kind):
    model = pair(KINDS[kind])[1]
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    inputs = inputs_of(kind, 3)
    np.testing.assert_array_equal(
        model(inputs)["importance_weighted"],
        copy(inputs)["importance_weighted"],
    )
    config = json.loads(json.dumps(model.get_config()))
    assert config["num_importance_samples"] == 5
    assert config["doubly_reparameterized"] is True
    for name in ("num_importance_samples", "doubly_reparameterized"):
        del config[name]
    older = type(model).from_config({**config, "format": 1})
    assert older.num_importance_samples == 1
    assert "importance_weighted" not in older(inputs)
