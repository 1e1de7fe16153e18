"""Calls functions in processes of their own, with their own devices.

They are forks of a process that has imported the libraries.
"""

import os
import signal
import traceback

import tensorflow as tf

from support import app_fork

# Seconds that only a process that hangs takes.
TIMEOUT = 300


class Fork:
    """A call of a function in a new process.

    Args:
        function: of a module of `support`; what it returns is sent back.
        *args: its arguments.
        num_devices: int, number of logical CPU devices.
        environment: dict of additional environment variables.
    """

    def __init__(self, function, *args, num_devices=1, environment=None):
        self._receiver, sender = app_fork.forks.Pipe(duplex=False)
        arguments = (function, args, num_devices, environment or {}, sender)
        self.process = app_fork.forks.Process(target=_call, args=arguments)
        with app_fork.lock:
            self.process.start()
        sender.close()

    def result(self):
        """Returns what the function returned; raises if it did not."""
        try:
            assert self._receiver.poll(TIMEOUT), "no answer"
            found, error = self._receiver.recv()
        except EOFError:
            raise AssertionError("the process ended") from None
        finally:
            self.kill()
        assert error is None, error
        return found

    def kill(self):
        """Kills the process, if it is there."""
        self.process.kill()
        with app_fork.lock:
            self.process.join()


def _call(function, args, num_devices, environment, sender):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    app_fork.silence()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_devices,
    )
    try:
        found, error = function(*args), None
    except Exception:
        found, error = None, traceback.format_exc()
    sender.send((found, error))
