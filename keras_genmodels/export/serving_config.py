"""The files that TensorFlow Serving is started with, and the commands."""

import itertools
import re
import shlex
from typing import NamedTuple

from google.protobuf import text_format

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError
from keras_genmodels.export.server_messages import (
    BatchingParameters,
    ModelServerConfig,
)
from keras_genmodels.export.versions import locked, versions_in

MODELS = "models.config"
BATCHING = "batching.config"
# Where the server looks for the batching options of one version.
OF_VERSION = "batching_params.pbtxt"

_DEFAULT = """\
max_batch_size { value: 32 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
num_batch_threads { value: 4 }
"""
# Options that a server reads in the common file only: all models share them.
_COMMON = ("num_batch_threads", "thread_pool_name")
_HEADER = "# Each export rewrites this file: changes are lost.\n"


class Batching(NamedTuple):
    """How a server joins requests into batches.

    Args:
        sizes: tuple of ascending ints, the allowed batch sizes.
        of_version: str, the options of one version, which a server takes
            instead of those of the common file if it reads them; None if it
            shall not join the requests to that version.
    """

    sizes: tuple
    of_version: str | None


# Images of several sizes cannot be joined. A server that reads the options of
# each version does not batch one without them.
NO_BATCHING = Batching((1,), None)


def write_models_config(export_dir, serving_root):
    """Writes models.config: every model in `export_dir` that has a version.

    Args:
        export_dir: pathlib.Path.
        serving_root: absolute path of `export_dir` on the server.
    """
    with locked(export_dir):
        config = ModelServerConfig()
        config.model_config_list.SetInParent()
        for folder in sorted(export_dir.iterdir()):
            if any(
                (version / "saved_model.pb").is_file()
                for _, version in versions_in(folder)
            ):
                config.model_config_list.config.add(
                    name=folder.name,
                    base_path=f"{serving_root}/{folder.name}",
                    model_platform="tensorflow",
                )
        text = text_format.MessageToString(config, as_utf8=True)
        with files.replacing(export_dir / MODELS) as path:
            path.write_text(_HEADER + text)


def read_batching(export_dir):
    """Reads batching.config, which is written first if it is missing.

    An existing file stays as it is, for the user to tune.

    Args:
        export_dir: pathlib.Path.

    Returns:
        `Batching`.

    Raises:
        UserError: if a server would refuse the file.
    """
    path = export_dir / BATCHING
    with locked(export_dir):
        if not path.exists():
            with files.replacing(path) as temporary:
                temporary.write_text(_DEFAULT)
        text = path.read_text()
    try:
        batching = text_format.Parse(text, BatchingParameters())
    except text_format.ParseError as error:
        raise UserError(
            f"{path} cannot be read, line:column {error}; correct it, or "
            "delete it to get the default"
        ) from error
    sizes = tuple(batching.allowed_batch_sizes)
    is_ascending = all(a < b for a, b in itertools.pairwise((0, *sizes)))
    largest = batching.max_batch_size.value
    if not is_ascending or sizes[-1:] != (largest,):
        raise UserError(
            f"{path} must list allowed_batch_sizes in ascending order, the "
            "last one equal to max_batch_size { value: ... }; correct it, or "
            "delete it to get the default"
        )
    for name in _COMMON:
        batching.ClearField(name)
    return Batching(sizes, text_format.MessageToString(batching, as_utf8=True))


def start_commands(export_dir, serving_root, jit_compile=False):
    """Returns the commands that start TensorFlow Serving.

    Args:
        export_dir: absolute path of the exports.
        serving_root: the path where the server finds them.
        jit_compile: whether a model needs a server that compiles with XLA.

    Returns:
        dict of `container` and `binary` to a shell command; the container's
        ports are open to this machine only.
    """
    options = [
        f"--model_config_file={serving_root}/{MODELS}",
        "--enable_batching",
        f"--batching_parameters_file={serving_root}/{BATCHING}",
        "--enable_per_model_batching_parameters",
        *(["--xla_cpu_compilation_enabled"] if jit_compile else []),
    ]
    paths = (f"source={export_dir}", f"target={serving_root}")
    mount = ",".join(["type=bind", *map(_csv_field, paths), "readonly"])
    container = [
        "docker run --rm -p 127.0.0.1:8500:8500 -p 127.0.0.1:8501:8501",
        f"--mount {shlex.quote(mount)}",
        "tensorflow/serving",
        *map(shlex.quote, options),
    ]
    binary = [
        "tensorflow_model_server --port=8500 --rest_api_port=8501",
        *map(shlex.quote, options),
    ]
    return {
        name: " \\\n    ".join(parts)
        for name, parts in (("container", container), ("binary", binary))
    }


def _csv_field(text):
    """Quotes a CSV field if needed; Docker reads --mount as CSV."""
    if not re.search('[,"]', text):
        return text
    return '"' + text.replace('"', '""') + '"'
