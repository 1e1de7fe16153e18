"""The linear-Gaussian VAE against probabilistic PCA, in float64.

For p(x|z) = N(Wz + b, s^2 I): p(x) = N(b, WW' + s^2 I), and the true posterior
is N(A^-1 W'(x - b), s^2 A^-1) with A = W'W + s^2 I (Tipping and Bishop 1999).
"""

import keras
import numpy as np
import pytest
import scipy.stats

import keras_genmodels as kgm

# Columns that are far from orthogonal, so that A is far from diagonal.
W = np.array([[1.0, 0.8], [0.5, 0.7], [-0.3, 0.2], [0.9, 0.6], [0.0, 0.5]])
B = np.array([0.1, -0.2, 0.3, 0.0, 0.5])
S = 0.5
A = W.T @ W + S**2 * np.eye(2)
GAP = 0.5 * (np.log(np.diag(A)).sum() - np.linalg.slogdet(A)[1])


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 2))
    return z @ W.T + B + S * rng.standard_normal((n, 5))


def log_likelihood(x):
    covariance = W @ W.T + S**2 * np.eye(5)
    return scipy.stats.multivariate_normal(B, covariance).logpdf(x)


def linear_vae(posterior, **settings):
    model = kgm.VAE(
        kgm.mlp_encoder((5,), posterior.params_size, hidden_sizes=()),
        kgm.mlp_decoder(2, (5,), hidden_sizes=()),
        posterior,
        kgm.IndependentNormal((5,), stddev=S),
        **settings,
    )
    model.decoder.set_weights([W.T, B])
    return model


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


def train(model, x):
    steps = 1500
    schedule = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(keras.optimizers.Adam(schedule), steps_per_execution=50)
    model.fit(x, batch_size=256, epochs=steps * 256 // len(x), verbose=0)
    return model


def test_true_posterior_makes_every_draw_exact(float64):
    """log p(x, z) - log q(z|x) = log p(x), whatever z."""
    posterior = kgm.MultivariateNormalTriL(2)
    model = linear_vae(posterior)
    root = np.linalg.cholesky(S**2 * np.linalg.inv(A))
    raw = root / np.diag(root)[:, np.newaxis] * np.sqrt(2)
    diagonal = np.diag(root) - 1e-4  # the layer's smallest scale
    np.fill_diagonal(raw, np.log(np.expm1(diagonal)))
    # Ask the layer where each parameter goes instead of assuming its order.
    bias = np.zeros(posterior.params_size)
    for i in range(2, 5):
        unit = np.zeros((1, posterior.params_size))
        unit[0, i] = 50.0
        lower = posterior(unit).scale_tril.numpy()[0]
        place = np.unravel_index(np.argmax(lower), (2, 2))
        bias[i] = raw[place]
    mean = np.linalg.solve(A, W.T)
    kernel = np.zeros((5, posterior.params_size))
    kernel[:, :2] = mean.T
    bias[:2] = -mean @ B
    model.encoder.set_weights([kernel, bias])

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
    model = linear_vae(kgm.MultivariateNormalTriL(2))
    x = data(3)
    draws = model.elbo(np.tile(x, (4000, 1)), seed=0).numpy().reshape(-1, 3)
    error = draws.std(0) / np.sqrt(len(draws))
    np.testing.assert_array_less(
        np.abs(draws.mean(0) - expected_elbo(model, x)), 4 * error
    )
    assert len(np.unique(draws)) == draws.size


@pytest.mark.parametrize(
    ("posterior", "gap"),
    [(kgm.MultivariateNormalTriL, 0.0), (kgm.MultivariateNormalDiag, GAP)],
    ids=["full", "diagonal"],
)
def test_with_the_true_decoder_training_ends_at_the_closed_form(
    float64, posterior, gap
):
    model = linear_vae(posterior(2))
    model.decoder.trainable = False
    x = data(2560)
    train(model, x)
    shortfall = (log_likelihood(x) - expected_elbo(model, x)).mean()
    assert GAP > 0.3
    # Not below by definition of the best posterior, and within the noise
    # that stochastic training leaves.
    assert gap - 1e-9 < shortfall < gap + 0.01


def test_trained_jointly_the_decoder_rotates_and_closes_the_gap(float64):
    model = linear_vae(kgm.MultivariateNormalDiag(2))
    x = data(2560)
    train(model, x)
    shortfall = (log_likelihood(x) - expected_elbo(model, x)).mean()
    # The decoder also fits these 2560 points a little better than the truth.
    assert abs(shortfall) < 0.02 < GAP / 10
    kernel = model.decoder.get_weights()[0]
    cosine = kernel[0] @ kernel[1] / np.prod(np.linalg.norm(kernel, axis=1))
    before = W[:, 0] @ W[:, 1] / np.prod(np.linalg.norm(W, axis=0))
    assert before > 0.8
    assert abs(cosine) < 0.1
