"""The layers of a RealNVP: affine couplings of the entries of a vector."""

import keras
import numpy as np
import tensorflow as tf

# Largest absolute logarithm of the factor of one coupling.
_MAX_LOG_SCALE = 2.0


@keras.saving.register_keras_serializable("keras_genmodels")
class AffineCoupling(keras.layers.Layer):
    """Shifts and scales some entries of a vector by a network of the others.

        y_moved = (z_moved - shift(z_kept)) exp(-log_scale(z_kept))

    and y_kept = z_kept, so that the Jacobian is triangular and the inverse
    takes one evaluation of the network as well. The network is fully
    connected; its last layer starts at 0, and the coupling as the identity.

    Args:
        size: int >= 2, length of the vector.
        moved: indices of the entries that are shifted and scaled; at least
            one, and not all.
        hidden_sizes: widths of the hidden layers of the network.

    Call arguments:
        z: float tensor `[n, size]`.

    Call returns:
        y like z, and the log-determinant of dy / dz, `[n]`.

    #### References

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP,
    arXiv:1605.08803, equations 7 and 8.
    """

    def __init__(self, size, moved, hidden_sizes=(128, 128), **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.moved = [int(i) for i in moved]
        self.hidden_sizes = tuple(hidden_sizes)
        self._kept = [i for i in range(size) if i not in self.moved]
        # Where each entry of [kept, moved] came from, inverted.
        self._order = np.argsort([*self._kept, *self.moved])
        self._dense = [
            *(self._layer(n, "silu") for n in self.hidden_sizes),
            self._layer(2 * len(self.moved), kernel_initializer="zeros"),
        ]
        width = len(self._kept)
        for layer in self._dense:
            layer.build((None, width))
            width = layer.units
        self.built = True

    def _layer(self, units, activation=None, **kwargs):
        return keras.layers.Dense(
            units, activation, dtype=self.dtype_policy, **kwargs
        )

    def call(self, z):
        kept, moved, shift, log_scale = self._split(z)
        y = self._join(kept, (moved - shift) * tf.exp(-log_scale))
        return y, -tf.reduce_sum(log_scale, axis=-1)

    def inverse(self, y):
        """Returns the z that `call` maps to y."""
        kept, moved, shift, log_scale = self._split(y)
        return self._join(kept, moved * tf.exp(log_scale) + shift)

    def _split(self, z):
        """Returns kept and moved entries, and the network's output."""
        kept = tf.gather(z, self._kept, axis=-1)
        h = kept
        for layer in self._dense:
            h = layer(h)
        shift, raw = tf.split(h, 2, axis=-1)
        log_scale = _MAX_LOG_SCALE * tf.tanh(raw / _MAX_LOG_SCALE)
        return kept, tf.gather(z, self.moved, axis=-1), shift, log_scale

    def _join(self, kept, moved):
        joined = tf.concat([kept, moved], axis=-1)
        return tf.gather(joined, self._order, axis=-1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape), tuple(input_shape[:-1])

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "moved": self.moved,
            "hidden_sizes": self.hidden_sizes,
        }


def alternating(size, num):
    """Returns the indices of the entries that each coupling moves.

    In turn they are the second half, the first half, the odd and the even
    entries, so that each entry depends on every other one, some by way of a
    third.

    Args:
        size: int >= 2, length of the vector.
        num: int >= 1, number of couplings.

    Returns:
        list of `num` lists of ints.
    """
    entries, half = list(range(size)), size // 2
    patterns = (
        *(entries[half:], entries[:half]),
        *(entries[1::2], entries[::2]),
    )
    return [patterns[i % len(patterns)] for i in range(num)]
