"""Numbers that an evaluation found, with their errors and what they mean."""

import math
from typing import NamedTuple

import numpy as np

# Beyond, a number is written with a power of ten.
_MOST_PLACES = 7


class Estimate(NamedTuple):
    """A number and how far off it may be.

    Args:
        value: float; may be infinite or NaN.
        standard_error: float >= 0, of an average over examples; None for what
            is no average.
    """

    value: float
    standard_error: float | None = None

    def as_dict(self):
        """Returns what JSON holds: None for a number that is not finite.

        An infinite value has its sign under `infinite`, 1 or -1.
        """
        found = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in self._asdict().items()
        }
        if math.isinf(self.value):
            found["infinite"] = 1 if self.value > 0 else -1
        return found


def average(values):
    """Averages an array `[n]`; gives an `Estimate`.

    The standard error is sd / sqrt(n), with n - 1 in the variance; a single
    number has none. Of bools it is the standard deviation of the share given
    the values and a uniform prior, Beta(1 + hits, 1 + misses), which is above
    0 where all of them agree.
    """
    values = np.asarray(values)
    mean, count = float(np.mean(values, dtype=np.float64)), len(values)
    if values.dtype == bool:
        share = (mean * count + 1) / (count + 2)
        return Estimate(mean, math.sqrt(share * (1 - share) / (count + 3)))
    if count == 1:
        return Estimate(mean)
    # Of infinite values, such as the PSNR of an exact copy, there is none.
    with np.errstate(invalid="ignore"):
        spread = float(np.std(values, ddof=1, dtype=np.float64))
    return Estimate(mean, spread / math.sqrt(count))


def told(value, standard_error=None):
    """Writes a number with as many digits as its standard error leaves.

    Args:
        value: float; None for one that is not finite.
        standard_error: float or None.

    Returns:
        str such as "-22.71 ± 0.43", two digits of the error; without an error
        four digits, and of an error of 0 these and the error.
    """
    if value is None:
        return "not finite"
    if not standard_error:
        number = f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"
        return number if standard_error is None else f"{number} ± 0"
    places = max(0, 1 - math.floor(math.log10(standard_error)))
    if places > _MOST_PLACES:
        return f"{value:.4g} ± {standard_error:.1e}"
    return f"{value:.{places}f} ± {standard_error:.{places}f}"


def averages(values):
    """Averages the terms of all examples.

    Args:
        values: dict of arrays `[n]`.

    Returns:
        dict of floats: of each name the average, and its
        `..._standard_error`, of one example None.
    """
    found = {}
    for name, value in values.items():
        found[name], found[f"{name}_standard_error"] = average(value)
    return found


def as_text(value, standard_error=None, unit="", places=2):
    """Writes an average and its standard error for the summary of a run.

    Args:
        value: float, or None, which a JSON file holds of one that is not
            finite.
        standard_error: float, or None where there is none.
        unit: str, "" for a pure number.
        places: int, digits behind the point.

    Returns:
        str such as "-22.71 nats (standard error 0.43)", or "not finite".
    """
    if value is None or not math.isfinite(value):
        return "not finite"
    told = f"{value:.{places}f} {unit}".rstrip()
    if standard_error is None:
        return told
    return f"{told} (standard error {standard_error:.{places}f})"
