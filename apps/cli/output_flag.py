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
        default: path below --workdir that is used without --output; the
            number of a shard is added to its name.
        suffixes: tuple of the endings that --output may have; a shard is
            always an .npz file.

    Raises:
        WrongFlags: if it has another ending.
    """
    if shard := config.values.get("shard"):
        suffixes = (".npz",)
        default = pathlib.Path(default)
        default = default.with_name(f"{default.stem}{shard.suffix}.npz")
    if config.output and not config.output.endswith(suffixes):
        raise guard.WrongFlags(
            f"--output={config.output} must end in {' or '.join(suffixes)}"
            + " with --shard" * (shard is not None)
        )
    workdir = config.workdir
    if isinstance(workdir, list):
        (workdir,) = workdir
    return pathlib.Path(config.output or pathlib.Path(workdir, default))
