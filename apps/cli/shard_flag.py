"""The flag --shard: one of several parts of a job, each made by itself.

The shards of a job, in order, hold the rows of the whole job. An archive of a
shard has two more arrays: `shard_rows`, the first row, the end and the number
of all rows; and `shard_job`, a checksum of what the result depends on.
"""

import dataclasses
import re
import zlib

from absl import flags

from . import flag_types, guard

# The flag belongs to the module that calls `define_flag`.
flags.disclaim_key_flags()

# The arrays of an archive that say which rows it holds.
ROWS, JOB = "shard_rows", "shard_job"
# Flags that say where things lie and not what is computed.
_PLACES = ("workdir", "data_dir", "output", "shard", "import_module", "merge")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of a job.

    Args:
        index: int in [0, count).
        count: int >= 1, how many parts there are.
    """

    index: int
    count: int

    def __str__(self):
        return f"{self.index}/{self.count}"

    @property
    def suffix(self):
        """The part of a file's name that tells shards apart."""
        width = max(3, len(str(self.count)))
        return f"_{self.index:0{width}}_of_{self.count:0{width}}"

    def rows(self, num_rows, batch_size):
        """Returns the rows of this shard.

        A shard computes every batch that holds one of its rows. So shards
        consist of whole batches, if there are enough of them.

        Args:
            num_rows: int, number of rows of the job.
            batch_size: int, rows that are computed at once.

        Returns:
            `range`.

        Raises:
            WrongFlags: if there are fewer rows than shards.
        """
        if num_rows < self.count:
            raise guard.WrongFlags(
                f"--shard={self}: the job has {num_rows} rows; divide it into "
                "at most as many shards"
            )
        unit = batch_size if num_rows > batch_size * (self.count - 1) else 1
        units = self.divide(-(-num_rows // unit))
        return range(unit * units.start, min(num_rows, unit * units.stop))

    def divide(self, num_units):
        """Returns the `range` of the units of this shard, which may be empty.

        Args:
            num_units: int, units of the job, such as rows.
        """
        return range(
            self.index * num_units // self.count,
            (self.index + 1) * num_units // self.count,
        )


class _ShardParser(flags.ArgumentParser):
    syntactic_help = "INDEX/COUNT with an index from 0 to COUNT - 1"

    def parse(self, argument):
        if isinstance(argument, Shard):
            return argument
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", argument, re.ASCII)
        shard = found and Shard(*map(int, found.groups()))
        if not shard or shard.index >= shard.count:
            raise ValueError(f"{self.syntactic_help} expected, such as 3/16")
        return shard

    def flag_type(self):
        return "shard"


def define_flag(rows):
    """Defines --shard.

    Args:
        rows: what is divided, for the help.
    """
    flag_types.define(
        _ShardParser(),
        "shard",
        None,
        f"INDEX/COUNT, counted from 0, such as 3/16: only this part of {rows}; "
        "see docs/distributed.md.",
    )


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows of a job that an app computes.

    Args:
        rows: `range`.
        total: int, number of rows of the job.
    """

    rows: range
    total: int

    @property
    def slice(self):
        """The rows as a slice of an array of all rows."""
        return slice(self.rows.start, self.rows.stop)

    @property
    def title(self):
        """How a summary of the whole job begins: "" if these are all rows."""
        count = len(self.rows)
        return "" if count == self.total else f"{count} rows of {self.total}: "


def title(config):
    """Returns how a summary of a shard begins, "" without --shard."""
    return f"Shard {config.shard}: " if config.shard else ""


def part_of(config, num_rows, batch_size):
    """Returns the `Part` of --shard, or all rows without it.

    Args:
        config: `Config`.
        num_rows, batch_size: as in `Shard.rows`.

    Raises:
        WrongFlags: as `Shard.rows`; and if --output holds another shard.
    """
    if config.shard is None:
        return Part(range(num_rows), num_rows)
    part = Part(config.shard.rows(num_rows, batch_size), num_rows)
    if config.output:
        _check_free(config.output, part)
    return part


def arrays_of(config, part, model_file, split=None):
    """Returns the arrays that an archive of a shard has in addition.

    Args:
        config: `Config`.
        part: `Part`.
        model_file: pathlib.Path of the model.
        split: `datasets.Split` with all images of --input.

    Returns:
        dict; empty without --shard.
    """
    import numpy as np

    if config.shard is None:
        return {}
    rows = [part.rows.start, part.rows.stop, part.total]
    return {
        ROWS: np.array(rows, np.int64),
        JOB: np.uint32(checksum(config, model_file, split)),
    }


def _check_free(path, part):
    """Checks that a file does not hold other rows of the job."""
    from keras_genmodels.core import files

    try:
        found = files.read_arrays(path, ROWS)[0].get(ROWS)
    except ValueError:
        return  # There is no archive yet.
    if found is None or found.shape != (3,):
        return
    first, end, total = found.tolist()
    if total == part.total and range(first, end) != part.rows:
        raise guard.WrongFlags(
            f"--output={path} holds another shard, of rows {first} to "
            f"{end - 1}: give each shard an --output of its own, or none"
        )


def checksum(config, model_file, split=None):
    """Computes a checksum of the model, the version, the flags and the input.

    Args:
        config: `Config`; flags of places are left out.
        model_file: pathlib.Path of the model.
        split: `datasets.Split` with all images of --input, or None. Those of a
            run's own data have been checked when they were loaded.

    Returns:
        int in [0, 2**32).
    """
    from keras_genmodels import __version__
    from keras_genmodels.core import disk_arrays

    from .input_flags import is_split

    settings = {
        name: str(value)
        for name, value in sorted(config.values.items())
        if name not in _PLACES and (name != "input" or is_split(value))
    }
    text = f"{__version__} {settings}"
    found = zlib.crc32(text.encode(), zlib.crc32(model_file.read_bytes()))
    if split is None or is_split(config.input):
        return found
    found = disk_arrays.checksum(split.images, found)
    if split.labels is not None:
        found = disk_arrays.checksum(split.labels, found)
    return found
