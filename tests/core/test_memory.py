"""Sizes that depend on the device, and layers that bound them."""

import numpy as np
import pytest
import tensorflow as tf
from support.dense_posterior import adapted

import keras_genmodels as kgm
from keras_genmodels.core import memory, xla
from keras_genmodels.denoisers import _posterior_mean
from keras_genmodels.training import inputs


@pytest.fixture
def gpu(monkeypatch):
    """Makes code believe that there is a GPU, but XLA is not used."""
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: ["GPU"])
    monkeypatch.setattr(xla, "should_compile", lambda _=None: False)


def make_vae(width=8):
    posterior = kgm.MultivariateNormalDiag(2)
    likelihood = kgm.IndependentBernoulli((4, 4, 1))
    return kgm.VAE(
        kgm.mlp_encoder((4, 4, 1), posterior.params_size, (8,)),
        kgm.mlp_decoder(2, likelihood.params_shape, (width,)),
        posterior,
        likelihood,
    )


def test_a_cpu_decodes_2000_draws_at_once():
    assert memory.draws_at_once(make_vae(), 10**6) == 2000
    assert inputs.chunk_size(make_vae()) == 2000


@pytest.mark.parametrize(
    ("needed", "width", "draws"),
    [
        (None, 8, 100_000),
        (10**6, 8, 100_000),
        (10**6, 2**15, 2**14),
        (5000, 8, 8192),
        (100, 8, 2000),
        # 2 GiB of activations are the limit for images of any width.
        (10**6, 2**19, 1024),
    ],
)
def test_a_gpu_decodes_more_draws_if_needed(gpu, needed, width, draws):
    assert memory.draws_at_once(make_vae(width), needed) == draws


def test_the_bound_is_the_same_in_larger_chunks(monkeypatch, gpu):
    model = make_vae()
    x = np.random.default_rng(0).integers(0, 2, (3, 4, 4, 1))
    x = x.astype(np.float32)
    found = kgm.log_likelihood(model, x, num_samples=1000, jit_compile=False)
    monkeypatch.undo()
    expected = kgm.log_likelihood(model, x, num_samples=1000, jit_compile=False)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_exact_denoiser_reads_larger_blocks_on_a_gpu(monkeypatch, gpu):
    rng = np.random.default_rng(0)
    denoiser = adapted(rng.integers(0, 256, (5000, 2, 2, 1)).astype(np.uint8))
    x, sizes = rng.random((3, 2, 2, 1), np.float32), []
    kind = type(denoiser._event_set())
    block = kind._block

    def recorded(self, start, size, dtype):
        sizes.append(size)
        return block(self, start, size, dtype)

    monkeypatch.setattr(kind, "_block", recorded)
    found = []
    for largest in (5000, 4096):
        _posterior_mean._compiled.cache_clear()
        sizes.clear()
        found.append(denoiser.denoise(x, 0.1))
        assert max(sizes) == largest // 16 * 16
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: [])
    _posterior_mean._compiled.cache_clear()
    np.testing.assert_allclose(*found, rtol=1e-5)
