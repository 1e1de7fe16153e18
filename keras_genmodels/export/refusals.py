"""Parses the messages with which exported models refuse inputs."""

import re
from typing import NamedTuple

from keras_genmodels.core import assertions

# What `fields.checked` appends to the sentence, for programs.
_REASON = re.compile(r"([a-z]\w*):([a-z]\w*)")


class Refusal(NamedTuple):
    """The parts of a message.

    Attributes:
        sentence: str, one line.
        input: name of the refused input; None if the message has no code, as
            that of a model exported by keras_genmodels 0.2.
        reason: the code, such as `shape`; None as for `input`.
    """

    sentence: str
    input: str | None = None
    reason: str | None = None


def parse_refusal(message):
    """Returns the `Refusal` of the message of an error of TensorFlow."""
    parts = assertions.parts_of(message) or [message.partition("\n")[0]]
    reason = _REASON.fullmatch(parts[-1]) if len(parts) > 1 else None
    if reason:
        parts.pop()
    sentence = " ".join(" ".join(parts).split())
    return Refusal(sentence, *(reason.groups() if reason else ()))
