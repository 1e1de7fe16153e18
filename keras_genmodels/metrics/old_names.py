"""Functions of version 0.2 that have another name; they go with version 0.4."""

import numpy as np

from keras_genmodels.core.deprecation import warn
from keras_genmodels.metrics import denoising, likelihood
from keras_genmodels.metrics import labels as label_metrics
from keras_genmodels.metrics.estimates import average


def bound_terms(model, batches, *, seed):
    """Computes three of `likelihood.likelihood_terms`: deprecated."""
    warn("bound_terms", "metrics.likelihood.likelihood_terms")
    terms = _one_draw_terms(model, batches, seed)
    return {name: terms[name] for name in ("elbo", "rate", "distortion")}


def evaluate_monte_carlo(model, batches, *, seed):
    """Averages `monte_carlo` of `likelihood.likelihood_terms`: deprecated."""
    warn("evaluate_monte_carlo", "metrics.likelihood.likelihood_terms")
    values = _one_draw_terms(model, batches, seed)["monte_carlo"]
    return {
        **_averages({"log_likelihood": values}, ("log_likelihood",)),
        "num_examples": len(values),
    }


def averages(values):
    """Computes `estimates.average` of each array of a dict: deprecated."""
    warn("averages", "metrics.estimates.average")
    return _averages(values, values)


def active_units(model, batches):
    """Computes `likelihood.active_units` of a model: deprecated."""
    warn("active_units", "metrics.likelihood.active_units(latent_means)")
    means = [likelihood.latent_means(model, *batch) for batch in batches]
    return likelihood.active_units(np.concatenate(means))


def evaluate_likelihood(model, batches, *, seed, num_samples=5000, **settings):
    """Averages `likelihood.likelihood_terms`: deprecated."""
    warn("evaluate_likelihood", "metrics.likelihood.likelihood_terms")
    terms = likelihood.likelihood_terms(
        model, batches, seed=seed, num_samples=num_samples, **settings
    )
    return {
        **_averages(terms, ("log_likelihood", "effective_samples")),
        "num_samples": int(num_samples),
        "num_examples": len(terms["log_likelihood"]),
    }


def evaluate_denoiser(denoiser, images, *, sigmas, seed=0, batch_size=None):
    """Computes `denoising.denoising_psnr`, and that of no denoising."""
    warn("evaluate_denoiser", "metrics.denoising.denoising_psnr")
    del batch_size  # It changed nothing but the memory.
    found = {"psnr": denoiser, "noisy_psnr": lambda x, sigma: x}
    found = {
        name: denoising.denoising_psnr(function, images, sigmas, seed=seed)
        for name, function in found.items()
    }
    return {
        f"{sigma:g}": {
            key: value
            for name, of_level in found.items()
            for key, value in zip(
                (name, f"{name}_standard_error"), of_level[sigma], strict=True
            )
        }
        for sigma in sigmas
    }


def label_consistency(classifier, images, labels):
    """Computes `labels.label_accuracy`: deprecated."""
    warn("label_consistency", "metrics.labels.label_accuracy")
    return label_metrics.label_accuracy(classifier, images, labels)


def some(split):
    """Computes `labels.subsample`: deprecated."""
    warn("some", "metrics.labels.subsample")
    return label_metrics.subsample(split)


def _one_draw_terms(model, batches, seed):
    # Compiled by XLA, a single draw would take longer.
    return likelihood.likelihood_terms(
        model, batches, seed=seed, num_samples=1, jit_compile=False
    )


def _averages(terms, names):
    found = {}
    for name in names:
        found[name], found[f"{name}_standard_error"] = average(terms[name])
    return found
