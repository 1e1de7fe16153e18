"""Models as SavedModels that TensorFlow Serving serves."""

import os
import pathlib
import re

import keras_genmodels
from keras_genmodels import files
from keras_genmodels._arguments import check
from keras_genmodels.errors import UserError
from keras_genmodels.exporting import (
    latent_signatures,
    serving_config,
    signatures,
    warmup_records,
)
from keras_genmodels.exporting.versions import writing_version

EXTRA = "assets.extra"
DESCRIPTION = "model.json"
_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def export(
    model,
    export_dir,
    name,
    *,
    serving_root=None,
    metrics=None,
    warmup=True,
    max_rows=None,
    jit_compile=None,
    num_samples=None,
    step_size=None,
    max_steps=None,
    tolerance=None,
    num_steps=None,
    stochasticity=None,
):
    """Writes a model as `<export_dir>/<name>/<next integer>/`.

    It is not Keras' own `model.export`, which writes the training's call. The
    version appears whole or not at all. Beside the models come
    `models.config`, which names all that lie there, and `batching.config`,
    which is left as it is if it exists. In the version, `assets.extra/` holds
    `model.json` (what the model is, takes and gives) and the warm-up records.

    The signatures, each of named tensors, batch first, float32 or int32. They
    refuse wrong inputs by INVALID_ARGUMENT and a sentence that names the
    input. Seeds are int32 `[batch, 2]`: the same seed gives the same image (to
    1e-5) whatever the batch, the place in it, or the server.

    - A VAE has `reconstruct` (the default: image to the decoded posterior
      mean), `encode` (image to `loc` and `stddev` or `scale_tril`), `decode`
      (z to image), `generate` (seed to image), `log_likelihood` (image, seed
      to `log_likelihood`, importance-weighted by `num_samples`, `elbo`,
      `rate`, `distortion`, in nats). A conditional one takes `condition`
      beside: int32 labels, or float32; and keeps known pixels.
    - A denoiser has `denoise` (the default: image, sigma to `denoised`),
      `noise`, `restore` (to image, num_steps, residual), `restore_with`,
      which takes step_size, max_steps and tolerance for each row, and
      `generate` (seed to image). One that needs no sigma takes none.

    Args:
        model: a `VAE`, a `ConditionalVAE` or a `Denoiser`.
        export_dir: folder of all exported models.
        name: of the model, as a server knows it: letters, digits, `_.-`, and
            not digits alone.
        serving_root: absolute path of `export_dir` where the server runs, for
            models.config; None: where it is here.
        metrics: dict to keep in model.json, what metrics.json of the run
            holds; its `dataset` and `label_names` are shown beside.
        warmup: whether to write warm-up records, at the batch sizes of
            batching.config. They need the extra `serving`.
        max_rows: the most rows of a request, not below the max_batch_size of
            batching.config; None: 1024.
        jit_compile: whether XLA compiles what lies within the checks; a seed
            then gives another image. A stock server refuses such a model on a
            CPU; it needs `--xla_cpu_compilation_enabled`.
        num_samples: of a VAE's `log_likelihood`, >= 1; None: 100.
        step_size, max_steps, tolerance: of a denoiser's `restore`, as of
            `restoration.restore`; None: 0.1, 100 and 1e-3. `max_steps` is
            also the most that `restore_with` makes.
        num_steps, stochasticity: of a denoiser's `generate`, as of
            `restoration.generate`; None: 100 and 0.

    Returns:
        pathlib.Path of the version, absolute.

    Raises:
        UserError: for a bad argument or one that does not go with the model,
            a model that knows no data, a batching.config that no server would
            take, and if the extra is missing.
        OSError: if it can't be written; what was there is as before.
    """
    export_dir = pathlib.Path(export_dir).absolute()
    check_name(name)
    signatures.check_model(model)
    serving_root = _serving_root(serving_root, export_dir)
    settings = signatures.settings_of(
        model,
        {
            "max_rows": max_rows,
            "jit_compile": jit_compile,
            "num_samples": num_samples,
            "step_size": step_size,
            "max_steps": max_steps,
            "tolerance": tolerance,
            "num_steps": num_steps,
            "stochasticity": stochasticity,
        },
    )
    if warmup:
        warmup_records.messages()
    with writing_version(export_dir / name) as writing:
        sizes = serving_config.batch_sizes(export_dir)
        check(
            settings["max_rows"] >= sizes[-1],
            f"max_rows must be at least {sizes[-1]}, the max_batch_size of "
            f"{serving_config.BATCHING}, got {settings['max_rows']}",
        )
        settings = {"max_batch_size": sizes[-1], **settings}
        description = _write_model(model, writing.path, name, settings, metrics)
        serving_config.write_batching_params(writing.path, sizes)
        extra = writing.path / EXTRA
        files.write_json(extra / DESCRIPTION, description)
        if warmup:
            warmup_records.write(
                extra / warmup_records.FILE, description, sizes
            )
    serving_config.write_models_config(export_dir, serving_root)
    return writing.version


def check_name(name):
    """Refuses a name that is no folder's, or that a server would misread.

    Raises:
        UserError: if it is one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            "name must be letters, digits, _, . and -, at most 100 of them, "
            f"not digits alone and not beginning with . or -, got {name!r}"
        )
    if name in (serving_config.MODELS, serving_config.BATCHING):
        raise UserError(f"name must be none of the server's files, got {name}")


def read_description(version):
    """Reads the model.json of a version.

    Args:
        version: folder.

    Raises:
        UserError: if it is not of an export of this package.
    """
    path = pathlib.Path(version, EXTRA, DESCRIPTION)
    description = files.read_json(path)
    if not isinstance(description, dict) or "signatures" not in description:
        raise UserError(
            f"{version} is no version that `export` wrote: it has no "
            f"{EXTRA}/{DESCRIPTION} that tells of signatures; give a folder "
            "<export_dir>/<name>/<integer>"
        )
    return description


def _serving_root(given, export_dir):
    root = os.fspath(given or export_dir).rstrip("/")
    if not root.startswith("/"):
        raise UserError(
            f"serving_root must be an absolute path below /, got {given!r}: "
            "where the server finds the exported models, such as /models"
        )
    return root


def _write_model(model, path, name, settings, metrics):
    """Writes the SavedModel; gives the content of model.json."""
    described = signatures.save(model, path, settings)
    metrics = metrics or {}
    num_labels = getattr(model, "num_labels", None)
    has_no_label = bool(getattr(model, "label_dropout", 0))
    return {
        "name": name,
        "kind": type(model).__name__,
        "package_version": keras_genmodels.__version__,
        "image_shape": list(model.event_shape),
        "dataset": metrics.get("dataset"),
        "label_names": metrics.get("label_names"),
        "num_labels": num_labels,
        "no_label": num_labels if has_no_label else None,
        "known": getattr(model, "known", None) is not None,
        "pixels": latent_signatures.support(model)[0],
        "sigma_range": list(getattr(model, "sigma_range", ())) or None,
        "metrics": metrics or None,
        "settings": settings,
        "signatures": described,
    }
