"""The files that TensorFlow Serving is started with, and the lines for it."""

import itertools
import re
import shlex
from typing import NamedTuple

from keras_genmodels.core import files
from keras_genmodels.core.errors import UserError
from keras_genmodels.export.versions import locked, versions_in

MODELS = "models.config"
BATCHING = "batching.config"
# Where the server looks for what is meant for one version alone.
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
# What a server reads of the common file alone: its threads are all models'.
_COMMON = re.compile(
    r"\b(num_batch_threads|thread_pool_name)\s*:?\s*"
    r'{(?:"[^"\n]*"|[^"}])*}[ \t]*\n?'
)
_COMMENT = re.compile(r'("[^"\n]*")|#.*')
_HEADER = "# Each export writes this anew: what is changed here is lost.\n"


class Batching(NamedTuple):
    """How a server joins requests.

    Args:
        sizes: tuple of rising ints, of the batches.
        of_version: str, the options of one version, which a server that
            reads such takes instead of those of the batching file.
    """

    sizes: tuple
    of_version: str


def write_models_config(export_dir, serving_root):
    """Writes models.config: every model in `export_dir` that has a version.

    Args:
        export_dir: pathlib.Path.
        serving_root: absolute path of `export_dir` where the server runs.
    """
    with locked(export_dir):
        names = sorted(
            folder.name
            for folder in export_dir.iterdir()
            if any(
                (version / "saved_model.pb").is_file()
                for _, version in versions_in(folder)
            )
        )
        entries = "".join(
            f"  config {{\n"
            f"    name: {_quoted(name)}\n"
            f"    base_path: {_quoted(f'{serving_root}/{name}')}\n"
            f'    model_platform: "tensorflow"\n'
            f"  }}\n"
            for name in names
        )
        with files.replacing(export_dir / MODELS) as beside:
            beside.write_text(f"{_HEADER}model_config_list {{\n{entries}}}\n")


def read_batching(export_dir):
    """Reads the batching file, which is written if it is missing.

    One that is there is left as it is: it is the user's to tune.

    Args:
        export_dir: pathlib.Path.

    Returns:
        `Batching`.

    Raises:
        UserError: if the server would not take the file.
    """
    path = export_dir / BATCHING
    with locked(export_dir):
        if not path.exists():
            with files.replacing(path) as beside:
                beside.write_text(_DEFAULT)
        text = _COMMENT.sub(r"\1", path.read_text())
    sizes = tuple(
        map(int, re.findall(r"\ballowed_batch_sizes\s*:\s*(\d+)", text))
    )
    most = re.findall(r"\bmax_batch_size\s*:?\s*{\s*value\s*:\s*(\d+)", text)
    rising = all(a < b for a, b in itertools.pairwise((0, *sizes)))
    if not sizes or not rising or most != [str(sizes[-1])]:
        raise UserError(
            f"{path} must list allowed_batch_sizes, rising, the last of them "
            f"max_batch_size {{ value: ... }}: mend it, or delete it to get "
            "the default"
        )
    return Batching(sizes, _COMMON.sub("", text))


def start_lines(export_dir, serving_root, jit_compile=False):
    """Gives the commands that start TensorFlow Serving.

    Args:
        export_dir: absolute path of the exports.
        serving_root: where the server finds them.
        jit_compile: whether a model needs a server that compiles with XLA.

    Returns:
        dict of `container` and `binary` to a shell command, ports on
        loopback for the container.
    """
    options = [
        f"--model_config_file={serving_root}/{MODELS}",
        "--enable_batching",
        f"--batching_parameters_file={serving_root}/{BATCHING}",
        "--enable_per_model_batching_parameters",
        *(["--xla_cpu_compilation_enabled"] if jit_compile else []),
    ]
    places = (f"source={export_dir}", f"target={serving_root}")
    mount = ",".join(["type=bind", *map(_csv, places), "readonly"])
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


def _csv(text):
    """Writes a field as CSV has it, which is how --mount is read."""
    if not re.search('[,"]', text):
        return text
    return '"' + text.replace('"', '""') + '"'


def _quoted(text):
    """Writes a text as protobuf's text format has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
