"""Models as SavedModels that TensorFlow Serving serves."""

import functools
import os
import pathlib
import re

from keras_genmodels._version import __version__
from keras_genmodels.core import files, validation
from keras_genmodels.core.errors import UserError
from keras_genmodels.export import latent_signatures, serving_config, signatures
from keras_genmodels.export import warmup as warmup_records
from keras_genmodels.export.description import DESCRIPTION, EXTRA
from keras_genmodels.export.versions import writing_version

check = functools.partial(validation.check, error=UserError)

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
      beside: int32 labels, or float32; and keeps known pixels. Integers
      that are no labels have to be places in a table, >= 0; a side of any
      length is at most 4096.
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
            holds; its `dataset` and `label_names` are shown beside. A number
            that is not finite becomes null, as JSON knows none.
        warmup: whether to write warm-up records, at the batch sizes of
            batching.config. They need the extra `serving`.
        max_rows: the most rows of a request, not below the max_batch_size of
            batching.config, < 2**31; None: 1024.
        jit_compile: whether XLA compiles what lies within the checks; a seed
            then gives another image. A stock server refuses such a model on a
            CPU; it needs `--xla_cpu_compilation_enabled`.
        num_samples: of a VAE's `log_likelihood`, in [1, 10**6]; None: 100.
        step_size, max_steps, tolerance: of a denoiser's `restore`, as of
            `restoration.restore`; None: 0.1, 100 and 1e-3. `max_steps`, in
            [1, 10**6], is also the most that `restore_with` makes.
        num_steps, stochasticity: of a denoiser's `generate`, as of
            `restoration.generate`; None: 100 and 0. `num_steps` is in
            [1, 10**5].

    Returns:
        pathlib.Path of the version, absolute.

    Raises:
        UserError: for a bad argument or one that does not go with the model,
            a model that knows no data, a batching.config that no server would
            take, if the extra is missing, and if the version was written but
            models.config can't be.
        OSError: if the version can't be written; what was there is as before.
    """
    export_dir = pathlib.Path(export_dir).absolute()
    check_name(name)
    signatures.check_model(model)
    serving_root = _serving_root(serving_root, export_dir)
    metrics = _as_json(metrics)
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
    check(
        isinstance(warmup, bool), f"warmup must be True or False, got {warmup}"
    )
    if warmup:
        warmup_records.messages()
    with writing_version(export_dir / name) as writing:
        batching = serving_config.read_batching(export_dir)
        settings = _with_batches(settings, batching)
        description = {
            **_write_model(model, writing.path, name, settings, metrics),
            "warmup": warmup,
        }
        _write_beside(writing.path, description, batching, warmup)
    _write_models_config(export_dir, serving_root, writing.version)
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


def _serving_root(given, export_dir):
    root = os.fspath(given or export_dir).rstrip("/")
    if not root.startswith("/"):
        raise UserError(
            f"serving_root must be an absolute path below /, got {given!r}: "
            "where the server finds the exported models, such as /models"
        )
    return root


def _as_json(metrics):
    """Gives metrics as a JSON file would hold them, before all is written."""
    check(
        metrics is None or isinstance(metrics, dict),
        f"metrics must be a dict, got {metrics!r}",
    )
    try:
        return files.as_json(metrics or {})
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"metrics must be what JSON holds: {error}") from error


def _with_batches(settings, batching):
    most = batching.sizes[-1]
    check(
        settings["max_rows"] >= most,
        f"max_rows must be at least {most}, the max_batch_size of "
        f"{serving_config.BATCHING}, got {settings['max_rows']}",
    )
    return {"max_batch_size": most, **settings}


def _write_model(model, path, name, settings, metrics):
    """Writes the SavedModel; gives the content of model.json."""
    described = signatures.save(model, path, settings)
    num_labels = getattr(model, "num_labels", None)
    has_no_label = bool(getattr(model, "label_dropout", 0))
    return {
        "name": name,
        "kind": type(model).__name__,
        "package_version": __version__,
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


def _write_beside(version, description, batching, warmup):
    """Writes what a server and a client read beside the SavedModel."""
    (version / serving_config.OF_VERSION).write_text(batching.of_version)
    extra = version / EXTRA
    files.write_json(extra / DESCRIPTION, description)
    if warmup:
        warmup_records.write(
            extra / warmup_records.FILE, description, batching.sizes
        )


def _write_models_config(export_dir, serving_root, version):
    try:
        serving_config.write_models_config(export_dir, serving_root)
    except OSError as error:
        # The version stands: the same command again would write another.
        raise UserError(
            f"exported to {version}, but {export_dir}/{serving_config.MODELS} "
            f"could not be written ({error.strerror or error}); if it does not "
            f"list {version.parent.name} yet, add it by hand, or mend the "
            "cause and export once more"
        ) from error
