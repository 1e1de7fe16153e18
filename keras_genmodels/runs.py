"""A whole run: from a model and its data to a workdir with results."""

import datetime
import importlib.metadata
import math
import platform

import numpy as np
import tensorflow as tf

import keras_genmodels
from keras_genmodels import (
    datasets,
    evaluation,
    files,
    plots,
    projector,
    training,
)
from keras_genmodels.distribution_layers import IndependentDiscretizedLogistic


def is_finished(workdir, options=None):
    """Tells whether the workdir holds the results of so many epochs.

    Args:
        workdir: a `Workdir`.
        options: a `training.Options`; None for a run without training.
    """
    metrics = files.read_json(workdir.metrics)
    return (
        metrics is not None
        and workdir.model.exists()
        and metrics.get("planned_epochs") == (options and options.epochs)
    )


def summary(workdir):
    """Tells in a few lines how the run came out and where things lie.

    Args:
        workdir: a `Workdir` with a finished run.
    """
    metrics = files.read_json(workdir.metrics)
    test = metrics["test"]
    error = test["elbo_standard_error"]
    lines = [
        f"Test elbo {test['elbo']:.2f} nats (standard error {error:.2f}; "
        f"rate {test['rate']:.2f}, distortion {test['distortion']:.2f}), "
        f"{test['num_examples']} images, after {metrics['epochs']} epochs in "
        f"{metrics['training_seconds'] / 60:.1f} minutes.",
    ]
    if not metrics["is_likelihood"]:
        lines.append(
            "Bernoulli on grey values: a cross entropy, not a likelihood; it "
            "bounds nothing and compares with no other."
        )
    if "bits_per_dimension" in test:
        lines.append(f"{test['bits_per_dimension']:.3f} bits per dimension.")
    lines += [
        f"Results in {workdir}: model.keras, metrics.json, figures/",
        f"Curves and latent space: tensorboard --logdir {workdir.tensorboard}",
    ]
    return "\n".join(lines)


def describe(data, workdir, options=None):
    """Tells in two lines what a run is about to do."""
    sizes = ", ".join(
        f"{len(split.images)} {name}"
        for name, split in (
            ("training", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
        if split is not None
    )
    shape = "x".join(map(str, data.image_shape))
    work = "no training"
    if options is not None:
        work = f"{options.epochs} epochs of {options.steps_per_epoch} steps"
    return (
        f"{data.name}: {sizes} images of {shape}; {work}\n"
        f"Results go to {workdir}"
    )


def train_vae(
    model, data, workdir, options, *, binarization, batch_size, seed, verbose=1
):
    """Trains a VAE on images and writes all results to the workdir.

    The test split is read once, after training. `metrics.json` is written
    last.

    Args:
        model: an untrained `VAE`, or one with the weights to start from.
        data: a `datasets.ImageDataset`.
        workdir: a `Workdir`.
        options: a `training.Options`.
        binarization: "none", "dynamic" or "threshold".
        batch_size: images per step.
        seed: int, for the data order, binarisation and evaluation.
        verbose: as in Keras' `fit`.

    Returns:
        dict, what `metrics.json` holds.

    Raises:
        UserError: as `training.fit`.
    """

    def batches_of(split):
        return datasets.evaluation_batches(
            split, batch_size=512, seed=seed, binarization=binarization
        ).map(_image)

    shown = next(iter(batches_of(data.validation or data.train))).numpy()
    report = training.fit(
        model,
        workdir,
        options,
        batches=lambda step: datasets.training_batches(
            data.train,
            batch_size=batch_size,
            seed=seed,
            binarization=binarization,
            start_step=step,
        ).map(_image),
        validation=batches_of(data.validation) if data.validation else None,
        draw=lambda model: plots.vae_pictures(model, shown, seed=seed),
        verbose=verbose,
    )
    model = without_training(model)
    test = batches_of(data.test)
    metrics = {
        "kind": type(model).__name__,
        "dataset": data.name,
        "binarization": binarization,
        "is_likelihood": not getattr(model.likelihood, "grey_values", False),
        "test": _test_metrics(model, test, binarization, seed),
        "planned_epochs": options.epochs,
        **report,
        **written(),
    }
    x = np.concatenate([batch.numpy() for batch in test.take(4)])
    _write_tensorboard(workdir, model, x, data, metrics)
    for name, picture in plots.vae_pictures(model, x[:32], seed=seed).items():
        plots.save_png(workdir.figures / f"{name}.png", picture)
    with files.replacing(workdir.model) as beside:
        model.save(beside)
    files.write_json(workdir.metrics, metrics)
    return metrics


def _image(batch):
    return batch["image"]


def without_training(model):
    """Copies a model without optimizer: what a user loads."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _test_metrics(model, batches, binarization, seed):
    metrics = evaluation.evaluate_bound(model, batches, seed=seed)
    metrics["loss"] = metrics["distortion"] + model.beta * metrics["rate"]
    of_levels = isinstance(model.likelihood, IndependentDiscretizedLogistic)
    if of_levels and binarization == "none":
        metrics["bits_per_dimension"] = evaluation.bits_per_dimension(
            -metrics["elbo"], math.prod(model.event_shape)
        )
    return metrics


def _write_tensorboard(workdir, model, x, data, metrics):
    """Adds the test figures and the latent space of the test split."""
    directory = workdir.tensorboard / "test"
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default(step=metrics["epochs"] - 1):
        for name in ("elbo", "rate", "distortion"):
            tf.summary.scalar(f"epoch_{name}", metrics["test"][name])
        tf.summary.scalar("epoch_loss", metrics["test"]["loss"])
    writer.close()
    labels, images = data.test.labels, data.test.images[: len(x)]
    if images.dtype == np.uint8:
        images = images / np.float32(255)
    projector.write(
        directory,
        model.encode(x).mean().numpy(),
        images,
        None if labels is None else labels[: len(x)],
        data.label_names,
    )


def written():
    """Tells when and by which versions results were written."""
    now = datetime.datetime.now(datetime.UTC)
    names = ("tensorflow", "keras", "tensorflow-probability")
    return {
        "written": now.isoformat("T", "seconds"),
        "versions": {
            "keras_genmodels": keras_genmodels.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in names},
        },
    }
