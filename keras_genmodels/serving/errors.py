"""Turns errors of gRPC into one line for the user."""

import re

import grpc

from keras_genmodels.core.errors import UserError

_MAX_DETAILS = 300
# How TensorFlow formats the data of a failed assertion.
_ASSERTION = re.compile(
    r"assertion failed: \[(.*?)(?:\] \[Condition |\]?\n|\]?$)"
)
# What an exported model appends to its refusals, for programs.
_REASON = re.compile(r"([a-z]\w*):([a-z]\w*)")
# Seconds in which a server that is up accepts a connection.
_CONNECT_TIMEOUT = 1


class RequestError(UserError):
    """A request to a server failed.

    Attributes:
        status: `grpc.StatusCode`.
        input: name of the input that an exported model refused; None for other
            failures, and for models exported by keras_genmodels 0.2.
        reason: why it refused the input: `shape`, `rows`, or the code of the
            values that it accepts, such as `binary`; None as for `input`.
    """

    def __init__(self, message, status, input=None, reason=None):
        super().__init__(message)
        self.status = status
        self.input = input
        self.reason = reason


def request_error(error, client, channel):
    """Returns the `RequestError` for an error of gRPC.

    Args:
        error: `grpc.RpcError`.
        client: the `Client` whose request failed.
        channel: its channel.
    """
    status = error.code()
    details, *reason = _parsed(error.details() or "no reason given")
    is_unavailable = status == grpc.StatusCode.UNAVAILABLE
    if is_unavailable and _accepts_connections(channel):
        # TensorFlow Serving refuses with this status if its queues are full.
        status = grpc.StatusCode.RESOURCE_EXHAUSTED
    message = _message(status, details, client)
    return RequestError(message, status, *reason)


def _message(status, details, client):
    """Says in one line what failed and what to do."""
    server = f"the server at {client.address}"
    messages = {
        "INVALID_ARGUMENT": f"the model {client.model} refused this: {details}",
        "UNAVAILABLE": f"no server answers at {client.address}: start one with "
        f"python -m apps.serve, or give the address of one ({details})",
        "RESOURCE_EXHAUSTED": f"this was too much for {server}: send less "
        f"at once, or use a smaller batch_size ({details})",
        "DEADLINE_EXCEEDED": f"{server} did not answer within "
        f"{client.timeout:g} s: use a longer timeout, or ask for less",
        "NOT_FOUND": f"{server} does not have the model {client.model}: "
        f"{details}",
    }
    failed = f"{server} failed ({status.name}): {details}"
    return messages.get(status.name, failed)


def _accepts_connections(channel):
    """Returns whether there is a server: gRPC's status does not say."""
    ready = grpc.channel_ready_future(channel)
    try:
        ready.result(_CONNECT_TIMEOUT)
    except grpc.FutureTimeoutError:
        return False
    finally:
        ready.cancel()
    return True


def _parsed(details):
    """Returns the sentence of an assertion; its input and reason, if any."""
    found = _ASSERTION.search(details)
    parts = found[1].split("] [") if found else [details.partition("\n")[0]]
    reason = _REASON.fullmatch(parts[-1]) if len(parts) > 1 else None
    if reason:
        parts.pop()
    sentence = " ".join(" ".join(parts).split())[:_MAX_DETAILS]
    return (sentence, *(reason.groups() if reason else ()))
