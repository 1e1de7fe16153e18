"""A whole run of a VAE or a conditional VAE: to a workdir with results."""

import dataclasses
import math
import typing

import numpy as np
import tensorflow as tf

from keras_genmodels import (
    conditional_samples,
    datasets,
    evaluation,
    files,
    label_metrics,
    latent_plots,
    plots,
    projector,
    runs,
    training,
)
from keras_genmodels.distribution_layers import IndependentDiscretizedLogistic
from keras_genmodels.errors import UserError
from keras_genmodels.models import VAE, ConditionalVAE

# Of the importance-weighted bound.
_NUM_SAMPLES = 100
_BATCH_SIZE = 512
# Of images that are held at once, or of what a network makes of them.
_MOST_VALUES = 2**26
# Of the widest layer at full size.
_CHANNELS = 16
# Batches of the test split that pictures and the projector are made of.
_SHOWN_BATCHES = 4


def train(
    model, data, workdir, options, *, binarization, batch_size, seed, verbose=1
):
    """Trains a latent-variable model of images and writes all results.

    The test split is read once, after training and after the model is saved.
    `metrics.json` is written last.

    Args:
        model: an untrained `VAE`, or a `ConditionalVAE` of labels or one that
            completes images; or one with the weights to start from.
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
    inputs = _Inputs(model, data, binarization, seed)
    watched = inputs.first(data.validation or data.train, 1)
    report = training.fit(
        model,
        workdir,
        options,
        batches=lambda step: inputs.training(batch_size, step),
        validation=data.validation and inputs.of(data.validation),
        draw=lambda model: _draw(model, watched, data, seed),
        verbose=verbose,
    )
    model = runs.without_training(model)
    # First, as what follows may fail for want of memory.
    with files.replacing(workdir.model) as beside:
        model.save(beside)
    metrics = {
        **_measured(model, inputs),
        "planned_epochs": options.epochs,
        **report,
        **runs.written(),
    }
    shown = inputs.first(data.test, _SHOWN_BATCHES)
    _write_tensorboard(workdir, model, shown, data, metrics)
    for name, picture in _draw(model, shown, data, seed).items():
        plots.save_png(workdir.figures / f"{name}.png", picture)
    files.write_json(workdir.metrics, metrics)
    return metrics


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


def as_trained(split, workdir):
    """Gives the images of a split as those of the run were: binarised or not.

    Args:
        split: a `datasets.Split`.
        workdir: the run's `Workdir`.

    Returns:
        tf.data.Dataset as of `datasets.evaluation_batches`.

    Raises:
        UserError: if the workdir does not tell how it was trained.
    """
    recorded = workdir.read_flags()
    return datasets.evaluation_batches(
        split,
        batch_size=_BATCH_SIZE,
        seed=int(recorded["seed"]),
        binarization=recorded["binarization"],
    )


def check_condition(model):
    """Checks that a model's condition is one that a data set has.

    Raises:
        UserError: for a conditional model of neither labels nor a part of the
            image.
    """
    if (
        isinstance(model, ConditionalVAE)
        and model.num_labels is None
        and model.known is None
    ):
        raise UserError(
            "the model is conditioned on neither labels nor a part of the "
            "image: use it in a script, which can give it its condition"
        )


def input_of(model):
    """Gives the function from a data set's batches to what the model takes.

    Args:
        model: as in `train`.

    Returns:
        function of a dict of `image` and perhaps `label`: gives the image, or
        for a conditional model a dict of `image` and `condition`, the label
        or what is known of the image.

    Raises:
        UserError: as `check_condition`.
    """
    check_condition(model)
    if not isinstance(model, ConditionalVAE):
        return lambda batch: batch["image"]

    def with_condition(batch):
        image = batch["image"]
        if model.known is None:
            return {"image": image, "condition": batch["label"]}
        return {"image": image, "condition": tf.where(model.known, image, 0)}

    return with_condition


def arguments_of(model, batches):
    """Gives what a model's methods take: `(x,)` or `(x, condition)`.

    Args:
        model: as in `train`.
        batches: iterable of dicts of `image` and perhaps `label`.

    Yields:
        tuple of the positional arguments of, say, `model.encode`.
    """
    as_input = input_of(model)
    for batch in batches:
        inputs = as_input(batch)
        yield tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)


@dataclasses.dataclass(frozen=True, eq=False)
class _Inputs:
    """The splits of a data set, as batches that a model takes."""

    model: object
    data: datasets.ImageDataset
    binarization: str
    seed: int

    def training(self, batch_size, start_step):
        """Gives shuffled batches without end."""
        return datasets.training_batches(
            self.data.train,
            batch_size=batch_size,
            seed=self.seed,
            binarization=self.binarization,
            start_step=start_step,
        ).map(input_of(self.model))

    def of(self, split):
        """Gives each image of a split once."""
        return self._plain(split).map(input_of(self.model))

    def first(self, split, count):
        """Joins the first batches to the arguments of the model's methods."""
        batches = arguments_of(self.model, self._plain(split).take(count))
        return tuple(map(np.concatenate, zip(*batches, strict=True)))

    def _plain(self, split):
        return datasets.evaluation_batches(
            split,
            batch_size=_BATCH_SIZE,
            seed=self.seed,
            binarization=self.binarization,
        )


def _draw(model, arguments, data, seed):
    return latent_plots.pictures(
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
        "is_likelihood": not getattr(model.likelihood, "grey_values", False),
        "test": _test_metrics(model, inputs),
    }
    if getattr(model, "num_labels", None) is not None:
        measured["labels"] = _label_metrics(
            model, data, binarization, inputs.seed
        )
    return measured


def _test_metrics(model, inputs):
    seed, batches = inputs.seed, inputs.of(inputs.data.test)
    metrics = evaluation.evaluate_bound(model, batches, seed=seed)
    metrics["loss"] = _test_loss(model, batches, metrics, seed)
    of_levels = isinstance(model.likelihood, IndependentDiscretizedLogistic)
    if of_levels and inputs.binarization == "none":
        metrics["bits_per_dimension"] = evaluation.bits_per_dimension(
            -metrics["elbo"], _event_size(model)
        )
    metrics["monte_carlo"] = evaluation.evaluate_monte_carlo(
        model, batches, seed=seed
    )
    metrics["importance_weighted"] = _importance_weighted(
        model, batches, seed, _NUM_SAMPLES
    )
    return metrics


def _test_loss(model, batches, metrics, seed):
    """Gives what the model was trained to make small."""
    count = model.num_importance_samples
    if count == 1:
        return metrics["distortion"] + model.beta * metrics["rate"]
    bound = _importance_weighted(model, batches, seed, count)
    return -bound["log_likelihood"]


def _importance_weighted(model, batches, seed, num_samples):
    return evaluation.evaluate_likelihood(
        model,
        batches,
        seed=seed,
        num_samples=num_samples,
        chunk_size=images_at_once(model.event_shape, 2000),
    )


def images_at_once(shape, most):
    """Gives how many images of a shape a network should take at once.

    Args:
        shape: (height, width, channels).
        most: int >= 1.

    Returns:
        int in [1, most], so that a layer's activations stay within 256 MB.
    """
    pixels = math.prod(shape[:2]) * _CHANNELS
    return max(1, min(most, _MOST_VALUES // pixels))


def _event_size(model):
    """Counts the entries that the model gives a probability to."""
    known = getattr(model, "known", None)
    size = math.prod(model.event_shape)
    return size if known is None else size - int(known.sum())


def _label_metrics(model, data, binarization, seed):
    """Reads generated images by a classifier of real ones, and compares."""
    count = max(1, _MOST_VALUES // math.prod(data.image_shape))
    train, test = (
        _spread(split, count, binarization) for split in (data.train, data.test)
    )
    drawn = conditional_samples.sample(model, test.labels, seed=seed)
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


def _spread(split, count, binarization):
    """Takes images from all over a split, as the means of a model's are."""
    total = len(split.images)
    rows = np.linspace(0, total - 1, min(count, total)).astype(int)
    images = split.images[rows]
    if binarization == "threshold":
        images = (evaluation.as_float(images) >= 0.5).astype(np.float32)
    return _Labelled(images, split.labels[rows])


def _told_bounds(metrics):
    """Tells the bounds over the test split."""
    test = metrics["test"]
    lines = [
        f"Test elbo {_told(test, 'elbo')}; rate {test['rate']:.2f}, "
        f"distortion {test['distortion']:.2f}; {test['num_examples']} images.",
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
        lines.append(f"{test['bits_per_dimension']:.3f} bits per dimension.")
    return lines


def _told(found, name):
    error = found[f"{name}_standard_error"]
    return f"{found[name]:.2f} nats (standard error {error:.2f})"


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
    parts = range(0, count, images_at_once(model.event_shape, count))
    latents = [
        model.encode(*(value[i : i + parts.step] for value in shown)).mean()
        for i in parts
    ]
    projector.write(
        directory,
        np.concatenate(latents),
        evaluation.as_float(data.test.images[:count]),
        None if labels is None else labels[:count],
        data.label_names,
    )
