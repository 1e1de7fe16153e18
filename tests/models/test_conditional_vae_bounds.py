"""The conditional VAE's bound: exact answers, and what training finds."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from support.linear_gaussian import (
    S,
    W,
    conditional_data,
    conditional_log_likelihood,
    gaussian_params,
    linear_cvae,
)
from support.small_cvaes import (
    NUM_CLASSES,
    SHAPE,
    dicts,
    of_labels,
)

import keras_genmodels as kgm

# --- Exact: the linear-Gaussian conditional model. -------------------------

# Covariance of p(z|c).
P = np.array([[0.8, 0.5], [0.5, 0.7]])


@pytest.mark.parametrize(
    "mask", [None, np.array([True, False, False, True, False])]
)
def test_true_posterior_makes_every_draw_exact(float64, mask):
    """log p(z|c) + log p(x|z, c) - log q(z|x, c) = log p(x|c)."""
    counted = np.ones(5, bool) if mask is None else ~mask
    x, c = conditional_data(20, mask)
    size = c.shape[1]
    rng = np.random.default_rng(2)
    prior_kernel, prior_mean = rng.random((2, size)), rng.random(2)
    b_kernel, b = rng.random((5, size)), rng.random(5)
    model = linear_cvae("full", size, observed_mask=mask)
    layer = model.posterior
    model.prior_network.set_weights(
        gaussian_params(layer, prior_kernel.T, prior_mean, P)
    )
    model.decoder.set_weights([np.concatenate([W.T, b_kernel.T]), b])
    w = W[counted]
    covariance = np.linalg.inv(np.linalg.inv(P) + w.T @ w / S**2)
    gain = covariance @ w.T / S**2
    shrink = covariance @ np.linalg.inv(P)
    from_x = np.zeros((5, 2))
    from_x[counted] = gain.T
    from_c = (shrink @ prior_kernel - gain @ b_kernel[counted]).T
    mean = shrink @ prior_mean - gain @ b[counted]
    kernel = np.concatenate([from_x, from_c])
    model.encoder.set_weights(gaussian_params(layer, kernel, mean, covariance))

    center = (c @ prior_kernel.T + prior_mean) @ w.T
    center += c @ b_kernel[counted].T + b[counted]
    marginal = w @ P @ w.T + S**2 * np.eye(counted.sum())
    exact = scipy.stats.multivariate_normal(cov=marginal).logpdf(
        x[:, counted] - center
    )
    q, prior = model.encode(x, c), model.prior(c)
    for draw in q.sample(5, seed=[0, 1]):
        log_probs = model.decode(draw, c).distribution.log_prob(x).numpy()
        ratio = prior.log_prob(draw) - q.log_prob(draw)
        np.testing.assert_allclose(
            ratio + log_probs[:, counted].sum(1), exact, rtol=1e-9
        )
    # The same from the model's side, and the bound in expectation.
    np.testing.assert_allclose(conditional_log_likelihood(model, x, c), exact)
    check_bound(model, x, c, least=0.0, most=0.0)


def check_bound(model, x, c, least, most):
    """Holds the mean shortfall of the bound between least and most."""
    n, draws = len(x), 400
    terms = model.elbo_terms(
        np.tile(x, (draws, 1)), np.tile(c, (draws, 1)), seed=3
    )
    elbo = -(terms["rate"] + terms["distortion"]).numpy().reshape(draws, n)
    error = elbo.std(0) / np.sqrt(draws)
    exact = conditional_log_likelihood(model, x, c)
    assert terms["rate"].numpy().min() >= 0
    np.testing.assert_array_less(elbo.mean(0) - exact, 4 * error)
    shortfall = (exact - elbo.mean(0)).mean()
    allowed = 4 * np.sqrt((error**2).sum()) / n
    assert least - allowed < shortfall < most + allowed


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_bound_of_a_learned_prior_is_below_the_exact_likelihood(
    float64, posterior
):
    """Also where nothing fits, and posteriors and priors bend with c."""
    model = linear_cvae(posterior, 2, hidden_sizes=(16,))
    for weight in model.weights:
        # Far from where rate and gap are near 0.
        weight.assign(1.5 * weight)
    x, c = conditional_data(20, None)
    check_bound(model, x, c, least=1.0, most=np.inf)


# --- What training finds. --------------------------------------------------


def prototypes():
    """Images of three labels: each 5 percent of a prototype's pixels off."""
    rng = np.random.default_rng(5)
    center = rng.integers(0, 2, (NUM_CLASSES, *SHAPE))

    def draw(n):
        y = rng.integers(0, NUM_CLASSES, n)
        off = rng.random((n, *SHAPE)) < 0.05
        return {
            "image": (center[y] ^ off).astype("float32"),
            "condition": y,
        }

    return center, draw(600), draw(200)


@pytest.mark.slow
def test_shuffled_labels_cost_far_more_than_the_error():
    center, train, test = prototypes()
    model = of_labels("full", label_dropout=0.2)
    # Compiling by XLA takes longer than these steps.
    model.compile(
        keras.optimizers.Adam(0.01), jit_compile=False, steps_per_execution=12
    )
    dataset = tf.data.Dataset.from_tensor_slices(train).shuffle(600, seed=0)
    model.fit(dataset.batch(50, drop_remainder=True), epochs=20, verbose=0)

    x, y = test["image"], test["condition"]
    shuffled = np.random.default_rng(0).permutation(y)
    right = model.elbo(x, y, seed=1).numpy()
    difference = right - model.elbo(x, shuffled, seed=1).numpy()
    error = difference.std() / np.sqrt(len(x))
    assert difference.mean() > 8 * error
    # Entropy of the pixels: no model is better, this one is near.
    entropy = -16 * (0.05 * np.log(0.05) + 0.95 * np.log(0.95))
    assert -right.mean() > entropy - 4 * right.std() / np.sqrt(len(x))
    assert -right.mean() < entropy + 1.5
    # Knowing the label is worth up to log(3) nats, not knowing it costs them.
    without = model.elbo(x, None, seed=1).numpy()
    assert 0.5 < (right - without).mean() < 3

    labels = np.repeat(np.arange(3), 200)
    drawn = model.sample(condition=labels, seed=2).numpy()
    drawn = drawn.reshape(3, 200, *SHAPE)
    distance = np.abs(drawn[:, None] - center[None, :, None]).sum((3, 4, 5))
    # One draw in 200 resembles another label.
    assert (distance.argmin(1) == np.arange(3)[:, None]).mean() > 0.98
    # Guidance drives the pixels further to black and white.
    guided = model.sample(condition=np.arange(3), seed=2, guidance=1.0).numpy()
    plain = model.sample(condition=np.arange(3), seed=2).numpy()
    assert np.abs(guided - 0.5).mean() > np.abs(plain - 0.5).mean() + 0.01


@pytest.mark.slow
def test_two_modes_are_recovered_with_their_weights():
    """P(Y|X): Y = +-(1 + X) + noise, + with probability 0.2 + 0.5 X."""
    rng = np.random.default_rng(0)
    c = rng.integers(0, 2, (4000, 1)).astype("float32")
    sign = np.where(rng.random((4000, 1)) < 0.2 + 0.5 * c, 1, -1)
    y = sign * (1 + c) + 0.1 * rng.standard_normal((4000, 1))
    network = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    model = kgm.ConditionalVAE(
        kgm.mlp_encoder((1,), 2, (32,), condition_size=1),
        kgm.mlp_decoder(1, (1,), (32, 32), condition_size=1),
        kgm.MultivariateNormalDiag(1),
        kgm.IndependentNormal((1,), stddev=0.1),
        network,
        kgm.mlp_prior(1, 2, (8,)),
    )
    steps = 800
    schedule = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        jit_compile=False,
        steps_per_execution=80,
    )
    data = {"image": y.astype("float32"), "condition": c}
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(400).repeat()
    model.fit(dataset, steps_per_epoch=steps, verbose=0)
    for value, weight in ((0.0, 0.2), (1.0, 0.7)):
        conditions = np.full((4000, 1), value, np.float32)
        drawn = model.sample(condition=conditions, seed=1).numpy()
        np.testing.assert_allclose((drawn > 0).mean(), weight, atol=0.05)
        # The decoder is continuous: some lie between the modes. A Gaussian
        # of the right mean and variance would put a third there.
        assert (np.abs(drawn) < 0.5 * (1 + value)).mean() < 0.15
        for mode in (-1 - value, 1 + value):
            beyond = drawn[drawn / mode > 0.5]
            assert abs(np.median(beyond) - mode) < 0.2


@pytest.mark.parametrize(
    ("posterior", "likelihood"),
    [
        ("diagonal", "bernoulli"),
        ("full", "gaussian"),
        pytest.param("full", "discretized_logistic", marks=pytest.mark.slow),
    ],
)
def test_every_weight_has_a_gradient_and_steps_help(posterior, likelihood):
    model = of_labels(posterior, likelihood, learned=True, label_dropout=0.2)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    data = dicts(24)

    def loss():
        terms = model(data, training=True)
        return tf.reduce_mean(terms["rate"] + terms["distortion"])

    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, model.trainable_variables)
    for variable, gradient in zip(
        model.trainable_variables, gradients, strict=True
    ):
        values = tf.convert_to_tensor(gradient)
        assert np.abs(values).max() > 0, variable.path
    assert len(gradients) == len(model.weights)
    model.fit(data, batch_size=24, epochs=2, verbose=0)
    # The same draws again, as they are those of (seed, step).
    model.optimizer.iterations.assign(0)
    assert loss() < before - 0.05
