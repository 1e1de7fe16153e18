"""The exception that an app turns into a single line for its user."""

import contextlib


class UserError(ValueError):
    """A mistake that the user can correct.

    Its one-line message says what is wrong, where, and what to do.
    """


@contextlib.contextmanager
def user_errors(prefix=""):
    """Raises a `ValueError` of the block as a `UserError`.

    For calls of the library whose arguments come from a user's flags or files.

    Args:
        prefix: str that the message gets, such as the path of the file.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{prefix}{error}") from error


class NotMeasured(ValueError):
    """A measure that these data do not allow, such as one of too few images.

    An evaluation notes the message and goes on; any other error ends it.
    """
