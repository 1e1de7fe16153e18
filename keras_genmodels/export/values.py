"""Sets of numbers: which values an input of a signature accepts.

model.json stores a set as a code with its bounds, so that valid and invalid
requests can be made without the model.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import tensorflow as tf

from keras_genmodels.core import pixel_scale


@dataclasses.dataclass(frozen=True)
class Values:
    """A set of numbers; `str` returns the words after "must be".

    A subclass sets `code` and defines three methods: `contains(x)`, which
    entries of a tensor are in the set; `draw(uniform)`, members of the set from
    an array of uniform draws in [0, 1); and `outside()`, a few numbers that
    are not in it.
    """

    code: ClassVar[str]
    # Names of further inputs of the signature that `contains` takes.
    others = ()

    def to_json(self):
        """Returns the dict from which `from_json` rebuilds the set."""
        return {"code": self.code, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Interval(Values):
    """Finite numbers from `low` to `high`.

    Args:
        low, high: float; None for no limit.
        bounds: "[]" if both limits are included, "()" if neither is, "[)" if
            only `low` is.
    """

    code = "interval"

    low: float | None = None
    high: float | None = None
    bounds: str = "[]"

    def __str__(self):
        left, right = self.bounds
        if self.low is None:
            return "finite"
        if self.high is None:
            return f"{'>=' if left == '[' else '>'} {self.low:g} and finite"
        return f"in {left}{self.low:g}, {self.high:g}{right}"

    def contains(self, x):
        left, right = self.bounds
        inside = tf.math.is_finite(x)
        if self.low is not None:
            inside &= x >= self.low if left == "[" else x > self.low
        if self.high is not None:
            inside &= x <= self.high if right == "]" else x < self.high
        return inside

    def draw(self, uniform):
        low = self.low or 0
        high = low + 1 if self.high is None else self.high
        return low + uniform * (high - low)

    def outside(self):
        numbers = [math.nan, math.inf]
        if self.low is not None:
            numbers.append(self.low - 1)
            numbers += [self.low] * (self.bounds[0] == "(")
        if self.high is not None:
            numbers.append(self.high + (self.bounds[1] == "]"))
        return numbers


class LogInterval(Interval):
    """An `Interval` of positive numbers whose logarithm is drawn uniformly."""

    code = "log_interval"

    def draw(self, uniform):
        return self.low * (self.high / self.low) ** uniform


@dataclasses.dataclass(frozen=True)
class Integers(Values):
    """Integers from `low` to `high`, both included and within int32."""

    code = "integers"

    low: int
    high: int

    def __str__(self):
        return f"in [{self.low}, {self.high}]"

    def contains(self, x):
        return (x >= self.low) & (x <= self.high)

    def draw(self, uniform):
        return self.low + np.floor(uniform * (self.high - self.low + 1))

    def outside(self):
        near = self.low - 1, self.high + 1
        return [n for n in near if -(2**31) <= n < 2**31]


class OddIntegers(Integers):
    """Odd integers from `low`, which is odd, to `high`."""

    code = "odd_integers"

    def __str__(self):
        return f"odd and {super().__str__()}"

    def contains(self, x):
        return super().contains(x) & (x % 2 == 1)

    def draw(self, uniform):
        count = (self.high - self.low) // 2 + 1
        return self.low + 2 * np.floor(uniform * count)

    def outside(self):
        return [*super().outside(), self.low + 1]


class EvenIntegers(OddIntegers):
    """Even integers from `low`, which is even, to `high`."""

    code = "even_integers"

    def __str__(self):
        return f"even and {Integers.__str__(self)}"

    def contains(self, x):
        return Integers.contains(self, x) & (x % 2 == 0)


@dataclasses.dataclass(frozen=True)
class Labels(Integers):
    """Class labels; with `no_label`, `high` means "no label"."""

    code = "labels"

    no_label: bool = False

    def __str__(self):
        last = self.high - self.no_label
        text = f"a label from 0 to {last}"
        return text + f", or {self.high} for no label" * self.no_label


class Binary(Values):
    """0 and 1."""

    code = "binary"

    def __str__(self):
        return "0 or 1"

    def contains(self, x):
        return (x == 0) | (x == 1)

    def draw(self, uniform):
        return np.round(uniform)

    def outside(self):
        return [math.nan, 0.5, 1.5]


class Levels(Values):
    """The 256 levels of 8-bit pixels, k / 255."""

    code = "levels"

    def __str__(self):
        return "k / 255 for an integer k in [0, 255]"

    def contains(self, x):
        level = tf.round(x * 255)
        # The tolerance of the likelihood itself.
        near = tf.abs(x * 255 - level) <= 1e-3
        return (level >= 0) & (level <= 255) & near

    def draw(self, uniform):
        return np.round(uniform * 255) / 255

    def outside(self):
        return [math.nan, 0.5, 1.5]


class PixelScale(Interval):
    """Clean pixels: [0, 1], with room for noise and rounding."""

    code = "pixel_scale"

    def __str__(self):
        return f"finite and {super().__str__()}, as {pixel_scale.ADVICE}"

    def draw(self, uniform):
        return uniform


@dataclasses.dataclass(frozen=True)
class NoisyPixels(Values):
    """Noisy pixels: at most 10 + 8 sigma from 0.

    Args:
        highest: float, the highest noise level of the denoiser, which stands
            for sigma if it is not an input.
        has_sigma: whether sigma is an input of the signature.
    """

    code = "noisy_pixels"

    highest: float
    has_sigma: bool

    def __str__(self):
        return f"finite and within 10 + 8 sigma of 0, as {pixel_scale.ADVICE}"

    @property
    def others(self):
        return ("sigma",) if self.has_sigma else ()

    def contains(self, x, sigma=None):
        if sigma is None:
            sigma = self.highest
        else:
            # One that is not finite is refused by its own name.
            sigma = tf.where(tf.math.is_finite(sigma), sigma, self.highest)
            sigma = tf.reshape(sigma, (-1, 1, 1, 1))
        return tf.math.is_finite(x) & (
            tf.abs(x) <= pixel_scale.largest_noisy(sigma)
        )

    def draw(self, uniform):
        return uniform

    def outside(self):
        # Of an example of sigma, which is at most `highest`.
        far = 1 + pixel_scale.largest_noisy(self.highest)
        return [math.nan, math.inf, far, -far]


FINITE = Interval()
CLEAN_PIXELS = PixelScale(*pixel_scale.CLEAN)
_KINDS = (
    Interval,
    LogInterval,
    PixelScale,
    NoisyPixels,
    Integers,
    OddIntegers,
    EvenIntegers,
    Labels,
    Binary,
    Levels,
)


def from_json(content):
    """Rebuilds a set from what `Values.to_json` returned."""
    bounds = dict(content)
    code = bounds.pop("code")
    (kind,) = (kind for kind in _KINDS if kind.code == code)
    return kind(**bounds)


def labels(num_classes, no_label=False):
    """Returns the labels of classes, and `num_classes` for "no label"."""
    return Labels(0, num_classes - 1 + no_label, no_label)
