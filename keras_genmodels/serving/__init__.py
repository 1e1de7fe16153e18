"""Asks a server for what a model says; a small server for trying it out.

`Client` needs the extra `serving`; `loader.Loader` and `replay.replay` don't.
"""

import importlib

from keras_genmodels.core.errors import UserError

_HOMES = {"Client": "client", "Server": "server"}
_EXTRA = ("grpc", "tensorflow_serving")

__all__ = ["Client", "Server"]


def __getattr__(name):
    """Imports what needs the extra once it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        raise UserError(
            f"serving.{name} needs the module {missing}: "
            "install the extra `serving` (pip install '.[serving]' in a clone "
            "of this package)"
        ) from error
    return getattr(module, name)
