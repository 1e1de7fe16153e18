"""Runs of versions 0.1 and 0.2, which had `flags.txt` and no `run.json`."""

from keras_genmodels import datasets
from keras_genmodels.core import files
from keras_genmodels.core.errors import user_errors
from keras_genmodels.runs.description import RunDescription

_KINDS = {
    "train_vae": "VAE",
    "train_cvae": "ConditionalVAE",
    "train_dae": "DenoisingAutoencoder",
    "learned": "DenoisingAutoencoder",
    "linear": "LinearDenoiser",
    "exact": "EmpiricalDenoiser",
}
_RENAMED = {"copies": "num_noise_draws"}
_LATENT = ("train_vae", "train_cvae")


def read_description(flags_path, metrics_path):
    """Reads what identifies a run from its `flags.txt` and `metrics.json`.

    Args:
        flags_path: pathlib.Path.
        metrics_path: path; its file may be missing.

    Returns:
        `RunDescription`, the settings as texts; None if there is no
        `flags.txt`.
    """
    if not flags_path.exists():
        return None
    lines = flags_path.read_text().splitlines()
    pairs = (line.removeprefix("--").partition("=") for line in lines)
    flags = {name: value for name, _, value in pairs}
    with user_errors():
        metrics = files.read_json(metrics_path)
    metrics = metrics if isinstance(metrics, dict) else {}
    program = flags.pop("# program", None)
    fingerprint = flags.pop("# data", "")
    settings = {**_defaults(program, flags), **flags}
    settings = {_RENAMED.get(k, k): v for k, v in settings.items()}
    seed = int(settings.pop("seed", 0))
    source = _take_source(settings, seed)
    epochs, names = settings.pop("epochs", None), metrics.get("label_names")
    kind = _KINDS.get(settings.get("denoiser", program), str(program))
    return RunDescription(
        kind=metrics.get("kind", kind),
        data=source.name,
        fingerprint=fingerprint,
        source=source,
        label_names=names and tuple(names),
        binarization=settings.pop("binarization", None),
        seed=seed,
        epochs=epochs and int(epochs),
        settings=settings,
        program=program,
        versions=metrics.get("versions", {}),
    )


def _defaults(program, flags):
    """Returns what flags were, in effect, before they existed."""
    values = {"gradient_clip_norm": "0.0"}
    if program in _LATENT:
        values["num_importance_samples"] = "1"
        values["doubly_reparameterized"] = "false"
        if flags.get("network") == "conv":
            values["filters"] = "16"
    return values


def _take_source(settings, seed):
    """Removes the flags of the data from `settings`, as `datasets.Source`."""
    size = settings.pop("image_size", None)
    size = size and tuple(map(int, size.split(",")))
    return datasets.Source(
        settings.pop("dataset", ""),
        settings.pop("data_dir", None),
        size and (size[0], size[-1]),
        float(settings.pop("validation_split", 0)),
        seed,
    )
