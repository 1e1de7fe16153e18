"""The folder of one run: the paths in it, and the run that it belongs to."""

import contextlib
import os
import sys
import zipfile

import keras
import tensorflow as tf

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.wording import kind_of, with_article
from keras_genmodels.denoisers import Denoiser
from keras_genmodels.models import LatentVariableModel
from keras_genmodels.runs import version_0_2
from keras_genmodels.runs.description import RunDescription


class Workdir:
    """The paths of one run, and the checks on what is found there.

    Args:
        path: the folder; it is made when something is written.

    Raises:
        UserError: for a URL, except a file:// URL.
    """

    def __init__(self, path):
        with user_errors():
            self.path = files.local_path(path)
        self.run = self.path / "run.json"
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

    @contextlib.contextmanager
    def locked(self):
        """Keeps other processes from working in the folder in the block.

        Raises:
            UserError: if another process is at work there.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                lock = files.locked(self.path / ".lock", wait=False)
                stack.enter_context(lock)
            except BlockingIOError as error:
                raise UserError(
                    f"another process is at work in {self}: wait for it, or "
                    "give another workdir"
                ) from error
            yield

    def has_checkpoint(self):
        """Returns whether there is a checkpoint to resume from."""
        return tf.train.latest_checkpoint(self.checkpoints) is not None

    def read_run(self):
        """Returns the `RunDescription` of the run.

        Raises:
            UserError: if there is none, or its file is damaged.
        """
        run = self.find_run()
        if run is None:
            raise UserError(
                f"{self} holds no run.json, which says how the model was "
                "trained: copy it from where the run was made"
            )
        return run

    def read_metrics(self):
        """Returns the content of metrics.json, or None if there is none.

        See `metrics_file`; that of version 0.2 is converted.

        Raises:
            UserError: if it is damaged.
        """
        # Later, as it imports scikit-learn, which most apps do not need.
        from keras_genmodels.runs import metrics_0_2

        with user_errors():
            content = files.read_json(self.metrics)
        if content is not None and not isinstance(content, dict):
            raise UserError(f"{self.metrics} is damaged: train again")
        return content and metrics_0_2.convert(content)

    def check(self, run, assumed=None):
        """Checks that a run is the one that was begun here, if any.

        Args:
            run: `RunDescription`.
            assumed: dict of settings to the values that they had, in effect,
                in runs of versions that do not record them.

        Raises:
            UserError: if another run was begun here.
        """
        earlier = self.find_run()
        if earlier is None:
            return
        if run.program != earlier.program:
            raise UserError(
                f"{self} holds a run of another program "
                f"({earlier.program or 'a script'}): give another workdir"
            )
        if run.program is None and run.kind != earlier.kind:
            raise UserError(
                f"{self} holds a run of another kind of model "
                f"({earlier.kind}, not {run.kind}): give another workdir"
            )
        if differences := run.differences(earlier, assumed or {}):
            raise UserError(
                f"{self} holds a run with other settings: "
                f"{', '.join(differences)}; repeat them as they were, or give "
                "another workdir"
            )
        if run.fingerprint != earlier.fingerprint:
            raise UserError(
                f"{self} holds a run on other data: {earlier.fingerprint}, "
                f"now {run.fingerprint}; bring the data back, or give another "
                "workdir"
            )
        # Runs of version 0.3 do not record it.
        if earlier.vae and run.vae != earlier.vae:
            raise UserError(
                f"{self} holds a run on the latents of another VAE, which was "
                f"trained anew since (weights {earlier.vae}, now {run.vae}): "
                "give another workdir"
            )

    def claim(self, run, assumed=None):
        """Checks as `check` does, and writes run.json and flags.txt.

        Raises:
            UserError: as `check`, and if fewer epochs are asked than before.
        """
        self.check(run, assumed)
        earlier = self.find_run()
        epochs = (earlier and earlier.epochs) or 0
        if (run.epochs or 0) < epochs:
            raise UserError(
                f"{self} holds a run of {epochs} epochs: epochs={run.epochs} "
                "would shorten it; give as many or more, or another workdir"
            )
        run.write(self.run)
        if run.program is not None:
            lines = (
                f"--{name}={text}\n" for name, text in run.as_texts().items()
            )
            with files.replacing(self.flags) as path:
                path.write_text("".join(lines))

    def find_run(self):
        """Returns the `RunDescription` of the run, or None if there is none."""
        return RunDescription.read(self.run) or version_0_2.read_description(
            self.flags, self.metrics
        )

    def load_model(self, kind=None):
        """Loads the finished model.

        Args:
            kind: class that the model must have, such as `Denoiser`; None for
                any.

        Raises:
            UserError: if there is none, it can't be read, or it is of another
                kind.
        """
        model = self._load_model()
        if kind is not None and not isinstance(model, kind):
            raise UserError(
                f"{self} holds {kind_of(model)}, not "
                f"{with_article(kind.__name__)}: give the workdir of another "
                "run"
            )
        return model

    def _load_model(self):
        if not self.path.is_dir():
            raise UserError(f"no directory {self}: give the workdir of a run")
        if not self.model.exists():
            if of_seeds := sorted(self.path.glob("seed_*")):
                raise UserError(
                    f"{self} holds runs of several seeds: give one of them, "
                    f"such as {of_seeds[0]}"
                )
            raise UserError(
                f"{self} holds no model.keras: train there first, or let the "
                "training finish"
            )
        try:
            return load_model(self.model)
        except UserError as error:
            run = self.find_run()
            if run is None or run.module in (None, *sys.modules):
                raise
            # Never imported here: a file must not say which code is run.
            raise UserError(
                f"{self} holds {with_article(run.kind)} of the module "
                f"{run.module}: import that first (in an app: "
                f"--import_module={run.module})"
            ) from error


def load_model(path):
    """Loads a model of this package from a `.keras` file.

    Args:
        path: the file, or the workdir of a finished run.

    Returns:
        the Keras model. Nothing in the file is run as code (`safe_mode`).

    Raises:
        UserError: if the file is missing, damaged, or holds something else.
    """
    with user_errors():
        path = files.local_path(path)
    if path.is_dir():
        return Workdir(path).load_model()
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
    if not isinstance(model, LatentVariableModel | Denoiser):
        raise UserError(
            f"{path} holds {kind_of(model)}, which is neither a "
            "latent-variable model nor a denoiser"
        )
    return model
