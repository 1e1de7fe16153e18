"""Exports models as SavedModels for TensorFlow Serving."""

import os
import re

from keras_genmodels._version import __version__
from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError, user_errors
from keras_genmodels.core.events import is_any_size
from keras_genmodels.export import serving_config, signatures
from keras_genmodels.export import warmup as warmup_records
from keras_genmodels.export.description import DESCRIPTION, EXTRA, FORMAT
from keras_genmodels.export.versions import writing_version

_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def export(
    model,
    export_dir,
    name,
    *,
    serving_root=None,
    metrics=None,
    warmup=True,
    **settings,
):
    """Writes a model as `<export_dir>/<name>/<next integer>/`.

    Unlike Keras' `model.export`, which writes the model's `call`, it writes
    the signatures below. The version appears as a whole or not at all. Next to
    the models it writes `models.config`, which lists all of them, and
    `batching.config` unless there is one. In the version, `assets.extra/`
    holds `model.json`, which describes the model, and the warm-up records.

    The signatures have named tensors, batch first, float32 or int32. Wrong
    inputs are refused with INVALID_ARGUMENT and a message that names the
    input. A seed is int32 `[2]` for each row; the same seed returns the same
    image (to 1e-5) for any batch, position in the batch, and server.

    - A latent-variable model has `reconstruct` (the default; image to the
      decoded posterior mean), `encode` (image to `loc` and `stddev` or
      `scale_tril`; of a `HierarchicalVAE` to `z`, the means of its layers,
      which `reconstruct` decodes), `decode` (z to image), `generate` (seed to
      image), and `log_likelihood` (image, seed to `log_likelihood`,
      importance-weighted with `num_samples` draws, `elbo`, `rate`,
      `distortion`, in nats). A
      conditional model also takes `condition`: int32 labels, or whatever its
      condition network takes; integers other than labels must be indices >= 0,
      and an axis without a fixed size is limited to 4096. Observed pixels are
      returned unchanged.
      A `LatentDiffusion` has no `log_likelihood`, but `generate_with`, as a
      denoiser.
    - A denoiser has `denoise` (the default; image, sigma to `denoised`),
      `noise`, `restore` (to image, num_steps, residual), `restore_with`, which
      takes step_size, max_steps and tolerance for each row, `generate` (seed
      to image), and `generate_with`, which takes num_steps for each row. There
      is no sigma input if the denoiser needs none. A conditional one also
      takes `condition`, int32 labels, in each of them, and `guidance` in
      `generate_with`, if it was trained with label dropout.
      One of events of at most 256 values that takes sigma also has
      `log_density` (image, sigma to `log_density`, log p_sigma(image) in nats,
      and `solver_error`): in closed form of an exact or linear denoiser, else
      by `kgm.probability_flow` with steps of one length. A conditional one
      also takes `condition`, for log p_sigma(image | label).
      One of images of any size has `denoise`, `noise`, `restore` and
      `restore_with`, with free height and width. Its version has no batching
      options, so that a server started with the printed commands does not
      join its requests.

    Args:
        model: a latent-variable model (`VAE`, `ConditionalVAE`) or a
            `Denoiser`.
        export_dir: folder of all exported models.
        name: the model's name on the server: letters, digits and `_.-`, not
            digits only.
        serving_root: absolute path of `export_dir` on the server, for
            models.config. Default: the path on this machine.
        metrics: dict for model.json, the content of the run's metrics.json;
            its `dataset` and `label_names` are copied to the top level.
            Numbers that are not finite become null.
        warmup: whether to write warm-up records, for the batch sizes of
            batching.config. They need the extra `serving`.
        **settings: those of all models are
            `max_rows`: maximum number of rows of a request, at least the
            max_batch_size of batching.config, < 2**31; default 1024.
            `jit_compile`: bool or "auto", whether XLA compiles the signatures;
            default False, because a stock server on a CPU refuses such a model
            (unless started with `--xla_cpu_compilation_enabled`). "auto" is
            False for images of any size, as XLA compiles anew for each size.
            Of a latent-variable model, `num_samples` of `log_likelihood`, in
            [1, 10**6]; default 100.
            Of a denoiser, `step_size`, `max_steps`, in [1, 10**6] and also the
            limit for `restore_with`, and `tolerance` of `restore`; defaults
            0.1, 100, 1e-3; and `solver`, `schedule`, `num_steps`, in [1,
            10**5], and `stochasticity` of `generate`, with its defaults.
            `generate_with` takes up to 5 times `num_steps`, but at most 1000 of
            a denoiser that does not receive sigma. Of a denoiser of images of
            any size `max_pixels` in place of those of `generate`: the largest
            height times width of an image, < 2**31, default 2**20, and the
            pixels that are denoised at a time. Such a denoiser takes 64
            `max_rows` by default, and `restore` denoises once: its `step_size`
            is 1, unless `max_steps` or `tolerance` ask for a loop.

    Returns:
        pathlib.Path of the version, absolute.

    Raises:
        UserError: for a bad argument, a setting that such a model does not
            have, a denoiser without data, weights that are not finite, a
            batching.config that a server would refuse, and if the extra is
            missing. Also if the version was written but models.config was not.
        OSError: if the version cannot be written; nothing has changed then.
    """
    if getattr(model, "spans_devices", False):
        raise UserError(
            "replicas share the data of this model, and an export is of one "
            "device: save it, load it outside of strategy.scope() and export "
            "that"
        )
    with user_errors():
        export_dir = files.local_path(export_dir).absolute()
    check_name(name)
    settings = _checked_settings(model, settings)
    serving_root = _checked_root(serving_root, export_dir)
    metrics = _as_json(metrics)
    if not isinstance(warmup, bool):
        raise UserError(f"warmup must be True or False, got {warmup!r}")
    if warmup:
        warmup_records.messages()
    with writing_version(export_dir / name) as writing:
        batching = serving_config.read_batching(export_dir)
        if is_any_size(model.event_shape):
            batching = serving_config.NO_BATCHING
        settings = _with_batches(settings, batching)
        described = signatures.save(model, writing.path, settings)
        description = {
            "format": FORMAT,
            "name": name,
            "package_version": __version__,
            **signatures.describe(model),
            "dataset": metrics.get("dataset"),
            "label_names": metrics.get("label_names"),
            "metrics": metrics or None,
            "settings": settings,
            "warmup": warmup,
            "signatures": described,
        }
        _write_assets(writing.path, description, batching)
    _write_models_config(export_dir, serving_root, writing.version)
    return writing.version


def check_name(name):
    """Raises unless `name` is valid for a folder and for a server.

    Raises:
        UserError: if it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            "name must be letters, digits, _, . and -, at most 100 of them, "
            f"not digits only and not starting with . or -, got {name!r}"
        )
    if name in (serving_config.MODELS, serving_config.BATCHING):
        raise UserError(f"name must not be that of a server file, got {name}")


def _checked_settings(model, settings):
    """Completes the settings, and checks that the model can be exported."""
    settings = signatures.settings_of(model, settings)
    signatures.signatures_of(model, settings)
    signatures.check_weights(model)
    return settings


def _checked_root(serving_root, export_dir):
    root = os.fspath(serving_root or export_dir).rstrip("/")
    if not root.startswith("/"):
        raise UserError(
            "serving_root must be an absolute path other than /, got "
            f"{serving_root!r}: the path of the exported models on the server, "
            "such as /models"
        )
    return root


def _as_json(metrics):
    """Converts metrics to what JSON holds, before anything is written."""
    if metrics is not None and not isinstance(metrics, dict):
        raise UserError(f"metrics must be a dict, got {metrics!r}")
    try:
        return files.as_json(metrics or {})
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"metrics must be valid JSON: {error}") from error


def _with_batches(settings, batching):
    largest = batching.sizes[-1]
    if settings["max_rows"] < largest:
        raise UserError(
            f"max_rows must be at least {largest}, the max_batch_size of "
            f"{serving_config.BATCHING}, got {settings['max_rows']}"
        )
    return {"max_batch_size": largest, **settings}


def _write_assets(version, description, batching):
    """Writes what a server and a client read besides the SavedModel."""
    if batching.of_version is not None:
        (version / serving_config.OF_VERSION).write_text(batching.of_version)
    extra = version / EXTRA
    files.write_json(extra / DESCRIPTION, description)
    if description["warmup"]:
        warmup_records.write(
            extra / warmup_records.FILE, description, batching.sizes
        )


def _write_models_config(export_dir, serving_root, version):
    try:
        serving_config.write_models_config(export_dir, serving_root)
    except OSError as error:
        # The version stays: exporting again would add another one.
        raise UserError(
            f"exported to {version}, but {export_dir}/{serving_config.MODELS} "
            f"could not be written ({error.strerror or error}); if it does not "
            f"list {version.parent.name} yet, add it by hand, or remove the "
            "cause and export again"
        ) from error
