"""Averages, their standard errors, and how both are written."""

import math

import numpy as np
import pytest
import scipy.stats

from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.evaluation import sections
from keras_genmodels.metrics import estimates


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((-22.7134, 0.4321), "-22.71 ± 0.43"),
        ((-22.7134, 0.4321, "nats"), "-22.71 ± 0.43 nats"),
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
        ((math.nan, None, "dB"), "not finite"),
        ((math.inf, math.nan, "dB"), "infinite"),
        ((-math.inf, None), "-infinite"),
        ((3.0, None, "dB"), "3 dB"),
    ],
)
def test_a_number_is_written_with_the_digits_that_its_error_leaves(
    numbers, text
):
    assert estimates.as_text(*numbers) == text


def test_an_average_has_the_standard_error_of_the_mean():
    assert estimates.average([2.0, 4.0, 9.0]) == pytest.approx(
        (5, (13 / 3) ** 0.5)
    )
    assert estimates.average([3.0]) == (3, None)


@pytest.mark.parametrize("hits", [0, 1, 5])
def test_a_share_has_the_standard_deviation_of_its_posterior(hits):
    """Beta(1 + hits, 1 + misses): above 0 though all of them agree."""
    found = estimates.average(np.arange(5) < hits)
    posterior = scipy.stats.beta(1 + hits, 1 + 5 - hits)
    assert found == pytest.approx((hits / 5, posterior.std()))


def test_json_has_none_for_what_is_not_finite_and_the_sign_of_infinity():
    for value, sign in ((math.inf, 1), (-math.inf, -1), (math.nan, None)):
        estimate = estimates.average([1.0, value])
        content = sections.Measure("x", estimate, "y.").as_dict()
        assert content["value"] is content["standard_error"] is None
        assert content.get("infinite") == sign
        read = estimates.Estimate.from_dict(content)
        np.testing.assert_equal(read.value, value)


def test_a_section_notes_what_is_not_measured_and_nothing_else():
    def fail(error):
        raise error

    section = sections.Section("Samples")
    section.add("Recall", fail, NotMeasured("too few images"))
    assert section.notes == ["Recall not measured: too few images."]
    with pytest.raises(ValueError, match="shape"):
        section.add("Recall", fail, ValueError("a wrong shape"))
