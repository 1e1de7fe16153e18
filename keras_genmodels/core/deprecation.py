"""Old spellings of arguments, accepted for one version with a warning."""

import warnings


def warn(old, new):
    """Warns that `old` is deprecated and `new` takes its place."""
    warnings.warn(
        f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=3
    )


def rename(arguments, old_names):
    """Renames keyword arguments that are given under an old name.

    Args:
        arguments: dict of keyword arguments.
        old_names: dict of old names to new ones.

    Returns:
        dict of `arguments` under their new names.

    Raises:
        TypeError: if an argument is given under both names.
    """
    arguments = dict(arguments)
    for old in old_names.keys() & arguments.keys():
        new = old_names[old]
        if new in arguments:
            raise TypeError(f"{old} is the old name of {new}: give only {new}")
        warnings.warn(
            f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=4
        )
        arguments[new] = arguments.pop(old)
    return arguments


def name_positional(values, names, arguments):
    """Names positional arguments that have become keyword-only.

    Args:
        values: tuple of the positional arguments that are left over.
        names: their names, in the order of the old signature.
        arguments: dict of the keyword arguments.

    Returns:
        dict of both.

    Raises:
        TypeError: for more values than names, or a name given twice.
    """
    if len(values) > len(names):
        raise TypeError(
            f"got {len(values)} positional hyperparameters, at most "
            f"{len(names)} are known"
        )
    named = dict(zip(names, values, strict=False))
    if twice := named.keys() & arguments.keys():
        raise TypeError(f"got two values for {', '.join(sorted(twice))}")
    if named:
        warnings.warn(
            f"positional {', '.join(named)}: give hyperparameters by keyword",
            DeprecationWarning,
            stacklevel=4,
        )
    return {**named, **arguments}
