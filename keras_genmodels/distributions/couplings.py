"""The layers of a RealNVP: affine couplings of the entries of a vector."""

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.distributions import dense

# Largest absolute logarithm of the factor of one coupling.
_MAX_LOG_SCALE = 2.0


@keras.saving.register_keras_serializable("keras_genmodels")
class AffineCoupling(keras.layers.Layer):
    """Shifts and scales some entries of a vector by a network of the others.

        y_moved = (z_moved - shift(z_kept)) exp(-log_scale(z_kept))

    and y_kept = z_kept, so that the Jacobian is triangular and the inverse
    takes one evaluation of the network as well. The network is fully
    connected; its last layer starts at 0, and the coupling as the identity.
    The features of a condition, if any, are a further input of the network.

    Args:
        size: int >= 2, length of the vector.
        moved: indices of the entries that are shifted and scaled; at least
            one, and not all.
        hidden_sizes: widths of the hidden layers of the network.
        condition_size: int >= 0, width of the features of a condition; 0: no
            condition.

    Call arguments:
        z: float tensor `[n, size]`.
        features: float tensor `[n, condition_size]`; None without a condition.

    Call returns:
        y like z, and the log-determinant of dy / dz, `[n]`.

    #### References

    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP,
    arXiv:1605.08803, equations 7 and 8.
    """

    def __init__(
        self, size, moved, hidden_sizes=(128, 128), condition_size=0, **kwargs
    ):
        super().__init__(**kwargs)
        self.size = size
        self.moved = [int(i) for i in moved]
        self.hidden_sizes = tuple(hidden_sizes)
        self.condition_size = condition_size
        self._kept = [i for i in range(size) if i not in self.moved]
        # Where each entry of [kept, moved] came from, inverted.
        self._order = np.argsort([*self._kept, *self.moved])
        self._dense = dense.layers_from_zero(
            len(self._kept) + condition_size,
            self.hidden_sizes,
            2 * len(self.moved),
            self.dtype_policy,
        )
        self.built = True

    def call(self, z, features=None):
        kept, moved, shift, log_scale = self._split(z, features)
        y = self._join(kept, (moved - shift) * tf.exp(-log_scale))
        return y, -tf.reduce_sum(log_scale, axis=-1)

    def inverse(self, y, features=None):
        """Returns the z that `call` maps to y."""
        kept, moved, shift, log_scale = self._split(y, features)
        return self._join(kept, moved * tf.exp(log_scale) + shift)

    def _split(self, z, features):
        """Returns kept and moved entries, and the network's output."""
        h = kept = tf.gather(z, self._kept, axis=-1)
        if features is not None:
            h = tf.concat([kept, features], axis=-1)
        shift, raw = tf.split(dense.apply(self._dense, h), 2, axis=-1)
        log_scale = _MAX_LOG_SCALE * tf.tanh(raw / _MAX_LOG_SCALE)
        return kept, tf.gather(z, self.moved, axis=-1), shift, log_scale

    def _join(self, kept, moved):
        joined = tf.concat([kept, moved], axis=-1)
        return tf.gather(joined, self._order, axis=-1)

    def compute_output_shape(self, z_shape, features_shape=None):
        return tuple(z_shape), tuple(z_shape[:-1])

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "moved": self.moved,
            "hidden_sizes": self.hidden_sizes,
            "condition_size": self.condition_size,
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
