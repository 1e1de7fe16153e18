"""Functions of version 0.2 that have another name; they go with version 0.4."""

from keras_genmodels.core.deprecation import warn
from keras_genmodels.metrics import denoising, likelihood
from keras_genmodels.metrics import labels as label_metrics
from keras_genmodels.metrics.estimates import average


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


def _averages(terms, names):
    found = {}
    for name in names:
        found[name], found[f"{name}_standard_error"] = average(terms[name])
    return found
