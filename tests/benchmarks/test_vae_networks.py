"""The operations that benchmarks of VAEs count, against those by hand."""

import pytest
from support.app_runs import ROOT

import keras_genmodels as kgm

SHAPE = (28, 28, 1)


@pytest.fixture
def operations(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import vae_networks

    return vae_networks.operations


def test_gated_layers_have_two_products(operations):
    encoder = kgm.mlp_encoder(SHAPE, 80, (300, 300), gated=True)
    products = 2 * 784 * 300 + 2 * 300 * 300 + 300 * 80
    assert operations(encoder) == 2 * products


def test_convolutions_count_for_each_pixel(operations):
    encoder = kgm.conv_encoder((8, 8, 1), 6, filters=(2, 3), residual_blocks=0)
    decoder = kgm.conv_decoder(4, (8, 8, 1), filters=(2, 3), residual_blocks=0)
    for network in (encoder, decoder):
        by_hand = 0
        for layer in network.layers:
            if hasattr(layer, "kernel"):
                # A transposed convolution multiplies each pixel that it reads.
                is_transposed = "transpose" in type(layer).__name__.lower()
                sides = (layer.input if is_transposed else layer.output).shape
                pixels = sides[1] * sides[2] if len(sides) == 4 else 1
                by_hand += 2 * pixels * layer.kernel.shape.num_elements()
        assert operations(network) == by_hand
