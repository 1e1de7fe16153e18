"""The folder of one run: where everything lies, and what it may hold."""

import os
import pathlib
import zipfile

import keras
import tensorflow as tf

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError


class Workdir:
    """The paths of one run, and the checks on what is found there.

    Args:
        path: the folder; it is made when something is written.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.flags = self.path / "flags.txt"
        self.model = self.path / "model.keras"
        self.metrics = self.path / "metrics.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.figures = self.path / "figures"

    def __fspath__(self):
        return os.fspath(self.path)

    def __str__(self):
        return str(self.path)

    def has_checkpoint(self):
        """Tells whether there is a checkpoint to go on from."""
        return tf.train.latest_checkpoint(self.checkpoints) is not None

    def read_flags(self):
        """Gives the flags of the run as a dict of names to texts.

        Raises:
            UserError: if there is no flags.txt.
        """
        kept = self._read_kept()
        if kept is None:
            raise UserError(
                f"{self} holds no flags.txt, which tells how the model was "
                "trained: copy it from where the run was made"
            )
        return {k: v for k, v in kept.items() if not k.startswith("#")}

    def check_data(self, data):
        """Checks that data are those of the run.

        Args:
            data: text that tells the data from other data.

        Raises:
            UserError: if they are not, as far as flags.txt tells.
        """
        kept = (self._read_kept() or {}).get("# data", data)
        if kept != data:
            raise UserError(
                f"{self} holds a run on other data: {kept}, now {data}; bring "
                "the data back, or say where they are by --data_dir"
            )

    def check(self, program, data, flags, free=(), assumed=None):
        """Checks that a run is the one that was begun here, if any.

        Args:
            program: name of the app, such as "train_vae".
            data: text that tells the data from other data.
            flags: dict of flag names to their values as text.
            free: names that may differ from one start to the next, beside
                `epochs`.
            assumed: dict of flag names to their values as text, as which
                flags are read that a run of an earlier version does not tell.

        Raises:
            UserError: if another run was begun here.
        """
        kept = self._read_kept()
        if kept is None:
            return
        if (begun := kept.get("# program")) != program:
            raise UserError(
                f"{self} holds a run of another program ({begun}): give "
                "another --workdir"
            )
        assumed = {k: v for k, v in (assumed or {}).items() if k in flags}
        if told := _differences(flags, {**assumed, **kept}, {*free, "epochs"}):
            raise UserError(
                f"{self} holds a run with other flags: {told}; repeat them as "
                "they were, or give another --workdir"
            )
        if kept.get("# data") != data:
            raise UserError(
                f"{self} holds a run on other data: {kept.get('# data')}, now "
                f"{data}; bring the data back, or give another --workdir"
            )

    def claim(self, program, data, flags, free=(), assumed=None):
        """Checks as `check` does, and keeps the flags for the next start.

        Raises:
            UserError: as `check`, and if fewer epochs are asked than before.
        """
        self.check(program, data, flags, free, assumed)
        earlier = int((self._read_kept() or {}).get("epochs", 0))
        if int(flags.get("epochs", 0)) < earlier:
            raise UserError(
                f"{self} holds a run of {earlier} epochs: --epochs="
                f"{flags['epochs']} would shorten it; give as many or more, "
                "or another --workdir"
            )
        lines = [
            f"# program={program}",
            f"# data={data}",
            *(f"--{name}={value}" for name, value in flags.items()),
        ]
        with files.replacing(self.flags) as beside:
            beside.write_text("\n".join(lines) + "\n")

    def _read_kept(self):
        if not self.flags.exists():
            return None
        lines = self.flags.read_text().splitlines()
        pairs = (line.removeprefix("--").partition("=") for line in lines)
        return {name: value for name, _, value in pairs}

    def load_model(self):
        """Loads the finished model.

        Raises:
            UserError: if there is none, or it can't be read.
        """
        if not self.path.is_dir():
            raise UserError(f"no directory {self}: give --workdir of a run")
        if not self.model.exists():
            raise UserError(
                f"{self} holds no model.keras: train there first, or let the "
                "training finish"
            )
        return load_model(self.model)


def _differences(flags, kept, free):
    """Names the flags that are not as they were, "" if there are none."""
    return ", ".join(
        f"--{name}={flags.get(name, '')} (was {kept.get(name, 'not given')})"
        for name in sorted(flags.keys() | kept.keys())
        if name not in free
        and not name.startswith("#")
        and flags.get(name) != kept.get(name)
    )


def load_model(path):
    """Loads a model of this package from a `.keras` file.

    Args:
        path: the file.

    Returns:
        the Keras model. Nothing in the file is run as code (`safe_mode`).

    Raises:
        UserError: if the file is missing, damaged, or holds something else.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}: give the model.keras of a run")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a Keras model, or was cut short: copy it again or "
            "train again"
        )
    try:
        model = keras.saving.load_model(path)
    except Exception as error:  # Keras raises many kinds for a foreign file.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"can't read {path}: {reason}; give the model.keras of a run of "
            "this package, whole and unchanged"
        ) from error
    if not type(model).__module__.startswith("keras_genmodels."):
        raise UserError(
            f"{path} holds a {type(model).__name__}, not a model of "
            "keras_genmodels"
        )
    return model
