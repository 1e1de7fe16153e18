"""Both gradients of the importance-weighted bound."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from support.importance_bounds import (
    KINDS,
    exact_pair,
    gradient_statistics,
    gradients,
    inputs_of,
    networks_of,
    pair,
)
from support.linear_gaussian import (
    data,
)
from support.small_vaes import binary_images

tfd = tfp.distributions


# The quick tests compare with a formula.
@pytest.mark.slow
@pytest.mark.parametrize("warmup", [0, 500], ids=["whole", "warming up"])
def test_both_gradients_agree_in_expectation_and_one_varies_less(
    float64, warmup
):
    found = [
        gradient_statistics(
            model, data(50), 400, lambda it: it.encoder.trainable_variables
        )
        for model in exact_pair(widen=1.5, rate_warmup_steps=warmup)
    ]
    means, errors = zip(*found, strict=True)
    plain, doubly = errors
    difference = np.abs(means[0] - means[1])
    assert (difference < 4.5 * np.hypot(plain, doubly)).all()
    assert np.abs(means[1]).max() > 10 * doubly.max()
    assert np.median(doubly / plain) < (1 if warmup else 0.8)


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
