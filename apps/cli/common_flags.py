"""Flags that apps share, and what they stand for.

Nothing here imports TensorFlow, so that `--help` and a wrong flag answer at
once.
"""

import math
import os
import pathlib
import sys

from absl import flags

from .guard import WrongFlags, flags_of, load_tensorflow, program_of

FLAGS = flags.FLAGS

# Not of the run itself, and so not kept with it.
_NOT_KEPT = ("workdir",)
# What flags were, in effect, before there were any.
_BEFORE = {
    "num_importance_samples": "1",
    "doubly_reparameterized": "false",
    "filters": "16",
    "gradient_clip_norm": "0.0",
}
# The values of --jit_compile.
_JIT_COMPILE = {"auto": "auto", "true": True, "false": False}
DEFAULT_STEPS = 3000
_LEAST_EPOCHS = 20


class _PathParser(flags.ArgumentParser):
    """Makes a path absolute, so that a flag file works from anywhere."""

    syntactic_help = "a path"

    def parse(self, argument):
        if not argument:
            raise ValueError("a path expected, got nothing")
        if "://" in argument:
            return argument
        return os.path.abspath(os.path.expanduser(argument))

    def flag_type(self):
        return "path"


class _SizesParser(flags.ArgumentParser):
    """Parses positive integers joined by commas."""

    syntactic_help = "positive integers joined by commas"

    def __init__(self, most=99):
        super().__init__()
        self.most = most

    def parse(self, argument):
        sizes = _numbers(argument, int)
        if not 1 <= len(sizes) <= self.most or min(sizes) < 1:
            raise ValueError(f"{self.syntactic_help} expected")
        return sizes

    def flag_type(self):
        return "sizes"


class _LevelsParser(flags.ArgumentParser):
    """Parses noise levels: one, or the lowest and the highest."""

    def __init__(self, least=1):
        super().__init__()
        self.least = least
        one = "LEVEL or " if least == 1 else ""
        self.syntactic_help = f"{one}LOWEST,HIGHEST, finite and > 0,"

    def parse(self, argument):
        levels = _numbers(argument, float)
        if (
            not self.least <= len(levels) <= 2
            or not all(0 < level < math.inf for level in levels)
            or levels[0] > levels[-1]
        ):
            raise ValueError(f"{self.syntactic_help} expected")
        return levels

    def flag_type(self):
        return "levels"


def _numbers(argument, kind):
    """Reads numbers joined by commas as a tuple, empty if it can't."""
    if not isinstance(argument, str):
        return tuple(argument)
    try:
        return tuple(kind(part) for part in argument.split(","))
    except ValueError:
        return ()


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else value


def define_path(name, default, help_text):
    """Defines a flag that holds a path."""
    return flags.DEFINE(
        _PathParser(), name, default, help_text, FLAGS, _Serializer()
    )


def define_paths(name, default, help_text):
    """Defines a flag that holds paths; it may be given several times."""
    flags.DEFINE_multi(
        _PathParser(), flags.ArgumentSerializer(), name, default, help_text
    )


def define_sizes(name, default, help_text, most=99):
    """Defines a flag that holds positive integers, such as 200,200."""
    parser = _SizesParser(most)
    flags.DEFINE(parser, name, default, help_text, FLAGS, _Serializer())


def define_levels(name, default, help_text, least=1):
    """Defines a flag that holds one or two noise levels, such as 0.05,1.5."""
    parser = _LevelsParser(least)
    flags.DEFINE(parser, name, default, help_text, FLAGS, _Serializer())


def define_label(more):
    """Defines --label, a number or none.

    Args:
        more: what it is for.
    """
    flags.DEFINE_string(
        "label",
        None,
        f"{more} a number from 0, or none for a model trained with "
        "--label_dropout, which also knows images without a label.",
    )


def read_label(model):
    """Reads --label for a model of labels: a number, or None for "none".

    Raises:
        WrongFlags: if the model does not know such a label.
    """
    if FLAGS.label == "none":
        if model.label_dropout:
            return None
        raise WrongFlags(
            "--label=none: this model was trained without --label_dropout and "
            "needs a label"
        )
    if not FLAGS.label.isdecimal() or int(FLAGS.label) >= model.num_labels:
        raise WrongFlags(
            f"--label={FLAGS.label} is not known to this model: give 0 to "
            f"{model.num_labels - 1}"
        )
    return int(FLAGS.label)


def define_data_flags(default_dataset="digits"):
    """Defines which data to use and how."""
    flags.DEFINE_string(
        "dataset",
        default_dataset,
        "Name of a TFDS image data set (digits needs no download), "
        "image_folder (pictures in --data_dir), or a file x.npz with an array "
        "`image` and perhaps `label`.",
    )
    define_path(
        "data_dir",
        None,
        "Where TFDS keeps data sets (its default: ~/tensorflow_datasets), or "
        "the folder of pictures.",
    )
    define_sizes(
        "image_size",
        None,
        "Resize images to this side, or HEIGHT,WIDTH (default: as they are; "
        "64 for image_folder).",
        most=2,
    )
    flags.DEFINE_float(
        "validation_split",
        0.05,
        "Share of the training split that training watches instead of "
        "learning from it.",
        lower_bound=0,
        upper_bound=0.9,
    )


def define_training_flags(default_workdir, default_steps=DEFAULT_STEPS):
    """Defines the flags that every training app has alike.

    Args:
        default_workdir: of --workdir.
        default_steps: what --epochs makes by default, as `training_options`
            is told.
    """
    define_path("workdir", default_workdir, "Where the results go.")
    flags.DEFINE_integer(
        "epochs",
        None,
        "Passes over the training data, over all starts of the run (default: "
        f"as many as make {default_steps} steps, at least 20). More than "
        "before extend a run; a cosine schedule then goes on as that of the "
        "longer run.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "batch_size", 128, "Images per training step.", lower_bound=1
    )
    flags.DEFINE_float(
        "learning_rate",
        1e-3,
        "Adam's, after the warm-up.",
        lower_bound=1e-12,
    )
    flags.DEFINE_integer(
        "learning_rate_warmup_steps",
        0,
        "First steps, over which the learning rate grows from 0.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "gradient_clip_norm",
        0,
        "Scale the gradients of a step down to at most this norm, over all "
        "weights together; 0: never. A few times what is usual keeps one odd "
        "batch from undoing a training.",
        lower_bound=0,
    )
    flags.DEFINE_enum(
        "learning_rate_schedule",
        "cosine",
        ["cosine", "constant"],
        "Down to zero over the rest of the run, or as it is.",
    )
    flags.DEFINE_float(
        "ema_momentum",
        None,
        "Momentum of the averaged weights, 0 for no averaging (default: 0 with "
        "a cosine schedule, which gained nothing from it on the digits, else a "
        "horizon of a tenth of the run, at most 1000 steps).",
        lower_bound=0,
        upper_bound=0.99999,
    )
    flags.DEFINE_integer(
        "early_stopping_patience",
        0,
        "Stop after so many epochs without a better validation loss; 0: never.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "Decides the initial weights, the data order and every draw.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    flags.DEFINE_integer(
        "checkpoint_every",
        1000,
        "Steps between checkpoints: what a kill can lose.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "dtype_policy",
        "float32",
        ["float32", "float64", "mixed_bfloat16"],
        "Keras' dtype policy of the networks.",
    )
    flags.DEFINE_enum(
        "jit_compile",
        "auto",
        [*_JIT_COMPILE],
        "Compile the training step with XLA. auto: on a GPU, and on a CPU "
        "for networks without convolutions, which were measured faster.",
    )
    define_path(
        "init_from", None, "Start from the weights of this model.keras."
    )


def verbosity():
    """A bar that moves on a terminal, a line an epoch elsewhere."""
    return 1 if sys.stdout.isatty() else 2


def set_precision_and_seed():
    """Makes weights of the asked precision, the same for the same seed."""
    load_tensorflow()
    import keras

    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    keras.utils.set_random_seed(FLAGS.seed)


def load_data():
    """Loads the data set that the flags name."""
    from keras_genmodels import datasets

    size = FLAGS.image_size
    if FLAGS.dataset.endswith(".npz") and FLAGS.data_dir is None:
        # So that flags.txt works from anywhere.
        FLAGS.dataset = os.path.abspath(os.path.expanduser(FLAGS.dataset))
    return datasets.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        image_size=size[0] if size and len(size) == 1 else size,
        validation_split=FLAGS.validation_split,
        seed=FLAGS.seed,
    )


def data_of_run(recorded, data_dir=None):
    """Loads the data set of an earlier run.

    Args:
        recorded: the run's flags, `Workdir.read_flags()`.
        data_dir: where it lies now, if not where it lay.
    """
    from keras_genmodels import datasets

    size, name = recorded.get("image_size"), recorded["dataset"]
    if data_dir and name.endswith(".npz"):
        name = os.path.basename(name)
    return datasets.load(
        name,
        data_dir=data_dir or recorded.get("data_dir"),
        image_size=_SizesParser().parse(size) if size else None,
        validation_split=float(recorded["validation_split"]),
        seed=int(recorded["seed"]),
    )


def workdir_and_output(default, suffixes):
    """Gives the `Workdir` of --workdir and the path of --output.

    Args:
        default: path below the workdir where --output goes by default.
        suffixes: endings that --output may have.

    Raises:
        WrongFlags: if --output has another ending.
    """
    if FLAGS.output and not FLAGS.output.endswith(suffixes):
        raise WrongFlags(
            f"--output={FLAGS.output} must end in {' or '.join(suffixes)}"
        )
    load_tensorflow()
    from keras_genmodels.runs.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    return workdir, pathlib.Path(FLAGS.output or workdir.path / default)


def training_options(num_examples, default_steps=DEFAULT_STEPS):
    """Gives `training.Options` for the flags; resolves --epochs.

    Args:
        num_examples: size of the training split.
        default_steps: what --epochs makes by default.
    """
    if FLAGS.early_stopping_patience and not FLAGS.validation_split:
        raise WrongFlags(
            "--early_stopping_patience needs a --validation_split above 0"
        )
    from keras_genmodels.training import fit

    steps = fit.steps_per_epoch(num_examples, FLAGS.batch_size)
    if FLAGS.epochs is None:
        FLAGS.epochs = max(_LEAST_EPOCHS, math.ceil(default_steps / steps))
    return fit.Options(
        epochs=FLAGS.epochs,
        steps_per_epoch=steps,
        learning_rate=FLAGS.learning_rate,
        learning_rate_warmup_steps=FLAGS.learning_rate_warmup_steps,
        gradient_clip_norm=FLAGS.gradient_clip_norm,
        schedule=FLAGS.learning_rate_schedule,
        ema_momentum=FLAGS.ema_momentum,
        early_stopping_patience=FLAGS.early_stopping_patience,
        checkpoint_every=FLAGS.checkpoint_every,
        jit_compile=_JIT_COMPILE[FLAGS.jit_compile],
    )


def _start_from_weights(model, workdir):
    """Gives a fresh run the weights of --init_from, if that is given."""
    from keras_genmodels.core.errors import UserError
    from keras_genmodels.runs.workdir import load_model

    if FLAGS.init_from is None or workdir.has_checkpoint():
        return
    weights = load_model(FLAGS.init_from).get_weights()
    try:
        model.set_weights(weights)
    except ValueError as error:
        raise UserError(
            f"--init_from={FLAGS.init_from} has other weights than these "
            f"flags make ({error}): give the flags of that run"
        ) from error


def run_once(module, data, *, run, summary, model=None, options=None):
    """Makes the run that the flags describe, unless it is finished.

    Args:
        module: `__name__` of the app's module.
        data: the `ImageDataset`.
        run: function of the `Workdir`, makes the run.
        summary: function of the `Workdir`, gives the text to end with.
        model: what --init_from gives its weights to; None where nothing is
            trained.
        options: the `training.Options`; None where nothing is trained.
    """
    from keras_genmodels.core import files
    from keras_genmodels.runs import results
    from keras_genmodels.runs.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    identity = _run_identity(data, module)
    with files.locked(workdir):
        workdir.check(**identity)
        if results.is_finished(workdir, options):
            more = "; a larger --epochs extends it" if options else ""
            print(f"This run is finished{more}.")
        else:
            # First, so that only a run that can start claims the workdir.
            if model is not None:
                _start_from_weights(model, workdir)
            workdir.claim(**identity)
            print(results.describe(data, workdir, options), flush=True)
            run(workdir)
        print(summary(workdir))


def _as_text(flag):
    """Gives the value of a flag so that --NAME=TEXT sets it again."""
    if flag.boolean:
        # absl would write --NAME or --noNAME.
        return "true" if flag.value else "false"
    return flag.serialize().partition("=")[2]


def _run_identity(data, module):
    """Gives what tells a run from another: program, data and flags.

    Args:
        data: the `ImageDataset`.
        module: `__name__` of the app's module.

    Returns:
        the arguments of `Workdir.check` and `Workdir.claim`, as a dict.
    """
    values = {
        flag.name: _as_text(flag)
        for flag in flags_of(module)
        if flag.value is not None and flag.name not in _NOT_KEPT
    }
    return {
        "program": program_of(module),
        "data": data.fingerprint(),
        "flags": values,
        # A data set of TFDS is the same wherever it lies.
        "free": () if FLAGS.dataset == "image_folder" else ("data_dir",),
        "assumed": _BEFORE,
    }
