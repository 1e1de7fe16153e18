"""Eager calls of a learned denoiser, which run a compiled function."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.labelled_denoisers import tiny
from support.small_autoencoders import RANGE, events, make_dae

import keras_genmodels as kgm
from keras_genmodels.core import xla
from keras_genmodels.denoisers import _compiled
from keras_genmodels.sampling.restoration import denoise_once

SIGMA = np.float32([0.1, 0.5, 2.0])
# oneDNN replaces operations of graphs in lower precision, where it is in use.
in_float64 = pytest.mark.usefixtures("float64")


@pytest.fixture(autouse=True)
def from_the_first_call(monkeypatch):
    """Compiles at the first call."""
    monkeypatch.setattr(_compiled, "_CALLS_BEFORE", 0)


@pytest.fixture
def traces(monkeypatch):
    """Returns a list of the rows of x whenever D is computed or traced."""
    found = []
    original = kgm.DenoisingAutoencoder._denoise

    def denoise(self, x, *args):
        found.append(x.shape[0])
        return original(self, x, *args)

    monkeypatch.setattr(kgm.DenoisingAutoencoder, "_denoise", denoise)
    return found


def eagerly(model, *args, **kwargs):
    model.run_eagerly = True
    found = model.denoise(*args, **kwargs)
    model.run_eagerly = False
    return found


@in_float64
def test_one_trace_serves_all_batches_and_weights(traces):
    model = make_dae()
    for rows in (3, 1, 2):
        x, sigma = events(rows), SIGMA[:rows]
        found = model.denoise(x, sigma)
        assert traces == [None]
        np.testing.assert_array_equal(found, eagerly(model, x, sigma))
        assert traces.pop() == rows
        model.network.set_weights(
            [1.5 * value for value in model.network.get_weights()]
        )
        model.adapt(2 * events())
    model.noise(x, sigma)
    model.score(x, sigma)
    assert traces == [None]


@in_float64
def test_the_first_calls_are_not_worth_a_trace(traces, monkeypatch):
    monkeypatch.setattr(_compiled, "_CALLS_BEFORE", 2)
    model = make_dae()
    found = [model.denoise(events(3), SIGMA).numpy() for _ in range(4)]
    assert traces == [3, 3, None]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_no_rows_are_computed_without_a_call(traces):
    shape = (8, 8, 1)
    model = kgm.DenoisingAutoencoder(
        kgm.unet(shape, filters=(4,), blocks=1), sigma=RANGE
    )
    model.adapt(np.random.default_rng(0).random((2, *shape)))
    found = model.denoise(np.zeros((0, *shape), np.float32), SIGMA[:0])
    assert found.shape == (0, *shape)
    assert found.dtype == tf.float32
    assert traces == []


@in_float64
def test_a_convolutional_network_computes_the_same_bits():
    shape = (8, 8, 1)
    model = kgm.DenoisingAutoencoder(
        kgm.unet(shape, filters=(4, 8), blocks=1),
        sigma=RANGE,
    )
    x = np.random.default_rng(0).random((3, *shape), np.float32)
    model.adapt(x)
    for weight in model.network.trainable_weights:
        weight.assign(weight + 0.1)
    found = model.denoise(x, SIGMA)
    np.testing.assert_array_equal(found, eagerly(model, x, SIGMA))


@pytest.mark.usefixtures("without_xla")
def test_one_trace_serves_images_of_any_size(traces):
    """Also in the loop of `restore`; the bits are those of each size alone."""
    network = kgm.bias_free_unet((None, None, 1), (2, 3), blocks=1)
    model = kgm.DenoisingAutoencoder(network, sigma=RANGE, blind=True)
    model.adapt(np.random.default_rng(0).random((3, 8, 8, 1), np.float32))
    pictures = [
        np.random.default_rng(0).random((1, *size, 1), np.float32)
        for size in ((8, 8), (15, 3))
    ]
    found = [model.denoise(x, 0.5) for x in pictures]
    once = [denoise_once(model, x, 0.5) for x in pictures]
    assert traces == [None, None]
    for x, *alike in zip(pictures, found, once, strict=True):
        assert alike[0].shape == alike[1].shape == x.shape
        expected = eagerly(model, x, 0.5)
        np.testing.assert_array_equal(alike[0], expected)
        np.testing.assert_allclose(alike[1], expected, rtol=1e-5, atol=1e-6)


@in_float64
def test_gradients_by_x_sigma_and_weights():
    model = make_dae()

    def gradients(denoise):
        x, sigma = tf.constant(events(3)), tf.constant(SIGMA)
        with tf.GradientTape() as tape:
            tape.watch([x, sigma])
            loss = tf.reduce_sum(tf.square(denoise(model, x, sigma)))
        return tape.gradient(loss, [x, sigma, *model.trainable_weights])

    found = gradients(kgm.DenoisingAutoencoder.denoise)
    for gradient, expected in zip(found, gradients(eagerly), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@in_float64
def test_labels_and_guidance_are_arguments(traces):
    model = tiny()
    x = np.random.default_rng(0).standard_normal((3, *model.event_shape))
    x = x.astype(np.float32)
    for condition, guidance in [(0, 0.0), (None, 0.0), ([1, 0, 1], 1.5)]:
        args = x, SIGMA, condition, guidance
        expected = eagerly(model, *args)
        np.testing.assert_array_equal(model.denoise(*args), expected)
    # Without guidance and, by two evaluations, with it.
    assert traces.count(None) == 3
    model.denoise(x, SIGMA, 1, tf.constant([0.0, 1.0, 2.0]))
    assert traces.count(None) == 3
    with pytest.raises(ValueError, match="labels must be 0 to 1"):
        model.denoise(x, SIGMA, 99)


def test_within_a_layer_nothing_is_compiled(traces):
    """There the network inherits whether the layer is training."""
    model = make_dae()

    class Outer(keras.layers.Layer):
        def call(self, x):
            return model.denoise(x, 0.5)

    Outer()(tf.constant(events(3)), training=True)
    assert traces == [3]


def test_data_are_not_looked_for_at_each_call(monkeypatch):
    model = make_dae()
    model.denoise(events(3), 0.5)
    kind = kgm.DenoisingAutoencoder
    monkeypatch.setattr(kind, "adapted", property(lambda _: 1 / 0))
    model.denoise(events(3), 0.5)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has no data yet"):
        make_dae(adapted=False).denoise(events(3), 0.5)


def test_the_function_is_freed_with_its_denoiser():
    model = make_dae()
    model.denoise(events(3), 0.5)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_xla_compiles_it_where_it_compiles_loops(monkeypatch):
    settings = []
    function = tf.function

    def spy(*args, **kwargs):
        settings.append(kwargs.pop("jit_compile"))
        return function(*args, **kwargs)

    monkeypatch.setattr(_compiled.tf, "function", spy)
    for expected in (False, True):
        monkeypatch.setattr(xla, "should_compile", lambda _, it=expected: it)
        make_dae().denoise(events(3), 0.5)
    assert settings == [False, True]
