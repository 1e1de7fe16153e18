"""Models of 5 numbers whose likelihood is known in closed form.

The linear-Gaussian VAE (Tipping and Bishop 1999, probabilistic PCA):
p(x|z) = N(Wz + b, s^2 I), p(x) = N(b, WW' + s^2 I), and the true posterior is
N(A^-1 W'(x - b), s^2 A^-1) with A = W'W + s^2 I. And its conditional version:
p(z|c) = N(Ac + a, P), p(x|z, c) = N(Wz + Bc + b, s^2 I), so that
p(x|c) = N(W(Ac + a) + Bc + b, W P W' + s^2 I).
"""

import keras
import numpy as np
import scipy.stats

import keras_genmodels as kgm

# Columns that are far from orthogonal, so that A is far from diagonal.
W = np.array([[1.0, 0.8], [0.5, 0.7], [-0.3, 0.2], [0.9, 0.6], [0.0, 0.5]])
B = np.array([0.1, -0.2, 0.3, 0.0, 0.5])
S = 0.5
A = W.T @ W + S**2 * np.eye(2)
POSTERIORS = {
    "diagonal": kgm.MultivariateNormalDiag,
    "full": kgm.MultivariateNormalTriL,
}


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 2))
    return z @ W.T + B + S * rng.standard_normal((n, 5))


def log_likelihood(x):
    covariance = W @ W.T + S**2 * np.eye(5)
    return scipy.stats.multivariate_normal(B, covariance).logpdf(x)


def linear_vae(posterior="full", **settings):
    """A VAE with the true decoder and an untrained linear encoder."""
    posterior = POSTERIORS[posterior](2)
    model = kgm.VAE(
        kgm.mlp_encoder((5,), posterior.params_size, hidden_sizes=()),
        kgm.mlp_decoder(2, (5,), hidden_sizes=()),
        posterior,
        kgm.IndependentNormal((5,), stddev=S),
        **settings,
    )
    model.decoder.set_weights([W.T, B])
    return model


def set_true_posterior(model, widen=1.0):
    """Sets the encoder to the true posterior, or to a wider one."""
    covariance = widen**2 * S**2 * np.linalg.inv(A)
    gain = np.linalg.solve(A, W.T)
    model.encoder.set_weights(
        gaussian_params(model.posterior, gain.T, -gain @ B, covariance)
    )
    return model


def gaussian_params(layer, kernel, mean, covariance):
    """Weights of the dense layer of N(kernel' input + mean, covariance)."""
    root = np.linalg.cholesky(covariance)
    raw = root / np.diag(root)[:, np.newaxis] * np.sqrt(2)
    diagonal = np.diag(root) - 1e-4  # the layer's smallest scale
    np.fill_diagonal(raw, np.log(np.expm1(diagonal)))
    # Ask the layer where each parameter goes instead of assuming its order.
    bias = np.concatenate([mean, np.zeros(3)])
    for i in range(2, 5):
        unit = np.zeros((1, layer.params_size))
        unit[0, i] = 50.0
        lower = layer(unit).scale_tril.numpy()[0]
        bias[i] = raw[np.unravel_index(np.argmax(lower), (2, 2))]
    return [np.concatenate([kernel, np.zeros((len(kernel), 3))], 1), bias]


def linear_cvae(
    posterior, condition_size, hidden_sizes=(), observed_mask=None, prior=None
):
    """A conditional VAE with a linear decoder: x in 5 numbers, z in 2."""
    layer = POSTERIORS[posterior](2)
    prior_network = None
    if prior is None:
        prior_network = kgm.mlp_prior(
            condition_size, layer.params_size, hidden_sizes
        )
    network = keras.Sequential(
        [
            keras.Input((condition_size,), dtype="float64"),
            keras.layers.Identity(),
        ]
    )
    return kgm.ConditionalVAE(
        kgm.mlp_encoder((5,), layer.params_size, hidden_sizes, condition_size),
        kgm.mlp_decoder(2, (5,), (), condition_size),
        layer,
        kgm.IndependentNormal((5,), stddev=S),
        network,
        prior_network,
        prior=prior,
        observed_mask=observed_mask,
    )


def conditional_data(n, observed_mask):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 5)) @ rng.standard_normal((5, 5))
    if observed_mask is None:
        return x, rng.standard_normal((n, 2))
    return x, x * observed_mask


def conditional_log_likelihood(model, x, c):
    """log p(x|c) of the unobserved entries, from prior and linear decoder."""
    mask = model.observed_mask
    counted = np.ones(5, bool) if mask is None else ~mask
    kernel, bias = model.decoder.get_weights()
    prior = model.prior(c)
    mean = np.concatenate([prior.mean(), c], 1) @ kernel + bias
    w = kernel[:2, counted].T
    covariance = w @ prior.covariance().numpy() @ w.T
    covariance += S**2 * np.eye(counted.sum())
    return np.array(
        [
            scipy.stats.multivariate_normal(m, v).logpdf(row)
            for m, v, row in zip(
                mean[:, counted], covariance, x[:, counted], strict=True
            )
        ]
    )
