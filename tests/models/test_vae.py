"""The VAE: identities, contracts, learning, and coming back from a file."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_vaes import SHAPE, binary_images, make_vae

import keras_genmodels as kgm
from keras_genmodels.core import seeds


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_elbo_equals_the_cost_computed_by_numpy(float64, posterior):
    """-elbo = cost + M/2 ln(2 pi s^2) - L/2, with the cost in NumPy."""
    s, latent_size, pixels = 0.3, 3, 64
    layer = {
        "diagonal": kgm.MultivariateNormalDiag,
        "full": kgm.MultivariateNormalTriL,
    }[posterior](latent_size)
    model = kgm.VAE(
        kgm.mlp_encoder(SHAPE, layer.params_size, (16,)),
        kgm.mlp_decoder(latent_size, SHAPE, (16,)),
        layer,
        kgm.IndependentNormal(SHAPE, stddev=s),
    )
    x = np.random.default_rng(0).random((5, *SHAPE))
    q = model.encode(x)
    mu, covariance = q.mean().numpy(), q.covariance().numpy()
    noise = seeds.normal(seeds.row_seeds(4, 5), (latent_size,), "float64")
    root = np.linalg.cholesky(covariance)
    z = mu + np.einsum("nij,nj->ni", root, noise)
    generated = model.decoder(z).numpy()
    cost = ((x - generated) ** 2).sum((1, 2, 3)) / (2 * s**2) + 0.5 * (
        (mu**2).sum(1)
        + np.trace(covariance, axis1=1, axis2=2)
        - np.linalg.slogdet(covariance)[1]
    )
    expected = cost + pixels / 2 * np.log(2 * np.pi * s**2) - latent_size / 2
    np.testing.assert_allclose(-model.elbo(x, seed=4), expected, rtol=1e-10)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_closed_form_rate_agrees_with_monte_carlo(float64, posterior):
    model = make_vae(posterior)
    # Far from the prior, so that the rate is of some size.
    for weight in model.encoder.weights:
        weight.assign(3 * weight)
    x = binary_images(4)
    q, prior = model.encode(x), model.prior()
    z = q.sample(40000, seed=[0, 1])
    estimate = (q.log_prob(z) - prior.log_prob(z)).numpy()
    error = estimate.std(0) / np.sqrt(len(estimate))
    rate = model.elbo_terms(x, seed=0)["rate"].numpy()
    assert rate.min() > 0.1
    np.testing.assert_array_less(np.abs(estimate.mean(0) - rate), 4 * error)


@pytest.mark.parametrize(
    ("posterior", "likelihood"),
    [
        ("full", "discretized_logistic"),
        pytest.param("diagonal", "gaussian", marks=pytest.mark.slow),
        pytest.param("diagonal", "bernoulli", marks=pytest.mark.slow),
    ],
)
def test_it_learns_one_batch_and_every_weight_has_a_gradient(
    posterior, likelihood
):
    model = make_vae(posterior, likelihood)
    model.compile(keras.optimizers.Adam(0.01))
    x = binary_images()
    with tf.GradientTape() as tape:
        terms = model(x, training=True)
        loss = tf.reduce_mean(terms["rate"] + terms["distortion"])
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(
        model.trainable_variables, gradients, strict=True
    ):
        assert np.abs(gradient).max() > 0, variable.path
    batches = tf.data.Dataset.from_tensors(x).repeat()
    history = model.fit(batches, steps_per_epoch=5, epochs=12, verbose=0)
    # The first step has the draws of the loss above.
    assert history.history["loss"][-1] < loss - 10


@pytest.mark.slow
def test_xla_trains_on_batches_of_several_sizes():
    model = make_vae("full")
    model.compile(keras.optimizers.Adam(0.01), jit_compile=True)
    losses = model.fit(
        binary_images(), batch_size=8, epochs=20, verbose=0
    ).history["loss"]
    assert losses[-1] < losses[0] - 3


def test_call_returns_the_terms(run_eagerly):
    model = make_vae()
    model.compile(run_eagerly=run_eagerly)
    x = binary_images(5)
    terms = model.predict(x, verbose=0)
    assert terms["reconstruction"].shape == (5, *SHAPE)
    assert terms["rate"].shape == terms["distortion"].shape == (5,)
    assert (terms["rate"] >= 0).all()


def test_evaluate_is_the_average_of_predict_whatever_the_batch_size(
    run_eagerly,
):
    model = make_vae()
    model.compile(run_eagerly=run_eagerly)
    x = binary_images(50)
    terms = model.predict(x, batch_size=7, verbose=0)
    for batch_size in (50, 16):
        results = model.evaluate(
            x, batch_size=batch_size, verbose=0, return_dict=True
        )
        for name in ("rate", "distortion"):
            assert results[name] == pytest.approx(terms[name].mean(), rel=1e-5)
        assert results["elbo"] == pytest.approx(
            -(results["rate"] + results["distortion"]), rel=1e-6
        )


def test_predict_is_a_function_of_the_row_and_the_seed(run_eagerly):
    model = make_vae(seed=1)
    model.compile(run_eagerly=run_eagerly)
    x = binary_images(9)
    forward = model.predict(x, batch_size=4, verbose=0)
    backward = model.predict(x[::-1], batch_size=9, verbose=0)
    np.testing.assert_allclose(
        forward["distortion"], backward["distortion"][::-1], rtol=1e-5
    )
    other = make_vae(seed=2)
    other.compile(run_eagerly=run_eagerly)
    other.set_weights(model.get_weights())
    again = other.predict(x, verbose=0)
    assert np.abs(again["distortion"] - forward["distortion"]).min() > 1e-4


def test_a_sample_depends_on_its_row_seed_alone():
    model = make_vae()
    sheet = model.sample(6, seed=3).numpy()
    assert sheet.shape == (6, *SHAPE)
    np.testing.assert_allclose(model.sample(2, seed=3), sheet[:2], rtol=1e-5)
    rows = seeds.row_seeds(3, 6)
    np.testing.assert_allclose(
        model.sample(2, seed=rows[4:]), sheet[4:], rtol=1e-5
    )
    assert np.abs(model.sample(6, seed=4) - sheet).max() > 1e-3
    assert len(np.unique(sheet.reshape(6, -1), axis=0)) == 6


def test_training_draws_depend_on_seed_and_step(run_eagerly):
    def weights_after(seed, steps):
        keras.utils.set_random_seed(0)
        model = make_vae(seed=seed)
        model.compile(keras.optimizers.SGD(1e-3), run_eagerly=run_eagerly)
        model.fit(binary_images(), batch_size=12, epochs=steps, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    first = weights_after(0, 2)
    np.testing.assert_array_equal(first, weights_after(0, 2))
    assert np.abs(first - weights_after(1, 2)).max() > 0
    # Each step draws anew: one batch at rate 0 gives two different losses.
    model = make_vae()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
    losses = model.fit(
        binary_images(), batch_size=12, epochs=2, verbose=0
    ).history["loss"]
    assert losses[0] != losses[1]


def test_beta_weighs_the_rate_and_warms_up(run_eagerly):
    x = binary_images()

    def logs(**kwargs):
        keras.utils.set_random_seed(0)
        model = make_vae(**kwargs)
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
        history = model.fit(x, batch_size=12, epochs=3, verbose=0).history
        return {name: np.array(values) for name, values in history.items()}

    plain = logs(beta=4.0)
    np.testing.assert_allclose(
        plain["loss"], plain["distortion"] + 4 * plain["rate"], rtol=1e-5
    )
    warm = logs(beta=4.0, rate_warmup_steps=2)
    np.testing.assert_allclose(
        warm["loss"],
        warm["distortion"] + np.array([0.0, 2.0, 4.0]) * warm["rate"],
        rtol=1e-5,
    )


def test_validation_has_the_full_beta_from_the_start(run_eagerly):
    model = make_vae(beta=2.0, rate_warmup_steps=1000)
    model.compile(run_eagerly=run_eagerly)
    results = model.evaluate(binary_images(), verbose=0, return_dict=True)
    assert results["loss"] == pytest.approx(
        results["distortion"] + 2 * results["rate"], rel=1e-5
    )


def test_sample_weights_weigh_the_examples(run_eagerly):
    model = make_vae()
    model.compile(run_eagerly=run_eagerly)
    x = binary_images(4)
    terms = model.predict(x, verbose=0)
    weight = np.array([0.0, 1.0, 0.0, 3.0], np.float32)
    # Keras' fit and evaluate drop the weights where there are no targets.
    results = model.test_on_batch(x, sample_weight=weight, return_dict=True)
    expected = (weight * terms["distortion"]).sum() / weight.sum()
    assert results["distortion"] == pytest.approx(expected, rel=1e-5)
    total = weight * (terms["distortion"] + terms["rate"])
    assert results["loss"] == pytest.approx(total.mean(), rel=1e-5)


def test_regularisation_losses_of_the_networks_are_added(run_eagerly):
    plain = make_vae()
    keras.utils.set_random_seed(0)
    posterior = kgm.MultivariateNormalDiag(3)
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(6, kernel_regularizer=keras.regularizers.L2(1)),
        ]
    )
    model = kgm.VAE(encoder, plain.decoder, posterior, plain.likelihood)
    model.compile(run_eagerly=run_eagerly)
    results = model.evaluate(binary_images(), verbose=0, return_dict=True)
    penalty = np.square(encoder.layers[-1].kernel).sum()
    assert results["loss"] == pytest.approx(
        -results["elbo"] + penalty, rel=1e-4
    )


def test_events_need_not_be_images(run_eagerly):
    posterior = kgm.MultivariateNormalTriL(2)
    likelihood = kgm.IndependentNormal((5,))
    model = kgm.VAE(
        keras.Sequential([keras.layers.Dense(posterior.params_size)]),
        keras.Sequential([keras.layers.Dense(likelihood.params_size)]),
        posterior,
        likelihood,
    )
    model.compile(run_eagerly=run_eagerly)
    model.fit(np.ones((8, 5), np.float32), verbose=0)
    assert model.sample(3, seed=0).shape == (3, 5)


def test_bfloat16_networks_keep_a_float32_bound(bfloat16, run_eagerly):
    model = make_vae()
    x = binary_images()
    assert model.encoder(x).dtype == tf.bfloat16
    terms = model(x)
    assert {value.dtype for value in terms.values()} == {tf.float32}
    keras.config.set_dtype_policy("float32")
    exact = make_vae()
    exact.set_weights(model.get_weights())
    # bfloat16 has 8 bits of mantissa: half a percent of some 45 nats.
    np.testing.assert_allclose(
        exact.elbo(x, seed=0), model.elbo(x, seed=0), rtol=5e-3
    )
    model.compile(run_eagerly=run_eagerly)
    model.fit(x, verbose=0)


def test_float64_policy_gives_float64(float64, run_eagerly):
    model = make_vae()
    assert model.elbo(binary_images(), seed=0).dtype == tf.float64
    model.compile(run_eagerly=run_eagerly)
    model.fit(binary_images(), verbose=0)


def test_a_loaded_model_trains_on(tmp_path, run_eagerly):
    model = make_vae()
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=run_eagerly)
    x = binary_images()
    model.fit(x, epochs=2, verbose=0)
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    for one in (model, copy):
        one.fit(x, epochs=1, verbose=0)
    for mine, theirs in zip(
        model.get_weights(), copy.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
