"""The exact denoiser against its formula, computed densely in float64."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from support.dense_posterior import TOLERANCE, adapted, dense, flat, noisy_like

from keras_genmodels.core import precision
from keras_genmodels.denoisers import (
    EmpiricalDenoiser,
    LinearDenoiser,
    _posterior_mean,
)
from keras_genmodels.denoisers._weighted_sums import EventSet

pytestmark = pytest.mark.usefixtures("small_blocks")


def test_compiled_functions_keep_no_data(of_digits, digits):
    """TensorFlow never frees a graph with a custom gradient."""
    of_digits.denoise(digits[:2] / np.float32(255), 0.3)
    events = of_digits._event_set()
    run = _posterior_mean._compiled(
        EventSet, (), tf.float32, events.specs, precision.traced_for()
    )
    assert run.experimental_get_tracing_count() == 1
    assert not run.get_concrete_function().captured_inputs


def test_the_limits_are_the_nearest_event_and_the_mean(of_digits, digits):
    denoiser = of_digits
    near = (digits[:9] / 255 + 0.01).astype("float32")
    np.testing.assert_allclose(
        denoiser.denoise(near, 1e-4), digits[:9] / 255, atol=1e-7
    )
    np.testing.assert_allclose(
        denoiser.denoise(near, 1e4),
        np.broadcast_to(denoiser.data_mean, near.shape),
        atol=1e-6,
    )


def test_two_points_have_a_closed_form(float64):
    """D(y) = a tanh(a'y / sigma^2) for the data -a, +a."""
    a = np.array([0.3, -0.2, 0.5])
    denoiser = adapted(np.stack([-a, a]))
    y = np.random.default_rng(0).normal(size=(4, 3))
    for sigma in np.array([0.1, 0.7, 5.0]):
        np.testing.assert_allclose(
            denoiser.denoise(y, sigma),
            a * np.tanh(y @ a / sigma**2)[:, None],
            rtol=1e-10,
        )


def test_score_is_the_gradient_of_the_log_density(float64):
    rng = np.random.default_rng(0)
    data, y = rng.random((20, 3)), tf.constant(rng.random((4, 3)))
    sigma = np.float64(0.3)
    with tf.GradientTape() as tape:
        tape.watch(y)
        squares = tf.reduce_sum((y[:, None] - data) ** 2, axis=-1)
        log_density = tf.reduce_logsumexp(-squares / (2 * sigma**2), axis=1)
    gradient = tape.gradient(log_density, y)
    np.testing.assert_allclose(
        adapted(data).score(y, sigma), gradient, rtol=1e-9
    )


def test_ties_share_probability_and_duplicates_count_twice():
    # Binary fractions, which float32 represents: equal distances are equal.
    data = np.array([[1, 0], [-1, 0], [0, 4], [0, 4]], np.float32) / 4
    denoiser = adapted(data)
    # At equal distance from an event and from one that occurs twice.
    data = np.array([[1, 0], [-1, 0], [-1, 0], [1, 4]], np.float32) / 4
    twice = adapted(data)
    for sigma in (1e-4, 0.01, 1.0, 100.0):
        x = np.array([[0, -0.25]], np.float32)
        probabilities, indices = denoiser.posterior(x, sigma, 2)
        assert probabilities[0, 0] == probabilities[0, 1]
        if sigma < 100:
            assert indices.numpy().tolist() == [[0, 1]]
        assert denoiser.denoise(x, sigma)[0, 0] == 0
        x = np.zeros((1, 2), np.float32)
        _, expected = dense(data, x, sigma)
        np.testing.assert_allclose(
            twice.denoise(x, sigma), expected, rtol=1e-5, atol=1e-9
        )


@pytest.mark.slow
def test_many_duplicates_count():
    """More than have float64 weights, at a sigma where float32 fails."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.random((1, 50))] * 30 + [rng.random((9, 50))])
    data[0], data = data[35], data.astype("float32")
    # As far from events 1 to 29 as from 0 and 35, up to rounding.
    x = ((data[0] + data[1]) / 2)[None]
    sigma = np.float32(0.002)
    _, expected = dense(data, x, sigma)
    np.testing.assert_allclose(
        adapted(data).denoise(x, sigma), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "kind", ["uint8", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_half_way_between_two_images(kind):
    """float32 logits are wrong by about a nat, and pixels by a half."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (300, 28, 28, 1), np.uint8)
    if kind == "float32":
        data = (data / 255).astype("float32")
    values = data / (255 if kind == "uint8" else 1)
    x = ((values[:20] + values[20:40]) / 2).astype("float32")
    sigma = np.float32(0.003)
    weights, expected = dense(data, x, sigma)
    assert (np.sort(weights)[:, -2] > 0.1).any()
    denoiser = adapted(data)
    np.testing.assert_allclose(
        flat(denoiser.denoise(x, sigma)), expected, atol=1e-6
    )
    probabilities, _ = denoiser.posterior(x, sigma, 2)
    np.testing.assert_allclose(
        probabilities, -np.sort(-weights)[:, :2], rtol=1e-5
    )


def test_posterior_includes_events_of_no_weight():
    data = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    probabilities, indices = adapted(data).posterior(
        np.array([[2.9], [0.1]], np.float32), [1e-3, 1e-3], 4
    )
    assert probabilities.numpy().tolist() == [[1, 0, 0, 0]] * 2
    assert indices.numpy().tolist() == [[3, 2, 1, 0], [0, 1, 2, 3]]
    assert indices.dtype == tf.int32


def test_each_row_has_its_own_sigma(of_digits, digits):
    x = noisy_like(digits, 0.3)
    sigma = np.array([1e-4, 0.01, 0.1, 0.3, 1.0, 1e4], np.float32)
    together = of_digits.denoise(x, sigma)
    assert together.dtype == tf.float32
    for i in range(6):
        alone = of_digits.denoise(x[i : i + 1], sigma[i])
        np.testing.assert_allclose(together[i : i + 1], alone, atol=TOLERANCE)


each_compiler = pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
SIGNATURE = [tf.TensorSpec([None, 8, 8, 1]), tf.TensorSpec([None])]
BATCHES = [(1, 1e-3), (4, 0.15), (4, 0.5)]


@each_compiler
def test_one_trace_serves_every_batch_and_sigma(of_digits, digits, jit_compile):
    denoise = tf.function(
        of_digits.denoise, input_signature=SIGNATURE, jit_compile=jit_compile
    )
    for n, sigma in BATCHES:
        x = noisy_like(digits, sigma, n)
        _, expected = dense(digits[:1500], x, sigma)
        found = denoise(x, np.full(n, sigma, np.float32))
        np.testing.assert_allclose(flat(found), expected, atol=TOLERANCE)
    assert denoise.experimental_get_tracing_count() == 1


@pytest.mark.slow
@each_compiler
def test_one_trace_of_the_posterior_serves_all(of_digits, digits, jit_compile):
    posterior = tf.function(
        lambda x, s: of_digits.posterior(x, s, 3),
        input_signature=SIGNATURE,
        jit_compile=jit_compile,
    )
    for n, sigma in BATCHES:
        x = noisy_like(digits, sigma, n)
        weights, _ = dense(digits[:1500], x, sigma)
        found = posterior(x, np.full(n, sigma, np.float32)).probabilities
        best = -np.sort(-weights)[:, :3]
        np.testing.assert_allclose(found, best, rtol=3e-3, atol=1e-30)


@pytest.mark.slow
def test_exports_after_a_use_of_xla_ask_where_they_run():
    """Functions that XLA compiled for this machine split no factors."""
    denoiser = adapted(np.eye(3, dtype="float32"))

    def asks(jit_compile=False):
        program = tf.function(
            lambda x: denoiser.denoise(x, 0.5),
            input_signature=[tf.TensorSpec([None, 3])],
            jit_compile=jit_compile,
        )
        graph = program.get_concrete_function().graph.as_graph_def()
        # Also in the functions that it calls.
        return 'op: "DeviceIndex"' in str(graph)

    assert not asks(jit_compile=True)
    with precision.for_any_machine():
        assert asks()


def test_uint8_is_stored_and_read_as_value_over_255(float64, digits):
    digits = digits[:1500]
    whole, parts = adapted(digits), adapted(digits / 255)
    assert whole.weights[1].dtype == "uint8"
    x = noisy_like(digits, 0.3)
    np.testing.assert_allclose(
        whole.denoise(x, 0.3), parts.denoise(x, 0.3), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(whole.data_mean, parts.data_mean, rtol=1e-12)
    np.testing.assert_allclose(whole.sigma_range, parts.sigma_range)
    total = flat(digits / 255).var(0).sum()
    np.testing.assert_allclose(whole.sigma_range, (0.01, 2 * total**0.5))


def test_adapting_to_a_data_set_equals_adapting_to_its_array(digits):
    stream = tf.data.Dataset.from_tensor_slices({"image": digits}).batch(77)
    streamed, whole = adapted(stream), adapted(digits)
    for one, other in zip(streamed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_a_second_adapt_replaces_the_first(digits):
    denoiser = adapted(digits[:1500])
    x = np.float32([[3, 4]])
    first = np.float32([[1, 2], [3, 4], [5, 6], [7, 8]])
    # The second set has the shape of the first, and its compiled function.
    for data in (first, first + 1):
        denoiser.adapt(data)
        _, expected = dense(data, x, 1.0)
        np.testing.assert_allclose(denoiser.denoise(x, 1.0), expected, 1e-5)
    assert (denoiser.event_shape, denoiser.num_events) == ((2,), 4)
    assert [w.shape for w in denoiser.weights] == [(2,), (4, 2), (4,)]


def test_data_of_one_event():
    denoiser = adapted(np.full((1, 3), 0.5, np.float32))
    assert denoiser.sigma_range == (0.01, 0.1)
    for x in (0.5, 9.0):
        result = denoiser.denoise(np.full((2, 3), x, np.float32), 0.01)
        assert result.numpy().tolist() == [[0.5] * 3] * 2


_LOAD = """
import sys
import keras
import numpy as np
import keras_genmodels
exact, linear = map(keras.saving.load_model, sys.argv[1:3])
x = np.load(sys.argv[3])
np.savez(
    sys.argv[4],
    result=exact.denoise(x, 0.3),
    range=exact.sigma_range,
    data=exact.weights[1],
    linear=linear.denoise(x, 0.3),
    linear_range=linear.sigma_range,
)
"""


# The quick tests have it for a `VAE`, in test_vae.py.
@pytest.mark.slow
def test_a_fresh_process_loads_what_was_saved(tmp_path, digits):
    exact, linear = adapted(digits[:300]), LinearDenoiser()
    linear.adapt(digits[:300])
    x = noisy_like(digits, 0.3)
    names = ("exact.keras", "linear.keras", "x.npy", "out.npz")
    paths = [tmp_path / name for name in names]
    exact.save(paths[0])
    linear.save(paths[1])
    np.save(paths[2], x)
    subprocess.run([sys.executable, "-c", _LOAD, *paths], check=True)
    out = np.load(paths[3])
    np.testing.assert_allclose(out["result"], exact.denoise(x, 0.3), atol=1e-6)
    assert tuple(out["range"]) == exact.sigma_range
    assert out["data"].dtype == np.uint8
    np.testing.assert_array_equal(out["data"], flat(digits[:300]))
    np.testing.assert_allclose(out["linear"], linear.denoise(x, 0.3), atol=1e-6)
    assert tuple(out["linear_range"]) == linear.sigma_range


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet")
def test_a_file_without_data_loads(tmp_path):
    EmpiricalDenoiser(name="exact").save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert (copy.event_shape, copy.name) == (None, "exact")
    with pytest.raises(ValueError, match="upgrade the package"):
        EmpiricalDenoiser.from_config({**copy.get_config(), "format": 99})


def test_a_file_keeps_the_dtype_policy(float64, tmp_path):
    rng = np.random.default_rng(0)
    denoiser, x = adapted(rng.random((20, 3))), rng.random((4, 3))
    denoiser.save(tmp_path / "m.keras")
    denoised = denoiser.denoise(x, 0.3)
    keras.config.set_dtype_policy("float32")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert copy.dtype_policy.name == "float64"
    np.testing.assert_array_equal(copy.denoise(x, 0.3), denoised)


@pytest.mark.slow
def test_a_saved_model_computes_the_same(tmp_path, of_digits, digits):
    module = tf.Module()
    module.denoiser = of_digits
    module.denoise = tf.function(
        of_digits.denoise,
        input_signature=[tf.TensorSpec([None, 8, 8, 1]), tf.TensorSpec([])],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for sigma in (0.01, 0.3):
        x = noisy_like(digits, sigma)
        np.testing.assert_allclose(
            loaded.denoise(x, sigma), of_digits.denoise(x, sigma), atol=1e-6
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 3)), "no data"),
        (np.array([[1.0, np.inf]]), "not finite"),
        (np.ones((4, 3), np.int64), "floating data or uint8"),
        (np.ones(4), r"\[batch, ...\]"),
    ],
)
def test_bad_data_are_refused(data, message):
    denoiser = EmpiricalDenoiser()
    with pytest.raises(ValueError, match=message):
        denoiser.adapt(data)
    with pytest.raises(ValueError, match=r"call adapt\(data\) first"):
        denoiser.posterior(np.ones((1, 3)), 1.0, 1)


def test_bad_arguments_are_refused():
    denoiser = adapted(np.eye(3))
    x = np.ones((2, 3))
    for k in (0, 4, 2.0):
        with pytest.raises(ValueError, match="k must be"):
            denoiser.posterior(x, 1.0, k)
    with pytest.raises(ValueError, match="pass sigma"):
        denoiser.denoise(x)
    for sigma in (0.0, [1.0, -1.0], np.nan):
        with pytest.raises(ValueError, match="sigma must be > 0"):
            denoiser.denoise(x, sigma)
    with pytest.raises(ValueError, match="sigma must be a scalar or"):
        denoiser.denoise(x, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="x must have shape"):
        denoiser.denoise(x[:, :2], 1.0)
    with pytest.raises(ValueError, match="floating type"):
        denoiser.denoise(np.ones((2, 3), np.uint8), 1.0)


def test_psnr_on_digits():
    """As measured with another implementation, in dB."""
    images = load_digits().images.astype("float32") / 16
    train, test = images[:1437], images[1437:]
    denoiser = adapted(train)
    noise = np.random.default_rng(0).standard_normal(test.shape)
    for sigma, decibel in (
        (0.1, 17.04),
        (0.25, 17.13),
        (0.5, 15.94),
        (1.0, 13.23),
    ):
        result = denoiser.denoise(test + sigma * noise, sigma)
        mse = np.square(flat(result) - flat(test)).mean(1)
        assert abs(np.mean(-10 * np.log10(mse)) - decibel) < 0.01


def test_a_positional_name_is_deprecated():
    with pytest.warns(DeprecationWarning, match="positional name"):
        assert EmpiricalDenoiser("exact").name == "exact"
