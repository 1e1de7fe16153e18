"""Calls functions as the workers of a cluster on this machine."""

import contextlib
import json
import socket

from support.forks import Fork


def free_addresses(num):
    """Returns addresses of this machine that no process uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in sockets]


def start_worker(addresses, index, *call):
    """Calls a function as one of the workers.

    Args:
        addresses: of all workers.
        index: int, of this one.
        *call: as of `Fork`.

    Returns:
        `Fork`.
    """
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": addresses}, "task": task}
    return Fork(*call, environment={"TF_CONFIG": json.dumps(config)})


def start_workers(num, *call):
    """Calls a function as each of several workers, and returns the `Fork`s."""
    addresses = free_addresses(num)
    return [start_worker(addresses, i, *call) for i in range(num)]
