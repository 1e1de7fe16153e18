"""Conditional VAEs that complete images."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support.small_cvaes import (
    LIKELIHOODS,
    OBSERVED,
    images,
    of_parts,
)

from keras_genmodels.core import seeds


def pixel_log_probs(likelihood, model, params, x):
    """log p of each pixel, by NumPy and SciPy alone."""
    params = np.asarray(params, np.float64)
    if likelihood == "bernoulli":
        return np.where(
            x == 1,
            scipy.special.log_expit(params),
            scipy.special.log_expit(-params),
        )
    if likelihood == "gaussian":
        stddev = 1e-3 + np.exp(model.likelihood.log_stddev.numpy())
        return scipy.stats.norm(params, stddev).logpdf(x)
    loc, raw_scale = np.split(params, 2, axis=-1)
    scale = 0.02 / 255 + 0.1 * np.logaddexp(0, raw_scale)
    cdf = scipy.stats.logistic(0.5 + loc, scale).cdf
    upper = np.where(x == 1, 1, cdf(x + 0.5 / 255))
    return np.log(upper - np.where(x == 0, 0, cdf(x - 0.5 / 255)))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_distortion_covers_the_unobserved_pixels_only(likelihood):
    model = of_parts(likelihood, learned=True)
    x = images(5, levels=2 if likelihood == "bernoulli" else 256)
    c = x * OBSERVED
    terms = model.elbo_terms(x, c, seed=4)
    q = model.encode(x, c)
    noise = seeds.normal(seeds.row_seeds(4, 5), (2,))
    z = q.mean() + tf.linalg.matvec(np.linalg.cholesky(q.covariance()), noise)
    params = model.decoder([z, model.condition_network(c)])
    pixels = pixel_log_probs(likelihood, model, params, x.astype("float64"))
    expected = -pixels[:, ~OBSERVED].sum(1)
    # The logistic's tails subtract two numbers near one.
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-4)
    whole = -model.decode(z, c).log_prob(x).numpy()
    np.testing.assert_allclose(whole, -pixels.sum((1, 2, 3)), rtol=1e-4)

    np.testing.assert_array_equal(
        terms["reconstruction"].numpy()[:, OBSERVED], x[:, OBSERVED]
    )
    drawn = model.sample(condition=c, seed=0).numpy()
    np.testing.assert_array_equal(drawn[:, OBSERVED], x[:, OBSERVED])
    mean = model.decode(z, c).mean().numpy()
    np.testing.assert_allclose(
        terms["reconstruction"].numpy()[:, ~OBSERVED],
        mean[:, ~OBSERVED],
        rtol=1e-5,
    )
    assert np.abs(drawn - mean)[:, ~OBSERVED].max() > 1e-4


def test_observed_pixels_are_exact_under_bfloat16(bfloat16):
    model = of_parts("discretized_logistic")
    x = images(4, levels=256)
    np.testing.assert_array_equal(
        model.sample(condition=x, seed=0).numpy()[:, OBSERVED], x[:, OBSERVED]
    )
    model.compile(run_eagerly=True)
    reconstruction = model.predict(
        {"image": x, "condition": x * OBSERVED}, verbose=0
    )["reconstruction"]
    np.testing.assert_array_equal(reconstruction[:, OBSERVED], x[:, OBSERVED])


def test_unobserved_pixels_of_a_condition_are_ignored():
    model = of_parts()
    x = images(4)
    for use in (
        lambda c: model.elbo(x, c, seed=0),
        lambda c: model.sample(condition=c, seed=0),
        lambda c: model({"image": x, "condition": c})["distortion"],
    ):
        np.testing.assert_array_equal(use(x), use(x * OBSERVED))
    assert np.abs(model.elbo(x, 0 * x, seed=0) - model.elbo(x, x, seed=0)).max()
