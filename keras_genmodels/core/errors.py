"""The one exception that an app turns into a single line for its user."""


class UserError(ValueError):
    """A mistake that the user can mend.

    Its one-line message says what is wrong, where, and what to do.
    """
