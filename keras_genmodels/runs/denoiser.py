"""A whole run of a denoiser: from its data to a workdir with results."""

from keras_genmodels import datasets, plots
from keras_genmodels.core import arrays, files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.metrics import denoising, estimates
from keras_genmodels.plots import denoiser as denoiser_plots
from keras_genmodels.runs import results
from keras_genmodels.training import fit

# Arguments of `runs.train` that only this family has.
ARGUMENTS = ()
# Training steps of a run that does not say how many; more overfits the digits.
DEFAULT_STEPS = 1000
# As in the comparison of denoisers: the first of the test split.
_TEST_IMAGES = 1000
# For the curves of a training.
_WATCHED_IMAGES = 256
_WATCHED_STEPS = 30


def default_binarization(model):
    """Returns None, as denoisers take images as they are."""
    del model


def run(model, data, workdir, description, options, *, batch_size, verbose=1):
    """Adapts a denoiser, trains it if it has a loss, and writes all results.

    The test split is read once, after training. `metrics.json` is written
    last.

    Args:
        model: an untrained `Denoiser` of images, or one with the weights to
            start from.
        data: a `datasets.ImageDataset`.
        workdir: a `Workdir`.
        description: the `RunDescription`.
        options: a `training.Options`; None for a denoiser that only adapts.
        batch_size: images per step.
        verbose: as in Keras' `fit`.

    Returns:
        dict, the content of `metrics.json`.

    Raises:
        UserError: as `training.fit`, and if the data do not suit the denoiser.
    """
    seed = description.seed
    with user_errors(f"{data.name}: "):
        model.adapt(data.train.images)
    if options is None:
        return _finish(model, data, workdir, seed)
    held_out = data.validation or data.train
    watched = arrays.as_float(held_out.images[:_WATCHED_IMAGES])
    report = fit.fit(
        model,
        workdir,
        options,
        batches=lambda step: datasets.training_batches(
            data.train, batch_size=batch_size, seed=seed, start_step=step
        ).map(_image),
        validation=_validation(data.validation, seed),
        draw=lambda model: _watch(model, watched, seed),
        verbose=verbose,
    )
    # A copy without optimizer is what a user loads.
    model = results.without_training(model)
    return _finish(
        model, data, workdir, seed, planned_epochs=options.epochs, **report
    )


def load_denoiser(workdir):
    """Loads the denoiser of a finished run.

    Raises:
        UserError: if there is none, or the run is of another kind.
    """
    model = workdir.load_model()
    if not isinstance(model, Denoiser):
        raise UserError(
            f"{workdir} holds a {type(model).__name__}, not a denoiser: give "
            "the --workdir of a run of train_dae"
        )
    return model


def summary(workdir):
    """Tells in a few lines how the run came out and where things lie."""
    metrics = files.read_json(workdir.metrics)
    lines = [
        f"{metrics['kind']}, PSNR on {metrics['test']['num_examples']} test "
        "images:"
    ]
    for sigma, values in metrics["test"]["noise_levels"].items():
        psnr, noisy = (
            estimates.as_text(values[n], values[f"{n}_standard_error"], "dB")
            for n in ("psnr", "noisy_psnr")
        )
        lines.append(f"  sigma {float(sigma):<5g} {psnr}, noisy {noisy}")
    if "epochs" in metrics:
        lines.append(
            f"After {metrics['epochs']} epochs in "
            f"{metrics['training_seconds'] / 60:.1f} minutes."
        )
    lines.append(f"Results in {workdir}: model.keras, metrics.json, figures/")
    if "epochs" in metrics:
        lines.append(f"Curves: tensorboard --logdir {workdir.tensorboard}")
    return "\n".join(lines)


def _image(batch):
    return batch["image"]


def _validation(split, seed):
    if split is None:
        return None
    return datasets.evaluation_batches(split, batch_size=256, seed=seed).map(
        _image
    )


def _watch(model, images, seed):
    """Gives what TensorBoard shows: pictures, and PSNR at each level."""
    levels = denoising.evaluate_denoiser(
        model, images, sigmas=denoising.noise_levels(model)
    )
    return {
        **denoiser_plots.denoiser_pictures(
            model, images, seed=seed, num_steps=_WATCHED_STEPS
        ),
        **{f"psnr/sigma_{s}": level["psnr"] for s, level in levels.items()},
    }


def _finish(denoiser, data, workdir, seed, **report):
    """Reads the test split, and writes figures, model and metrics."""
    images = data.test.images[:_TEST_IMAGES]
    test = denoising.evaluate_denoiser(
        denoiser, images, sigmas=denoising.noise_levels(denoiser)
    )
    metrics = {
        "kind": type(denoiser).__name__,
        "dataset": data.name,
        "test": {"noise_levels": test, "num_examples": len(images)},
        **report,
        **results.written(),
    }
    pictures = denoiser_plots.denoiser_pictures(
        denoiser, arrays.as_float(images), seed=seed
    )
    for name, picture in pictures.items():
        plots.save_png(workdir.figures / f"{name}.png", picture)
    with files.replacing(workdir.model) as beside:
        denoiser.save(beside)
    files.write_json(workdir.metrics, metrics)
    return files.as_json(metrics)
