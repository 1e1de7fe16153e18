"""Runs an app: flags, its `main`, and one line for a user's error.

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

_CHATTER = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl::")
_DISK = re.compile(
    "No space left|File too large|quota exceeded|Read-only file system"
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


def run(main, module):
    """Runs an app: flags, `main()`, and one line for a user's error.

    Args:
        main: the function to call, without arguments.
        module: `__name__` of the app's module.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Where absl looks for what --help shows.
    sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
    for flag in flags_of(module):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
        if flag.flag_type() == "float":
            flags.register_validator(
                flag.name, _is_finite, "a finite number expected"
            )
    app.run(
        lambda _: _guarded(main, program_of(module)),
        flags_parser=lambda argv: _parse(argv, program_of(module)),
    )


def _is_finite(value):
    return value is None or math.isfinite(value)


def refuse(names, where):
    """Refuses flags that would be ignored.

    Args:
        names: of flags that have to be as they are by default.
        where: what they go with.

    Raises:
        WrongFlags: if one is not.
    """
    for name in names:
        if FLAGS[name].value != FLAGS[name].default:
            raise WrongFlags(f"--{name} goes with {where} alone")


def program_of(module):
    """Gives the name of an app by the `__name__` of its module."""
    if module == "__main__":
        return pathlib.Path(sys.argv[0]).stem
    return module.rpartition(".")[2]


def flags_of(module):
    """Lists the flags of an app, its own and the shared ones, by name."""
    own = sys.argv[0] if module == "__main__" else module
    flags_there = (
        flag
        for name, flags_of_one in FLAGS.flags_by_module_dict().items()
        if name == own or _is_shared(name)
        for flag in flags_of_one
    )
    return sorted(flags_there, key=lambda flag: flag.name)


def _is_shared(module):
    """Tells whether a module defines flags for several apps."""
    return module.startswith(f"{__package__}.") and module.endswith("_flags")


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
        more = "; the same command goes on from there"
        told = f"interrupted{more if program.startswith('train') else ''}"
        print(_line(program, told), file=sys.stderr)
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

    from keras_genmodels.core.errors import UserError

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
