"""A whole run of a VAE or a conditional VAE: to a workdir with results."""

import typing

import numpy as np
import tensorflow as tf

from keras_genmodels import plots
from keras_genmodels.core import arrays, files
from keras_genmodels.core.errors import UserError
from keras_genmodels.evaluation import latent as latent_evaluation
from keras_genmodels.metrics import estimates, likelihood
from keras_genmodels.metrics import labels as label_metrics
from keras_genmodels.models import VAE, ConditionalVAE, conditional_sampling
from keras_genmodels.plots import latent, projector
from keras_genmodels.runs import results
from keras_genmodels.training import fit
from keras_genmodels.training import inputs as latent_inputs

# Arguments of `runs.train` that only this family has.
ARGUMENTS = ("binarization",)
# Training steps of a run that does not say how many.
DEFAULT_STEPS = 3000
# Of the importance-weighted bound.
_NUM_SAMPLES = 100
# Batches of the test split that pictures and the projector are made of.
_SHOWN_BATCHES = 4


def default_binarization(model):
    """Returns how images are binarized unless a run says otherwise."""
    return "dynamic" if latent_evaluation.of_bits(model) else "none"


def run(model, data, workdir, description, options, *, batch_size, verbose=1):
    """Trains a latent-variable model of images and writes all results.

    The test split is read once, after training and after the model is saved.
    `metrics.json` is written last.

    Args:
        model: an untrained `VAE`, or a `ConditionalVAE` of labels or one that
            completes images; or one with the weights to start from.
        data: a `datasets.ImageDataset`.
        workdir: a `Workdir`.
        description: the `RunDescription`.
        options: a `training.Options`.
        batch_size: images per step.
        verbose: as in Keras' `fit`.

    Returns:
        dict, what `metrics.json` holds.

    Raises:
        UserError: as `training.fit`.
    """
    binarization, seed = description.binarization, description.seed
    inputs = latent_inputs.Inputs(model, data, binarization, seed)
    watched = inputs.first(data.validation or data.train, 1)
    report = fit.fit(
        model,
        workdir,
        options,
        batches=lambda step: inputs.training(batch_size, step),
        validation=data.validation and inputs.of(data.validation),
        draw=lambda model: _draw(model, watched, data, seed),
        verbose=verbose,
    )
    model = results.without_training(model)
    # First, as what follows may fail for want of memory.
    with files.replacing(workdir.model) as beside:
        model.save(beside)
    metrics = {
        **_measured(model, inputs),
        "planned_epochs": options.epochs,
        **report,
        **results.written(),
    }
    shown = inputs.first(data.test, _SHOWN_BATCHES)
    _write_tensorboard(workdir, model, shown, data, metrics)
    for name, picture in _draw(model, shown, data, seed).items():
        plots.save_png(workdir.figures / f"{name}.png", picture)
    files.write_json(workdir.metrics, metrics)
    return files.as_json(metrics)


def summary(workdir):
    """Tells in a few lines how the run came out and where things lie.

    Args:
        workdir: a `Workdir` with a finished run.
    """
    metrics = files.read_json(workdir.metrics)
    lines = [
        *_told_bounds(metrics),
        f"After {metrics['epochs']} epochs in "
        f"{metrics['training_seconds'] / 60:.1f} minutes.",
    ]
    if not metrics["is_likelihood"]:
        lines.append(
            "Bernoulli on grey values: a cross entropy, not a likelihood; it "
            "bounds nothing and compares with no other."
        )
    if "labels" in metrics:
        lines += _told_labels(metrics["labels"])
    lines += [
        f"Results in {workdir}: model.keras, metrics.json, figures/",
        f"Curves and latent space: tensorboard --logdir {workdir.tensorboard}",
    ]
    return "\n".join(lines)


def load_model(workdir):
    """Loads the latent-variable model of a finished run.

    Raises:
        UserError: if there is none, or the run is of another kind.
    """
    model = workdir.load_model()
    if not isinstance(model, VAE | ConditionalVAE):
        raise UserError(
            f"{workdir} holds a {type(model).__name__}, which has no latent: "
            "give the --workdir of a run of train_vae or train_cvae"
        )
    return model


def _draw(model, arguments, data, seed):
    return latent.pictures(
        model, *arguments, seed=seed, label_names=data.label_names
    )


def _measured(model, inputs):
    """Gives what `metrics.json` tells of the model itself."""
    data, binarization = inputs.data, inputs.binarization
    measured = {
        "kind": type(model).__name__,
        "dataset": data.name,
        "label_names": data.label_names,
        "binarization": binarization,
        "is_likelihood": latent_evaluation.is_likelihood(model),
        "test": _test_metrics(model, inputs),
    }
    if getattr(model, "num_labels", None) is not None:
        measured["labels"] = _label_metrics(
            model, data, binarization, inputs.seed
        )
    return measured


def _test_metrics(model, inputs):
    seed, batches = inputs.seed, inputs.of(inputs.data.test)
    terms = likelihood.bound_terms(model, batches, seed=seed)
    terms["loss"] = _test_losses(model, batches, terms, seed)
    if latent_evaluation.of_levels(model, inputs.binarization):
        terms["bits_per_dimension"] = likelihood.bits_per_dimension(
            -terms["elbo"], latent_evaluation.unseen(model).sum()
        )
    return {
        **estimates.averages(terms),
        "num_examples": len(terms["elbo"]),
        "monte_carlo": likelihood.evaluate_monte_carlo(
            model, batches, seed=seed
        ),
        "importance_weighted": likelihood.evaluate_likelihood(
            model,
            batches,
            seed=seed,
            num_samples=_NUM_SAMPLES,
            chunk_size=latent_inputs.chunk_size(model),
        ),
    }


def _test_losses(model, batches, terms, seed):
    """Gives, of each image, what the model was trained to make small."""
    if model.num_importance_samples == 1:
        return terms["distortion"] + model.beta * terms["rate"]
    found = likelihood.likelihood_terms(
        model,
        batches,
        seed=seed,
        num_samples=model.num_importance_samples,
        chunk_size=latent_inputs.chunk_size(model),
    )
    return -found["log_likelihood"]


def _label_metrics(model, data, binarization, seed):
    """Reads generated images by a classifier of real ones, and compares."""
    train, test = (
        _Labelled(latent_inputs.cut(some.images, binarization), some.labels)
        for some in map(label_metrics.some, (data.train, data.test))
    )
    drawn = conditional_sampling.sample(model, test.labels, seed=seed)
    drawn = np.clip(drawn, 0, 1)
    found = {}
    try:
        classifier = label_metrics.fit_label_classifier(*train, seed=seed)
        for name, images in (("generated", drawn), ("real", test.images)):
            found[name] = label_metrics.label_consistency(
                classifier, images, test.labels
            )
        return found | label_metrics.diversity(
            drawn, test.labels, test.images, test.labels, seed=seed
        )
    except UserError as error:
        # Too few images or labels for it, which is no reason to lose the run.
        return found | {"not_measured": str(error)}


class _Labelled(typing.NamedTuple):
    images: np.ndarray
    labels: np.ndarray


def _told_bounds(metrics):
    """Tells the bounds over the test split."""
    test = metrics["test"]
    lines = [
        f"Test elbo {_told(test, 'elbo')}, of {test['num_examples']} images.",
        f"Rate {_told(test, 'rate')}, distortion {_told(test, 'distortion')}.",
    ]
    # Runs of earlier versions have no more.
    if metrics["kind"] == "ConditionalVAE" and "monte_carlo" in test:
        told = _told(test["monte_carlo"], "log_likelihood")
        lines.append(f"By one draw of the prior (Monte Carlo): {told}.")
    if weighted := test.get("importance_weighted"):
        lines.append(
            f"Importance-weighted by {weighted['num_samples']} samples: "
            f"{_told(weighted, 'log_likelihood')}."
        )
    if "bits_per_dimension" in test:
        told = _told(test, "bits_per_dimension", "bits per dimension", 3)
        lines.append(f"Code length {told}.")
    return lines


def _told(found, name, unit="nats", places=2):
    # Not all figures of earlier versions have an error.
    error = found.get(f"{name}_standard_error")
    return estimates.as_text(found[name], error, unit, places)


def _told_labels(labels):
    """Tells how well generated images show their labels."""
    lines = []
    if "real" in labels:
        drawn, real = labels["generated"], labels["real"]
        lines.append(
            f"A classifier reads the label off {drawn['accuracy']:.1%} of "
            f"{drawn['num_examples']} generated images, off "
            f"{real['accuracy']:.1%} of the real ones of the test split."
        )
    if "diversity" in labels:
        lines.append(
            f"Images of one label are {labels['diversity']:.2f} times as far "
            "from each other as real ones."
        )
    if "not_measured" in labels:
        lines.append(f"Not measured of labels: {labels['not_measured']}.")
    return lines


def _write_tensorboard(workdir, model, shown, data, metrics):
    """Adds the test figures and the latent space of the test split."""
    directory = workdir.tensorboard / "test"
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default(step=metrics["epochs"] - 1):
        for name in ("elbo", "rate", "distortion"):
            tf.summary.scalar(f"epoch_{name}", metrics["test"][name])
        tf.summary.scalar("epoch_loss", metrics["test"]["loss"])
    writer.close()
    count = len(shown[0])
    labels = data.test.labels
    latents = arrays.map_batches(
        lambda *inputs: model.encode(*inputs).mean(),
        *shown,
        batch_size=latent_inputs.images_at_once(model, count),
    )
    projector.write(
        directory,
        latents,
        arrays.as_float(data.test.images[:count]),
        None if labels is None else labels[:count],
        data.label_names,
    )
