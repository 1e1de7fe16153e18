"""The flag --output, a file of certain kinds."""

import pathlib

from absl import flags

from . import flag_types, guard

# The flag belongs to the module that calls `define_flag`.
flags.disclaim_key_flags()


def define_flag(help_text):
    """Defines --output."""
    flag_types.define_path("output", None, help_text)


def path(config, default, suffixes):
    """Returns the path of --output.

    Args:
        config: `Config`.
        default: path below --workdir that is used without --output.
        suffixes: tuple of the endings that --output may have.

    Raises:
        WrongFlags: if it has another ending.
    """
    if config.output and not config.output.endswith(suffixes):
        raise guard.WrongFlags(
            f"--output={config.output} must end in {' or '.join(suffixes)}"
        )
    return pathlib.Path(config.output or pathlib.Path(config.workdir, default))
