"""log p(x) of a denoiser, by two estimates that share nothing but D."""

import math

import numpy as np

from keras_genmodels.core import arrays, seeds
from keras_genmodels.core.errors import NotMeasured
from keras_genmodels.core.validation import check
from keras_genmodels.denoisers import EmpiricalDenoiser
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.denoising import noise_levels
from keras_genmodels.metrics.estimates import average
from keras_genmodels.metrics.likelihood import bits_per_dimension
from keras_genmodels.sampling.density import MAX_EXACT_SIZE, probability_flow
from keras_genmodels.sampling.immse import integrate_errors

# The two estimates, and the name of the second as a reference.
_FLOW, _INTEGRAL = "flow", "integral"
_INTEGRAL_LABEL = "I-MMSE integral"
# Largest set of images, in values, whose exact denoiser takes a minute.
_MOST_VALUES = 10**7
_NOTES = (
    "log p is that of data with noise of sigma {sigma:g}: by the "
    "probability-flow ODE, and by the integral of the squared error over the "
    "noise levels (I-MMSE).",
    "The two agree within their errors if D is the posterior mean of some "
    "data, as of an exact or linear denoiser. Of one that was learned, their "
    "difference measures the error of D itself.",
)
_NOTE_ON_LABELS = (
    "log p(x) is log p(x | label) of each image's own label: this denoiser was "
    "trained without label dropout."
)


def terms(denoiser, images, labels=None, *, seed, rows=None):
    """Computes the numbers of each image that `section` averages.

    Args:
        denoiser, images, labels, seed: as in `section`.
        rows: `range` of the images; by default all.

    Returns:
        dict of arrays: of `flow` and `integral`, each followed by
        `/log_density`, `/standard_error` and `/num_evaluations`.

    Raises:
        NotMeasured: for a denoiser without an affordable log p(x).
        ValueError: without labels that the denoiser needs.
    """
    check_measurable(denoiser)
    rows = range(len(images)) if rows is None else rows
    part = slice(rows.start, rows.stop)
    if images.dtype == np.uint8:
        x = dequantize(images[: rows.stop], seed)[part]
    else:
        x = arrays.as_float(images[part])
    sigma = _level(denoiser)
    given = {"seed": seeds.row_seeds(seed, len(rows), rows.start)}
    if _needs_label(denoiser):
        check(labels is not None, "this denoiser needs the images' labels")
        given["condition"] = labels[part]
    found = {
        _FLOW: probability_flow(denoiser, x, sigma, **given),
        _INTEGRAL: integrate_errors(denoiser, x, sigma, **given),
    }
    return {
        f"{kind}/{name}": np.asarray(getattr(of_kind, name))
        for kind, of_kind in found.items()
        for name in ("log_density", "standard_error", "num_evaluations")
    }


def section(denoiser, images, labels=None, *, seed, computed=None):
    """Measures log p(x) of images with noise of the denoiser's lowest level.

    It is log p(x | label), of the image's own label, if the denoiser is
    conditioned on labels and was trained without dropping them.

    Of the exact denoiser it is the lowest common level: with less noise the
    ODE is stiff for images that are not in the set.

    8-bit images v are dequantised: x = (v + u) / 255, u uniform in [0, 1).
    -log p(x) / (M ln 2) + log2 255 bits per dimension are an upper bound of
    those of v under the discrete model that p implies.

    Args:
        denoiser: a `Denoiser` of images.
        images: array `[n, height, width, channels]`, floating in [0, 1] or
            uint8, few of them: each takes about a hundred evaluations of D
            and of its Jacobian.
        labels: int array `[n]`, for a conditional denoiser.
        seed: int, of all draws.
        computed: what `terms` returns for these arguments, if it is known.

    Returns:
        `Section` of `log_density`, `log_density_error`, `difference`,
        `density_evaluations` and, of 8-bit images, `density_bits`; without
        measures for a denoiser that does not take sigma.

    #### References

    Theis, van den Oord and Bethge (2016), A note on the evaluation of
    generative models, arXiv:1511.01844, section 3.1 (dequantisation).
    """
    found = Section("Density")

    def measures():
        known = computed
        if known is None:
            known = terms(denoiser, images, labels, seed=seed)
        size = math.prod(images.shape[1:])
        return _measures(known, size, images.dtype == np.uint8)

    found.add("log p(x)", measures)
    if found.measures:
        notes = [note.format(sigma=_level(denoiser)) for note in _NOTES]
        if _needs_label(denoiser):
            notes.insert(0, _NOTE_ON_LABELS)
        found.notes.extend([f"{len(images)} test images.", *notes])
    return found


def check_measurable(denoiser):
    """Raises `NotMeasured` for a denoiser without an affordable log p(x)."""
    if not denoiser.needs_sigma:
        raise NotMeasured(
            "it needs D at every noise level, and this denoiser does not take "
            "sigma"
        )
    if _is_exact(denoiser) and _num_values(denoiser) > _MOST_VALUES:
        raise NotMeasured(
            f"the exact denoiser of {denoiser.num_events} images takes many "
            "minutes; noisy_data(sigma).log_prob(x) has its closed form"
        )


def _measures(terms, size, is_8_bit):
    flow, integral = (
        terms[f"{kind}/log_density"] for kind in (_FLOW, _INTEGRAL)
    )
    found = {
        "log_density": _compare(
            "log p(x)",
            terms,
            "log_density",
            "Log density of data with noise of the lowest level, at the test "
            "images, averaged: higher is better.",
            "nats",
        ),
        "log_density_error": _error(terms, size),
        "difference": Measure(
            "Difference of the two estimates of log p(x)",
            average(flow - integral),
            "ODE less integral, averaged: near 0, within its error, if D is a "
            "posterior mean.",
            "nats",
        ),
        "density_evaluations": _compare(
            "Evaluations of D for log p(x)",
            terms,
            "num_evaluations",
            "Number of evaluations of D for an image, averaged.",
        ),
    }
    if is_8_bit:
        found["density_bits"] = _bits(terms, size)
    return found


def _needs_label(denoiser):
    return denoiser.condition_kind is not None and not denoiser.label_dropout


def _is_exact(denoiser):
    return isinstance(denoiser, EmpiricalDenoiser)


def _num_values(denoiser):
    return denoiser.num_events * math.prod(denoiser.event_shape)


def _level(denoiser):
    if _is_exact(denoiser):
        return noise_levels(denoiser)[0]
    return denoiser.sigma_range[0]


def dequantize(images, seed):
    """Returns (v + u) / 255 of 8-bit images v, u uniform in [0, 1).

    Args:
        images: uint8 array `[n, ...]`.
        seed: int.

    Returns:
        float64 array `[n, ...]`; row i does not depend on n.
    """
    uniform = np.random.default_rng(seed).random(images.shape)
    return (images + uniform) / 255


def _compare(label, terms, name, meaning, unit=""):
    return Measure(
        label,
        average(terms[f"{_FLOW}/{name}"]),
        meaning,
        unit,
        {_INTEGRAL_LABEL: average(terms[f"{_INTEGRAL}/{name}"])},
    )


def _error(terms, size):
    kind = "0, as the trace of the Jacobian is exact up to "
    if size > MAX_EXACT_SIZE:
        kind = "of the random estimate of the Jacobian's trace, above "
    return _compare(
        "Standard error of log p(x) of one image",
        terms,
        "standard_error",
        f"Standard error of the estimate, averaged; that of the ODE is {kind}"
        f"{MAX_EXACT_SIZE} values.",
        "nats",
    )


def _bits(terms, size):
    bits = {
        f"{kind}/bits": bits_per_dimension(-terms[f"{kind}/log_density"], size)
        + math.log2(255)
        for kind in (_FLOW, _INTEGRAL)
    }
    return _compare(
        "Bits per dimension, uniform dequantisation",
        bits,
        "bits",
        "-log2 p(x) / M + log2 255 of x = (v + u) / 255, v being the grey "
        "levels and u uniform noise: lower is better. Not comparable with "
        "that of a discrete likelihood.",
        "bits/dim",
    )
