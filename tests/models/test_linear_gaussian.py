"""The linear-Gaussian VAE against probabilistic PCA, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.linear_gaussian import (
    A,
    S,
    W,
    data,
    linear_vae,
    log_likelihood,
    set_true_posterior,
)

# Shortfall of the best diagonal posterior, in nats.
GAP = 0.5 * (np.log(np.diag(A)).sum() - np.linalg.slogdet(A)[1])


def expected_elbo(model, x):
    """The elbo's expectation over z, in closed form from q and the decoder."""
    q = model.encode(x)
    mu, covariance = q.mean().numpy(), q.covariance().numpy()
    kernel, bias = model.decoder.get_weights()
    error = x - mu @ kernel - bias
    spread = np.einsum("nij,ik,jk->n", covariance, kernel, kernel)
    distortion = ((error**2).sum(1) + spread) / (2 * S**2)
    distortion += 5 / 2 * np.log(2 * np.pi * S**2)
    rate = 0.5 * (
        np.trace(covariance, axis1=1, axis2=2)
        + (mu**2).sum(1)
        - 2
        - np.linalg.slogdet(covariance)[1]
    )
    return -(distortion + rate)


def train(model, x, steps=1000):
    """Trains on all of the data at each step."""
    schedule = keras.optimizers.schedules.CosineDecay(0.04, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        jit_compile=True,
        steps_per_execution=100,
    )
    batches = tf.data.Dataset.from_tensors(x).repeat()
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return (log_likelihood(x) - expected_elbo(model, x)).mean()


def test_true_posterior_makes_every_draw_exact(float64):
    """log p(x, z) - log q(z|x) = log p(x), whatever z."""
    model = set_true_posterior(linear_vae())
    x = data(20)
    q = model.encode(x)
    z = q.sample(7, seed=[0, 1])
    exact = log_likelihood(x)
    for draw in z:
        ratio = (
            model.prior().log_prob(draw)
            + model.decode(draw).log_prob(x)
            - q.log_prob(draw)
        )
        np.testing.assert_allclose(ratio, exact, rtol=1e-10)
    np.testing.assert_allclose(expected_elbo(model, x), exact, rtol=1e-10)


def test_elbo_estimates_its_expectation(float64):
    model = linear_vae()
    x = data(3)
    draws = model.elbo(np.tile(x, (4000, 1)), seed=0).numpy().reshape(-1, 3)
    error = draws.std(0) / np.sqrt(len(draws))
    np.testing.assert_array_less(
        np.abs(draws.mean(0) - expected_elbo(model, x)), 4 * error
    )
    assert len(np.unique(draws)) == draws.size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("posterior", "gap"),
    [
        ("full", 0.0),
        ("diagonal", GAP),
    ],
)
def test_training_with_the_true_decoder_reaches_the_closed_form(
    float64, posterior, gap
):
    model = linear_vae(posterior)
    model.decoder.trainable = False
    shortfall = train(model, data(2560))
    assert GAP > 0.3
    # At least that of the best posterior, and within the noise that
    # stochastic training leaves.
    assert gap - 1e-9 < shortfall < gap + 0.01


@pytest.mark.slow
def test_trained_jointly_the_decoder_rotates_and_closes_the_gap(float64):
    model = linear_vae("diagonal")
    shortfall = train(model, data(2560))
    # The decoder also fits these 2560 points a little better than the truth.
    assert abs(shortfall) < 0.02 < GAP / 10
    kernel = model.decoder.get_weights()[0]
    cosine = kernel[0] @ kernel[1] / np.prod(np.linalg.norm(kernel, axis=1))
    before = W[:, 0] @ W[:, 1] / np.prod(np.linalg.norm(W, axis=0))
    assert before > 0.8
    assert abs(cosine) < 0.1
