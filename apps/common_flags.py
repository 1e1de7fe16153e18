"""Flags that apps share, and the guard that ends a user's error in one line.

Nothing here imports TensorFlow, so that `--help` and a wrong flag answer at
once.
"""

import contextlib
import math
import os
import pathlib
import re
import sys
import tempfile

from absl import app, flags, logging

FLAGS = flags.FLAGS

# Not of the run itself, and so not kept with it.
_NOT_KEPT = ("workdir",)
_CHATTER = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl::")
_DISK = re.compile(
    "No space left|File too large|quota exceeded|Read-only file system"
)
_DEFAULT_STEPS = 3000
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

    def __init__(self, most=None):
        super().__init__()
        self.most = most

    def parse(self, argument):
        if not isinstance(argument, str):
            return tuple(argument)
        try:
            sizes = tuple(int(part) for part in argument.split(","))
        except ValueError:
            sizes = ()
        if not sizes or min(sizes) < 1 or len(sizes) > (self.most or 99):
            raise ValueError(f"{self.syntactic_help} expected")
        return sizes

    def flag_type(self):
        return "sizes"


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return ",".join(map(str, value)) if isinstance(value, tuple) else value


def define_path(name, default, help_text):
    """Defines a flag that holds a path."""
    return flags.DEFINE(
        _PathParser(), name, default, help_text, FLAGS, _Serializer()
    )


def define_sizes(name, default, help_text, most=None):
    """Defines a flag that holds positive integers, such as 200,200."""
    return flags.DEFINE(
        _SizesParser(most), name, default, help_text, FLAGS, _Serializer()
    )


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


def define_training_flags(default_workdir):
    """Defines the flags that every training app has alike."""
    define_path("workdir", default_workdir, "Where the results go.")
    flags.DEFINE_integer(
        "epochs",
        None,
        "Passes over the training data, over all starts of the run (default: "
        "as many as make 3000 steps, at least 20). More than before extend a "
        "run; a cosine schedule then goes on as that of the longer run.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "batch_size", 128, "Images per training step.", lower_bound=1
    )
    flags.DEFINE_float(
        "learning_rate", 1e-3, "Adam's, at the start.", lower_bound=1e-12
    )
    flags.DEFINE_enum(
        "learning_rate_schedule",
        "cosine",
        ["cosine", "constant"],
        "Down to zero over the whole run, or as it is.",
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
        ["auto", "true", "false"],
        "Compile the training step with XLA. auto: on a GPU, and on a CPU "
        "for networks without convolutions, which were measured faster.",
    )
    define_path(
        "init_from", None, "Start from the weights of this model.keras."
    )


def load_tensorflow():
    """Imports TensorFlow without what its C++ side says while it loads."""
    with _hushed():
        import tensorflow as tf

        tf.config.list_logical_devices()
    # absl shows TensorFlow's and TFDS' notes on their own inner workings.
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)


@contextlib.contextmanager
def _hushed():
    """Holds back the process' standard error, and gives back the rest."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        terminal = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not _CHATTER.match(line):
                    print(line, file=sys.stderr)


class WrongFlags(Exception):
    """Flags that contradict each other; known without importing anything."""


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

    size = recorded.get("image_size")
    return datasets.load(
        recorded["dataset"],
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
    from keras_genmodels.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    return workdir, pathlib.Path(FLAGS.output or workdir.path / default)


def training_options(num_examples):
    """Gives `training.Options` for the flags; resolves --epochs.

    Args:
        num_examples: size of the training split.
    """
    if FLAGS.early_stopping_patience and not FLAGS.validation_split:
        raise WrongFlags(
            "--early_stopping_patience needs a --validation_split above 0"
        )
    from keras_genmodels import training

    steps = training.steps_per_epoch(num_examples, FLAGS.batch_size)
    if FLAGS.epochs is None:
        FLAGS.epochs = max(_LEAST_EPOCHS, math.ceil(_DEFAULT_STEPS / steps))
    return training.Options(
        epochs=FLAGS.epochs,
        steps_per_epoch=steps,
        learning_rate=FLAGS.learning_rate,
        schedule=FLAGS.learning_rate_schedule,
        ema_momentum=FLAGS.ema_momentum,
        early_stopping_patience=FLAGS.early_stopping_patience,
        checkpoint_every=FLAGS.checkpoint_every,
        jit_compile=FLAGS.jit_compile,
    )


def start_from_weights(model, workdir):
    """Gives a fresh run the weights of --init_from, if that is given."""
    from keras_genmodels.errors import UserError
    from keras_genmodels.workdir import load_model

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


def run_identity(data, module):
    """Gives what tells a run from another: program, data and flags.

    Args:
        data: the `ImageDataset`.
        module: `__name__` of the app's module.

    Returns:
        the arguments of `Workdir.check` and `Workdir.claim`, as a dict.
    """
    values = {
        flag.name: flag.serialize().partition("=")[2]
        for flag in _flags_of(module)
        if flag.value is not None and flag.name not in _NOT_KEPT
    }
    return {
        "program": _program(module),
        "data": data.fingerprint(),
        "flags": values,
        # A data set of TFDS is the same wherever it lies.
        "free": () if FLAGS.dataset == "image_folder" else ("data_dir",),
    }


def run(main, module):
    """Runs an app: flags, `main()`, and one line for a user's error.

    Args:
        main: the function to call, without arguments.
        module: `__name__` of the app's module.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Where absl looks for what --help shows.
    sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
    for flag in _flags_of(module):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
        if flag.flag_type() == "float":
            flags.register_validator(
                flag.name, _is_finite, "a finite number expected"
            )
    app.run(
        lambda _: _guarded(main, _program(module)),
        flags_parser=lambda argv: _parse(argv, _program(module)),
    )


def _is_finite(value):
    return value is None or math.isfinite(value)


def _program(module):
    if module == "__main__":
        return pathlib.Path(sys.argv[0]).stem
    return module.rpartition(".")[2]


def _flags_of(module):
    """Lists the flags of an app and those of this module, by name."""
    modules = (__name__, sys.argv[0] if module == "__main__" else module)
    by_module = FLAGS.flags_by_module_dict()
    flags_there = (flag for name in modules for flag in by_module.get(name, ()))
    return sorted(flags_there, key=lambda flag: flag.name)


def _parse(argv, program):
    try:
        rest = FLAGS(argv)
    except (flags.Error, UnicodeDecodeError) as error:
        sys.exit(_line(program, f"{error}; --help lists the flags"))
    except SystemExit:
        # absl ends --help as a failure.
        sys.exit(0)
    if rest[1:]:
        sys.exit(
            _line(
                program,
                f"what is {rest[1]!r}? Only flags are taken; --help lists them",
            )
        )
    return rest


def _guarded(main, program):
    try:
        return main()
    except KeyboardInterrupt:
        print(
            _line(program, "interrupted; the same command goes on from there"),
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        message = _of_the_user(error)
        if message is None:
            raise
        sys.exit(_line(program, message))


def _of_the_user(error):
    """Gives the message of an error that the user can mend, else None."""
    if isinstance(error, WrongFlags):
        return str(error)
    import tensorflow as tf

    from keras_genmodels.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        what = f"{error.strerror}{where}"
    elif isinstance(error, OSError | tf.errors.OpError | RuntimeError):
        what = str(error)  # as TensorFlow and HDF5 tell of the disk
    else:
        return None
    if _DISK.search(what):
        return f"{what[:300]}; make room, then give the same command again"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{what}; check the path and who may use it"
    return None


def _line(program, message):
    return f"{program}: {' '.join(str(message).split())}"
