"""Runs of latent-variable models: training, evaluation, figures, files."""

import tensorflow as tf

from keras_genmodels import plots
from keras_genmodels.core import arrays, files
from keras_genmodels.core.errors import user_errors
from keras_genmodels.core.model_config import copy_model
from keras_genmodels.distributions import latents
from keras_genmodels.evaluation import evaluate_briefly, likelihood
from keras_genmodels.evaluation.model import num_measured
from keras_genmodels.plots import latent, projector
from keras_genmodels.runs import metrics_file
from keras_genmodels.training import fit
from keras_genmodels.training import inputs as latent_inputs
from keras_genmodels.training.workers import Workers

# Arguments of `runs.train` that only this family has.
ARGUMENTS = ("binarization",)
# Training steps of a run that does not say how many.
DEFAULT_STEPS = 3000
# Batches of the test split in the figures and the projector.
_SHOWN_BATCHES = 4


def default_binarization(model):
    """Returns how images are binarized unless a run says otherwise."""
    return "dynamic" if likelihood.is_of_bits(model) else "none"


def prepare(model, data, description):
    """Adapts the prior to the training images, if it has not been.

    Args:
        model, data, description: as of `run`.

    Raises:
        UserError: if the data do not suit the prior.
    """
    if model.adapted:
        return
    inputs = latent_inputs.Inputs(
        model, data, description.binarization, description.seed
    )
    with user_errors(f"{data.name}: "):
        model.adapt(inputs.batches(data.train))


def run(model, data, workdir, description, options, *, batch_size, verbose=1):
    """Trains a latent-variable model of images and writes all results.

    The test split is read once, after training and after the model is saved.
    `metrics.json` is written last.

    Args:
        model: a `LatentVariableModel`, as `prepare` left it; its condition,
            if any, is the label or a part of the image.
        data: a `datasets.ImageDataset`.
        workdir: a `Workdir`.
        description: the `RunDescription`.
        options: the `fit.Options`.
        batch_size: images per step.
        verbose: as in `training.fit`.

    Returns:
        dict, the content of `metrics.json`.

    Raises:
        UserError: if the validation split does not suit the model.
        TrainingError, OSError: as `training.fit`.
    """
    binarization, seed = description.binarization, description.seed
    inputs = latent_inputs.Inputs(model, data, binarization, seed)
    with user_errors(f"{data.name}, validation split: "):
        validation = latent_inputs.validation_split(data, options.strategy)
    watched = inputs.take(data.validation or data.train, 1)
    report = fit.fit(
        model,
        workdir,
        options,
        batches=lambda step, part: inputs.training(batch_size, step, part),
        validation=validation and inputs.batches(validation),
        draw=lambda model: _draw(model, watched, data, seed),
        verbose=verbose,
    )
    if not Workers(options.strategy).is_chief:
        return None
    model = copy_model(model)
    # First, as the evaluation may run out of memory.
    with files.replacing(workdir.model) as temporary:
        model.save(temporary)
    sections = evaluate_briefly(
        model, data, binarization=binarization, seed=seed
    )
    shown = inputs.take(data.test, _SHOWN_BATCHES)
    _write_tensorboard(
        workdir, model, shown, data, sections["likelihood"], report["epochs"]
    )
    for name, picture in _draw(model, shown, data, seed).items():
        plots.save_png(workdir.figures / f"{name}.png", picture)
    return metrics_file.write(
        workdir,
        model,
        data,
        sections,
        num_measured(model, data),
        {"planned_epochs": options.epochs, **report},
    )


def _draw(model, arguments, data, seed):
    """Returns pictures by name, for figures/ and TensorBoard."""
    return latent.pictures(
        model,
        *arguments,
        seed=seed,
        label_names=data.label_names,
        labels=data.training_labels(),
    )


def _write_tensorboard(workdir, model, shown, data, section, epochs):
    """Adds the test measures and the latent space of the test split."""
    directory = workdir.tensorboard / "test"
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default(step=epochs - 1):
        for name in ("elbo", "rate", "distortion", "loss"):
            # With a learned prior of many latents they are not measured.
            if name in section.measures:
                value = section.measures[name].estimate.value
                tf.summary.scalar(f"epoch_{name}", value)
    writer.close()
    count = len(shown[0])
    labels = data.test.labels
    codes = arrays.map_batches(
        lambda *inputs: latents.center(model.encode(*inputs)),
        *shown,
        batch_size=latent_inputs.images_at_once(model, count),
    )
    projector.write(
        directory,
        codes,
        arrays.as_float(data.test.images[:count]),
        None if labels is None else labels[:count],
        data.label_names,
    )
