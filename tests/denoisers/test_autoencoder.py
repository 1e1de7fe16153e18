"""The denoising autoencoder: preconditioning, loss, draws and denoising."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from support.small_autoencoders import (
    RANGE,
    SHAPE,
    Spy,
    compile_eagerly,
    events,
    kinds,
    make_dae,
    two_kinds,
)

import keras_genmodels as kgm


class Constant(keras.layers.Layer):
    """A network that returns the same number everywhere."""

    value = 0.0

    def call(self, inputs):
        x = inputs[0] if isinstance(inputs, list) else inputs
        return self.value + tf.zeros_like(x)


def make_constant(sigma=RANGE, **kwargs):
    """Returns a model of a constant network, and the spy on it."""
    spy = Spy(Constant())
    model = kgm.DenoisingAutoencoder(
        spy, sigma=sigma, event_shape=SHAPE, **kwargs
    )
    return model, spy


def skip_and_out(model, spy, x, sigma):
    """Returns D for a network that is 0, and c_out, from one that is 1."""
    model.run_eagerly = True
    spy.network.value = 0.0
    skip = model.denoise(x, sigma).numpy()
    spy.network.value = 1.0
    out = model.denoise(x, sigma).numpy() - skip
    spy.network.value = 0.0
    return skip, out


# Preconditioning.


@pytest.mark.parametrize("sigma", [RANGE, 0.3])
def test_d_is_the_wiener_filter_if_the_network_is_zero(float64, sigma):
    model, _ = make_constant(sigma)
    data = events()
    model.adapt(data)
    y, level = events(7, seed=1), 0.3
    mean, variance = data.mean(0), data.var(0).mean()
    expected = mean + variance / (variance + level**2) * (y - mean)
    np.testing.assert_allclose(model.denoise(y, level), expected, rtol=1e-10)
    np.testing.assert_allclose(model.data_mean, mean, rtol=1e-10)
    np.testing.assert_allclose(model.data_stddev, variance**0.5, rtol=1e-10)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 20.0])
def test_network_input_and_target_have_variance_1(float64, sigma):
    model, spy = make_constant()
    x = events(20000, seed=1)
    model.adapt(x)
    noise = np.random.default_rng(2).standard_normal(x.shape)
    y = x + sigma * noise
    skip, out = skip_and_out(model, spy, y, sigma)
    inputs, level = spy.inputs
    np.testing.assert_allclose(level, np.full(len(x), np.log(sigma) / 4))
    # 20000 rows of 6: a standard error below 0.01 even where most of the
    # variance is that of one entry.
    for values in (inputs.numpy(), (x - skip) / out):
        centred = values - values.mean(0)
        assert np.mean(centred**2) == pytest.approx(1, abs=0.03)
        np.testing.assert_allclose(values.mean(0), 0, atol=0.1)


def test_squared_errors_are_weighted_by_the_output_scale(float64):
    model, spy = make_constant()
    x = events()
    model.adapt(x)
    terms = model(x)
    _, out = skip_and_out(model, spy, x, terms["sigma"])
    np.testing.assert_allclose(
        terms["weighted_error"],
        terms["squared_error"] / out[:, 0, 0] ** 2,
        rtol=1e-10,
    )
    assert np.ptp(out) > 0.1


# The loss and its draws.


@pytest.mark.parametrize("num_draws", [1, 3])
def test_loss_at_one_level_is_the_mean_squared_error(float64, num_draws):
    """sum |x - D(x + sigma eps_k)|^2, averaged over draws k and events."""
    sigma, x = 0.3, events(30)
    spy = Spy(make_dae(sigma).network)
    model = kgm.DenoisingAutoencoder(
        spy, sigma=sigma, num_noise_draws=num_draws, event_shape=SHAPE
    )
    model.adapt(events())
    compile_eagerly(model)
    terms = model(x, training=True)
    scale = np.sqrt(model.data_stddev.numpy() ** 2 + sigma**2)
    noisy = model.data_mean.numpy() + scale * spy.inputs.numpy()
    noisy = noisy.reshape(num_draws, *x.shape)
    errors = [((model.denoise(y).numpy() - x) ** 2) for y in noisy]
    squares = np.sum(errors, (2, 3))
    expected = squares.mean(0)
    for name in ("squared_error", "weighted_error"):
        np.testing.assert_allclose(terms[name], expected, rtol=1e-8)
    psnr = -10 * np.log10(np.mean(errors, (2, 3))).mean(0)
    np.testing.assert_allclose(terms["psnr"], psnr, rtol=1e-8)
    noise = ((noisy - x) / sigma).ravel()
    assert scipy.stats.kstest(noise, "norm").pvalue > 0.01
    assert len(np.unique(noise.round(9))) == noise.size
    logs = model.train_on_batch(x, return_dict=True)
    assert logs["loss"] == pytest.approx(expected.mean(), rel=1e-6)


@two_kinds
def test_num_noise_draws_affects_training_only(kind, run_eagerly):
    x, results = events(), []
    for num_draws in (1, 4):
        model = make_dae(num_noise_draws=num_draws, **kind)
        model.compile(run_eagerly=run_eagerly)
        results.append(model.evaluate(x, verbose=0, return_dict=True))
        trained = model(x, training=True)
        assert trained["denoised"].shape == x.shape
        assert {v.shape[0] for v in trained.values()} == {len(x)}
    assert results[0] == results[1]


def uniform_place(sigma):
    """Returns the position of levels in log(RANGE), in [0, 1]."""
    lowest, highest = np.log(RANGE)
    return (np.log(sigma) - lowest) / (highest - lowest)


def test_levels_of_evaluation_are_log_uniform():
    place = uniform_place(make_dae()(events(3000))["sigma"])
    assert scipy.stats.kstest(place, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_levels_of_a_training_step_are_evenly_spaced():
    model = make_dae(num_noise_draws=3)
    model.compile()
    levels = tf.function(lambda x: model(x, training=True)["sigma"])
    first = []
    for step in range(200):
        model.optimizer.iterations.assign(step)
        place = uniform_place(levels(events(5)))
        first.append(place[0])
        # 15 levels per step; those of the first draws are neighbours.
        gaps = np.diff(np.sort(np.append(place, place.min() + 1)))
        np.testing.assert_allclose(np.sort(gaps)[:4], 1 / 15, atol=1e-4)
    assert scipy.stats.kstest(first, "uniform").pvalue > 0.01


@two_kinds
def test_evaluate_averages_predict_in_any_batch_and_order(kind, run_eagerly):
    model, x = make_dae(**kind), events()
    model.compile(run_eagerly=run_eagerly)
    terms = model.predict(x, batch_size=7, verbose=0)
    for batch_size, images in ((40, x), (16, x[::-1])):
        results = model.evaluate(
            images, batch_size=batch_size, verbose=0, return_dict=True
        )
        expected = {"loss": terms["weighted_error"]} | {
            name: terms[name] for name in ("squared_error", "psnr")
        }
        assert results.keys() == expected.keys()
        for name, value in expected.items():
            assert results[name] == pytest.approx(value.mean(), rel=1e-5)


@pytest.mark.slow
def test_training_draws_depend_on_seed_and_step(run_eagerly):
    def weights_after(seed):
        model = make_dae(seed=seed)
        model.compile(keras.optimizers.SGD(1e-3), run_eagerly=run_eagerly)
        model.fit(events(), batch_size=40, epochs=2, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    first = weights_after(0)
    np.testing.assert_array_equal(first, weights_after(0))
    assert np.abs(first - weights_after(1)).max() > 1e-6
    model = make_dae()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
    losses = model.fit(events(), batch_size=40, epochs=2, verbose=0)
    assert len({*losses.history["loss"]}) == 2
    other = make_dae(seed=1)(events())
    assert np.all(other["sigma"] != model(events())["sigma"])


def test_sample_weights_weight_the_events(run_eagerly):
    model, x = make_dae(), events(4)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
    terms = model(x, training=True)
    weight = np.array([0.0, 1.0, 0.0, 3.0], np.float32)
    logs = model.train_on_batch(x, sample_weight=weight, return_dict=True)
    expected = weight * terms["weighted_error"]
    assert logs["loss"] == pytest.approx(expected.numpy().mean(), rel=1e-5)
    expected = weight * terms["squared_error"] / weight.sum()
    assert logs["squared_error"] == pytest.approx(
        expected.numpy().sum(), rel=1e-5
    )


# Denoising.


@kinds
def test_noise_and_score_follow_from_denoise(float64, kind):
    model, y, sigma = make_dae(**kind), events(5), 0.3
    denoised = model.denoise(y, sigma).numpy()
    assert np.abs(denoised - y).max() > 1e-3
    np.testing.assert_allclose(model.noise(y, sigma), y - denoised)
    np.testing.assert_allclose(model.score(y, sigma), (denoised - y) / sigma**2)
    levels = np.full(5, sigma)
    np.testing.assert_allclose(model.denoise(y, levels), denoised)


def test_each_event_has_its_own_sigma(float64):
    model, y = make_dae(), events(3)
    levels = [0.1, 0.5, 2.0]
    each = [model.denoise(y[i : i + 1], s)[0] for i, s in enumerate(levels)]
    np.testing.assert_allclose(model.denoise(y, levels), each, rtol=1e-10)


def test_sigma_may_be_omitted_only_if_not_needed():
    y = events(5)
    model = make_dae()
    assert model.needs_sigma
    for method in (model.denoise, model.noise):
        with pytest.raises(ValueError, match="pass sigma"):
            method(y)
    single, blind = make_dae(0.3), make_dae(blind=True)
    for model in (single, blind):
        assert not model.needs_sigma
        np.testing.assert_array_equal(model.denoise(y), model.denoise(y, 0.9))
        np.testing.assert_array_equal(model.noise(y), y - model.denoise(y))
    np.testing.assert_array_equal(single.score(y), single.score(y, 0.3))
    for model in (make_dae(), blind):
        with pytest.raises(ValueError, match="needs sigma"):
            model.score(y)


def test_a_blind_bias_free_denoiser_is_homogeneous(float64):
    shape = (8, 8, 1)
    network = kgm.bias_free_unet(shape, (4, 8), blocks=1)
    rng = np.random.default_rng(0)
    network.set_weights(
        [0.3 * rng.standard_normal(w.shape) for w in network.get_weights()]
    )
    model = kgm.DenoisingAutoencoder(network, blind=True)
    model.adapt(rng.random((9, *shape)))
    y = rng.standard_normal((3, *shape))
    denoised = model.denoise(y).numpy()
    assert np.abs(denoised - y).max() > 0.1
    for factor in (1e-3, 0.5, 4.0):
        np.testing.assert_allclose(
            model.denoise(factor * y), factor * denoised, rtol=1e-9
        )
