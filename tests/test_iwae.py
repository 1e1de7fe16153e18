"""Training on the importance-weighted bound, and both of its gradients."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from test_cvae import KNOWN, dicts, images, of_labels, of_parts
from test_likelihood import set_posterior
from test_linear_gaussian import data, linear_vae, log_likelihood
from test_vae import binary_images, make_vae

import keras_genmodels as kgm


def gradients(model, inputs, sample_weight=None):
    """Gives the loss of the first step and its gradients, by network."""
    if not model.compiled:
        model.compile()
    networks = {name: getattr(model, name) for name in model._networks}
    weights = {
        name: network.trainable_variables
        for name, network in networks.items()
        if network is not None
    }
    with tf.GradientTape() as tape:
        terms = model(inputs, training=True)
        loss = model.compute_loss(
            inputs, None, terms, sample_weight=sample_weight
        )
    found = tape.gradient(loss, weights)
    return loss, {
        (name, i): tf.convert_to_tensor(part).numpy()
        for name, parts in found.items()
        for i, part in enumerate(parts)
    }


def of_encoder(found):
    return {key: value for key, value in found.items() if key[0] == "encoder"}


def pair(make, count=5, **settings):
    """Makes two models that differ in their gradient alone."""
    models = []
    for doubly in (False, True):
        keras.utils.set_random_seed(3)
        models.append(
            make(
                num_importance_samples=count,
                doubly_reparameterized=doubly,
                **settings,
            )
        )
    return models


# --- Exact answers. --------------------------------------------------------


def exact_pair(widen):
    return [
        set_posterior(model, widen)
        for model in pair(
            lambda **kw: linear_vae(kgm.MultivariateNormalTriL(2), **kw)
        )
    ]


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


def test_both_gradients_agree_in_expectation_and_one_varies_less(float64):
    x, steps = data(50), 400
    means, errors = [], []
    for model in exact_pair(widen=1.5):
        model.compile()

        @tf.function
        def found(model=model):
            with tf.GradientTape() as tape:
                terms = model(x, training=True)
                loss = -tf.reduce_mean(terms["importance_weighted"])
            parts = tape.gradient(loss, model.encoder.trainable_variables)
            return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

        draws = []
        for step in range(steps):
            model.optimizer.iterations.assign(step)
            draws.append(found().numpy())
        means.append(np.mean(draws, 0))
        errors.append(np.std(draws, 0) / np.sqrt(steps))
    plain, doubly = errors
    difference = np.abs(means[0] - means[1])
    assert (difference < 4.5 * np.hypot(plain, doubly)).all()
    assert np.abs(means[1]).max() > 10 * doubly.max()
    assert np.median(doubly / plain) < 0.8


def test_the_bound_is_that_of_its_weights():
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
    model.compile()
    results = model.evaluate(x, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        results["loss"], -np.mean(terms["importance_weighted"]), rtol=1e-5
    )


# --- What all models of the family share. ----------------------------------

KINDS = {
    "vae": lambda **kw: make_vae("full", **kw),
    "labels": lambda **kw: of_labels("full", learned=True, **kw),
    "parts": lambda **kw: of_parts(learned=True, **kw),
}


def inputs_of(kind, n=24):
    if kind == "vae":
        return binary_images(n)
    if kind == "labels":
        return dicts(n)
    return {"image": images(n), "condition": images(n) * KNOWN}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_differ_where_they_go_through_q_alone(kind):
    inputs = inputs_of(kind)
    plain, doubly = (gradients(model, inputs) for model in pair(KINDS[kind]))
    np.testing.assert_allclose(plain[0], doubly[0], rtol=1e-6)
    for key, value in plain[1].items():
        assert np.abs(value).max() > 0, key
        same = np.allclose(value, doubly[1][key], rtol=1e-4, atol=1e-6)
        # A condition's features also reach the encoder.
        assert same != (key[0] in ("encoder", "condition_network")), key


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_also_with_xla_and_reads_the_elbo(kind):
    inputs = inputs_of(kind)
    losses = []
    for jit_compile in (False, True):
        model = pair(KINDS[kind])[1]
        model.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
        history = model.fit(inputs, batch_size=24, epochs=15, verbose=0).history
        losses.append(history["loss"])
        assert history["loss"][-1] < history["loss"][0] - 0.1
        assert history["elbo"][-1] < -history["loss"][-1]
    # XLA draws otherwise.
    np.testing.assert_allclose(*losses, rtol=0.1)


def test_an_example_of_weight_zero_has_no_gradient():
    x = binary_images(4)
    model = pair(KINDS["vae"])[1]
    weights = np.array([1.0, 0.0, 1.0, 0.0], np.float32)
    _, weighted = gradients(model, x, sample_weight=weights)
    other = x.copy()
    other[1::2] = 1 - x[1::2]
    _, again = gradients(model, other, sample_weight=weights)
    for key, value in weighted.items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value, again[key], atol=1e-6)


def test_evaluate_is_the_same_whatever_the_batches():
    model = make_vae(num_importance_samples=3)
    model.compile()
    x = binary_images(20)
    one, other = (
        model.evaluate(x, batch_size=size, verbose=0, return_dict=True)
        for size in (20, 7)
    )
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5)


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
        ({"num_importance_samples": 5, "beta": 0.5}, "got 0.5 and 0"),
        (
            {"num_importance_samples": 5, "rate_warmup_steps": 9},
            "got 1.0 and 9",
        ),
    ],
)
@pytest.mark.parametrize("make", [make_vae, of_labels])
def test_bad_arguments_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_files_keep_it_and_older_files_have_none(tmp_path, kind):
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
