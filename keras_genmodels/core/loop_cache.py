"""Compiled loops, cached for each model and freed with it."""

import functools
import inspect
import weakref

import tensorflow as tf

from keras_genmodels.core import precision
from keras_genmodels.core.events import spec_of

# By owner: its variables when the loops were built, and the loops by key.
_loops = weakref.WeakKeyDictionary()


def cached(owner, key, build):
    """Returns a compiled function of a model, built at its first use.

    Args:
        owner: the model; its functions are freed with it, and built anew when
            its variables are replaced (as by a second `adapt`). An owner that
            cannot be hashed or referred to weakly caches nothing.
        key: hashable; names the function among those of this owner.
        build: called with a zero-argument function that returns the owner; the
            result must not hold the owner itself, or neither is freed.

    Returns:
        what `build` returned.
    """
    functions = _functions_of(owner)
    key = (key, precision.traced_for())
    if key not in functions:
        functions[key] = build(_reference(owner))
    return functions[key]


def loop_of(denoiser, make, x, any_size=False, **options):
    """Returns the compiled loop of a denoiser for one shape of events.

    Args:
        denoiser: an object with `denoise(x, sigma)`, or a function of both. An
            object with `loop_inputs` is a `denoiser` with a condition: its
            `denoise` takes these tensors after x and sigma, and the loop is
            the same for all values of them.
        make: function of (denoise, spec of x, **options) that builds the loop.
        x: float tensor `[batch, ...]`.
        any_size: whether `make` takes a spec with free sides: the loop of a
            denoiser of images of any size is then that of all sizes.
        **options: hashable.

    Returns:
        what `make` returned, cached.
    """
    inputs = getattr(denoiser, "loop_inputs", ())
    ranks = tuple(value.shape.rank for value in inputs)
    owner, function = _owner_and_function(
        denoiser.denoiser if inputs else denoiser
    )

    shape = getattr(owner, "event_shape", None) if any_size else None
    spec = spec_of(x, shape)

    def build(reference):
        def denoise(x, sigma, *inputs):
            if function is None:
                return reference()(x, sigma)
            return function(reference(), x, sigma, *inputs)

        if not inputs:
            return make(denoise, spec, **options)

        def run(*values):
            own, args = values[: len(ranks)], values[len(ranks) :]
            loop = make(lambda x, s: denoise(x, s, *own), spec, **options)
            return loop(*args)

        return _for_any_rows(run, spec, len(ranks))

    settings = (*ranks, *sorted(options.items()))
    key = (function, make, *spec.shape[1:], x.dtype, *settings)
    loop = cached(owner, key, build)
    return functools.partial(loop, *inputs) if inputs else loop


def _for_any_rows(run, spec, place):
    """Compiles a function of tensors at its first call, for any rows.

    Args:
        run: the function.
        spec, place: `tf.TensorSpec` of one of its arguments, which may have
            free sides, and the place of this argument. Others keep the shapes
            of the first call, but for the rows.
    """
    made = {}

    def call(*values):
        values = [tf.convert_to_tensor(value) for value in values]
        if not made:
            specs = [
                tf.TensorSpec([None, *v.shape[1:]][: v.shape.rank], v.dtype)
                for v in values
            ]
            specs[place] = spec
            made["function"] = tf.function(
                run, input_signature=specs, autograph=False
            )
        if not tf.executing_eagerly():
            return made["function"](*values)
        if "concrete" not in made:
            # Traced explicitly, as TensorFlow would warn if several functions
            # that are made here were traced when called.
            made["concrete"] = made["function"].get_concrete_function()
        return made["concrete"](*values)

    return call


def _owner_and_function(denoiser):
    """Splits a method, of which Python makes a new object at each access."""
    method = getattr(denoiser, "denoise", denoiser)
    if inspect.ismethod(method):
        return method.__self__, method.__func__
    return method, None


def _reference(owner):
    try:
        return weakref.ref(owner)
    except TypeError:  # A builtin function, or an object with slots.
        return lambda: owner


def _functions_of(owner):
    variables = list(getattr(owner, "variables", ()))
    try:
        cache = _loops.get(owner)
        if cache is None or list(map(id, cache[0])) != list(map(id, variables)):
            cache = _loops[owner] = (variables, {})
    except TypeError:  # Not hashable, or not weakly referable.
        return {}
    return cache[1]
