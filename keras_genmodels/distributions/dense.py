"""Fully connected networks whose output starts at 0."""

import keras


def layers_from_zero(
    input_size, hidden_sizes, output_size, dtype, use_bias=True
):
    """Builds the layers of a network, the last one with weights of 0.

    Args:
        input_size: int, width of the input.
        hidden_sizes: widths of the hidden layers.
        output_size: int, width of the output.
        dtype: dtype policy of the layers.
        use_bias: whether the last layer has a bias.

    Returns:
        list of built `keras.layers.Dense`.
    """
    layers = [
        *(keras.layers.Dense(n, "silu", dtype=dtype) for n in hidden_sizes),
        keras.layers.Dense(
            output_size,
            use_bias=use_bias,
            kernel_initializer="zeros",
            dtype=dtype,
        ),
    ]
    width = input_size
    for layer in layers:
        layer.build((None, width))
        width = layer.units
    return layers


def apply(layers, x):
    """Applies layers one after the other."""
    for layer in layers:
        x = layer(x)
    return x
