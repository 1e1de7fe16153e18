"""Residual blocks of convolutions."""

import keras

from keras_genmodels.networks.encoders import ACTIVATION, CHANNELS_LAST


@keras.saving.register_keras_serializable("keras_genmodels")
class ResidualBlock(keras.layers.Layer):
    """Adds two 3x3 convolutions of an image, with a SiLU between them, to it.

    The second one starts with small weights: a new block is nearly the
    identity, so that networks of many need no normalisation.

    Call arguments:
        x: float tensor `[batch, height, width, channels]`.

    Call returns:
        like `x`.

    #### References

    He, Zhang, Ren and Sun (2016), Deep residual learning for image
    recognition, arXiv:1512.03385. Zhang, Dauphin and Ma (2019), Fixup
    initialization, arXiv:1901.09321 (small weights in place of
    normalisation).
    """

    def build(self, input_shape):
        self._first = self._convolution(input_shape, ACTIVATION, 2.0)
        self._second = self._convolution(input_shape, None, 0.02)
        super().build(input_shape)

    def _convolution(self, input_shape, activation, scale):
        layer = keras.layers.Conv2D(
            input_shape[-1],
            3,
            padding="same",
            data_format=CHANNELS_LAST,
            activation=activation,
            kernel_initializer=keras.initializers.VarianceScaling(scale),
            dtype=self.dtype_policy,
        )
        layer.build(input_shape)
        return layer

    def call(self, x):
        return x + self._second(self._first(x))

    def compute_output_shape(self, input_shape):
        return input_shape
