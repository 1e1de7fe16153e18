"""Runs an app in a fork of a process that has imported its libraries.

So the imports, which take seconds, happen once per pytest process. This hides
log messages of the imports, missing imports and wrong orders of imports:
`run_python` of `app_runs` is for those.
"""

import atexit
import multiprocessing
import multiprocessing.connection
import os
import resource
import runpy
import signal
import sys
import threading

import numpy as np
import tensorflow

from keras_genmodels.core import xla

# All that the apps import; importing it starts no thread.
_LIBRARIES = (
    "tensorflow_datasets",
    "keras_genmodels.runs.denoiser",
    "keras_genmodels.runs.latent",
    "keras_genmodels.runs.evaluate",
    "keras_genmodels.reports.page",
    "keras_genmodels.runs.restore",
)
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["tensorflow", *_LIBRARIES])
# `start` and `join` poll all children, which is not thread-safe.
lock = threading.Lock()


def run(folder, app, args, *, file_limit, streams, timeout):
    """Runs the equivalent of `python -m apps.APP ARGS`.

    Args:
        folder: to run in, where `apps` lies.
        app: its name.
        args: list of str.
        file_limit: bytes that no file may grow beyond, or None.
        streams: paths of files for standard output and error, which exist.
        timeout: seconds.

    Returns:
        int, the exit status.

    Raises:
        TimeoutError: if it takes longer; it is killed with its children.
    """
    arguments = (str(folder), app, args, file_limit, streams, dict(os.environ))
    process = forks.Process(target=_run, args=arguments)
    with lock:
        process.start()
    ended = multiprocessing.connection.wait([process.sentinel], timeout)
    with lock:
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        status = process.exitcode
        process.close()
    if not ended:
        raise TimeoutError(f"{app} {' '.join(args)} took over {timeout} s")
    return status


def _run(folder, app, args, file_limit, streams, environment):
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    missing = [name for name in _LIBRARIES if name not in sys.modules]
    if missing:
        raise ImportError(f"the server could not import {missing}")
    # Compiling a small model takes seconds; the library's tests compile.
    xla.should_compile = lambda model: False
    # A fork inherits the state of the random generator.
    np.random.seed()
    _redirect(0, os.devnull, os.O_RDONLY)
    # TensorFlow logs its devices here, before the app could suppress it.
    _redirect(2, os.devnull, os.O_WRONLY)
    tensorflow.config.list_logical_devices()
    for number, path in enumerate(streams, 1):
        _redirect(number, path, os.O_WRONLY | os.O_APPEND)
    if file_limit:
        # As on a full disk: Python ignores SIGXFSZ, so that writing fails.
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    os.chdir(folder)
    sys.path.insert(0, folder)
    # `run_module` replaces the first argument by the module's path.
    sys.argv = [app, *args]
    try:
        runpy.run_module(f"apps.{app}", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


def silence():
    """Discards what this process prints from now on."""
    for number in (1, 2):
        _redirect(number, os.devnull, os.O_WRONLY)


def _redirect(number, path, mode):
    opened = os.open(path, mode)
    os.dup2(opened, number)
    os.close(opened)
