"""Settings that are fixed when a model is exported."""

import math
import numbers
from typing import NamedTuple

from keras_genmodels.core.errors import UserError
from keras_genmodels.core.wording import with_article
from keras_genmodels.export.values import Values

_TYPES = {
    bool: bool,
    int: numbers.Integral,
    float: numbers.Real,
    str: str,
}


class Setting(NamedTuple):
    """A setting of an export, a bool, int, float or str like its default.

    Args:
        default: the value if none is passed.
        values: the `Values` that are accepted; a tuple of those of a str; None
            for a bool.
    """

    default: object
    values: Values | tuple | None = None

    def read(self, name, value):
        """Checks a value and returns it as Python's own type, for JSON.

        Raises:
            UserError: if it is not accepted; the message starts with `name`.
        """
        kind = type(self.default)
        if not self._accepts(kind, value):
            wanted = "True or False" if kind is bool else self.values
            if kind is str:
                wanted = f"one of {', '.join(self.values)}"
            article = "an int " if kind is int else ""
            raise UserError(f"{name} must be {article}{wanted}, got {value!r}")
        return kind(value)

    def _accepts(self, kind, value):
        if not isinstance(value, _TYPES[kind]):
            return False
        if kind is bool:
            return True
        if kind is str:
            return value in self.values
        is_number = not isinstance(value, bool) and math.isfinite(value)
        return is_number and bool(self.values.contains(float(value)))


def resolve(given, known, kind):
    """Completes and checks the settings of an export.

    Args:
        given: dict of names to values; None means the default.
        known: dict of names to the `Setting`s of such a model.
        kind: name of the model's class, for messages.

    Returns:
        dict with a value for each name of `known`.

    Raises:
        UserError: for an unknown name or a value that is not accepted.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in known:
            raise UserError(
                f"{name} is not a setting of {with_article(kind)}, which has "
                f"{', '.join(known)}"
            )
    return {
        name: setting.read(name, given.get(name, setting.default))
        for name, setting in known.items()
    }
