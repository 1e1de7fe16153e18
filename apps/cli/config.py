"""The flags of a command, resolved once to a frozen object."""

import dataclasses
import types

from . import guard


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of all flags of an app, as attributes.

    Args:
        program: name of the app.
        values: dict of names of flags to their values.
        defaults: dict of names of flags to their defaults.
        present: names of the flags that were given a value.
    """

    program: str
    values: types.MappingProxyType
    defaults: types.MappingProxyType
    present: frozenset

    @classmethod
    def read(cls, module):
        """Reads the flags of an app, given `__name__` of its module."""
        own = guard.flags_of(module)
        return cls(
            guard.program_of(module),
            types.MappingProxyType({flag.name: flag.value for flag in own}),
            types.MappingProxyType({flag.name: flag.default for flag in own}),
            frozenset(flag.name for flag in own if flag.present),
        )

    def __getattr__(self, name):
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(f"this app has no flag --{name}") from None

    def fill(self, **values):
        """Returns a copy in which flags that are None have these values."""
        missing = {k: v for k, v in values.items() if self.values[k] is None}
        return self.replace(**missing)

    def replace(self, **values):
        """Returns a copy in which flags have these values."""
        return dataclasses.replace(
            self, values=types.MappingProxyType({**self.values, **values})
        )

    def forbid(self, names, requirement):
        """Checks that flags which would be ignored have their defaults.

        Args:
            names: of the flags.
            requirement: str, what they require, such as "--network=mlp".

        Raises:
            WrongFlags: if one does not.
        """
        for name in names:
            if self.values[name] != self.defaults[name]:
                raise guard.WrongFlags(f"--{name} requires {requirement}")
