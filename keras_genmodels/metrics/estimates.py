"""Averages with their standard errors, and how they are written."""

import math
from typing import NamedTuple

import numpy as np

# A standard error that needs more decimal places is written as 1.2e-08.
_MAX_PLACES = 7


class Estimate(NamedTuple):
    """A number and its standard error.

    Args:
        value: float; may be infinite or NaN.
        standard_error: float >= 0, of an average over examples; None for a
            number that is not an average.
    """

    value: float
    standard_error: float | None = None

    def as_dict(self):
        """Returns a dict for JSON, which has no number that is not finite.

        Such a value is None; an infinite one has its sign, 1 or -1, under
        `infinite`.
        """
        content = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in self._asdict().items()
        }
        if math.isinf(self.value):
            content["infinite"] = 1 if self.value > 0 else -1
        return content

    @classmethod
    def from_dict(cls, content):
        """Returns the estimate that `as_dict` wrote."""
        value = content["value"]
        if value is None:
            value = content.get("infinite", math.nan) * math.inf
        return cls(value, content["standard_error"])


def average(values):
    """Computes the mean of an array `[n]` and its standard error.

    The standard error is sd / sqrt(n), with n - 1 in the variance; a single
    number has none. That of bools is the standard deviation of the posterior
    Beta(1 + hits, 1 + misses) of the share, under a uniform prior, so that it
    is above 0 even if all values agree.

    Args:
        values: array `[n]`, numbers or bools.

    Returns:
        `Estimate`.
    """
    values = np.asarray(values)
    mean, count = float(np.mean(values, dtype=np.float64)), len(values)
    if values.dtype == bool:
        share = (mean * count + 1) / (count + 2)
        return Estimate(mean, math.sqrt(share * (1 - share) / (count + 3)))
    if count == 1:
        return Estimate(mean)
    # Infinite values, such as the PSNR of an exact copy, have no spread.
    with np.errstate(invalid="ignore"):
        spread = float(np.std(values, ddof=1, dtype=np.float64))
    return Estimate(mean, spread / math.sqrt(count))


def as_text(value, standard_error=None, unit=""):
    """Formats a number with the digits that its standard error leaves.

    Args:
        value: float; None or NaN for a number that is not finite.
        standard_error: float, or None if there is none.
        unit: str, "" for a pure number.

    Returns:
        str such as "-22.71 ± 0.43 nats", with two digits of the error; four
        digits of a number without error, or whose error is 0.
    """
    if value is None or math.isnan(value):
        return "not finite"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    return f"{_digits(value, standard_error)} {unit}".rstrip()


def _digits(value, standard_error):
    if not standard_error or not math.isfinite(standard_error):
        number = f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"
        return f"{number} ± 0" if standard_error == 0 else number
    places = max(0, 1 - math.floor(math.log10(standard_error)))
    if places > _MAX_PLACES:
        return f"{value:.4g} ± {standard_error:.1e}"
    return f"{value:.{places}f} ± {standard_error:.{places}f}"
