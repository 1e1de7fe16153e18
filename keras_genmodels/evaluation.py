"""(model, data) in, numbers with standard errors out."""

import math

import numpy as np
import skimage.metrics
import tensorflow as tf

from keras_genmodels import likelihood
from keras_genmodels.core import seeds
from keras_genmodels.measures import average
from keras_genmodels.restoration import denoise_once

# The least side of an image that SSIM's window fits into.
SSIM_WINDOW = 7

# The noise levels that denoisers are compared at, in units of pixels.
NOISE_LEVELS = (0.1, 0.25, 0.5, 1.0)


def evaluate_bound(model, batches, *, seed):
    """Measures the evidence lower bound over a data set.

    Args:
        model: a `VAE` or a `ConditionalVAE`.
        batches: iterable of float tensors `[batch, *event_shape]`, or, for a
            `ConditionalVAE`, of dicts of `image`, such a tensor, and
            `condition`. A batch without a condition is one without labels.
        seed: int or int32 `[2]`. The draw for example i depends on i alone,
            so that the figures do not depend on the batch size.

    Returns:
        dict of floats, nats per example: `elbo`, `rate` and `distortion`,
        each with its `..._standard_error`; and the int `num_examples`. Where
        the model completes events, they are of the unseen entries.

    Raises:
        ValueError: if there is no example, and for batches that the model
            does not take.
    """
    values = bound_terms(model, batches, seed=seed)
    return {**averages(values), "num_examples": len(values["elbo"])}


def bound_terms(model, batches, *, seed):
    """Gives the evidence lower bound of each example, and its parts.

    Args:
        model, batches, seed: as in `evaluate_bound`.

    Returns:
        dict of float64 arrays `[n]`, nats: `elbo`, `rate` and `distortion`.

    Raises:
        ValueError: as `evaluate_bound`.
    """
    terms = tf.function(
        lambda inputs, rows: _without_image(
            model.elbo_terms(*inputs, seed=rows)
        ),
        reduce_retracing=True,
        autograph=False,
    )
    values = _per_example(model, batches, seed, terms)
    return {"elbo": -(values["rate"] + values["distortion"]), **values}


def evaluate_monte_carlo(model, batches, *, seed):
    """Measures log p(x|c) over a data set by one draw of the prior each.

    Args:
        model, batches, seed: as in `evaluate_bound`.

    Returns:
        dict: the floats `log_likelihood`, nats per example, as of the models'
        `monte_carlo`, and its `..._standard_error`; the int `num_examples`.

    Raises:
        ValueError: as `evaluate_bound`.
    """
    terms = tf.function(
        lambda inputs, rows: {
            "log_likelihood": model.monte_carlo(*inputs, seed=rows)
        },
        reduce_retracing=True,
        autograph=False,
    )
    values = _per_example(model, batches, seed, terms)
    return {
        **averages(values),
        "num_examples": len(values["log_likelihood"]),
    }


def evaluate_likelihood(model, batches, *, seed, num_samples=5000, **settings):
    """Measures the importance-weighted log-likelihood over a data set.

    It takes `num_samples` decoded images for each example; see `likelihood`.

    Args:
        model, batches, seed: as in `evaluate_bound`.
        num_samples: int >= 1, draws of z for each example.
        **settings: `chunk_size` and `jit_compile` of
            `likelihood.importance_weighted`.

    Returns:
        dict of floats: `log_likelihood`, nats per example, in expectation at
        most log p(x) or log p(x|c) and at least the elbo; and
        `effective_samples`, in [1, num_samples], how many draws its weights
        amount to; each with its `..._standard_error` over examples; and the
        ints `num_samples` and `num_examples`.

    Raises:
        ValueError: as `evaluate_bound`, and for a bad `num_samples`.
    """
    values = likelihood_terms(
        model, batches, seed=seed, num_samples=num_samples, **settings
    )
    return {
        **averages(values),
        "num_samples": int(num_samples),
        "num_examples": len(values["log_likelihood"]),
    }


def likelihood_terms(model, batches, *, seed, num_samples=5000, **settings):
    """Gives the importance-weighted log-likelihood of each example.

    Args:
        model, batches, seed, num_samples, **settings: as in
            `evaluate_likelihood`.

    Returns:
        dict of float64 arrays `[n]`: `log_likelihood`, nats, and
        `effective_samples`.

    Raises:
        ValueError: as `evaluate_likelihood`.
    """

    def terms(inputs, rows):
        return likelihood.importance_weighted(
            model, *inputs, num_samples=num_samples, seed=rows, **settings
        )._asdict()

    return _per_example(model, batches, seed, terms)


def noise_levels(denoiser):
    """Gives the levels of `NOISE_LEVELS` that a denoiser is made for.

    Where there are none, as for a model of a single level, the ends of its
    range.
    """
    lowest, highest = denoiser.sigma_range
    levels = [s for s in NOISE_LEVELS if lowest <= s <= highest]
    return levels or sorted({lowest, highest})


def evaluate_denoiser(denoiser, images, *, sigmas, seed=0, batch_size=128):
    """Measures how well noise is taken off, as PSNR.

    The noise is sigma times the draw of `numpy.random.default_rng(seed)`, the
    same for each sigma, so that anyone can repeat it; nothing is clipped.

    Args:
        denoiser: as in `restoration.restore`.
        images: array `[n, ...]` in [0, 1], or uint8, read as value / 255.
        sigmas: the noise levels, each > 0.
        seed: int.
        batch_size: images at a time.

    Returns:
        dict of the levels as text to dicts of floats: `psnr` and
        `noisy_psnr`, 10 log10(1 / mean squared error) of each image, averaged,
        in dB; each with its `..._standard_error`.

    Raises:
        ValueError: if there are no images.
    """
    if not len(images):
        raise ValueError("there is nothing to evaluate: no images")
    return {
        f"{sigma:g}": averages(
            _denoising(denoiser, images, sigma, seed, batch_size)
        )
        for sigma in sigmas
    }


def _denoising(denoiser, images, sigma, seed, batch_size):
    """Gives the PSNR of each image, denoised and noisy, as arrays `[n]`."""
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, len(images), batch_size):
        clean = as_float(images[start : start + batch_size])
        noise = generator.standard_normal(clean.shape)
        noisy = (clean + sigma * noise).astype(clean.dtype)
        denoised = denoise_once(denoiser, noisy, sigma)
        parts.append(
            {"psnr": psnr(denoised, clean), "noisy_psnr": psnr(noisy, clean)}
        )
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def as_float(images):
    """Reads uint8 images as value / 255, float32."""
    if images.dtype == np.uint8:
        return images / np.float32(255)
    return images


def psnr(images, truth):
    """Gives 10 log10(1 / mean squared error) of each image, in dB.

    Args:
        images: array or tensor `[n, ...]`.
        truth: the same, in [0, 1].

    Returns:
        float64 array `[n]`; infinite where there is no error.
    """
    difference = np.asarray(images, np.float64) - np.asarray(truth, np.float64)
    errors = (difference.reshape(len(difference), -1) ** 2).mean(1)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(errors)


def ssim(images, truth):
    """Gives the structural similarity of each image to the truth.

    With scikit-image's defaults: windows of 7 x 7 pixels.

    Args:
        images: float array `[n, height, width, channels]`, sides >= 7.
        truth: the same, in [0, 1].

    Returns:
        float64 array `[n]`, at most 1.

    #### References

    Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment, IEEE
    Transactions on Image Processing 13.
    """
    return np.array(
        [
            skimage.metrics.structural_similarity(
                image, true, data_range=1.0, channel_axis=-1
            )
            for image, true in zip(images, truth, strict=True)
        ]
    )


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


def bits_per_dimension(nats, event_size):
    """Turns nats per event into bits per entry of the event."""
    return nats / (event_size * math.log(2))


def _per_example(model, batches, seed, terms):
    """Gathers the terms of all examples, as float64 arrays `[n]`.

    Args:
        model, batches, seed: as in `evaluate_bound`.
        terms: function of the inputs of a batch, checked, and its row seeds;
            gives a dict of tensors `[batch]`.
    """
    seed, parts, start = seeds.as_seed(seed), [], 0
    for batch in batches:
        x, condition = model.read(*_event_and_condition(batch))
        inputs = (x,) if condition is None else (x, condition)
        parts.append(terms(inputs, seeds.row_seeds(seed, len(x), start)))
        start += len(x)
    if not start:
        raise ValueError("there is nothing to evaluate: no batches")
    return {
        name: np.concatenate([part[name] for part in parts]).astype(np.float64)
        for name in parts[0]
    }


def _event_and_condition(batch):
    """Takes a batch apart; what has no condition is an event alone."""
    if not isinstance(batch, dict):
        return (batch,)
    for key in ("image", "condition"):
        if key not in batch:
            raise ValueError(
                f"batches are events or dicts of image and condition, {key!r} "
                "is missing"
            )
    return batch["image"], batch["condition"]


def _without_image(terms):
    return {name: terms[name] for name in ("rate", "distortion")}
