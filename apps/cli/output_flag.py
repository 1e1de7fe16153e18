"""The flag --output, a file of certain kinds."""

import pathlib

from absl import flags

from . import flag_types, guard

FLAGS = flags.FLAGS

# The flag belongs to the module that calls `define_flag`.
flags.disclaim_key_flags()


def define_flag(help_text):
    """Defines --output."""
    flag_types.define_path("output", None, help_text)


def path(default, suffixes):
    """Returns the path of --output.

    Args:
        default: path below --workdir that is used without --output.
        suffixes: tuple of the endings that --output may have.

    Raises:
        WrongFlags: if it has another ending.
    """
    if FLAGS.output and not FLAGS.output.endswith(suffixes):
        raise guard.WrongFlags(
            f"--output={FLAGS.output} must end in {' or '.join(suffixes)}"
        )
    return pathlib.Path(FLAGS.output or pathlib.Path(FLAGS.workdir, default))
