"""Runs an app in a fork of a process that has imported its libraries.

That takes the seconds of the imports once for each process of pytest.
"""

import multiprocessing
import os
import resource
import runpy
import sys

import tensorflow

# What the apps import between them; importing it starts no thread.
_LIBRARIES = (
    "tensorflow_datasets",
    "keras_genmodels.denoiser_runs",
    "keras_genmodels.latent_runs",
    "keras_genmodels.model_evaluation",
    "keras_genmodels.report",
    "keras_genmodels.restoration_runs",
    __name__,
)
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(_LIBRARIES))


def run(folder, app, args, *, file_limit, streams, timeout):
    """Runs `python -m apps.APP ARGS`, or what comes close to it.

    Args:
        folder: to run in, where `apps` lies.
        app: its name.
        args: list of str.
        file_limit: bytes that no file may grow beyond, or None.
        streams: paths of the files for standard output and error.
        timeout: seconds.

    Returns:
        int, the exit status.

    Raises:
        TimeoutError: if it takes longer.
    """
    process = _forks.Process(
        target=_run, args=(str(folder), app, args, file_limit, streams)
    )
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{app} {' '.join(args)} took over {timeout} s")
    return process.exitcode


def _run(folder, app, args, file_limit, streams):
    _redirect(0, os.devnull, os.O_RDONLY)
    # What TensorFlow says of devices comes earlier than in a process that
    # has not imported it, where the apps hold it back.
    _redirect(2, os.devnull, os.O_WRONLY)
    tensorflow.config.list_logical_devices()
    for number, path in enumerate(streams, 1):
        _redirect(number, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if file_limit:
        # As on a full disk. Python ignores the signal that comes with it, so
        # that writing fails.
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    os.chdir(folder)
    sys.path.insert(0, folder)
    # `run_module` replaces the first by the module's path.
    sys.argv = [app, *args]
    runpy.run_module(f"apps.{app}", run_name="__main__", alter_sys=True)


def _redirect(number, path, mode):
    opened = os.open(path, mode, 0o600)
    os.dup2(opened, number)
    os.close(opened)
