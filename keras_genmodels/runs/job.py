"""A run in one process: locks the workdir, begins, and reports errors."""

import contextlib

from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import has_shape
from keras_genmodels.core.wording import kind_of
from keras_genmodels.runs import results
from keras_genmodels.runs.workdir import load_model
from keras_genmodels.training import fit
from keras_genmodels.training.workers import Workers


class Job:
    """A run in this process, which is its chief or another worker.

    Args:
        workdir: `Workdir`.
        run: `RunDescription` of the run to make or resume.
        assumed: dict of settings to the values that they had, in effect, in
            runs of versions that do not record them.
        options: `fit.Options`, or None for a model that only adapts.
    """

    def __init__(self, workdir, run, assumed, options):
        self.workdir, self.run, self.assumed = workdir, run, assumed
        self.options = options
        self.workers = Workers(options and options.strategy)

    @contextlib.contextmanager
    def locked(self):
        """Locks the workdir; raises an error of training as a `UserError`."""
        is_chief = self.workers.is_chief
        with (
            self.workdir.locked() if is_chief else contextlib.nullcontext(),
            _training_errors(),
            self.workers.raising_lost_workers(),
        ):
            yield

    def is_finished(self):
        """Returns whether the run was finished earlier.

        Raises:
            UserError: if another run was begun in the workdir.
        """
        self.workdir.check(self.run, self.assumed)
        finished = results.is_finished(self.workdir, self.options)
        return self.workers.agree(finished)

    def begin(self, model, data, init_from, prepare):
        """Prepares the model, and writes run.json and flags.txt.

        Args:
            model: the untrained model.
            data: `datasets.ImageDataset`.
            init_from: path of a model.keras to copy the weights of, or None.
            prepare: function of model, data and description that adapts the
                model to the data.
        """
        # First, so that a run that cannot start leaves the workdir free.
        if init_from is not None and not self.workdir.has_checkpoint():
            start_from_weights(model, init_from, data.image_shape)
        prepare(model, data, self.run)
        if self.workers.is_chief:
            self.workdir.claim(self.run, self.assumed)
            text = results.describe(data, self.workdir, self.options)
            print(text, flush=True)


@contextlib.contextmanager
def _training_errors():
    """Raises a `TrainingError` of the block as a `UserError` with advice."""
    try:
        yield
    except fit.NotFiniteError as error:
        raise UserError(
            f"{error}: give a smaller learning_rate, or clip the gradients "
            "(gradient_clip_norm=1), and another workdir (the last good "
            "checkpoint is kept in this one)"
        ) from error
    except fit.TrainingError as error:
        raise UserError(str(error)) from error


def start_from_weights(model, path, image_shape):
    """Copies the weights of a saved model to that of a new run.

    Args:
        model: the model whose weights are set.
        path: of a model.keras, or of the workdir of a finished run.
        image_shape: `(height, width, channels)` of the run's data.

    Raises:
        UserError: if its images or its weights have other shapes.
    """
    source = load_model(path)
    if not has_shape(image_shape, source.event_shape):
        sizes = [
            "x".join(map(str, s)) for s in (source.event_shape, image_shape)
        ]
        raise UserError(
            f"init_from={path} is a model of images of {sizes[0]}, and this "
            f"run's are of {sizes[1]}: give a model of that size, or another "
            "image_size"
        )
    if reason := _difference(source, model):
        raise UserError(
            f"init_from={path} has other weights than this run's model "
            f"({reason}): give the settings of that run"
        )
    model.set_weights(source.get_weights())


def _difference(source, model):
    """Returns why a model can't take the weights of another; None if it can."""
    theirs, ours = (
        [tuple(weight.shape) for weight in it.weights] for it in (source, model)
    )
    if theirs == ours:
        return None
    if type(source) is not type(model):
        return f"it is {kind_of(source)}, not {kind_of(model)}"
    if len(theirs) != len(ours):
        return f"{len(theirs)} arrays, not {len(ours)}"
    shapes = zip(model.weights, theirs, ours, strict=True)
    path, first, second = next(
        (weight.path, a, b) for weight, a, b in shapes if a != b
    )
    return f"{path} has shape {list(first)}, not {list(second)}"
