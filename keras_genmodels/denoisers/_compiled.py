"""Evaluates a denoiser outside of graphs by compiled functions."""

import itertools

import tensorflow as tf

from keras_genmodels.core import loop_cache, private_api, replicas, xla
from keras_genmodels.core.events import spec_of

# Tracing a network takes as long as some five calls of its operations.
_CALLS_BEFORE = 4


def evaluate(denoiser, x, sigma, labels=None, guidance=None):
    """Returns `denoiser._extrapolate(x, sigma, labels, guidance)`.

    Operation by operation a U-Net costs more time on the host than its
    arithmetic takes on a GPU. The function is compiled once for each shape of
    events, or for images of any size, and for all batch sizes (XLA compiles
    each size and batch size), and freed with the model. Without XLA it is
    compiled only at the fifth call, and rounds as these operations do, except
    where oneDNN replaces some in graphs (float32 and lower, on processors with
    AVX512). In graphs, and for a model with `run_eagerly`, nothing is compiled.

    Args:
        denoiser: a `Denoiser`.
        x, sigma, labels, guidance: float tensors `[batch, ...]`, `[batch]`,
            integer `[batch]` and float `[batch]`; None for those that the
            denoiser lacks.
    """
    if x.shape[0] == 0:
        return tf.identity(x)
    args = (x, sigma, labels, guidance)
    if denoiser.run_eagerly or not _is_apart():
        return denoiser._extrapolate(*args)
    jit_compile = xla.resolve_loop("auto", denoiser)
    shape = None if jit_compile else denoiser.event_shape
    specs = spec_of(x, shape), *map(_spec, args[1:])
    calls = loop_cache.cached(
        denoiser, ("calls", evaluate, specs), lambda _: itertools.count()
    )
    if not jit_compile and next(calls) < _CALLS_BEFORE:
        return denoiser._extrapolate(*args)

    def build(reference):
        def run(*given):
            given = iter(given)
            return reference()._extrapolate(
                *(None if spec is None else next(given) for spec in specs)
            )

        compiled = tf.function(
            run,
            input_signature=[spec for spec in specs if spec is not None],
            jit_compile=jit_compile,
            autograph=False,
        )
        # Traced now, or TensorFlow would warn about tracing several models.
        return compiled.get_concrete_function()

    with private_api.without_rewriting():
        run = loop_cache.cached(denoiser, (evaluate, specs), build)
        return run(*(value for value in args if value is not None))


def _is_apart():
    """Returns whether a call is part of no graph, layer or replica.

    Within the call of a layer other layers inherit whether it is training.
    """
    return (
        tf.executing_eagerly()
        and not private_api.is_within_a_layer()
        and replicas.are_outside()
    )


def _spec(value):
    return None if value is None else spec_of(value)
