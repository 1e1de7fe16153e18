"""What a denoising autoencoder takes: data, arguments, levels, networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_autoencoders import (
    SHAPE,
    compile_eagerly,
    covariance_of,
    events,
    kinds,
    make_dae,
    make_network,
)

import keras_genmodels as kgm
from keras_genmodels.denoisers import _principal_axes

# Data.


def test_adapt_takes_arrays_and_data_sets(float64):
    values = np.random.default_rng(0).integers(0, 256, (50, *SHAPE), np.uint8)
    scaled = values / 255
    batches = tf.data.Dataset.from_tensor_slices(values).batch(7)
    model = make_dae(adapted=False)
    assert not model.adapted
    for data in (
        scaled,
        values,
        batches,
        batches.map(lambda batch: {"image": batch, "label": 0}),
    ):
        model.adapt(data)
        assert model.adapted
        np.testing.assert_allclose(model.data_mean, scaled.mean(0))
        np.testing.assert_allclose(
            model.data_stddev, scaled.var(0).mean() ** 0.5
        )
        model.adapt(events())


def test_adapt_does_not_cancel_where_the_mean_is_large(float64):
    model, x = make_dae(adapted=False), events(50) + 1e7
    model.adapt(x)
    np.testing.assert_allclose(
        model.data_stddev, x.var(0).mean() ** 0.5, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, *SHAPE)), "no data"),
        (np.full((5, *SHAPE), np.nan), "not finite"),
        (np.full((7, *SHAPE), 0.1), "all the same"),
        (np.zeros((5, 4)), r"events of \(3, 2\), adapt got \(4,\)"),
        (np.zeros((5, *SHAPE), np.int64), "floating data or uint8"),
        (None, "takes batches"),
    ],
)
def test_adapt_and_fit_refuse_bad_data(data, message):
    model = make_dae(adapted=False)
    for use in (model.adapt, model.fit):
        with pytest.raises(ValueError, match=message):
            use(data)
    assert not model.adapted


def test_adapt_and_fit_refuse_other_targets():
    model = make_dae(adapted=False)
    data = tf.data.Dataset.from_tensor_slices((events(3), np.eye(3))).batch(3)
    with pytest.raises(ValueError, match="batches of events"):
        model.adapt(data)
    with pytest.raises(ValueError, match="without targets"):
        model.fit(data)
    assert not model.adapted


@kinds
def test_denoising_before_adapt_is_refused(kind):
    model, y = make_dae(adapted=False, **kind), events(5)
    compile_eagerly(model)
    for use in (
        lambda y: model.denoise(y, 0.3),
        lambda y: model.score(y, 0.3),
        lambda y: model.evaluate(y, verbose=0),
        model,
    ):
        with pytest.raises(ValueError, match=r"adapt\(data\)"):
            use(y)


def test_fit_adapts_once(run_eagerly):
    model, x = make_dae(adapted=False), events()
    model.compile(run_eagerly=run_eagerly)
    model.fit(x, verbose=0)
    np.testing.assert_allclose(model.data_mean, x.mean(0), rtol=1e-5)
    model.fit(x + 1, verbose=0)
    np.testing.assert_allclose(model.data_mean, x.mean(0), rtol=1e-5)


# Bad arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0.0}, "level > 0"),
        ({"sigma": (0.1, np.inf)}, "level > 0"),
        ({"sigma": (2.0, 1.0)}, "lowest, highest"),
        ({"sigma": (0.1, 0.2, 0.3)}, "lowest, highest"),
        ({"sigma": 0.1, "blind": True}, "blind requires a range"),
        ({"num_noise_draws": 0}, "num_noise_draws must be an int >= 1, got 0"),
        ({"num_noise_draws": 1.5}, "num_noise_draws must be an int"),
        ({"seed": -1}, "seed must be"),
        ({"sigma": 0.1}, "must take only events"),
        ({"blind": True}, "must take only events"),
        ({"event_shape": (4,)}, r"events of \(4,\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    network = kgm.mlp_denoiser(SHAPE, hidden_sizes=(4,))
    with pytest.raises(ValueError, match=message):
        kgm.DenoisingAutoencoder(network, **arguments)


def test_unsuitable_networks_are_refused():
    unconditional = make_network(noise_conditional=False)
    with pytest.raises(ValueError, match=r"must take \[events, levels\]"):
        kgm.DenoisingAutoencoder(unconditional)
    wide = keras.Sequential([keras.Input(SHAPE), keras.layers.Dense(5)])
    with pytest.raises(
        ValueError, match=r"3, 2\], got float32 \[batch, 3, 5\]"
    ):
        kgm.DenoisingAutoencoder(wide, sigma=0.1)
    unknown = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="pass event_shape"):
        kgm.DenoisingAutoencoder(unknown, sigma=0.1)


@pytest.mark.parametrize(
    ("x", "sigma", "message"),
    [
        (np.zeros((2, 3), np.float32), 0.1, r"\[batch, 3, 2\], got \(2, 3\)"),
        (np.zeros((2, *SHAPE), np.uint8), 0.1, "uint8 / 255"),
        (np.zeros((2, *SHAPE), np.float32), 0.0, "sigma must be > 0"),
        (np.zeros((2, *SHAPE), np.float32), np.nan, "sigma must be > 0"),
        (np.zeros((2, *SHAPE), np.float32), [0.1] * 3, r"scalar or \[batch\]"),
    ],
)
def test_bad_events_and_levels_are_refused(x, sigma, message):
    model = make_dae()
    for use in (model.denoise, model.noise, model.score):
        with pytest.raises(ValueError, match=message):
            use(x, sigma)


def test_targets_and_other_losses_are_refused():
    model, x = make_dae(), events()
    compile_eagerly(model)
    with pytest.raises(ValueError, match=r"fit\(x\), not fit\(x, y\)"):
        model.fit(x, np.zeros(len(x)), verbose=0)
    for name in ("loss", "metrics"):
        with pytest.raises(ValueError, match=f"its own loss .* without {name}"):
            make_dae().compile(**{name: "mse"})
    with pytest.raises(ValueError, match="compile first"):
        make_dae()(x, training=True)


def test_generating_starts_with_the_covariance_of_the_data(tmp_path):
    model = make_dae()
    data = events().reshape(-1, 6)
    expected = np.cov(data.T, bias=True)
    found = covariance_of(model.noisy_data(1.0))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(covariance_of(copy.noisy_data(1.0)), found)


@pytest.mark.parametrize("max_exact", [1024, 0])
def test_most_axes_of_the_data_are_pooled(monkeypatch, max_exact):
    monkeypatch.setattr(_principal_axes, "_MAX_EXACT", max_exact)
    rng = np.random.default_rng(0)
    scales = np.geomspace(3, 0.01, 300)
    data = (1000 + rng.standard_normal((2000, 300)) * scales).astype("f4")
    covariance = np.cov(data.T.astype("f8"), bias=True)
    found = _principal_axes.moments([data[:700], data[700:]], 64)
    expected = np.linalg.eigvalsh(covariance)[::-1]
    axes = found.eigenvectors
    np.testing.assert_allclose(axes.T @ axes, np.eye(64), atol=1e-10)
    np.testing.assert_allclose(found.eigenvalues, expected[:64], rtol=1e-3)
    np.testing.assert_allclose(
        np.diag(axes.T @ covariance @ axes), expected[:64], rtol=1e-3
    )
    np.testing.assert_allclose(found.remainder, expected[64:].mean(), rtol=1e-2)
    np.testing.assert_allclose(found.variance, np.diag(covariance).mean())
