"""The folder of one run: where everything lies, and what it may hold."""

import os
import pathlib
import zipfile

import keras

from keras_genmodels import files
from keras_genmodels.errors import UserError


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

    def read_flags(self):
        """Gives the flags of the run as a dict of names to texts."""
        if not self.flags.exists():
            return {}
        lines = self.flags.read_text().splitlines()
        pairs = (line.removeprefix("--").partition("=") for line in lines)
        return {name: value for name, _, value in pairs}

    def claim(self, program, flags, free=()):
        """Records the flags of a run, or checks them against the recorded.

        Args:
            program: name of the app, such as "train_vae".
            flags: dict of flag names to their values as text.
            free: names that may differ from one start to the next. `epochs`
                may grow.

        Raises:
            UserError: if other flags were given than at the first start, or
                the run is another program's.
        """
        earlier = self.read_flags()
        first_line = f"# {program}"
        if earlier and first_line not in earlier:
            raise UserError(
                f"{self} holds a run of another program ("
                f"{next(iter(earlier)).lstrip('# ')}): give another --workdir"
            )
        if told := _differences(flags, earlier, {*free, "epochs"}):
            raise UserError(
                f"{self} holds a run with other flags: {told}; repeat them as "
                "they were, or give another --workdir"
            )
        if "epochs" in earlier and int(flags["epochs"]) < int(
            earlier["epochs"]
        ):
            raise UserError(
                f"{self} holds a run of {earlier['epochs']} epochs: --epochs="
                f"{flags['epochs']} would shorten it; give as many or more, "
                "or another --workdir"
            )
        lines = [first_line, *(f"--{k}={v}" for k, v in flags.items())]
        with files.replacing(self.flags) as beside:
            beside.write_text("\n".join(lines) + "\n")

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


def _differences(flags, earlier, free):
    """Names the flags that are not as they were, "" if there are none."""
    if not earlier:
        return ""
    return ", ".join(
        f"--{name}={flags.get(name, '')} (was {earlier.get(name, 'not given')})"
        for name in sorted(flags.keys() | earlier.keys())
        if name not in free
        and not name.startswith("#")
        and flags.get(name) != earlier.get(name)
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
        raise UserError(f"can't read {path}: {reason}") from error
    if not type(model).__module__.startswith("keras_genmodels."):
        raise UserError(
            f"{path} holds a {type(model).__name__}, not a model of "
            "keras_genmodels"
        )
    return model
