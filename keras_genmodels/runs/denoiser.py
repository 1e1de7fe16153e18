"""Runs of denoisers: training or adapting, evaluation, figures, files."""

from keras_genmodels import datasets, plots
from keras_genmodels.core import arrays, files
from keras_genmodels.core.errors import user_errors
from keras_genmodels.core.model_config import copy_model
from keras_genmodels.denoisers import EmpiricalDenoiser
from keras_genmodels.evaluation import evaluate_briefly
from keras_genmodels.evaluation.model import brief_images
from keras_genmodels.metrics import denoising
from keras_genmodels.plots import denoiser as denoiser_plots
from keras_genmodels.runs import metrics_file
from keras_genmodels.training import fit, inputs
from keras_genmodels.training.workers import Workers

# Arguments of `runs.train` that only this family has.
ARGUMENTS = ()
# Training steps of a run that does not say how many; more overfits the digits.
DEFAULT_STEPS = 1000
# Images, and steps of the samples, that TensorBoard shows of each epoch.
_WATCHED_IMAGES = 256
_WATCHED_STEPS = 30


def default_binarization(model):
    """Returns None, as denoisers take images as they are."""
    del model


def prepare(model, data, description):
    """Adapts a denoiser to the training images.

    Args:
        model, data, description: as of `run`.

    Raises:
        UserError: if the data do not suit the denoiser.
    """
    del description
    with user_errors(f"{data.name}: "):
        model.adapt(_images_for(model, data.train))


def run(model, data, workdir, description, options, *, batch_size, verbose=1):
    """Trains a denoiser that has a loss, and writes all results.

    The test split is read once, after training. `metrics.json` is written
    last.

    Args:
        model: a `Denoiser` of images, as `prepare` left it.
        data: a `datasets.ImageDataset`.
        workdir: a `Workdir`.
        description: the `RunDescription`.
        options: the `fit.Options`; None for a denoiser that only adapts.
        batch_size: images per step.
        verbose: as in `training.fit`.

    Returns:
        dict, the content of `metrics.json`.

    Raises:
        UserError: if the validation split does not suit the denoiser.
        TrainingError, OSError: as `training.fit`.
    """
    seed = description.seed
    if options is None:
        return _finish(model, data, workdir, seed)
    with user_errors(f"{data.name}, validation split: "):
        validation = inputs.validation_split(data, options.strategy)
    watched = (data.validation or data.train).take(_WATCHED_IMAGES)
    input_of = inputs.input_of(model)
    report = fit.fit(
        model,
        workdir,
        options,
        batches=lambda step, part: datasets.training_batches(
            data.train,
            batch_size=batch_size,
            seed=seed,
            start_step=step,
            part=part,
        ).map(input_of),
        validation=_validation(validation, seed, input_of),
        draw=lambda model: _watch(model, watched, data, seed),
        verbose=verbose,
    )
    if not Workers(options.strategy).is_chief:
        return None
    model = copy_model(model)
    training = {"planned_epochs": options.epochs, **report}
    return _finish(model, data, workdir, seed, training)


def _images_for(model, split):
    """Returns what a model adapts to, in memory for one that stores it."""
    if isinstance(model, EmpiricalDenoiser):
        return split.in_memory().images
    return split.for_statistics()


def _validation(split, seed, input_of):
    if split is None:
        return None
    return datasets.evaluation_batches(split, batch_size=256, seed=seed).map(
        input_of
    )


def _watch(model, split, data, seed):
    """Returns pictures and the PSNR at each level, for TensorBoard."""
    images, labels = _arguments(model, split)
    levels = denoising.noise_levels(model)
    psnr = denoising.denoising_psnr(model, images, levels, labels)
    return {
        **_draw(model, split, data, seed, num_steps=_WATCHED_STEPS),
        **{f"psnr/sigma_{s:g}": found.value for s, found in psnr.items()},
    }


def _arguments(model, split):
    """Returns the images of a split, and their labels for a model of labels."""
    labels = split.labels if model.condition_kind == "label" else None
    return arrays.as_float(split.images), labels


def _draw(model, split, data, seed, **settings):
    """Returns pictures by name, for figures/ and TensorBoard."""
    return denoiser_plots.denoiser_pictures(
        model,
        *_arguments(model, split),
        seed=seed,
        label_names=data.label_names,
        labels=data.training_labels(),
        **settings,
    )


def _finish(denoiser, data, workdir, seed, training=None):
    """Measures the test split, and writes figures, model and metrics."""
    images = brief_images(data)
    sections = evaluate_briefly(denoiser, data)
    shown = data.test.take(len(images))
    for name, picture in _draw(denoiser, shown, data, seed).items():
        plots.save_png(workdir.figures / f"{name}.png", picture)
    with files.replacing(workdir.model) as temporary:
        denoiser.save(temporary)
    return metrics_file.write(
        workdir, denoiser, data, sections, len(images), training
    )
