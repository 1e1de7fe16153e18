"""VAEs with several layers of latents: exact answers, bounds, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import small_hierarchies
from support.importance_bounds import gradient_statistics, pair
from support.small_hierarchies import (
    ROOT,
    SHIFT_A,
    joint_data,
    linear_hvae,
    make_hvae,
)
from support.small_priors import KINDS
from support.small_vaes import binary_images

import keras_genmodels as kgm
from keras_genmodels.core import seeds
from keras_genmodels.core.model_config import copy_model
from keras_genmodels.distributions import latents

# --- Exact answers. --------------------------------------------------------


def test_with_the_true_conditionals_every_weight_is_the_likelihood(float64):
    model, x = linear_hvae(), joint_data(6)
    exact = small_hierarchies.log_likelihood(x)
    noise = np.random.default_rng(0).standard_normal((5, 6, 4))
    weights = model.log_weights(x, noise=noise)
    np.testing.assert_allclose(weights, [exact] * 5, rtol=1e-9)
    # For any z, such as one that TFP draws.
    q = model.encode(x)
    assert q.batch_shape == (6,)
    assert q.event_shape == model.latent_size == 4
    for z in (q.sample(3, seed=1), model.prior().sample((3, 6), seed=2)):
        likelihood = [model.decode(each).log_prob(x) for each in z]
        found = model.prior().log_prob(z) + likelihood - q.log_prob(z)
        np.testing.assert_allclose(found, [exact] * 3, rtol=1e-9)


@pytest.mark.parametrize("doubly", [False, True])
def test_the_doubly_reparameterised_gradient_has_no_variance_there(
    float64, doubly
):
    model = linear_hvae(num_importance_samples=3, doubly_reparameterized=doubly)
    model.compile()
    x = tf.constant(joint_data(6))
    weights = [model.encoder, *model.posterior_networks]
    weights = [weight for it in weights for weight in it.trainable_variables]
    with tf.GradientTape() as tape:
        bound = model(x, training=True)["importance_weighted"]
    gradients = tape.gradient(bound, weights)
    np.testing.assert_allclose(
        bound, small_hierarchies.log_likelihood(x), rtol=1e-9
    )
    largest = [np.abs(gradient).max() for gradient in gradients]
    assert max(largest) < 1e-8 if doubly else min(largest) > 1e-2


@pytest.mark.slow
def test_bounds_lie_below_the_exact_likelihood(float64):
    model = linear_hvae(widen=1.5)
    x = np.repeat(joint_data(4), 2000, axis=0)
    exact = small_hierarchies.log_likelihood(x)
    noise = np.random.default_rng(0).standard_normal((1, len(x), 4))
    log_weights = model.log_weights(x, noise=noise)[0] - exact
    weights = np.exp(log_weights).reshape(4, -1)
    error = weights.std(1) / np.sqrt(weights.shape[1])
    np.testing.assert_array_less(np.abs(weights.mean(1) - 1), 4 * error)
    # The rate in closed form has the mean of that of the draws.
    elbo = (model.elbo(x, seed=0) - exact).numpy()
    error = np.std(elbo) / np.sqrt(len(x))
    assert -1 < np.mean(elbo) < -4 * error
    assert abs(np.mean(elbo) - np.mean(log_weights)) < 6 * error
    few, exact = x[::2000], exact[::2000]
    bound = kgm.log_likelihood(model, few, num_samples=900, jit_compile=False)
    error = weights.std(1) / np.sqrt(900)
    np.testing.assert_array_less(np.abs(bound - exact), 4 * error)


def test_draws_of_the_prior_have_its_covariance(float64):
    """Also between the layers, which are drawn from the seed of one row."""
    model, num = linear_hvae(), 4000
    rows = seeds.row_seeds(0, num)
    found = model._draw_prior(rows, None).numpy()
    root = np.linalg.cholesky((ROOT @ ROOT.T)[:4, :4])
    mean = [*SHIFT_A, 0, 0]
    for z in (found, model.prior().sample(num, seed=1).numpy()):
        noise = np.linalg.solve(root, (z - mean).T)
        assert np.abs(noise.mean(1)).max() < 4 / np.sqrt(num)
        moments = noise @ noise.T / num - np.eye(4)
        assert np.abs(moments).max() < 4 * np.sqrt(2 / num)
    again = model._draw_prior(rows[5:8], None)
    np.testing.assert_allclose(again, found[5:8], rtol=1e-9)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vamp", marks=pytest.mark.slow),
        pytest.param("standard", marks=pytest.mark.exhaustive),
    ],
)
def test_both_gradients_agree_in_expectation(float64, kind):
    x = binary_images(3).astype("f8")
    found = [
        gradient_statistics(model, x, 300)
        for model in pair(lambda **kw: make_hvae(prior=kind, **kw), count=3)
    ]
    means, errors = zip(*found, strict=True)
    scale = np.maximum(np.hypot(*errors), 1e-9)
    assert (np.abs(means[0] - means[1]) < 4.5 * scale).all()
    assert not np.allclose(means[0], means[1], rtol=1e-6)


# --- The distributions. ----------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "vamp",
        *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS[:-1]),
    ],
)
def test_bounds_and_samples_follow_from_the_distributions(kind):
    model, x = make_hvae(prior=kind), binary_images(4)
    noise = np.random.default_rng(0).standard_normal((3, 4, 5), np.float32)
    q, prior = model.encode(x), model.prior()
    z = latents.transform(q, noise)
    ratio = prior.log_prob(z) - q.log_prob(z)
    likelihood = [model.decode(each).log_prob(x) for each in z]
    np.testing.assert_allclose(
        model.log_weights(x, noise=noise), likelihood + ratio, rtol=1e-4
    )
    assert model.elbo_terms(x, seed=1)["rate"].shape == (4,)
    sample = model.sample(5, seed=2)
    np.testing.assert_array_equal(model.sample(5, seed=2), sample)
    assert len(np.unique(sample[:, 0, 0])) == 5
    assert prior.batch_shape == ()
    assert prior.log_prob(z[0, 0]).shape == ()
    means = prior.layer_means()
    assert means.shape == (5,)
    if kind != "flow":
        top = prior.layers_at(z)[-1]
        np.testing.assert_allclose(means[3:], top.mean(), rtol=1e-5)


@pytest.mark.slow
def test_each_of_three_layers_depends_on_those_above():
    model, x = make_hvae((3, 2, 1), "full"), binary_images(4)
    assert model.latent_sizes == (3, 2, 1)
    assert model.latent_size == 6
    noise = np.random.default_rng(0).standard_normal((1, 4, 6), np.float32)
    for distribution in (model.encode(x), model.prior()):
        z = tf.constant(latents.transform(distribution, noise))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            means = [
                tf.reduce_sum(layer.mean())
                for layer in distribution.layers_at(z)[:-1]
            ]
        lowest, middle = (tape.gradient(m, z)[0].numpy() for m in means)
        assert (lowest[:, :3] == 0).all()
        assert (lowest[:, 3:] != 0).all()
        assert (middle[:, :5] == 0).all()
        assert (middle[:, 5] != 0).all()
    weights = model.log_weights(x, noise=noise)
    z = latents.transform(model.encode(x), noise)
    ratio = model.prior().log_prob(z) - model.encode(x).log_prob(z)
    np.testing.assert_allclose(
        weights, ratio + model.decode(z[0]).log_prob(x), rtol=1e-4
    )


def test_the_means_of_the_layers_are_passed_downward(float64):
    model, x = linear_hvae(), joint_data(3)
    z = model.encode(x).layer_means().numpy()
    # Of Gaussians with linear means it is the mean of z given x.
    joint = ROOT @ ROOT.T
    gain = np.linalg.solve(joint[4:, 4:], joint[4:, :4]).T
    expected = (
        small_hierarchies.MEAN[:4] + (x - small_hierarchies.MEAN[4:]) @ gain.T
    )
    np.testing.assert_allclose(z, expected, atol=1e-9)
    np.testing.assert_array_equal(latents.center(model.encode(x)), z)
    np.testing.assert_array_equal(latents.parameters(model.encode(x))["z"], z)


# --- Training and files. ---------------------------------------------------


def test_files_and_copies_keep_the_model(tmp_path):
    model, x = make_hvae(prior="mixture"), binary_images(4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    noise = np.zeros((1, 4, 5), np.float32)
    for copy in (loaded, copy_model(model)):
        assert type(copy) is kgm.HierarchicalVAE
        assert copy.latent_sizes == (3, 2)
        np.testing.assert_array_equal(
            copy.log_weights(x, noise=noise), model.log_weights(x, noise=noise)
        )


@pytest.mark.slow
def test_a_vamp_prior_calls_the_encoder_of_its_model(tmp_path):
    model = make_hvae(prior="vamp")
    model.adapt(binary_images(8))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    z = np.zeros((1, 5), np.float32)
    for copy in (loaded, copy_model(model)):
        assert copy.adapted
        before = model.prior().layers_at(z)[-1].log_prob(z[:, 3:])
        found = copy.prior().layers_at(z)[-1].log_prob(z[:, 3:])
        np.testing.assert_array_equal(found, before)
        copy.encoder.layers[-1].bias.assign_add(np.ones(8))
        found = copy.prior().layers_at(z)[-1].log_prob(z[:, 3:])
        assert np.abs(found - before).max() > 1e-4


@pytest.mark.parametrize(
    "kind", ["standard", pytest.param("vamp", marks=pytest.mark.slow)]
)
def test_every_weight_is_trained(kind):
    model = make_hvae(prior=kind)
    model.adapt(binary_images(8))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile("sgd", run_eagerly=True)
    model.fit(binary_images(8), epochs=1, verbose=0)
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.abs(weight - old).max() > 0, weight.path


@pytest.mark.parametrize(
    "kind", ["mixture", pytest.param("standard", marks=pytest.mark.slow)]
)
def test_free_bits_bound_the_mean_rate_of_each_layer_in_training(kind):
    model, x = make_hvae(free_bits=1.0, prior=kind), binary_images(12)
    # The layer next to x has the larger rate.
    model.posterior_networks[0].layers[-1].bias.assign([3] * 3 + [0] * 3)
    model.compile("sgd", run_eagerly=True)
    terms = model(x, training=True)
    draws = model._draw(
        tf.constant(x), model._call_noise(tf.constant(x), True), None
    )
    rates = [np.mean(rate) for rate in draws._rates_of_layers()]
    assert rates[0] > 1 > rates[1]
    loss = model.compute_loss(x, None, terms).numpy()
    expected = terms["distortion"].numpy().mean() + rates[0] + 1
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(np.mean(terms["rate"]), sum(rates), rtol=1e-4)
    evaluated = model.evaluate(x, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(-evaluated["elbo"])


@pytest.mark.slow
def test_xla_trains_on_the_importance_weighted_bound():
    model = make_hvae(
        prior="flow", num_importance_samples=3, doubly_reparameterized=True
    )
    model.compile(keras.optimizers.Adam(0.01), jit_compile=True)
    history = model.fit(binary_images(24), epochs=20, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0] - 1


@pytest.mark.slow
def test_networks_in_bfloat16_keep_a_float32_bound(bfloat16):
    model, x = make_hvae(prior="flow"), binary_images(3)
    assert {value.dtype for value in model(x).values()} == {tf.float32}
    assert np.isfinite(model.elbo(x, seed=0)).all()


@pytest.fixture(scope="module")
def fixed():
    return make_hvae()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posteriors": [kgm.MultivariateNormalDiag(2)]}, "two or more"),
        ({"posteriors": [3, 2]}, "must be a distribution layer"),
        ({"prior_networks": []}, "a list of 1 networks, got 0"),
        ({"posterior_networks": None}, "a list of 2 networks, got None"),
        ({"prior": kgm.StandardNormal(3)}, "3, and the top layer of 2"),
        (
            {"encoder": keras.Sequential([keras.layers.Reshape((8, 8))])},
            r"features \[batch, width\]",
        ),
        (
            {"prior_networks": [kgm.mlp_encoder((2,), 5, ())]},
            "network 0 of prior_networks must return",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(fixed, change, message):
    given = {
        name: getattr(fixed, name)
        for name in (
            "encoder",
            "decoder",
            "posteriors",
            "likelihood",
            "posterior_networks",
            "prior_networks",
        )
    }
    with pytest.raises(ValueError, match=message):
        kgm.HierarchicalVAE(**{**given, **change})
