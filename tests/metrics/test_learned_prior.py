"""Both priors are measured by the same draws as `log_likelihood` takes."""

import numpy as np
import pytest
from support import linear_gaussian
from support.gaussian_priors import gaussian_prior

import keras_genmodels as kgm
from keras_genmodels.metrics.learned_prior import compare_priors


@pytest.mark.slow
@pytest.mark.usefixtures("float64", "without_xla")
def test_both_estimates_are_those_of_log_likelihood():
    model, x = gaussian_prior(), linear_gaussian.data(5)
    settings = {"num_samples": 4, "seed": 3}
    found = compare_priors(model, x, chunk_size=8, **settings)
    for suffix, one in (("", model), ("_own", model.vae)):
        expected = kgm.log_likelihood(one, x, **settings)
        np.testing.assert_allclose(
            found[f"log_likelihood{suffix}"], expected, rtol=0, atol=1e-6
        )
        bound = -found["distortion"] - found[f"rate{suffix}"]
        np.testing.assert_allclose(found[f"elbo{suffix}"], bound, atol=1e-9)
    # q(z|x) is the posterior under the learned prior only.
    np.testing.assert_allclose(found["effective_samples"], 4, atol=1e-3)
    assert np.all(found["effective_samples_own"] < 4)
