"""The denoising autoencoder."""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import as_float
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.events import event_batches, per_event
from keras_genmodels.core.file_format import FORMAT, check_format
from keras_genmodels.core.self_supervised import SelfSupervised
from keras_genmodels.core.validation import check_count
from keras_genmodels.denoisers.base import Denoiser


@keras.saving.register_keras_serializable("keras_genmodels")
class DenoisingAutoencoder(SelfSupervised, Denoiser):
    """A network trained to take Gaussian noise off.

    `denoise` is what it is for. Calling the model, as `fit`, `evaluate` and
    `predict` do, is training's: it puts noise onto clean events and takes it
    off again.

    It is trained on pairs of x and x + sigma eps, eps ~ N(0, I), `copies` for
    each event and step, at one level or with sigma drawn log-uniformly from a
    range. The cost is the lecture's, sum |x - D(x + sigma eps)|^2; over a
    range, squares are weighted by 1 / c_out(sigma)^2, so that no level drowns
    the others. With m the data's mean, s^2 their variance about it (averaged
    over the entries of an event), and a network F,

    - D(x, sigma) = m + c_skip (x - m) + c_out F(c_in (x - m), ln(sigma) / 4),
      c_skip = s^2 / (s^2 + sigma^2), c_out = sigma s / (s^2 + sigma^2)^(1/2),
      c_in = 1 / (s^2 + sigma^2)^(1/2): F's input and target have variance 1
      at every level. For a range of sigma.
    - The same with sigma fixed, and F of the first argument alone: for a
      single sigma. Such a model takes every x to be of that level.
    - D(x) = x - F(x): `blind`, for a range that the network is not told. With
      a network without additive constants D(a x) = a D(x).

    m and s are taken from the data by `adapt`, or by `fit` if need be. `fit`
    and `evaluate` take clean events alone; `evaluate` reports `loss`,
    `squared_error` (sum of squares per event) and `psnr` (in dB, of values in
    [0, 1]), all averaged over the levels that it was made for.

    Args:
        network: Keras network, `[batch, *event_shape]` to the same shape; for
            a range of sigma, unless `blind`, a list of that and `[batch]`,
            ln(sigma) / 4, to the first one's shape.
        sigma: level > 0 to train at, or `(lowest, highest)`; in units of x.
        blind: whether the network is not told sigma of a range.
        copies: noisy copies of each event per training step, >= 1; the loss
            is their mean.
        event_shape: shape of one event; None where the network has an
            `input_shape` to read it from.
        seed: int in [0, 2**31). Training draws from (seed, step), `evaluate`
            and `predict` from (seed, values of the event).
        name: name of the model.

    Call arguments:
        x: float tensor `[batch, *event_shape]`, clean; or uint8, read as
            value / 255.
        training: whether to draw from (seed, step), the step being that of
            the compiled optimizer.

    Call returns:
        dict of float tensors: `denoised` `[batch, *event_shape]`, D of a
        noisy copy; `sigma` `[batch]`, its level; and the means over copies
        `weighted_error`, `squared_error` and `psnr` `[batch]`.

    Raises:
        UserError, a ValueError: if the pieces do not fit together, for a bad
            argument, and for events of another shape or of integer type.

    #### References

    Vincent (2011), A connection between score matching and denoising
    autoencoders, Neural Computation 23. Karras et al. (2022), Elucidating the
    design space of diffusion-based generative models, arXiv:2206.00364,
    equation 7 and table 1. Mohan et al. (2020), Robust and interpretable
    blind image denoising via bias-free convolutional neural networks, ICLR.
    """

    def __init__(
        self,
        network,
        sigma=(0.05, 1.5),
        blind=False,
        copies=1,
        event_shape=None,
        seed=0,
        name=None,
    ):
        super().__init__(name=name)
        self.sigma = _as_range(sigma)
        if blind and self.sigma[0] == self.sigma[1]:
            raise UserError(
                f"blind goes with a range of sigma, got {self.sigma[0]} alone"
            )
        check_count("copies", copies)
        seeds.as_seed(seed)
        self.network = network
        self.blind = blind
        self.copies = copies
        self.seed = seed
        self._event_shape = _event_shape(network, event_shape)
        shape = self._event_shape
        self._mean = self._constant("data_mean", shape)
        self._variance = self._constant("data_variance", ())
        self._build_network()
        self._track("squared_error", "psnr")
        self.built = True

    @property
    def event_shape(self):
        """Shape of one event."""
        return self._event_shape

    @property
    def data_mean(self):
        """Mean of the data, float tensor `[*event_shape]`."""
        return tf.convert_to_tensor(self._mean)

    @property
    def data_stddev(self):
        """Deviation of the data about their mean, float scalar tensor."""
        return tf.sqrt(tf.convert_to_tensor(self._variance))

    @property
    def sigma_range(self):
        """`(lowest, highest)` noise level that it was trained at."""
        return self.sigma

    @property
    def needs_sigma(self):
        """Whether its network has to be told the noise level."""
        return not self.blind and self.sigma[0] != self.sigma[1]

    @property
    def adapted(self):
        """Whether it knows the mean and the variance of the data."""
        with tf.init_scope():
            return bool(self._variance.numpy() > 0)

    def adapt(self, data):
        """Takes mean and variance from the data, in one pass.

        Args:
            data: array `[n, *event_shape]` or a finite `tf.data.Dataset` of
                batches of such, or of dicts with a batch under `image`;
                floating, or uint8, read as value / 255.

        Raises:
            UserError: if there are no data, or none that differ, or if they
                are not finite or of another shape.
        """
        # Sums about the first event: they are exact where nothing differs,
        # and don't cancel where the mean is large.
        count, total, squares, first = 0, 0.0, 0.0, None
        for batch in event_batches(data):
            if batch.shape[1:] != self.event_shape:
                raise UserError(
                    f"the network is for events of {self.event_shape}, adapt "
                    f"got such of {batch.shape[1:]}"
                )
            values = as_float(batch, "float64")
            first = values[0] if first is None else first
            values = values - first
            count += len(values)
            total = total + values.sum(0)
            squares = squares + (values**2).sum(0)
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0).mean()
        if not variance > 0:
            raise UserError("adapt got data that are all the same")
        self._mean.assign(first + mean)
        self._variance.assign(variance)

    def fit(self, x=None, *args, **kwargs):
        """Trains as Keras' `fit` does, after `adapt(x)` if that is missing."""
        if not self.adapted:
            self.adapt(x)
        return super().fit(x, *args, **kwargs)

    def call(self, x, training=False):
        x = self._as_events(_as_floatx(x))
        copies = self.copies if training else 1
        x = tf.tile(x, (copies,) + (1,) * (x.shape.rank - 1))
        sigma, eps = self._draws(x, training)
        denoised = self._denoise(x + per_event(sigma, x) * eps, sigma)
        axes = list(range(1, x.shape.rank))
        squares = tf.reduce_sum((denoised - x) ** 2, axes)
        peak = math.prod(self.event_shape)
        terms = {
            "weighted_error": squares * self._weight(sigma),
            "squared_error": squares,
            "psnr": 10 / math.log(10) * tf.math.log(peak / squares),
        }
        terms = {
            name: tf.reduce_mean(tf.reshape(value, (copies, -1)), axis=0)
            for name, value in terms.items()
        }
        count = tf.shape(x)[0] // copies
        return {"denoised": denoised[:count], "sigma": sigma[:count], **terms}

    def get_config(self):
        """Returns the constructor's arguments and the format of the file."""
        return {
            "name": self.name,
            "format": FORMAT,
            "network": keras.saving.serialize_keras_object(self.network),
            "sigma": self.sigma,
            "blind": self.blind,
            "copies": self.copies,
            "event_shape": self.event_shape,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the model from `get_config`.

        Raises:
            ValueError: if the file was written by a newer format.
        """
        config = check_format(config)
        config["network"] = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**config)

    def _check_adapted(self):
        if not self.adapted:
            raise UserError(
                "this DenoisingAutoencoder knows no data yet: call "
                "adapt(data) or fit(data) first"
            )

    def _denoise(self, x, sigma):
        if self.blind:
            return x - self._run_network(x)
        told = self.needs_sigma
        if not told:
            sigma = tf.fill(
                tf.shape(x)[:1], tf.constant(self.sigma[0], x.dtype)
            )
        level = per_event(sigma, x)
        mean, variance = self._constants(x)
        total = variance + level**2
        centered = x - mean
        scaled = centered / tf.sqrt(total)
        estimate = self._run_network(
            [scaled, tf.math.log(sigma) / 4] if told else scaled
        )
        out = level * tf.sqrt(variance / total)
        return mean + variance / total * centered + out * estimate

    def _run_network(self, inputs):
        return tf.cast(self.network(inputs), self.variable_dtype)

    def _constants(self, x):
        return tf.cast(self._mean, x.dtype), tf.cast(self._variance, x.dtype)

    def _weight(self, sigma):
        """Gives the weight of squares: 1 / c_out^2, or 1 at a single level."""
        if self.sigma[0] == self.sigma[1]:
            return tf.ones_like(sigma)
        variance = tf.cast(self._variance, sigma.dtype)
        return (variance + sigma**2) / (variance * sigma**2)

    def _draws(self, x, training):
        """Draws a level and noise for each row of x."""
        dtype = self.variable_dtype
        if training:
            seed = self._step_seed()
            eps = tf.random.stateless_normal(tf.shape(x), seed, dtype=dtype)
            # Spread evenly, over the batch and over the copies of an event:
            # the mix of levels then varies less from step to step.
            count = tf.shape(x)[0]
            first = tf.random.stateless_uniform(
                [], seeds.fold_in(seed, 1), dtype=dtype
            )
            row = tf.cast(tf.range(count), dtype) / tf.cast(count, dtype)
            uniform = tf.math.floormod(first + row, 1)
        else:
            rows = seeds.content_seeds(self.seed, x)
            eps = seeds.normal(rows, self.event_shape, dtype)
            uniform = seeds.uniform(seeds.fold_in(rows, 1), dtype)
        lowest, highest = map(math.log, self.sigma)
        return tf.exp(lowest + uniform * (highest - lowest)), eps

    def _per_example_loss(self, terms, training):
        return terms["weighted_error"]

    def _per_example_metrics(self, terms):
        return {name: terms[name] for name in ("squared_error", "psnr")}

    def _constant(self, name, shape):
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", trainable=False
        )

    def _build_network(self):
        """Builds the network's weights and checks the shape of its output."""
        shape, dtype = (1, *self.event_shape), self.variable_dtype
        inputs = tf.zeros(shape, dtype)
        if self.needs_sigma:
            inputs = [inputs, tf.zeros((1,), dtype)]
        try:
            output = self.network(inputs)
        except (TypeError, ValueError) as error:
            what = "[events, levels]" if self.needs_sigma else "events alone"
            raise UserError(
                f"the network must take {what}, events of {self.event_shape}, "
                f"for sigma={self.sigma} and blind={self.blind}, but: {error}"
            ) from error
        if tuple(output.shape) != shape:
            raise UserError(
                f"the network turns events of {self.event_shape} into such of "
                f"{tuple(output.shape[1:])}; a denoiser keeps the shape"
            )


def _as_floatx(x):
    x = tf.convert_to_tensor(x)
    return as_float(x, keras.config.floatx()) if x.dtype == tf.uint8 else x


def _as_range(sigma):
    """Reads a level or a range as `(lowest, highest)`."""
    levels = np.atleast_1d(np.asarray(sigma, np.float64))
    if (
        levels.shape not in ((1,), (2,))
        or not np.all((levels > 0) & np.isfinite(levels))
        or levels[0] > levels[-1]
    ):
        raise UserError(
            f"sigma must be a level > 0 or (lowest, highest), got {sigma!r}"
        )
    return float(levels[0]), float(levels[-1])


def _event_shape(network, given):
    """Gives the shape of one event that the network takes."""
    if given is not None:
        return tuple(given)
    shape = getattr(network, "input_shape", None)
    if isinstance(shape, list):
        shape = shape[0]
    if not shape or None in shape[1:]:
        raise UserError("the network tells no input shape: give event_shape")
    return tuple(shape[1:])
