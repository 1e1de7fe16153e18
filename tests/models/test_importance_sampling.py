"""Training on the importance-weighted bound, and both of its gradients."""

import json
import pathlib

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp
from support.linear_gaussian import (
    data,
    linear_vae,
    log_likelihood,
    set_true_posterior,
)
from support.small_cvaes import OBSERVED, dicts, images, of_labels, of_parts
from support.small_vaes import binary_images, make_vae

tfd = tfp.distributions
DATA = pathlib.Path(__file__).parents[1] / "data"


def networks_of(model):
    return {
        name: getattr(model, name)
        for name in model._argument_names()
        if isinstance(getattr(model, name), keras.Layer)
    }


def gradients(model, inputs, sample_weight=None):
    """Gives the loss of the first step and its gradients, by network."""
    if not model.compiled:
        model.compile()
    weights = {
        name: network.trainable_variables
        for name, network in networks_of(model).items()
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


def exact_pair(widen, **settings):
    return [
        set_true_posterior(model, widen)
        for model in pair(linear_vae, **settings)
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


@pytest.mark.parametrize("warmup", [0, 500], ids=["whole", "warming up"])
def test_both_gradients_agree_in_expectation_and_one_varies_less(
    float64, warmup
):
    x, steps = data(50), 400
    means, errors = [], []
    for model in exact_pair(widen=1.5, rate_warmup_steps=warmup):
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
    assert np.median(doubly / plain) < (1 if warmup else 0.8)


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
    return {"image": images(n), "condition": images(n) * OBSERVED}


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


# --- The doubly reparameterised gradient, by its formula. ------------------


def by_the_formula(model, x, condition, noise, sample_weight):
    """Weights of the draws for p, their squares for q, which stands still."""
    stop = tf.stop_gradient
    num, size = noise.shape[:2]
    weights = {
        name: [v.value for v in network.trainable_variables]
        for name, network in networks_of(model).items()
    }
    x, condition = model.validate_inputs(x, condition)
    with tf.GradientTape(persistent=True) as tape:
        features = model._features(condition)
        q = model._encode(x, features)
        z = q.loc + q.scale.matvec(noise)
        still = tfd.MultivariateNormalTriL(stop(q.loc), stop(q.scale_tril))

        def log_weights(z, features):
            decoded = model._decode(
                tf.reshape(z, (-1, model.latent_size)),
                tf.tile(features, (num, 1)),
            )
            every_x = tf.tile(x, (num, 1, 1, 1))
            log_likelihood = -model._distortion(decoded, every_x)
            return (
                model._prior(features).log_prob(z)
                + tf.reshape(log_likelihood, (num, size))
                - still.log_prob(z)
            )

        share = stop(tf.nn.softmax(log_weights(z, features), 0))
        of_p, of_q = (
            -tf.reduce_mean(sample_weight * tf.reduce_sum(parts, 0))
            for parts in (
                share * log_weights(stop(z), features),
                share**2 * log_weights(z, stop(features)),
            )
        )
    through_p, through_q = (
        tape.gradient(loss, weights, unconnected_gradients="zero")
        for loss in (of_p, of_q)
    )
    ways = {
        "encoder": (through_q,),
        "condition_network": (through_p, through_q),
    }
    return {
        (name, i): sum(
            tf.convert_to_tensor(way[name][i]).numpy()
            for way in ways.get(name, (through_p,))
        )
        for name in weights
        for i in range(len(weights[name]))
    }


@pytest.mark.parametrize("kind", ["labels", "parts"])
def test_the_gradient_is_that_of_its_formula(float64, kind, monkeypatch):
    model = pair(KINDS[kind])[1]
    inputs = {
        key: value.astype("float64") if value.dtype == np.float32 else value
        for key, value in inputs_of(kind, 6).items()
    }
    rng = np.random.default_rng(0)
    noise = tf.constant(rng.standard_normal((5, 6, 2)))
    monkeypatch.setattr(model, "_call_noise", lambda x, training: noise)
    sample_weight = rng.random(6)
    expected = by_the_formula(
        model, inputs["image"], inputs["condition"], noise, sample_weight
    )
    _, found = gradients(model, inputs, sample_weight)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.abs(value).max() > 0, key
        np.testing.assert_allclose(
            found[key], value, rtol=1e-9, atol=1e-12, err_msg=str(key)
        )


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


def test_a_model_of_format_1_is_what_it_was():
    """A VAE with a full posterior, as version 0.1 wrote it."""
    model = keras.saving.load_model(DATA / "vae_of_format_1.keras")
    found = np.load(DATA / "vae_of_format_1.npz")
    x = found["x"]
    terms = model(x)
    for name in ("rate", "distortion", "reconstruction"):
        np.testing.assert_allclose(terms[name], found[name], rtol=1e-5)
    np.testing.assert_allclose(model.elbo(x, seed=3), found["e"], rtol=1e-5)
    noise = np.ones((7, 5, 3), np.float32)
    np.testing.assert_allclose(
        model.log_weights(x, noise=noise), found["m"], rtol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
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
