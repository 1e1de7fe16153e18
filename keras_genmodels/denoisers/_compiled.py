"""Evaluates a denoiser outside of graphs by compiled functions."""

import tensorflow as tf

from keras_genmodels.core import loop_cache, private_api, replicas, xla


def evaluate(denoiser, x, sigma, labels=None, guidance=None):
    """Returns `denoiser._extrapolate(x, sigma, labels, guidance)`.

    Operation by operation a U-Net costs more time on the host than its
    arithmetic takes on a GPU. The function is compiled once for each shape of
    events, for all batch sizes (XLA compiles each), and freed with the model.
    Without XLA it rounds as these operations do. In graphs, and for a model
    with `run_eagerly`, nothing is compiled.

    Args:
        denoiser: a `Denoiser`.
        x, sigma, labels, guidance: float tensors `[batch, ...]`, `[batch]`,
            integer `[batch]` and float `[batch]`; None for those that the
            denoiser lacks.
    """
    args = (x, sigma, labels, guidance)
    if denoiser.run_eagerly or not _is_apart():
        return denoiser._extrapolate(*args)
    specs = tuple(map(_spec, args))
    jit_compile = xla.resolve_loop("auto", denoiser)

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
    if value is None:
        return None
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)
