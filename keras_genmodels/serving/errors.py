"""Turns errors of gRPC into one line for the user."""

import grpc

from keras_genmodels.core.errors import UserError
from keras_genmodels.export.refusals import parse_refusal

_MAX_DETAILS = 300
# Seconds in which a server that is up accepts a connection.
_CONNECT_TIMEOUT = 1


class RequestError(UserError):
    """A request to a server failed.

    Attributes:
        status: `grpc.StatusCode`.
        input: name of the input that an exported model refused; None for other
            failures, and for models exported by keras_genmodels 0.2.
        reason: why it refused the input: `shape`, `pixels` (too many),
            `rows`, or the code of the values that it accepts, such as
            `binary`; None as for `input`.
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
    found = parse_refusal(error.details() or "no reason given")
    details = found.sentence[:_MAX_DETAILS]
    is_unavailable = status == grpc.StatusCode.UNAVAILABLE
    if is_unavailable and _accepts_connections(channel):
        # TensorFlow Serving refuses with this status if its queues are full.
        status = grpc.StatusCode.RESOURCE_EXHAUSTED
    message = _message(status, details, client)
    return RequestError(message, status, found.input, found.reason)


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
