"""Old spellings of arguments, accepted for one version with a warning."""

import functools
import inspect
import warnings


def warn(old, new, stacklevel=3):
    """Warns that `old` is deprecated and `new` takes its place."""
    warnings.warn(
        f"{old} is deprecated: use {new}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def accept_old_arguments(old_names=None, old_order=()):
    """Decorates a function whose argument names or order changed.

    Args:
        old_names: dict of old names of arguments to their new ones.
        old_order: names of arguments that are keyword-only now and were
            positional, in their old order.

    Returns:
        decorator; what it returns accepts both, with a DeprecationWarning.
    """

    def decorate(function):
        parameters = inspect.signature(function).parameters.values()
        count = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)

        @functools.wraps(function)
        def accepting(*args, **kwargs):
            for old in (old_names or {}).keys() & kwargs.keys():
                warn(old, old_names[old])
                _add(kwargs, old_names[old], kwargs.pop(old))
            if len(args) > count:
                extra, args = args[count:], args[:count]
                if len(extra) > len(old_order):
                    raise TypeError(
                        f"{function.__qualname__} got too many positional "
                        "arguments"
                    )
                names = old_order[: len(extra)]
                warn(f"positional {', '.join(names)}", "keyword arguments")
                for name, value in zip(names, extra, strict=True):
                    _add(kwargs, name, value)
            return function(*args, **kwargs)

        # Keras reads the arguments of constructors from it.
        accepting.__signature__ = inspect.signature(function)
        return accepting

    return decorate


def _add(kwargs, name, value):
    if name in kwargs:
        raise TypeError(f"got two values for {name}")
    kwargs[name] = value
