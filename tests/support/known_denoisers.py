"""Denoisers of closed form, and events for them."""

import numpy as np
import tensorflow as tf

from keras_genmodels.core.class_labels import ClassLabels
from keras_genmodels.denoisers.base import Denoiser
from keras_genmodels.sampling.noisy_data import NoisyGaussian

# Rounding of some hundred steps in float64.
EXACT = {"rtol": 1e-11, "atol": 1e-13}

MEAN = np.array([0.5, -0.25, 0.125, 1.0])
VARIANCES = np.array([2.0, 0.5, 0.03, 0.0])
AXES = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0]

X = np.ones((2, 3), "float32")


class Gaussian(Denoiser):
    """The best denoiser of N(mean, axes diag(variances) axes')."""

    def __init__(self, mean=MEAN, variances=VARIANCES, axes=AXES):
        super().__init__()
        self.mean, self.variances, self.axes = mean, variances, axes

    event_shape = property(lambda self: self.mean.shape)
    data_mean = property(lambda self: tf.constant(self.mean, self.dtype))
    sigma_range = property(lambda self: (0.01, 4.0))

    def noisy_data(self, sigma):
        if self.axes is None:
            return super().noisy_data(sigma)
        return NoisyGaussian(self.data_mean, sigma, self.variances, self.axes)

    def _denoise(self, x, sigma):
        kept = self.variances / (self.variances + sigma[:, None] ** 2)
        if self.axes is None:
            return self.mean + kept * (x - self.mean)
        return self.mean + ((x - self.mean) @ self.axes * kept) @ self.axes.T


class Blind(Denoiser):
    """Multiplies coordinates by shares, at every noise level."""

    needs_sigma = False

    def __init__(self, shares, sigma_range=(0.01, 2.0)):
        super().__init__()
        self.shares, self._range = np.array(shares), sigma_range
        self.evaluations = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    event_shape = property(lambda self: self.shares.shape)
    data_mean = property(lambda self: tf.zeros(self.shares.shape, self.dtype))
    sigma_range = property(lambda self: self._range)

    def _denoise(self, x, sigma):
        self.evaluations.assign_add(1)
        return x * tf.constant(self.shares, x.dtype)


class ByLabel(Denoiser):
    """A denoiser of each label; the last one is that of "no label"."""

    def __init__(self, *denoisers):
        super().__init__()
        self.denoisers = denoisers
        self.num_classes, self.label_dropout = len(denoisers) - 1, 0.1
        self._labels = ClassLabels(self.num_classes, self.label_dropout)

    event_shape = property(lambda self: self.denoisers[0].event_shape)
    data_mean = property(lambda self: self.denoisers[0].data_mean)
    sigma_range = property(lambda self: self.denoisers[0].sigma_range)

    def _denoise(self, x, sigma, condition):
        found = [part.denoise(x, sigma) for part in self.denoisers]
        return tf.gather(tf.stack(found, 1), condition, batch_dims=1)


def halve(x, sigma):
    """A linear denoiser without a noise level."""
    return x / 2


def closed_form(start, shares, eta, num_steps):
    """Returns the iterates of a linear D, `[1 + num_steps, batch, M]`."""
    t = np.arange(num_steps + 1)[:, None, None]
    along = (start - MEAN) @ AXES
    factors = (1 - np.reshape(eta, (-1, 1)) * (1 - shares)) ** t
    return MEAN + (factors * along) @ AXES.T


def events(count, seed=0, scale=1.0):
    """Returns events `[count, 4]` away from the mean."""
    draws = np.random.default_rng(seed).normal(size=(count, len(MEAN)))
    return MEAN + scale * draws


class Halver:
    """An object with `denoise` that is no `Denoiser`."""

    def denoise(self, x, sigma):
        return x / 2
