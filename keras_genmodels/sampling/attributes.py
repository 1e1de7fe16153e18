"""Attributes of a denoiser, with defaults for a plain function."""


def needs_sigma(denoiser):
    """Returns whether D depends on sigma; True for a function."""
    return getattr(denoiser, "needs_sigma", True)


def sigma_range(denoiser):
    """Returns its `(lowest, highest)` noise level; None for a function."""
    return getattr(denoiser, "sigma_range", None)


def has_single_level(denoiser):
    """Returns whether it is made for one noise level."""
    levels = sigma_range(denoiser)
    return levels is not None and levels[0] == levels[1]


def is_for_all_rows(denoiser):
    """Returns whether it takes any number of events, with one condition."""
    return getattr(denoiser, "is_for_all_rows", True)
