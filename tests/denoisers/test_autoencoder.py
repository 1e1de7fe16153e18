"""The denoising autoencoder: preconditioning, loss, draws and learning."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.denoisers import _principal_axes

SHAPE = (3, 2)
RANGE = (0.05, 1.5)
MEAN = np.array([[0.2, 3.0], [-1.0, 0.5], [0.0, 8.0]])
STDDEV = np.array([[0.5, 2.0], [1.0, 0.1], [0.3, 0.7]])


def events(n=40, seed=0):
    noise = np.random.default_rng(seed).standard_normal((n, *SHAPE))
    dtype = keras.config.dtype_policy().variable_dtype
    return (MEAN + STDDEV * noise).astype(dtype)


def make_network(noise_conditional):
    return kgm.mlp_denoiser(
        SHAPE, noise_conditional=noise_conditional, hidden_sizes=(8,)
    )


def make_dae(sigma=RANGE, blind=False, adapted=True, **kwargs):
    """Returns a model with fixed weights whose network is not constant 0."""
    keras.utils.set_random_seed(0)
    network = make_network(not blind and np.ndim(sigma) == 1)
    rng = np.random.default_rng(3)
    for weight in network.weights:
        weight.assign(weight + 0.3 * rng.standard_normal(weight.shape))
    model = kgm.DenoisingAutoencoder(
        network, sigma=sigma, blind=blind, **kwargs
    )
    if adapted:
        model.adapt(events())
    return model


def compile_eagerly(model, optimizer="sgd"):
    """Compiles for a few steps, which a trace would take longer than."""
    model.compile(optimizer, run_eagerly=True)


KINDS = {
    "range": {},
    "single": {"sigma": 0.3},
    "blind": {"blind": True},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
# Of those that draw levels, and those that do not.
two_kinds = pytest.mark.parametrize(
    "kind",
    [
        {},
        {"sigma": 0.3},
        pytest.param({"blind": True}, marks=pytest.mark.exhaustive),
    ],
    ids=KINDS,
)


class Spy(keras.Model):
    """Applies a network and records its last inputs and outputs."""

    def __init__(self, network):
        super().__init__(autocast=False)
        self.network = network
        self.inputs = self.outputs = None

    def call(self, inputs):
        self.inputs, self.outputs = inputs, self.network(inputs)
        return self.outputs


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


# Precision.


@kinds
def test_mixed_precision_rounds_nothing_outside_the_network(
    bfloat16, kind, run_eagerly
):
    """D is that of the network's rounded output, in float32.

    How well the network itself computes is up to TensorFlow, whose bfloat16
    matrix products differ between processors.
    """
    model, y, sigma = make_dae(**kind), events(5), 0.3
    for estimate in (model.denoise(y, sigma), *model(y).values()):
        assert estimate.dtype == tf.float32
    spy = Spy(model.network)
    model = kgm.DenoisingAutoencoder(spy, event_shape=SHAPE, **kind)
    model.adapt(events())
    denoised = model.denoise(y, sigma).numpy()
    mean, variance = (
        np.float64(value) for value in (model.data_mean, model.data_stddev**2)
    )
    centred = y - mean
    inputs = y if model.blind else centred / np.sqrt(variance + sigma**2)
    if model.needs_sigma:
        network_inputs, level = spy.inputs
        np.testing.assert_allclose(level, np.log(sigma) / 4, rtol=1e-6)
    else:
        network_inputs = spy.inputs
    # 1e-5: a few roundings of float32, after the mean is subtracted.
    np.testing.assert_allclose(network_inputs, inputs, rtol=1e-5, atol=1e-5)
    skip, out = variance / (variance + sigma**2), -1.0
    if not model.blind:
        out = sigma * np.sqrt(skip)
    outputs = np.float64(spy.outputs)
    expected = out * outputs + (y if model.blind else mean + skip * centred)
    np.testing.assert_allclose(denoised, expected, rtol=1e-5, atol=1e-5)
    model.compile(run_eagerly=run_eagerly)
    model.fit(events(), verbose=0)


def test_float64_stays_float64(float64, run_eagerly):
    model, x = make_dae(), events()
    assert {v.dtype for v in model(x).values()} == {tf.float64}
    assert model.denoise(x, 0.3).dtype == tf.float64
    model.compile(run_eagerly=run_eagerly)
    model.fit(x, verbose=0)


@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
def test_a_file_keeps_the_dtype_policy(policy, request, tmp_path):
    request.getfixturevalue(policy)
    model, x = make_dae(), events(5)
    model.save(tmp_path / "m.keras")
    denoised, terms = model.denoise(x, 0.3), model(x)
    keras.config.set_dtype_policy("float32")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert keras.config.dtype_policy().name == "float32"
    assert copy.dtype_policy == model.dtype_policy
    np.testing.assert_array_equal(copy.denoise(x, 0.3), denoised)
    for name, value in copy(x).items():
        assert value.dtype == terms[name].dtype
        np.testing.assert_array_equal(value, terms[name])


# Learning.


@kinds
def test_loss_falls_and_every_weight_has_a_gradient(kind):
    x = events()
    model = make_dae(**kind)
    model.compile(keras.optimizers.Adam(0.01))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x, training=True)["weighted_error"])
    weights = model.trainable_variables
    assert len(weights) == len(model.network.weights)
    for weight, gradient in zip(
        weights, tape.gradient(loss, weights), strict=True
    ):
        assert np.abs(gradient).max() > 0, weight.path
    before = model.evaluate(x, verbose=0)[0]
    model.fit(np.tile(x, (100, 1, 1)), batch_size=40, verbose=0)
    assert model.evaluate(x, verbose=0)[0] < 0.8 * before


class Mixture:
    """A mixture of Gaussians in the plane, and its posterior mean."""

    weights = np.array([0.2, 0.3, 0.5])
    centers = np.array([[-1.0, 0.0], [1.0, -0.5], [0.3, 1.0]])
    stddev = 0.2

    def sample(self, n, seed):
        """Draws from each Gaussian in proportion to its weight."""
        rng = np.random.default_rng(seed)
        which = np.repeat(range(3), (n * self.weights).astype(int))
        rng.shuffle(which)
        noise = rng.standard_normal((len(which), 2))
        return (self.centers[which] + self.stddev * noise).astype(np.float32)

    def posterior_mean(self, y, sigma):
        y = y.astype(np.float64)[:, np.newaxis]
        total = self.stddev**2 + sigma**2
        squares = ((y - self.centers) ** 2).sum(-1)
        logits = np.log(self.weights) - squares / (2 * total)
        share = scipy.special.softmax(logits, axis=1)
        means = self.centers + self.stddev**2 / total * (y - self.centers)
        return (share[..., np.newaxis] * means).sum(1)


@pytest.fixture(scope="module")
def trained():
    """A model trained on `Mixture`, whose posterior mean is known."""
    keras.utils.set_random_seed(0)
    network = kgm.mlp_denoiser((2,), hidden_sizes=(128, 128))
    model = kgm.DenoisingAutoencoder(network, sigma=(0.05, 3.0))
    epochs = 20
    steps = epochs * 64
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    # XLA would take longer to compile than it saves.
    model.compile(
        keras.optimizers.Adam(rate), jit_compile=False, steps_per_execution=32
    )
    x = Mixture().sample(8190, seed=0)
    model.fit(x, batch_size=128, epochs=epochs, verbose=0)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.5, 1.0, 3.0])
def test_training_approaches_the_posterior_mean(trained, sigma):
    """The excess error is small relative to that of the posterior mean.

    0.01 to 1 % was measured, 2 % is allowed. The scalar Wiener filter, from
    which training starts, has 20 % at 0.2.
    """
    clean = Mixture().sample(4000, seed=1)
    noise = np.random.default_rng(2).standard_normal(clean.shape)
    noisy = (clean + sigma * noise).astype(np.float32)
    best = Mixture().posterior_mean(noisy, sigma)
    least = ((best - clean) ** 2).sum(1).mean()
    found = trained.denoise(noisy, sigma).numpy()
    excess = ((found - best) ** 2).sum(1).mean()
    assert excess < 0.02 * least


@pytest.mark.slow
def test_samples_have_the_weights_of_the_mixture(trained):
    num = 2000
    drawn = trained.sample(num, seed=0).numpy()
    distances = np.linalg.norm(drawn[:, np.newaxis] - Mixture.centers, axis=2)
    shares = np.bincount(distances.argmin(1)) / num
    error = np.sqrt(Mixture.weights * (1 - Mixture.weights) / num)
    # Of 100 Euler steps and the start at sigma 3, 4 times the data's
    # deviation, a bias below 0.02 was seen.
    np.testing.assert_array_less(
        np.abs(shares - Mixture.weights), 4 * error + 0.02
    )
    assert np.quantile(distances.min(1), 0.99) < 4 * Mixture.stddev
    spread = drawn[distances.argmin(1) == 2].std(0)
    np.testing.assert_allclose(spread, Mixture.stddev, rtol=0.15)


# Files.

_LOAD = """
import sys
import numpy as np, keras
import keras_genmodels
model = keras.saving.load_model(sys.argv[1])
y = np.load(sys.argv[2])
np.savez(sys.argv[3], estimate=model.denoise(y, 0.3), **model(y),
         settings=[*model.sigma, model.num_noise_draws, model.seed])
"""


# The quick tests have it for a `VAE`, in test_vae.py.
@pytest.mark.slow
def test_a_fresh_process_loads_what_was_saved(tmp_path):
    model, y = make_dae(num_noise_draws=2, seed=7), events(5)
    compile_eagerly(model)
    model.fit(events(), verbose=0)
    paths = [tmp_path / name for name in ("m.keras", "y.npy", "out.npz")]
    model.save(paths[0])
    np.save(paths[1], y)
    subprocess.run([sys.executable, "-c", _LOAD, *paths], check=True)
    out = np.load(paths[2])
    np.testing.assert_allclose(
        out["estimate"], model.denoise(y, 0.3), rtol=1e-5
    )
    for name, value in model(y).items():
        np.testing.assert_allclose(out[name], value, rtol=1e-4)
    assert tuple(out["settings"]) == (*RANGE, 2, 7)


@two_kinds
def test_a_file_restores_the_model_and_its_training(
    tmp_path, kind, run_eagerly
):
    model, x = make_dae(**kind), events()
    path = tmp_path / "m.keras"
    model.save(path)
    before = keras.saving.load_model(path)
    for name in ("sigma", "blind", "num_noise_draws", "seed", "event_shape"):
        assert getattr(before, name) == getattr(model, name)
    np.testing.assert_allclose(before.denoise(x, 0.3), model.denoise(x, 0.3))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=run_eagerly)
    model.fit(x, verbose=0)
    model.save(path)
    after = keras.saving.load_model(path)
    for one in (model, after):
        one.fit(x, verbose=0)
    for mine, theirs in zip(
        model.get_weights(), after.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@keras.saving.register_keras_serializable("test_dae")
class OwnNetwork(keras.Model):
    """A user's network, without an `input_shape`."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.hidden = keras.layers.Dense(width, activation="tanh")
        self.out = keras.layers.Dense(SHAPE[-1])

    def call(self, inputs):
        x, level = inputs
        return self.out(self.hidden(x + level[:, None, None]))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def test_a_subclassed_network(tmp_path):
    model = kgm.DenoisingAutoencoder(OwnNetwork(5), event_shape=SHAPE)
    model.compile(keras.optimizers.Adam(0.01))
    x = events()
    losses = model.fit(x, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert copy.network.width == 5
    np.testing.assert_allclose(copy.denoise(x, 0.3), model.denoise(x, 0.3))


def test_a_file_of_a_newer_format_is_refused():
    config = json.loads(json.dumps(make_dae().get_config()))
    assert config["sigma"] == [*RANGE]
    config["format"] += 1
    with pytest.raises(ValueError, match="upgrade the package"):
        kgm.DenoisingAutoencoder.from_config(config)


def test_old_names_are_accepted_with_a_warning():
    network = make_network(noise_conditional=False)
    with pytest.warns(DeprecationWarning, match="num_noise_draws"):
        model = kgm.DenoisingAutoencoder(network, sigma=0.1, copies=2)
    assert model.num_noise_draws == 2
    with pytest.warns(DeprecationWarning, match="sigma"):
        model = kgm.DenoisingAutoencoder(network, 0.1)
    assert model.sigma == (0.1, 0.1)
    model.adapt(events())
    with pytest.warns(DeprecationWarning, match="validate_inputs"):
        model.read(events())


def covariance_of(noisy):
    axes, variances = np.asarray(noisy.axes), np.asarray(noisy.variances)
    elsewhere = np.eye(len(axes)) - axes @ axes.T
    return (axes * variances) @ axes.T + noisy.remainder * elsewhere


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


def test_a_file_without_axes_starts_with_isotropic_data():
    model, data = make_dae(), events()
    variance = data.var(0).mean()
    model.load_own_variables({"0": data.mean(0), "1": variance})
    noisy = model.noisy_data(1.0)
    np.testing.assert_allclose(
        covariance_of(noisy), variance * np.eye(6), rtol=1e-5
    )
    oracle = scipy.stats.norm(data.mean(0), np.sqrt(variance + 1))
    np.testing.assert_allclose(
        noisy.log_prob(data), oracle.logpdf(data).sum((1, 2)), rtol=1e-5
    )


def test_a_config_of_format_2_loads():
    """Its layers and arguments have their old names."""
    model = make_dae(num_noise_draws=2, seed=7)
    text = json.dumps(model.get_config())
    for new, old in {
        "num_noise_draws": "copies",
        "FourierFeatures": "LevelFeatures",
        "FiLM": "Modulation",
        "keras_genmodels.networks.layers": "keras_genmodels.denoiser_layers",
    }.items():
        assert new in text
        text = text.replace(new, old)
    config = json.loads(text) | {"format": 2}
    del config["dtype_policy"]
    copy = kgm.DenoisingAutoencoder.from_config(config)
    copy.set_weights(model.get_weights())
    assert (copy.num_noise_draws, copy.seed) == (2, 7)
    x = events(5)
    np.testing.assert_array_equal(copy.denoise(x, 0.3), model.denoise(x, 0.3))
