"""Checks of arguments."""

import numpy as np


def check(is_right, message, error=ValueError):
    """Raises `error(message)` unless a condition holds."""
    if not is_right:
        raise error(message)


def is_count(value, least=1):
    """Returns whether a value is an int (not a bool) of at least `least`."""
    return (
        isinstance(value, int | np.integer)
        and not isinstance(value, bool)
        and value >= least
    )


def check_count(name, value, least=1, error=ValueError):
    """Raises unless `value` is an int (not a bool) of at least `least`."""
    message = f"{name} must be an int >= {least}, got {value!r}"
    check(is_count(value, least), message, error)
