"""Model files: constructor arguments, dtype policy and format number."""

import contextvars
import inspect

import keras
import numpy as np

from keras_genmodels.core.file_format import FORMAT, check_format
from keras_genmodels.core.precision import policy_scope

_IS_LOADING = contextvars.ContextVar("is_loading", default=False)


def is_loading():
    """Returns whether a model is being rebuilt, as from a file."""
    return _IS_LOADING.get()


def copy_model(model):
    """Returns a copy of a model, without its optimizer."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


class ConfigFromArguments:
    """Mixin for a Keras model that keeps each argument as an attribute.

    `get_config` returns the arguments of the constructor: those that it names,
    and, if it passes `**kwargs` on, the keyword-only ones of the base class.
    Values may be numbers, strings, arrays, Keras objects, or lists or tuples
    of these.
    """

    # Arguments of older formats: old names to new ones.
    _old_names = {}  # noqa: RUF012
    # Arguments that are kept under another name, that of a method.
    _attribute_names = {}  # noqa: RUF012

    def get_config(self):
        """Returns the constructor's arguments, dtype policy and file format."""
        return {
            "name": self.name,
            "format": FORMAT,
            "dtype_policy": self.dtype_policy.name,
            **{
                name: _as_config(value)
                for name, value in self._arguments().items()
            },
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the model from `get_config`, under its own dtype policy.

        Raises:
            ValueError: if the file was written in a newer format.
        """
        config = check_format(config)
        policy = config.pop("dtype_policy", None)
        token = _IS_LOADING.set(True)
        try:
            with policy_scope(policy):
                return cls(
                    **{
                        cls._old_names.get(name, name): (
                            keras.saving.deserialize_keras_object(
                                value, custom_objects=custom_objects
                            )
                        )
                        for name, value in config.items()
                    }
                )
        finally:
            _IS_LOADING.reset(token)

    def _arguments(self):
        """Returns a dict of the values of the constructor's arguments."""
        return {
            name: getattr(self, self._attribute_names.get(name, name))
            for name in self._argument_names()
        }

    @classmethod
    def _argument_names(cls):
        """Lists the constructor's arguments, also those that it passes on."""
        names = []
        for base in cls.__mro__:
            if "__init__" not in vars(base):
                continue
            parameters = inspect.signature(base.__init__).parameters.values()
            kept = {inspect.Parameter.KEYWORD_ONLY}
            if not names:
                # Those of a base class are given by its subclass.
                kept.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
            names += [p.name for p in parameters if p.kind in kept]
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
        return [name for name in names if name not in ("self", "name")]


def _as_config(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return keras.saving.serialize_keras_object(value)
