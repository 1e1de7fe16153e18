"""What a run is: `run.json`, all that the library reads of how it was made."""

import dataclasses
import json
import os
import zlib

import numpy as np

from keras_genmodels import datasets
from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.models import LatentDiffusion
from keras_genmodels.runs import results

# Of run.json; a file of a higher one is refused.
FORMAT = 1
# Arguments of `datasets.Source` that earlier versions do not know.
_ADDED_SETTINGS = (
    "color",
    "patch_size",
    "patches_per_epoch",
    "smallest_scale",
)
_ADDED = ("in_memory", *_ADDED_SETTINGS)


@dataclasses.dataclass(frozen=True)
class RunDescription:
    """What identifies a run, and what its model needs of its data.

    Args:
        kind: name of the model's class.
        data: name of the data set.
        fingerprint: `ImageDataset.fingerprint()` of the data.
        source: `datasets.Source` that loads the data; None for data that a
            script made.
        label_names: tuple of str, or None.
        training_labels: tuple of ints, the labels that training images have;
            None if unknown, or without labels.
        vae: checksum of the weights of the VAE whose latents a denoiser
            learns; None for other kinds, and if unknown.
        binarization: "none", "dynamic" or "threshold"; None for denoisers.
        seed: int.
        epochs: int, how many were asked for; None without training.
        settings: dict, the other hyperparameters by name: numbers, bools,
            texts or lists of them.
        program: name of the app that makes the run; None for a script.
        versions: dict of packages to their versions.
        module: name of the module that defines the model's class, which has
            to be imported before the model is loaded; None for this package's
            classes and for those of a script.
    """

    kind: str
    data: str
    fingerprint: str
    source: datasets.Source | None = None
    label_names: tuple[str, ...] | None = None
    binarization: str | None = None
    seed: int = 0
    epochs: int | None = None
    settings: dict = dataclasses.field(default_factory=dict)
    program: str | None = None
    versions: dict = dataclasses.field(default_factory=results.versions)
    module: str | None = None
    training_labels: tuple[int, ...] | None = None
    vae: str | None = None

    @classmethod
    def of(cls, model, data, **fields):
        """Describes a run of a model on an `ImageDataset`."""
        return cls(
            type(model).__name__,
            data.name,
            data.fingerprint(),
            data.source,
            data.label_names,
            module=_module_of(model),
            training_labels=data.training_labels(),
            vae=_checksum_of_vae(model),
            **fields,
        )

    @classmethod
    def read(cls, path):
        """Reads `run.json`; returns None if there is none.

        Raises:
            UserError: if the file is damaged or of a newer version.
        """
        with user_errors():
            content = files.read_json(path)
        if content is None:
            return None
        try:
            return cls._from_json(dict(content))
        except (KeyError, TypeError, ValueError) as error:
            lacks = "it lacks " if isinstance(error, KeyError) else ""
            raise UserError(
                f"{path} is damaged or was written by a newer version of "
                f"keras_genmodels ({lacks}{error})"
            ) from error

    def write(self, path):
        """Writes `run.json` atomically."""
        content = dataclasses.asdict(self)
        data = {
            "name": content.pop("data"),
            **{
                k: content.pop(k)
                for k in ("fingerprint", "label_names", "training_labels")
            },
            "source": _without_default(content.pop("source")),
        }
        preprocessing = {k: content.pop(k) for k in ("binarization", "vae")}
        files.write_json(
            path,
            {
                "format": FORMAT,
                "kind": content.pop("kind"),
                "program": content.pop("program"),
                "data": data,
                "preprocessing": preprocessing,
                **content,
            },
        )

    @classmethod
    def _from_json(cls, content):
        if (written := content.pop("format")) > FORMAT:
            raise ValueError(f"format {written}, this version reads {FORMAT}")
        data, preprocessing = content.pop("data"), content.pop("preprocessing")
        source, names = data["source"], data["label_names"]
        labels = data.get("training_labels")
        if source is not None:
            size = source["image_size"]
            source = datasets.Source(
                **{**source, "image_size": size and tuple(size)}
            )
        return cls(
            data=data["name"],
            fingerprint=data["fingerprint"],
            label_names=names if names is None else tuple(names),
            # Runs of version 0.3 do not record them.
            training_labels=labels if labels is None else tuple(labels),
            source=source,
            binarization=preprocessing["binarization"],
            vae=preprocessing.get("vae"),
            **content,
        )

    def load_data(self, data_dir=None, in_memory=None):
        """Loads the data set of the run.

        Args:
            data_dir: folder of the data now; by default as recorded.
            in_memory: as of `datasets.load`; by default as recorded.

        Returns:
            `datasets.ImageDataset`.

        Raises:
            UserError: if it cannot be loaded, or is not the same any more.
        """
        if self.source is None:
            raise UserError(
                f"the run was trained on images of a script ({self.data}), "
                "which no app can load: train on a data set of datasets.load, "
                "or pass the images in a script"
            )
        source = self.source
        if data_dir:
            source = source.moved_to(data_dir)
        if in_memory is not None:
            source = dataclasses.replace(source, in_memory=in_memory)
        data = source.load()
        self.check_data(data)
        return data

    def evaluation_batches(self, split, seed=None, batch_size=512, rows=None):
        """Builds batches of a split, binarised as in the run.

        Args:
            split: `datasets.Split`.
            seed: int in [0, 2**31) of the binarisation; by default the run's.
            batch_size: int >= 1.
            rows: `range` of the indices of the images; by default all.

        Returns:
            tf.data.Dataset as of `datasets.evaluation_batches`.
        """
        return datasets.evaluation_batches(
            split,
            batch_size=batch_size,
            seed=self.seed if seed is None else seed,
            binarization=self.binarization or "none",
            rows=rows,
        )

    def check_data(self, data):
        """Checks that an `ImageDataset` is the one of the run.

        Raises:
            UserError: if it is not.
        """
        now = data.fingerprint()
        # Early runs did not record theirs.
        if self.fingerprint and now != self.fingerprint:
            raise UserError(
                f"the run was made on other data: {self.fingerprint}, now "
                f"{now}; restore the data, or say where they are by data_dir"
            )

    def named_values(self):
        """Returns every setting by its name, as a flag or argument has it.

        Returns:
            dict; without what is None.
        """
        source = dataclasses.asdict(self.source) if self.source else {}
        values = {
            "dataset": source.get("name", self.data),
            **{
                name: source.get(name)
                for name in (
                    "data_dir",
                    "image_size",
                    "validation_split",
                    "white_level",
                )
            },
            **_added_since(source),
            "binarization": self.binarization,
            "seed": self.seed,
            "epochs": self.epochs,
            **self.settings,
        }
        return {k: v for k, v in values.items() if v is not None}

    def as_texts(self):
        """Returns `named_values` as texts, each as its flag takes it."""
        return {k: as_text(v) for k, v in self.named_values().items()}

    def differences(self, earlier, assumed):
        """Lists the settings that differ from those of an earlier run.

        Args:
            earlier: `RunDescription`.
            assumed: dict of settings to the values that they had, in effect,
                in runs that do not record them.

        Returns:
            list of str, "name=value (was value)".
        """
        now, before = self.named_values(), earlier.named_values()
        assumed = {
            k: v for k, v in assumed.items() if k in now and v is not None
        }
        before = {**assumed, **before}
        free = {"epochs"}
        same = self.fingerprint == earlier.fingerprint is not None
        if same or now["dataset"] != "image_folder":
            # The same data wherever they lie, as those of TFDS are.
            free.add("data_dir")
        names = [os.path.basename(it["dataset"]) for it in (now, before)]
        if same and names[0] == names[1]:
            free.add("dataset")
        return [
            f"{name}={as_text(now.get(name))} "
            f"(was {as_text(before.get(name, 'not given'))})"
            for name in sorted({*now, *before} - free)
            if as_text(now.get(name)) != as_text(before.get(name))
        ]


def _checksum_of_vae(model):
    """Returns that of the weights of the VAE of a `LatentDiffusion`."""
    if not isinstance(model, LatentDiffusion):
        return None
    checksum = 0
    for weight in model.vae.get_weights():
        checksum = zlib.crc32(np.ascontiguousarray(weight), checksum)
    return f"{checksum:08x}"


def _without_default(source):
    """Returns the arguments of a source as earlier versions know them."""
    if source is None:
        return None
    added = _added_since(source)
    if added.get("smallest_scale") == 1:
        del added["smallest_scale"]
    if source["in_memory"] is False:
        added["in_memory"] = False
    known = {k: v for k, v in source.items() if k not in _ADDED}
    return known | added


def _added_since(source):
    """Returns the settings of a source that earlier versions do not know."""
    if source.get("patch_size"):
        return {name: source[name] for name in _ADDED_SETTINGS}
    color = source.get("color", "auto")
    return {} if color == "auto" else {"color": color}


def _module_of(model):
    """Returns the module of a user's kind of model, None for others."""
    module = type(model).__module__
    if module == "__main__" or module.startswith("keras_genmodels."):
        return None
    return module


def as_text(value):
    """Formats a setting as a flag of its name takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def as_settings(values):
    """Returns settings as JSON holds them, without those that are None."""
    return json.loads(
        json.dumps({k: v for k, v in values.items() if v is not None})
    )
