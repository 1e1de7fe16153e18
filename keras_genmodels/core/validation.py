"""Checks of arguments."""

import numpy as np

from keras_genmodels.core.errors import UserError


def check_count(name, value, least=1):
    """Raises unless `value` is an int (not a bool) of at least `least`.

    Raises:
        UserError: otherwise; the message starts with `name`.
    """
    check(
        isinstance(value, int | np.integer)
        and not isinstance(value, bool)
        and value >= least,
        f"{name} must be an int >= {least}, got {value!r}",
    )


def check(is_right, message):
    """Raises unless a condition holds.

    Raises:
        UserError: with `message`, if `is_right` is false.
    """
    if not is_right:
        raise UserError(message)
