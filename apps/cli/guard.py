"""Runs an app: parses flags, calls `main`, prints a user's error in one line.

Nothing here imports TensorFlow, so that `--help` and a wrong flag answer at
once.
"""

import contextlib
import errno
import importlib
import math
import os
import pathlib
import re
import sys
import tempfile

from absl import app, flags, logging

from . import flag_types

FLAGS = flags.FLAGS

# A flag belongs to the module that calls its function.
flags.disclaim_key_flags()

_LOG_LINE = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl::")
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class WrongFlags(Exception):
    """Flags that contradict each other, found without importing TensorFlow."""


def run(main, module):
    """Runs an app from the command line.

    Args:
        main: the function to call, without arguments.
        module: `__name__` of the app's module.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # absl prints the docstring of `__main__` for --help.
    sys.modules["__main__"].__doc__ = sys.modules[module].__doc__
    for flag in flags_of(module):
        FLAGS.register_key_flag_for_module(sys.argv[0], flag)
        if flag.flag_type() == "float":
            flags.register_validator(
                flag.name, _is_finite, "a finite number expected"
            )
    app.run(
        lambda _: _call(main, program_of(module)),
        flags_parser=lambda argv: _parse(argv, program_of(module)),
    )


def define_import_flag():
    """Defines --import_module, the modules for `load_tensorflow`."""
    flags.DEFINE_multi_string(
        "import_module",
        [],
        "Python module to import before the model is loaded: the one that "
        "defines its class, if that is not of keras_genmodels. Its code is "
        "run. May be repeated.",
    )


def load_tensorflow(import_modules=(), connect=None):
    """Imports TensorFlow without the log lines of its C++ libraries.

    Args:
        import_modules: names of further modules to import, --import_module.
        connect: function to call before TensorFlow starts its devices, as a
            cluster requires.

    Returns:
        what `connect` returns.

    Raises:
        WrongFlags: if one of these cannot be imported.
    """
    with _suppress_output():
        import tensorflow as tf

        found = connect() if connect else None
        tf.config.list_logical_devices()
    # Otherwise absl shows notes of TensorFlow and TFDS on their internals.
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    for name in import_modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise WrongFlags(
                f"--import_module={name} cannot be imported ({error}): give "
                "the name of a module on PYTHONPATH"
            ) from error
    return found


@contextlib.contextmanager
def naming_flags(*names):
    """Writes arguments of the library as flags in the errors of the block.

    Args:
        names: of arguments that are flags of the same name.
    """
    from keras_genmodels.core.errors import UserError

    try:
        yield
    except UserError as error:
        # Whole words only, and not the parts of paths.
        argument = rf"(?<![^ (])({'|'.join(names)})(?![^ =])"
        raise UserError(re.sub(argument, r"--\1", str(error))) from error


def program_of(module):
    """Returns the name of an app, given `__name__` of its module."""
    if module == "__main__":
        return pathlib.Path(sys.argv[0]).stem
    return module.rpartition(".")[2]


def flags_of(module):
    """Returns the flags of an app, its own and the shared ones, by name.

    Old names of flags are left out.
    """
    own = sys.argv[0] if module == "__main__" else module
    flags_there = (
        flag
        for name, flags_of_one in FLAGS.flags_by_module_dict().items()
        if name == own or _is_shared(name)
        for flag in flags_of_one
        if flag.name not in flag_types.ALIASES
    )
    return sorted(flags_there, key=lambda flag: flag.name)


def _is_shared(module):
    """Returns whether a module defines flags for several apps."""
    return module.startswith(f"{__package__}.") and module.endswith("_flags")


def _is_finite(value):
    # A level may be a word, such as auto.
    return value is None or isinstance(value, str) or math.isfinite(value)


@contextlib.contextmanager
def _suppress_output():
    """Captures standard error, and prints it again without log lines."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as captured:
        terminal = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            captured.seek(0)
            for line in captured.read().decode(errors="replace").splitlines():
                if not _LOG_LINE.match(line):
                    print(line, file=sys.stderr)


def _parse(argv, program):
    """Parses the command line, or exits with one line."""
    try:
        rest = FLAGS(argv)
    except (flags.Error, UnicodeDecodeError) as error:
        sys.exit(_one_line(program, f"{error}; --help lists the flags"))
    except SystemExit:
        # absl exits with status 1 after --help.
        sys.exit(0)
    if rest[1:]:
        message = f"unexpected argument {rest[1]!r}; --help lists the flags"
        sys.exit(_one_line(program, message))
    return rest


def _call(main, program):
    """Calls `main`; exits with one line on an error of the user."""
    try:
        return main()
    except KeyboardInterrupt:
        resume = "; the same command resumes"
        message = f"interrupted{resume if program.startswith('train') else ''}"
        print(_one_line(program, message), file=sys.stderr)
        return 130
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        sys.exit(_one_line(program, message))


def _user_message(error):
    """Returns the message of an error that the user can correct, else None."""
    if isinstance(error, WrongFlags):
        return str(error)
    try:
        from keras_genmodels.core.errors import UserError
    except ImportError as refusal:
        # The package is there, but not for this backend of Keras.
        if refusal.name != "keras_genmodels":
            raise
        return str(refusal)
    if isinstance(error, UserError):
        return str(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    path = f": {error.filename}" if error.filename else ""
    message = f"{error.strerror}{path}"
    if error.errno in _NO_ROOM:
        return f"{message[:300]}; free disk space, then repeat the command"
    if error.errno in _READ_ONLY:
        return f"{message}; choose a folder in which you may write"
    return f"{message}; check the path and its permissions"


def _one_line(program, message):
    return f"{program}: {' '.join(str(message).split())}"
