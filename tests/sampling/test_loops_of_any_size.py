"""Loops over a denoiser of images of any size, traced once for all sizes."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.core.events import per_event
from keras_genmodels.sampling import immse
from keras_genmodels.sampling.density import MAX_EXACT_SIZE, probability_flow
from keras_genmodels.sampling.noisy_data import NoisyGaussian

pytestmark = pytest.mark.usefixtures("without_xla")

# With the exact trace of the Jacobian, and with its random estimate.
SMALL, LARGE = ((6, 5), (4, 9)), ((16, 17), (18, 15))


class Smoother:
    """Averages over neighbours; `traces` counts the graphs made of it."""

    sigma_range = (0.1, 1.0)

    def __init__(self, event_shape=(None, None, 1), needs_sigma=True):
        self.event_shape = event_shape
        self.needs_sigma = needs_sigma
        self.traces = 0

    def noisy_data(self, sigma, shape=None):
        return NoisyGaussian(tf.zeros(shape or self.event_shape), sigma)

    def denoise(self, x, sigma):
        self.traces += 1
        mean = tf.nn.avg_pool2d(x, 3, 1, "SAME")
        return mean if sigma is None else mean / (1 + per_event(sigma, x) ** 2)


def generate(denoiser, x, **settings):
    shape = x.shape[1:]
    return [kgm.generate(denoiser, shape, len(x), seed=1, **settings)]


def walk_by_levels(denoiser, x):
    return generate(denoiser, x, num_steps=4, trajectory=True)


def walk_with_noise(denoiser, x):
    return generate(denoiser, x, num_steps=4, solver="euler", stochasticity=0.5)


def walk_by_residual(denoiser, x):
    return generate(denoiser, x, num_steps=4, stochasticity=0.5)


def flow(denoiser, x):
    return probability_flow(denoiser, x, max_steps=16, seed=1)


def integral(denoiser, x):
    with mock.patch.object(immse, "_NUM_END_DRAWS", 2):
        return immse.integrate_errors(
            denoiser, x, num_levels=2, num_draws=2, seed=1
        )


@pytest.mark.parametrize(
    ("loop", "sizes"),
    [
        (walk_by_levels, SMALL),
        pytest.param(walk_with_noise, SMALL, marks=pytest.mark.slow),
        (walk_by_residual, SMALL),
        (flow, SMALL),
        pytest.param(flow, LARGE, marks=pytest.mark.slow),
        pytest.param(integral, SMALL, marks=pytest.mark.slow),
    ],
)
def test_a_second_size_is_not_traced_and_has_its_own_bits(loop, sizes):
    needs_sigma = loop is not walk_by_residual
    denoiser, traced = Smoother(needs_sigma=needs_sigma), None
    for size in sizes:
        shape = (*size, 1)
        assert (np.prod(shape) <= MAX_EXACT_SIZE) == (sizes is SMALL)
        x = np.random.default_rng(0).random((2, *shape), np.float32)
        found = loop(denoiser, x)
        assert denoiser.traces == (traced or denoiser.traces)
        traced = denoiser.traces
        for one, other in zip(
            found, loop(Smoother(shape, needs_sigma), x), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert traced
