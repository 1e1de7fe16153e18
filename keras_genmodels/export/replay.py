"""Runs an exported version in a process without TensorFlow's Python."""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from keras_genmodels.export.loader import LoadError, RunError


def replay(version_dir, requests, timeout=3600.0):
    """Answers requests with `loader.py` in a new interpreter.

    It fails if that interpreter has imported tensorflow, keras,
    tensorflow_probability or keras_genmodels at the end.

    Args:
        version_dir: folder of an exported version.
        requests: iterable of (name of a signature, dict of input arrays).
        timeout: seconds that the process may take for all of them.

    Returns:
        list with, for each request, the dict of output arrays, or a `RunError`
        if it was refused.

    Raises:
        LoadError: if the version cannot be loaded, or the process fails or
            takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="keras_genmodels-") as folder:
        sent, answered = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
        sent.mkdir()
        answered.mkdir()
        names = [
            _write(sent / f"{i:04}.npz", signature, inputs)
            for i, (signature, inputs) in enumerate(requests)
        ]
        _run_script(timeout, version_dir, sent, answered)
        return [_read(answered / name) for name in names]


def _write(path, signature, inputs):
    np.savez(path, __signature__=np.array(signature), **inputs)
    return path.name


def _read(path):
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    if "__error__" in arrays:
        return RunError(int(arrays["__code__"]), str(arrays["__error__"]))
    return arrays


def _run_script(timeout, *folders):
    script = pathlib.Path(__file__).with_name("loader.py")
    try:
        process = subprocess.run(
            # -P: the script's folder is not on its path. -I would also hide a
            # TensorFlow that is installed for this user only.
            [sys.executable, "-P", script, *folders],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(
            f"not all requests were answered within {timeout:g} s"
        ) from error
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["no message"]
        raise LoadError(
            f"{lines[-1].removeprefix('loader.py: ')} "
            f"(exit status {process.returncode})"
        )
