"""The linear denoisers: closed forms, data sets, files, bad arguments."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_genmodels.denoisers import LinearDenoiser


def make_data(n=60, shape=(3, 2), seed=0):
    """Returns correlated events, far from the origin."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    data = rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + 3
    return data.reshape(n, *shape)


def make_noisy(n=5, shape=(3, 2), seed=1):
    return np.random.default_rng(seed).normal(3, 2, (n, *shape))


def adapted(data, **kwargs):
    denoiser = LinearDenoiser(**kwargs)
    denoiser.adapt(data)
    return denoiser


def flat(x):
    return np.reshape(x, (len(x), -1))


def test_wiener_is_the_posterior_mean_of_a_gaussian(float64):
    """E[x|y] = m + C (C + sigma^2 I)^-1 (y - m), without any eigenvectors."""
    data, y = make_data(), make_noisy()
    denoiser = adapted(data)
    mean, covariance = flat(data).mean(0), np.cov(flat(data).T, bias=True)
    np.testing.assert_allclose(denoiser.data_mean, data.mean(0), rtol=1e-12)
    levels = np.array([1e-3, 0.1, 1.0, 10.0, 1e3])
    expected = [
        mean
        + covariance
        @ np.linalg.solve(covariance + sigma**2 * np.eye(6), row - mean)
        for row, sigma in zip(flat(y), levels, strict=True)
    ]
    np.testing.assert_allclose(
        flat(denoiser.denoise(y, levels)), expected, rtol=1e-9
    )


def test_score_is_the_gradient_of_the_log_density(float64):
    data, y, sigma = make_data(), tf.constant(make_noisy()), np.float64(0.7)
    noisy = np.cov(flat(data).T, bias=True) + sigma**2 * np.eye(6)
    with tf.GradientTape() as tape:
        tape.watch(y)
        centred = tf.reshape(y, (-1, 6)) - flat(data).mean(0)
        solved = tf.matmul(centred, np.linalg.inv(noisy))
        log_density = -tf.reduce_sum(centred * solved) / 2
    gradient = tape.gradient(log_density, y)
    denoiser = adapted(data)
    np.testing.assert_allclose(denoiser.score(y, sigma), gradient, rtol=1e-9)
    np.testing.assert_allclose(
        denoiser.noise(y, sigma), -(sigma**2) * gradient, rtol=1e-9
    )


@pytest.mark.parametrize("center", [True, False])
def test_projection_is_that_of_the_svd(float64, center):
    data, y = make_data(), make_noisy()
    mean = flat(data).mean(0) if center else np.zeros(6)
    _, singular, axes = np.linalg.svd(flat(data) - mean, full_matrices=False)
    expected = mean + (flat(y) - mean) @ axes[:2].T @ axes[:2]
    denoiser = adapted(data, rank=2, center=center)
    assert not denoiser.needs_sigma
    for sigma in (None, 0.3):
        np.testing.assert_allclose(
            flat(denoiser.denoise(y, sigma)), expected, rtol=1e-9
        )
    np.testing.assert_allclose(
        denoiser.eigenvalues, singular[:2] ** 2 / len(data), rtol=1e-9
    )
    assert denoiser.eigenvectors.shape == (3, 2, 2)
    vectors = np.reshape(denoiser.eigenvectors, (6, 2))
    np.testing.assert_allclose(np.abs(vectors), np.abs(axes[:2].T), rtol=1e-8)
    assert (np.take(vectors, np.abs(vectors).argmax(0) * 2 + [0, 1]) > 0).all()
    # Generation starts at the mean of the data, whatever the axes go through.
    np.testing.assert_allclose(denoiser.data_mean, data.mean(0), rtol=1e-12)
    # A projection is idempotent.
    once = denoiser.denoise(y)
    np.testing.assert_allclose(denoiser.denoise(once), once, rtol=1e-9)


@pytest.mark.parametrize("center", [True, False])
def test_with_rank_equals_adapting_at_that_rank(float64, center):
    data, y = make_data(), make_noisy()
    whole = adapted(data, center=center)
    for denoiser in (whole, whole.with_rank(5)):
        found = denoiser.with_rank(2)
        same = adapted(data, rank=2, center=center)
        np.testing.assert_array_equal(found.denoise(y), same.denoise(y))
        assert found.get_config() | {"name": ""} == same.get_config() | {
            "name": ""
        }
        assert found.sigma_range == same.sigma_range
        np.testing.assert_array_equal(found.eigenvalues, same.eigenvalues)


def test_with_rank_refuses_more_axes_than_there_are():
    flat_data = make_data()
    flat_data[:, 0] = 1
    for denoiser, rank, message in (
        (adapted(flat_data), 5, "at most 4, that of the data"),
        (adapted(make_data(), rank=3), 4, "at most 3, that of this denoiser"),
        (adapted(make_data()), 0, "int >= 1"),
        (adapted(make_data()), None, "int >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            denoiser.with_rank(rank)
    with pytest.raises(ValueError, match="adapt"):
        LinearDenoiser().with_rank(1)


def test_uncentred_wiener_uses_second_moments(float64):
    data, y, sigma = make_data(), make_noisy(), 2.0
    moments = flat(data).T @ flat(data) / len(data)
    expected = flat(y) @ np.linalg.inv(moments + 4 * np.eye(6)) @ moments
    denoiser = adapted(data, center=False)
    np.testing.assert_allclose(
        flat(denoiser.denoise(y, sigma)), expected, rtol=1e-9
    )


def test_sigma_range_comes_from_the_variance_about_the_mean():
    data = make_data()
    total = flat(data).var(0).sum()
    for center in (True, False):
        lowest, highest = adapted(data, center=center).sigma_range
        assert lowest == 0.01
        np.testing.assert_allclose(highest, 2 * np.sqrt(total), rtol=1e-12)
    assert adapted(np.ones((4, 3))).sigma_range == (0.01, 0.1)


@pytest.mark.parametrize("events", [1, 7, 2100])
def test_adapting_to_a_data_set_equals_adapting_to_its_array(float64, events):
    data = make_data(5000)
    stream = tf.data.Dataset.from_tensor_slices({"image": data}).batch(events)
    if events == 1:
        stream = stream.take(300)
        data = data[:300]
    streamed, whole = adapted(stream), adapted(data)
    for name in ("eigenvalues", "eigenvectors", "data_mean"):
        np.testing.assert_allclose(
            getattr(streamed, name), getattr(whole, name), rtol=1e-10
        )


def test_a_large_mean_causes_no_cancellation(float64):
    """With a mean of 1e8, E[xx'] - mm' has no correct digit left."""
    data = np.random.default_rng(0).integers(-8, 9, (5000, 3)).astype(float)
    near, far = adapted(data), adapted(data + 1e8)
    np.testing.assert_allclose(far.eigenvalues, near.eigenvalues, rtol=1e-7)


def test_uint8_is_read_as_value_over_255(float64):
    data = np.random.default_rng(0).integers(0, 256, (50, 4), np.uint8)
    whole, parts = adapted(data), adapted(data / 255)
    for name in ("eigenvalues", "eigenvectors", "data_mean"):
        np.testing.assert_allclose(
            getattr(whole, name), getattr(parts, name), rtol=1e-12
        )


def test_no_variance_and_tiny_noise_return_the_mean():
    denoiser = adapted(np.full((3, 2), 0.5, np.float32))
    x = np.ones((1, 2), np.float32)
    # 1e-30 squared is 0 in float32.
    for sigma in (1e-30, 1.0, 1e4):
        assert denoiser.denoise(x, sigma).numpy().tolist() == [[0.5, 0.5]]


def test_a_second_adapt_replaces_the_first(float64):
    denoiser = adapted(make_data(shape=(9,)), rank=2)
    denoiser.adapt(make_data())
    y = make_noisy()
    expected = adapted(make_data(), rank=2).denoise(y)
    np.testing.assert_array_equal(denoiser.denoise(y), expected)
    assert len(denoiser.weights) == 3
    assert denoiser.event_shape == (3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 2])
def test_xla_agrees_for_any_batch_size(rank):
    denoiser = adapted(make_data(), rank=rank)
    compiled = tf.function(
        denoiser.denoise,
        jit_compile=True,
        input_signature=[
            tf.TensorSpec([None, 3, 2]),
            tf.TensorSpec([None]),
        ],
    )
    for n in (1, 5):
        y = make_noisy(n).astype("float32")
        sigma = np.linspace(0.5, 2, n, dtype="float32")
        np.testing.assert_allclose(
            compiled(y, sigma), denoiser.denoise(y, sigma), rtol=1e-4
        )
    assert compiled.experimental_get_tracing_count() == 1


def test_a_file_restores_the_denoiser(tmp_path):
    denoiser = adapted(make_data(), rank=2, center=False)
    denoiser.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    x = make_noisy().astype("float32")
    np.testing.assert_array_equal(copy.denoise(x), denoiser.denoise(x))
    np.testing.assert_array_equal(copy.data_mean, denoiser.data_mean)
    assert copy.sigma_range == denoiser.sigma_range
    assert (copy.rank, copy.center) == (2, False)


def test_a_file_of_a_newer_format_is_refused():
    config = LinearDenoiser(rank=3).get_config()
    assert LinearDenoiser.from_config(config).rank == 3
    with pytest.raises(ValueError, match="upgrade the package"):
        LinearDenoiser.from_config({**config, "format": 99})


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet")
def test_a_file_without_data_loads(tmp_path):
    LinearDenoiser(rank=1).save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert copy.event_shape is None
    copy.adapt(make_data())
    assert copy.denoise(make_noisy()).shape == (5, 3, 2)


def test_a_file_keeps_the_dtype_policy(float64, tmp_path):
    denoiser, x = adapted(make_data()), make_noisy()
    denoiser.save(tmp_path / "m.keras")
    denoised = denoiser.denoise(x, 0.3)
    keras.config.set_dtype_policy("float32")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    assert copy.dtype_policy.name == "float64"
    np.testing.assert_array_equal(copy.denoise(x, 0.3), denoised)


def test_a_saved_model_computes_the_same(tmp_path):
    module = tf.Module()
    module.denoiser = adapted(make_data())
    module.denoise = tf.function(
        module.denoiser.denoise,
        input_signature=[tf.TensorSpec([None, 3, 2]), tf.TensorSpec([])],
    )
    tf.saved_model.save(module, str(tmp_path))
    y = make_noisy().astype("float32")
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(
        loaded.denoise(y, 0.5), module.denoiser.denoise(y, 0.5), rtol=1e-5
    )


@pytest.mark.parametrize("rank", [0, -1, 2.0, True, "2"])
def test_bad_ranks_are_refused(rank):
    with pytest.raises(ValueError, match="rank must be an int >= 1 or None"):
        LinearDenoiser(rank=rank)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 3)), "no data"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.ones((4, 3), np.int32), "floating data or uint8"),
        (np.ones(4), r"\[batch, ...\]"),
        (np.ones((4, 2)), "rank must be at most"),
        (np.zeros((1, 91, 91), np.uint8), "at most 8192"),
    ],
)
def test_bad_data_are_refused(data, message):
    denoiser = LinearDenoiser(rank=3)
    with pytest.raises(ValueError, match=message):
        denoiser.adapt(data)
    with pytest.raises(ValueError, match=r"call adapt\(data\) first"):
        denoiser.denoise(np.ones((1, 3)))


def test_bad_arguments_are_refused():
    denoiser = LinearDenoiser()
    for name in ("data_mean", "sigma_range", "eigenvalues", "eigenvectors"):
        with pytest.raises(ValueError, match=r"call adapt\(data\) first"):
            getattr(denoiser, name)
    denoiser.adapt(make_data())
    x = make_noisy()
    with pytest.raises(ValueError, match="pass sigma"):
        denoiser.denoise(x)
    with pytest.raises(ValueError, match="sigma must be > 0"):
        denoiser.denoise(x, 0.0)
    with pytest.raises(ValueError, match="x must have shape"):
        denoiser.denoise(x[:, :2], 1.0)
    with pytest.raises(ValueError, match="floating type"):
        denoiser.denoise(np.ones((2, 3, 2), np.uint8), 1.0)
    with pytest.raises(ValueError, match="a score needs sigma"):
        adapted(make_data(), rank=2).score(x)


@pytest.mark.parametrize(
    ("sigma", "wiener", "rank", "projection"),
    [
        (0.1, 22.66, 41, 21.59),
        (0.25, 17.31, 18, 15.75),
        (0.5, 14.47, 6, 12.88),
        (1.0, 12.70, 2, 11.21),
    ],
)
def test_psnr_on_digits(sigma, wiener, rank, projection):
    """As measured with another implementation, in dB."""
    images = load_digits().images.astype("float32") / 16
    train, test = images[:1437], images[1437:]
    noise = np.random.default_rng(0).standard_normal(test.shape)
    noisy = test + sigma * noise

    def psnr(denoiser):
        error = flat(denoiser.denoise(noisy, sigma) - test)
        return np.mean(-10 * np.log10(np.square(error).mean(1)))

    assert abs(psnr(adapted(train)) - wiener) < 0.01
    assert abs(psnr(adapted(train, rank=rank)) - projection) < 0.01


def test_positional_arguments_are_accepted_with_a_warning():
    with pytest.warns(DeprecationWarning, match="rank, center"):
        denoiser = LinearDenoiser(3, False)
    assert (denoiser.rank, denoiser.center) == (3, False)
