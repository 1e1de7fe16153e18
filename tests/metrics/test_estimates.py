"""Numbers with their errors: averages, and how they are told."""

import math

import numpy as np
import pytest
import scipy.stats

from keras_genmodels.evaluation import sections
from keras_genmodels.metrics import estimates


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((-22.7134, 0.4321), "-22.71 ± 0.43"),
        ((1234.56, 12.3), "1235 ± 12"),
        ((0.03217, 0.0012), "0.0322 ± 0.0012"),
        ((0.99965522, 0.0000043), "0.9996552 ± 0.0000043"),
        ((1 + 1e-9, 5.8e-9), "1 ± 5.8e-09"),
        ((1.0, 0.0), "1 ± 0"),
        ((0.25, 0.0), "0.25 ± 0"),
        ((1.0, None), "1"),
        ((7, None), "7"),
        ((0.123456, None), "0.1235"),
        ((None, None), "not finite"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(numbers, text):
    assert estimates.told(*numbers) == text


def test_the_error_of_an_average():
    assert estimates.average([2.0, 4.0, 9.0]) == pytest.approx(
        (5, (13 / 3) ** 0.5)
    )
    assert estimates.average([3.0]) == (3, None)


@pytest.mark.parametrize("hits", [0, 1, 5])
def test_the_error_of_a_share_is_that_of_its_posterior(hits):
    """Beta(1 + hits, 1 + misses): above 0 though all of them agree."""
    found = estimates.average(np.arange(5) < hits)
    posterior = scipy.stats.beta(1 + hits, 1 + 5 - hits)
    assert found == pytest.approx((hits / 5, posterior.std()))


def test_an_infinite_average_is_not_a_number_of_json():
    for value, sign in ((math.inf, 1), (-math.inf, -1), (math.nan, None)):
        measure = sections.Measure("x", estimates.average([1.0, value]), "y.")
        told = measure.as_dict()
        assert told["value"] is told["standard_error"] is None
        assert told.get("infinite") == sign
