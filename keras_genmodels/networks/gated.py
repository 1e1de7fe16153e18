"""Gated dense layers."""

import keras
import tensorflow as tf

from keras_genmodels.core.validation import check_count


@keras.saving.register_keras_serializable("keras_genmodels")
class GatedDense(keras.layers.Layer):
    """A dense layer times a sigmoid one: (W x + b) sigmoid(V x + c).

    W and V are the halves of one kernel, each with the initial values of a
    dense layer of its own.

    Args:
        units: int >= 1, size of the output.

    Call arguments:
        x: float tensor `[batch, n]`.

    Call returns:
        float tensor `[batch, units]`.

    #### References

    Dauphin, Fan, Auli and Grangier (2017), Language modeling with gated
    convolutional networks, arXiv:1612.08083, equation 1.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        check_count("units", units)
        self.units = units
        self.dense = None

    def build(self, input_shape):
        width = input_shape[-1]
        self.dense = keras.layers.Dense(
            2 * self.units,
            # Glorot's for `units` outputs, not for twice as many.
            kernel_initializer=keras.initializers.VarianceScaling(
                (width + 2 * self.units) / (width + self.units),
                "fan_avg",
                "uniform",
            ),
            dtype=self.dtype_policy,
            name="dense",
        )
        self.dense.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        value, gate = tf.split(self.dense(x), 2, axis=-1)
        return value * tf.sigmoid(gate)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "units": self.units}
