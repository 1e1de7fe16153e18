"""Layers that read parameters as distributions, against NumPy and SciPy."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import keras_genmodels as kgm


def _softplus(x):
    return np.log1p(np.exp(x))


def test_diagonal_posterior_has_the_mean_and_stddev_of_its_parameters(float64):
    params = np.random.default_rng(0).standard_normal((3, 8))
    posterior = kgm.MultivariateNormalDiag(4)(params)
    stddev = 1e-4 + _softplus(params[:, 4:])
    np.testing.assert_allclose(posterior.mean(), params[:, :4])
    np.testing.assert_allclose(posterior.stddev(), stddev)
    x = np.zeros(4)
    expected = scipy.stats.norm(params[:, :4], stddev).logpdf(x).sum(-1)
    np.testing.assert_allclose(posterior.log_prob(x), expected, rtol=1e-12)


@pytest.mark.parametrize("scale_rows", [False, True])
def test_full_posterior_has_mean_and_factor_of_its_parameters(
    float64, scale_rows
):
    layer = kgm.MultivariateNormalTriL(3, scale_rows)
    assert layer.params_size == 3 + 6
    params = np.random.default_rng(0).standard_normal((2, 9))
    posterior = layer(params)
    factor = posterior.scale_tril.numpy()
    assert (np.diagonal(factor, axis1=1, axis2=2) > 0).all()
    np.testing.assert_array_equal(factor, np.tril(factor))
    # Every free entry of the factor is one of the parameters.
    read = factor
    if scale_rows:
        diagonal = np.diagonal(factor, axis1=1, axis2=2)
        read = factor / diagonal[:, :, np.newaxis] * np.sqrt(3)
    below = read[:, *np.tril_indices(3, -1)]
    assert np.isin(below.round(12), params[:, 3:].round(12)).all()
    for i in range(2):
        expected = scipy.stats.multivariate_normal(
            params[i, :3], factor[i] @ factor[i].T
        ).logpdf(np.ones(3))
        np.testing.assert_allclose(
            posterior.log_prob(np.ones(3))[i], expected, rtol=1e-10
        )


def test_bernoulli_and_normal_match_scipy(float64):
    rng = np.random.default_rng(0)
    params = rng.standard_normal((2, 3, 3, 2))
    x = rng.integers(0, 2, params.shape).astype("float64")
    bernoulli = kgm.IndependentBernoulli((3, 3, 2))(params)
    expected = scipy.stats.bernoulli(scipy.special.expit(params)).logpmf(x)
    np.testing.assert_allclose(
        bernoulli.log_prob(x), expected.sum((1, 2, 3)), rtol=1e-12
    )
    normal = kgm.IndependentNormal((3, 3, 2), stddev=0.3)(params)
    expected = scipy.stats.norm(params, 0.3).logpdf(x)
    np.testing.assert_allclose(
        normal.log_prob(x), expected.sum((1, 2, 3)), rtol=1e-12
    )
    assert bernoulli.event_shape == normal.event_shape == (3, 3, 2)


def test_learned_deviation_is_one_trained_number():
    layer = kgm.IndependentNormal((4,))
    assert [w.shape for w in layer.trainable_weights] == [()]
    with tf.GradientTape() as tape:
        log_prob = layer(tf.zeros((5, 4))).log_prob(tf.ones((5, 4)))
    (gradient,) = tape.gradient(log_prob, layer.trainable_weights)
    assert gradient > 0  # far from the data, a larger deviation fits better
    assert kgm.IndependentNormal((4,), stddev=0.1).weights == []


def test_parameters_of_one_pixel_stay_together():
    """A convolution's channels become the parameters of their own pixel."""
    layer = kgm.IndependentDiscretizedLogistic((2, 2, 3))
    assert layer.params_shape == (2, 2, 6)
    params = np.zeros((1, 2, 2, 6), np.float32)
    params[0, 1, 0, 2] = 0.25  # the centre of channel 2 of pixel (1, 0)
    loc = layer(params).distribution.loc.numpy()
    assert np.argwhere(loc != 0.5).tolist() == [[0, 1, 0, 2]]
    flat = layer(params.reshape(1, -1)).distribution.loc.numpy()
    np.testing.assert_array_equal(loc, flat)


@pytest.mark.parametrize("event_shape", [(), (7,), (2, 3), (2, 3, 4, 5)])
def test_events_of_any_rank(event_shape):
    layer = kgm.IndependentNormal(event_shape, stddev=1.0)
    distribution = layer(tf.zeros((6, layer.params_size)))
    assert distribution.batch_shape == (6,)
    assert distribution.event_shape == event_shape


def test_distributions_are_float32_under_a_bfloat16_policy(bfloat16):
    params = tf.cast(tf.zeros((2, 4)), tf.bfloat16)
    assert kgm.MultivariateNormalDiag(2)(params).dtype == tf.float32
    assert kgm.IndependentBernoulli((4,))(params).dtype == tf.float32


def test_distributions_are_float64_under_a_float64_policy(float64):
    assert kgm.MultivariateNormalTriL(2)(tf.zeros((1, 5))).dtype == tf.float64


@pytest.mark.parametrize(
    "layer",
    [
        kgm.MultivariateNormalDiag(3),
        kgm.MultivariateNormalTriL(3),
        kgm.IndependentBernoulli((2, 2, 1), grey_values=True),
        kgm.IndependentNormal((2, 2, 1), stddev=0.5),
        kgm.IndependentNormal((2, 2, 1)),
        kgm.IndependentDiscretizedLogistic((2, 2, 1)),
        kgm.IndependentLogisticMixture((2, 2, 3), 2),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_come_back_from_their_config(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    assert copy.params_shape == layer.params_shape
    assert copy.compute_dtype == layer.compute_dtype


def test_full_posteriors_of_older_formats_load(float64):
    config = kgm.MultivariateNormalTriL(3).get_config()
    del config["scale_rows_by_diagonal"]
    # Format 1 did not scale the rows.
    copy = kgm.MultivariateNormalTriL.from_config(config)
    factor = copy(np.ones((1, 9))).scale_tril.numpy()[0]
    np.testing.assert_array_equal(factor[np.tril_indices(3, -1)], 1)
    for old in (True, False):
        copy = kgm.MultivariateNormalTriL.from_config(
            {**config, "relative": old}
        )
        assert copy.scale_rows_by_diagonal is old
    with pytest.warns(DeprecationWarning, match="scale_rows_by_diagonal"):
        layer = kgm.MultivariateNormalTriL(3, relative=False)
    assert layer.scale_rows_by_diagonal is False


@pytest.mark.parametrize(
    ("layer", "support", "is_normalized"),
    [
        (kgm.IndependentBernoulli(2), "binary", True),
        (
            kgm.IndependentBernoulli(2, grey_values=True),
            "unit_interval",
            False,
        ),
        (kgm.IndependentNormal(2), "real", True),
        (kgm.IndependentDiscretizedLogistic(2), "levels", True),
        (kgm.IndependentLogisticMixture((2, 2)), "levels", True),
    ],
)
def test_likelihoods_say_what_they_are_over(layer, support, is_normalized):
    assert (layer.support, layer.is_normalized) == (support, is_normalized)


def test_full_posterior_starts_with_the_variance_of_a_diagonal(
    float64,
):
    size = 50
    layer = kgm.MultivariateNormalTriL(size)
    params = np.random.default_rng(0).standard_normal((64, layer.params_size))
    factor = layer(params).scale_tril.numpy()
    variance = (factor**2).sum(-1)
    diagonal = np.diagonal(factor, axis1=1, axis2=2) ** 2
    assert 1 < np.mean(variance / diagonal) < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kgm.MultivariateNormalDiag(0), "positive integers"),
        (lambda: kgm.MultivariateNormalDiag((2, 2)), "must be one number"),
        (lambda: kgm.IndependentBernoulli((2.5,)), "positive integers"),
        (lambda: kgm.IndependentNormal((2,), stddev=0), "stddev must be > 0"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
