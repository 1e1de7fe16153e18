"""Runs an app once for each command line, in forks of one small process.

A process for each would start Python and import absl a hundred times. This
file is a program, whose input `app_runs.run_each_without_tensorflow` writes.
"""

import json
import os
import runpy
import sys
import tempfile


def run(app, args):
    """Runs `python -m apps.APP ARGS` in a fork.

    Args:
        app: its name.
        args: list of str.

    Returns:
        list: the exit status, what was written to standard error, and the
        sorted names of the packages that were imported.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as names:
        child = os.fork()
        if not child:
            _run(app, args, errors, names)
        _, status = os.waitpid(child, 0)
        for file in (errors, names):
            file.seek(0)
        return [
            os.waitstatus_to_exitcode(status),
            errors.read().decode(),
            json.load(names),
        ]


def _run(app, args, errors, names):
    """Runs the app to the end of this process."""
    os.dup2(errors.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = [app, *args]
    try:
        runpy.run_module(f"apps.{app}", run_name="__main__", alter_sys=True)
    finally:
        packages = {name.partition(".")[0] for name in sys.modules}
        names.write(json.dumps(sorted(packages)).encode())
    sys.exit()


def main():
    """Reads the name of an app and its command lines, and prints the runs."""
    app, commands = json.load(sys.stdin)
    # As `python -m` does.
    sys.path[0] = os.getcwd()
    # What all apps import first.
    import apps.cli.guard  # noqa: F401

    print(json.dumps([run(app, args) for args in commands]))


if __name__ == "__main__":
    main()
