"""Runs a signature on few images at a time, so that memory is bounded."""

import tensorflow as tf


def in_blocks(compute, max_pixels):
    """Returns a function that runs another on blocks of rows, in turn.

    Args:
        compute: function of a tensor `image`, `[batch, height, width,
            channels]`, and others `[batch, ...]`, by name, that returns a dict
            of tensors `[batch, ...]`. Rows do not depend on each other.
        max_pixels: int, the pixels of a block, unless one image has more.

    Returns:
        function of the same inputs and outputs.
    """

    def run(image, **others):
        size = tf.shape(image, out_type=tf.int64)
        rows = tf.maximum(max_pixels // (size[1] * size[2]), 1)
        inputs = {"image": image, **others}
        result = _outputs(compute, inputs)
        parts = {
            name: tf.TensorArray(
                spec.dtype,
                0,
                dynamic_size=True,
                infer_shape=False,
                element_shape=spec.shape,
            )
            for name, spec in result.items()
        }

        def step(start, number, parts):
            block = {k: x[start : start + rows] for k, x in inputs.items()}
            outputs = compute(**block)
            written = {
                k: it.write(number, outputs[k]) for k, it in parts.items()
            }
            return start + rows, number + 1, written

        _, _, parts = tf.while_loop(
            lambda start, *_: start < size[0],
            step,
            (tf.constant(0, tf.int64), 0, parts),
            parallel_iterations=1,
        )
        return {name: part.concat() for name, part in parts.items()}

    return run


def _outputs(compute, inputs):
    """Returns the `tf.TensorSpec` of each output, without computing it."""
    specs = {
        name: tf.TensorSpec([None, *x.shape[1:]], x.dtype)
        for name, x in inputs.items()
    }
    traced = tf.function(compute, autograph=False)
    return traced.get_concrete_function(**specs).structured_outputs
