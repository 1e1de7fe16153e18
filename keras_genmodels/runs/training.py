"""Trains a model of any kind, and leaves a workdir that every app reads."""

import dataclasses
import math

from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.validation import check
from keras_genmodels.core.wording import kind_of
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.models import LatentDiffusion, LatentVariableModel
from keras_genmodels.runs import (
    denoiser,
    latent,
    latent_prior,
    metrics_file,
)
from keras_genmodels.runs.description import RunDescription, as_settings
from keras_genmodels.runs.job import Job
from keras_genmodels.runs.workdir import Workdir
from keras_genmodels.training import fit
from keras_genmodels.training.strategy import check_single_worker

_LEAST_EPOCHS = 20
_BATCH_SIZE = 128
# Of the initial weights in the average of the weights of a run.
_LARGEST_SHARE = 0.01
# Fields of `fit.Options` that `train` computes.
_COMPUTED = ("epochs", "steps_per_epoch")
_OPTIONS = tuple(
    field.name
    for field in dataclasses.fields(fit.Options)
    if field.name not in _COMPUTED
)
# A run may go on with other devices.
_SETTINGS = tuple(name for name in _OPTIONS if name != "strategy")
# Settings of a script's run that earlier versions do not record.
_ASSUMED = {"free_bits": 0.0, "smallest_scale": 1.0}


@dataclasses.dataclass(frozen=True)
class Command:
    """The command line that makes a run, for `flags.txt` and messages.

    Args:
        program: name of the app.
        settings: dict of flags to their values; not those of the data,
            binarization, seed and epochs.
        defaults: dict of flags to the values that they had, in effect, in
            runs that do not record them.
    """

    program: str
    settings: dict
    defaults: dict


def train(
    model,
    data,
    workdir,
    *,
    seed=0,
    binarization=None,
    epochs=None,
    batch_size=None,
    init_from=None,
    command=None,
    verbose=1,
    **options,
):
    """Trains a model and writes all results to a workdir.

    A run that was interrupted goes on from its last checkpoint, one that is
    finished is left as it is, and one with more epochs than before is
    extended. A denoiser without a loss only adapts to the data.

    Args:
        model: an untrained `LatentVariableModel` or `Denoiser` of images.
        data: `datasets.ImageDataset`; of `datasets.load`, if apps are to load
            it again.
        workdir: path, or a `Workdir`.
        seed: int in [0, 2**31), of the data order, the binarization and the
            evaluation.
        binarization: of latent-variable models, "none", "dynamic" or
            "threshold"; by default "dynamic" for a likelihood of binary
            pixels, else "none".
        epochs: int >= 1, over all starts of the run; by default as many as
            make 3000 steps (1000 for denoisers of images), at least 20.
        batch_size: int >= 1, images per step, 128 by default.
        init_from: path of a `.keras` file with the initial weights.
        command: `Command` of an app.
        verbose: 1 prints the progress (a bar on a terminal, else about 20
            lines), 2 Keras' own line for each epoch, 0 nothing.
        **options: fields of `training.fit.Options`, such as `learning_rate`.

    Returns:
        dict, the content of `metrics.json`.

    Raises:
        UserError: if the workdir holds another run or is in use, the data do
            not suit the model, the loss is not finite, a checkpoint cannot be
            read or the disk is full.
        TypeError: for an option that does not exist, or that this kind of
            model does not have.
    """
    workdir = Workdir(workdir)
    given = {
        "binarization": binarization,
        "epochs": epochs,
        "batch_size": batch_size,
        "init_from": init_from,
        **options,
    }
    _check_arguments(model, given)
    family, batch_size = _family(model), batch_size or _BATCH_SIZE
    if binarization is None:
        binarization = family.default_binarization(model)
    if fit.is_trainable(model):
        options = _options(model, data, epochs, batch_size, options)
    else:
        options = None
        with user_errors():
            check_single_worker(f"{kind_of(model)} adapts to the data")
    run = _describe(
        model, data, options, command, binarization, seed, batch_size, init_from
    )
    # Scripts of version 0.3 did not record the settings of the denoiser.
    in_scripts = _ASSUMED | _scalars_of_denoiser(model)
    assumed = command.defaults if command else in_scripts
    job = Job(workdir, run, assumed, options)
    settings = {"batch_size": batch_size, "verbose": verbose}
    with job.locked():
        if job.is_finished():
            more = "; a larger number of epochs extends it" if options else ""
            print(f"This run is finished{more}.")
        else:
            if options is not None and workdir.find_run() is None:
                _check_rate_warmup(model, options.num_steps)
                _check_average(options, init_from)
            job.begin(model, data, init_from, family.prepare)
            family.run(model, data, workdir, run, options, **settings)
            job.workers.agree(0)  # The chief has written the results.
        if job.workers.is_chief:
            print(metrics_file.summary(workdir))
        return workdir.read_metrics()


def arguments_for(model):
    """Lists the keyword arguments of `train` that a kind of model has."""
    names = ["seed", *_family(model).ARGUMENTS]
    if fit.is_trainable(model):
        names += ["epochs", "batch_size", "init_from", *_OPTIONS]
    return names


def _family(model):
    """Returns the module of runs of a kind of model."""
    if isinstance(model, Denoiser):
        return denoiser
    if isinstance(model, LatentDiffusion):
        return latent_prior
    if isinstance(model, LatentVariableModel):
        return latent
    raise TypeError(
        "model must be a latent-variable model or a Denoiser, got "
        f"{type(model).__name__}"
    )


def _check_arguments(model, given):
    allowed = arguments_for(model)
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise TypeError(
                f"a run of {kind_of(model)} has no argument {name}; "
                f"it has {', '.join(allowed)}"
            )


def _options(model, data, epochs, batch_size, options):
    """Returns the `fit.Options`, with the default number of epochs."""
    family = _family(model)
    with user_errors():
        steps = fit.steps_per_epoch(len(data.train.images), batch_size)
        if epochs is None:
            epochs = max(_LEAST_EPOCHS, math.ceil(family.DEFAULT_STEPS / steps))
        options = fit.Options(epochs=epochs, steps_per_epoch=steps, **options)
        return fit.with_strategy(options, model, batch_size)


def _check_rate_warmup(model, steps):
    """Raises if a new run would end before its rate has its whole weight."""
    warmup = getattr(model, "rate_warmup_steps", 0)
    check(
        warmup < steps,
        f"rate_warmup_steps must be in [0, {steps}), {steps} being the steps "
        f"of the run, got {warmup}",
        UserError,
    )


def _check_average(options, init_from):
    """Raises if a new run would leave its first weights in the average."""
    momentum, steps = options.ema_momentum or 0.0, options.num_steps
    share = momentum**steps
    most = math.floor(1e4 * _LARGEST_SHARE ** (1 / steps)) / 1e4
    check(
        share <= _LARGEST_SHARE or init_from is not None,
        f"ema_momentum={momentum:g} leaves {share:.0%} of the initial weights "
        f"in the average of the {steps} steps of the run: at most {most:g}",
        UserError,
    )


def _describe(
    model, data, options, command, binarization, seed, batch_size, init_from
):
    """Returns the `RunDescription`."""
    if command is not None:
        settings = command.settings
    else:
        settings = {"init_from": init_from, **_scalars(model)}
        settings |= _scalars_of_denoiser(model)
        if options is not None:
            settings["batch_size"] = batch_size
            settings |= {name: getattr(options, name) for name in _SETTINGS}
    return RunDescription.of(
        model,
        data,
        program=command and command.program,
        binarization=binarization,
        seed=seed,
        epochs=options and options.epochs,
        settings=as_settings(settings),
    )


def _scalars(model):
    """Returns the hyperparameters of a model that are numbers or texts."""
    return {
        name: value
        for name, value in model.get_config().items()
        if name not in ("name", "format", "seed") and _is_scalar(value)
    }


def _scalars_of_denoiser(model):
    """Returns those of the denoiser of a `LatentDiffusion`."""
    if not isinstance(model, LatentDiffusion):
        return {}
    found = _scalars(model.denoiser)
    return {f"denoiser.{name}": value for name, value in found.items()}


def _is_scalar(value):
    """Returns whether a value is a number or text, or a list of them."""
    if isinstance(value, list | tuple):
        return all(isinstance(part, int | float | str) for part in value)
    return isinstance(value, int | float | str)
