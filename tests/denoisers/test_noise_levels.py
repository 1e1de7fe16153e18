"""The distribution of the noise levels of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_genmodels as kgm
from keras_genmodels.denoisers import noise_levels

RANGE = (0.02, 40.0)


def test_log_uniform_levels_have_equal_ratios():
    p = tf.constant([0, 0.25, 0.5, 1], tf.float64)
    levels = noise_levels.quantile(p, (0.01, 100.0), None)
    np.testing.assert_allclose(levels, [0.01, 0.1, 1, 100], rtol=1e-12)


@pytest.mark.parametrize("log_normal", [(0.35, 1.2), (0.05, 2.0)])
def test_log_normal_levels_are_cut_at_the_ends_of_the_range(log_normal):
    median, scale = log_normal
    ends = (np.log(RANGE) - np.log(median)) / scale
    p = np.linspace(0, 1, 101)
    expected = stats.truncnorm.ppf(p, *ends, np.log(median), scale)
    levels = noise_levels.quantile(tf.constant(p), RANGE, log_normal)
    np.testing.assert_allclose(levels, np.exp(expected), rtol=1e-9)


def test_float32_levels_stay_within_the_range():
    p = tf.constant([0, 1e-7, 1 - 1e-7, 1], tf.float32)
    levels = noise_levels.quantile(p, RANGE, (0.35, 0.3)).numpy()
    assert np.all(np.isfinite(levels)) and np.all(np.diff(levels) >= 0)
    assert levels[0] >= 0.0199999 and levels[-1] <= 40.00001


def test_training_draws_log_normal_levels():
    model = _denoiser(log_normal=(0.35, 1.2))
    x = tf.zeros((4000, 3))
    model.compile()
    model.adapt(np.random.default_rng(0).normal(size=(10, 3)))
    levels = model(x, training=True)["sigma"].numpy()
    ends = (np.log(RANGE) - np.log(0.35)) / 1.2
    expected = stats.truncnorm(*ends, np.log(0.35), 1.2)
    # Evenly spaced over the batch.
    assert stats.kstest(np.log(levels), expected.cdf).statistic < 0.001


def test_log_normal_levels_are_kept_in_the_file(tmp_path):
    model = _denoiser(log_normal=(0.35, 1.2))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.log_normal == (0.35, 1.2)


@pytest.mark.parametrize(
    "log_normal", [0.35, (0.35,), (0, 1), (0.35, -1), (np.nan, 1), (50, 1)]
)
def test_wrong_log_normal_levels_are_refused(log_normal):
    with pytest.raises(ValueError, match="log_normal"):
        _denoiser(log_normal=log_normal)


def test_a_single_level_has_no_distribution():
    with pytest.raises(ValueError, match="range"):
        _denoiser(sigma=0.1, log_normal=(0.1, 1))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ((0.02, 40.0), (0.35, 1.2))),
        ({"log_normal": (0.5, 2)}, ((0.02, 40.0), (0.5, 2.0))),
        ({"sigma": (0.05, 1.5)}, ((0.05, 1.5), None)),
        ({"sigma": 0.1}, ((0.1, 0.1), None)),
        ({"sigma": None, "blind": True}, ((0.05, 1.5), None)),
    ],
)
def test_defaults_are_for_generating_and_restoring(arguments, expected):
    blind = arguments.get("blind", False)
    found = noise_levels.resolve(
        arguments.get("sigma"), arguments.get("log_normal"), blind
    )
    assert found == expected


def _denoiser(sigma=RANGE, **arguments):
    network = kgm.mlp_denoiser(
        (3,), hidden_sizes=(4,), noise_conditional=np.ndim(sigma) > 0
    )
    return kgm.DenoisingAutoencoder(network, sigma=sigma, **arguments)
