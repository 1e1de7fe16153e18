"""Loops compiled once for each denoiser, and freed with it."""

import inspect
import weakref

import tensorflow as tf

# By owner: its variables then, and its loops by what they were made for.
_loops = weakref.WeakKeyDictionary()


def loop_of(denoiser, make, x, **options):
    """Gives the loop for a denoiser and a shape of events, made once.

    Args:
        denoiser: an object with `denoise(x, sigma)`, or a function of both.
        make: function of (denoise, spec of x, **options); gives the loop.
        x: float tensor `[batch, ...]`.
        **options: hashable.

    Returns:
        what `make` gave.
    """
    owner, function = _owner_and_function(denoiser)
    reference = _reference(owner)

    def denoise(x, sigma):
        if function is None:
            return reference()(x, sigma)
        return function(reference(), x, sigma)

    loops = _loops_of(owner)
    key = (function, make, *x.shape[1:], x.dtype, *sorted(options.items()))
    if key not in loops:
        spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
        loops[key] = make(denoise, spec, **options)
    return loops[key]


def _owner_and_function(denoiser):
    """Splits a method, of which Python makes a new object at each access."""
    method = getattr(denoiser, "denoise", denoiser)
    if inspect.ismethod(method):
        return method.__self__, method.__func__
    return method, None


def _reference(owner):
    """Refers weakly, as a loop that held its denoiser would never be freed."""
    try:
        return weakref.ref(owner)
    except TypeError:  # A builtin function, or an object with slots.
        return lambda: owner


def _loops_of(owner):
    variables = list(getattr(owner, "variables", ()))
    try:
        known = _loops.get(owner)
        # A second `adapt` makes new variables, unknown to the old loops.
        if known is None or list(map(id, known[0])) != list(map(id, variables)):
            known = _loops[owner] = (variables, {})
    except TypeError:  # It can't be hashed, or not be referred to weakly.
        return {}
    return known[1]
