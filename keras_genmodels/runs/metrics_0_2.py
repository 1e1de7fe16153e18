"""The `metrics.json` of runs of version 0.2, in the current form."""

from keras_genmodels.evaluation import labels, likelihood
from keras_genmodels.evaluation.sections import Measure, Section
from keras_genmodels.metrics.estimates import Estimate

_TRAINING = ("epochs", "steps", "planned_epochs", "best_epoch")
_TERMS = ("elbo", "rate", "distortion", "loss", "bits_per_dimension")


def convert(content):
    """Converts what `metrics.json` of version 0.2 holds.

    Args:
        content: dict.

    Returns:
        dict in the form of `runs.metrics_file`, without an evaluation, whose
        form has changed; `content` itself if it is of a later version.
    """
    test = content.get("test", {})
    if "num_examples" not in test:
        return content
    converted = {
        name: content[name]
        for name in ("kind", "dataset", "label_names")
        if name in content
    }
    if "epochs" in content:
        converted["training"] = {
            **{name: content.get(name) for name in _TRAINING},
            "validation_loss": content.get("validation_loss"),
            "seconds": content["training_seconds"],
        }
    sections = _denoising if "noise_levels" in test else _likelihood
    converted["test"] = {
        "num_images": test["num_examples"],
        "sections": {
            name: section.as_dict()
            for name, section in sections(content).items()
        },
    }
    written = {k: content[k] for k in ("written", "versions") if k in content}
    return {**converted, **written}


def _denoising(content):
    measures = {}
    for sigma, values in content["test"]["noise_levels"].items():
        measures[f"psnr/{sigma}"] = Measure(
            f"PSNR at sigma {float(sigma):g}",
            _estimate(values, "psnr"),
            "10 log10(1 / mean squared error) of each image, averaged.",
            "dB",
            {"noisy": _estimate(values, "noisy_psnr")},
        )
    return {"denoising": Section("Denoising", measures)}


def _likelihood(content):
    test = content["test"]
    weighted = test.get("importance_weighted", {})
    estimates = {n: _estimate(test, n) for n in _TERMS if n in test}
    if "monte_carlo" in test:
        drawn = _estimate(test["monte_carlo"], "log_likelihood")
        estimates["monte_carlo"] = drawn
    for name in ("log_likelihood", "effective_samples"):
        if name in weighted:
            estimates[name] = _estimate(weighted, name)
    normalised = content.get("is_likelihood", True)
    measures = {
        name: likelihood.measure(
            name,
            estimate,
            conditional=content["kind"] == "ConditionalVAE",
            normalised=normalised,
            num_samples=weighted.get("num_samples"),
        )
        for name, estimate in estimates.items()
    }
    notes = [] if normalised else [likelihood.CROSS_ENTROPY_NOTE]
    sections = {"likelihood": Section("Likelihood", measures, notes)}
    if "labels" in content:
        sections["labels"] = _labels(content["labels"])
    return sections


def _labels(values):
    section = Section("Labels")
    if "real" in values:
        section.measures["label_accuracy"] = labels.accuracy_measure(
            *(_estimate(values[k], "accuracy") for k in ("generated", "real"))
        )
    if "diversity" in values:
        section.measures["diversity"] = labels.diversity_measure(
            _estimate(values, "diversity")
        )
    if "not_measured" in values:
        section.notes.append(f"Not measured: {values['not_measured']}.")
    return section


def _estimate(values, name):
    # Early versions have no error of some numbers; None is not finite.
    error = values.get(f"{name}_standard_error")
    return Estimate.from_dict({"value": values[name], "standard_error": error})
