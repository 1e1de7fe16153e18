"""A client of a server of exported models, and a small local server.

They need the extra `serving`, which is imported when one of them is used.
"""

import importlib

from keras_genmodels.core.errors import UserError

_MODULES = {"Client": "client", "RequestError": "errors", "Server": "server"}
_EXTRA = ("grpc", "tensorflow_serving")

__all__ = ["Client", "RequestError", "Server"]


def __getattr__(name):
    """Imports the module of a public name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
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
