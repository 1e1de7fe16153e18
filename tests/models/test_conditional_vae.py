"""The conditional VAE: completion, labels, contracts, files."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from support.small_cvaes import (
    LIKELIHOODS,
    NUM_CLASSES,
    OBSERVED,
    SHAPE,
    assemble,
    dicts,
    images,
    labels,
    of_labels,
    of_parts,
    word_network,
)

import keras_genmodels as kgm
from keras_genmodels.core import seeds

# --- Completion. -----------------------------------------------------------


def pixel_log_probs(likelihood, model, params, x):
    """log p of each pixel, by NumPy and SciPy alone."""
    params = np.asarray(params, np.float64)
    if likelihood == "bernoulli":
        return np.where(
            x == 1,
            scipy.special.log_expit(params),
            scipy.special.log_expit(-params),
        )
    if likelihood == "gaussian":
        stddev = 1e-3 + np.exp(model.likelihood.log_stddev.numpy())
        return scipy.stats.norm(params, stddev).logpdf(x)
    loc, raw_scale = np.split(params, 2, axis=-1)
    scale = 0.02 / 255 + 0.1 * np.logaddexp(0, raw_scale)
    cdf = scipy.stats.logistic(0.5 + loc, scale).cdf
    upper = np.where(x == 1, 1, cdf(x + 0.5 / 255))
    return np.log(upper - np.where(x == 0, 0, cdf(x - 0.5 / 255)))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_distortion_covers_the_unobserved_pixels_only(likelihood):
    model = of_parts(likelihood, learned=True)
    x = images(5, levels=2 if likelihood == "bernoulli" else 256)
    c = x * OBSERVED
    terms = model.elbo_terms(x, c, seed=4)
    q = model.encode(x, c)
    noise = seeds.normal(seeds.row_seeds(4, 5), (2,))
    z = q.mean() + tf.linalg.matvec(np.linalg.cholesky(q.covariance()), noise)
    params = model.decoder([z, model.condition_network(c)])
    pixels = pixel_log_probs(likelihood, model, params, x.astype("float64"))
    expected = -pixels[:, ~OBSERVED].sum(1)
    # The logistic's tails subtract two numbers near one.
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-4)
    whole = -model.decode(z, c).log_prob(x).numpy()
    np.testing.assert_allclose(whole, -pixels.sum((1, 2, 3)), rtol=1e-4)

    np.testing.assert_array_equal(
        terms["reconstruction"].numpy()[:, OBSERVED], x[:, OBSERVED]
    )
    drawn = model.sample(condition=c, seed=0).numpy()
    np.testing.assert_array_equal(drawn[:, OBSERVED], x[:, OBSERVED])
    mean = model.decode(z, c).mean().numpy()
    np.testing.assert_allclose(
        terms["reconstruction"].numpy()[:, ~OBSERVED],
        mean[:, ~OBSERVED],
        rtol=1e-5,
    )
    assert np.abs(drawn - mean)[:, ~OBSERVED].max() > 1e-4


def test_observed_pixels_are_exact_under_bfloat16(bfloat16):
    model = of_parts("discretized_logistic")
    x = images(4, levels=256)
    np.testing.assert_array_equal(
        model.sample(condition=x, seed=0).numpy()[:, OBSERVED], x[:, OBSERVED]
    )
    model.compile(run_eagerly=True)
    reconstruction = model.predict(
        {"image": x, "condition": x * OBSERVED}, verbose=0
    )["reconstruction"]
    np.testing.assert_array_equal(reconstruction[:, OBSERVED], x[:, OBSERVED])


def test_unobserved_pixels_of_a_condition_are_ignored():
    model = of_parts()
    x = images(4)
    for use in (
        lambda c: model.elbo(x, c, seed=0),
        lambda c: model.sample(condition=c, seed=0),
        lambda c: model({"image": x, "condition": c})["distortion"],
    ):
        np.testing.assert_array_equal(use(x), use(x * OBSERVED))
    assert np.abs(model.elbo(x, 0 * x, seed=0) - model.elbo(x, x, seed=0)).max()


# --- Labels: guidance, dropout, none. --------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0])
def test_guidance_moves_the_logits(guidance):
    """logits = (1 + g) logits(z, c) - g logits(z, no label)."""
    model = of_labels(learned=True, label_dropout=0.1)
    y = np.array([2, 0, 1, 3])
    prior = model.prior(y)
    noise = seeds.normal(seeds.row_seeds(6, 4), (2,))
    z = prior.mean() + prior.stddev() * noise
    embed = model.condition_network
    given = model.decoder([z, embed(y)]).numpy()
    without = model.decoder([z, embed(np.full(4, NUM_CLASSES))]).numpy()
    logits = (1 + guidance) * given - guidance * without
    drawn = model.sample(condition=y, seed=6, guidance=guidance)
    np.testing.assert_allclose(drawn, scipy.special.expit(logits), rtol=1e-4)
    assert np.abs(given - without)[:3].max() > 0.05
    np.testing.assert_allclose(given[3], without[3], rtol=1e-5)


def dropped(model, n, training=True):
    """Which rows lost their label, by their distortion: see `telltale`."""
    data = {"image": np.ones((n, *SHAPE), "float32"), "condition": labels(n)}
    return model(data, training=training)["distortion"].numpy() > 20


def telltale(seed, **kwargs):
    """A model whose distortion is below 20 with a label and above without."""
    model = of_labels(seed=seed, label_dropout=0.3, **kwargs)
    table = np.zeros((NUM_CLASSES + 1, 5))
    table[NUM_CLASSES] = 1
    model.condition_network.set_weights([table])
    hidden, bias, kernel, offset = model.decoder.get_weights()
    hidden[:2] = 0
    hidden[2:] = 1
    model.decoder.set_weights([hidden, bias, 0 * kernel - 1, offset])
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


def test_label_dropout_draws_from_seed_and_step():
    model = telltale(seed=1)
    n = 4000
    first = dropped(model, n)
    # Four standard errors.
    assert abs(first.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    for label in range(NUM_CLASSES):
        assert abs(first[labels(n) == label].mean() - 0.3) < 0.06
    np.testing.assert_array_equal(dropped(telltale(seed=1), n), first)
    # Independent masks agree on 0.58 of the rows.
    assert abs((dropped(telltale(seed=2), n) == first).mean() - 0.58) < 0.04
    model.optimizer.iterations.assign(1)
    assert abs((dropped(model, n) == first).mean() - 0.58) < 0.04


def test_label_dropout_leaves_inference_alone():
    model = telltale(seed=1)
    assert not dropped(model, 500, training=False).any()
    results = model.evaluate(dicts(50), verbose=0, return_dict=True)
    other = of_labels()
    other.set_weights(model.get_weights())
    other.seed = 1
    other.compile(run_eagerly=True)
    assert other.evaluate(dicts(50), verbose=0, return_dict=True) == results
    # And no labels are dropped where none should be.
    plain = telltale(seed=1)
    plain.label_dropout = 0.0
    assert not dropped(plain, 500).any()


@pytest.mark.parametrize("learned", [False, True])
def test_a_condition_of_none_is_no_label(learned):
    model = of_labels("full", learned=learned, label_dropout=0.1)
    x, none = images(4), np.full(4, NUM_CLASSES)
    z = model.encode(x, none).mean()
    for one, other in (
        (model.encode(x).covariance(), model.encode(x, none).covariance()),
        (model.decode(z).mean(), model.decode(z, none).mean()),
        (model.prior().mean(), model.prior(none[:1]).mean()),
        (model.elbo(x, seed=0), model.elbo(x, none, seed=0)),
        (model.sample(num=4, seed=0), model.sample(condition=none, seed=0)),
    ):
        np.testing.assert_array_equal(one, other)
    assert np.abs(model.elbo(x, 0 * none, seed=0) - model.elbo(x, seed=0)).min()


def test_without_label_dropout_a_condition_is_needed():
    model = of_labels(learned=True)
    x = images(2)
    for use in (
        lambda: model.encode(x),
        lambda: model.decode(np.zeros((2, 2), "float32")),
        lambda: model.prior(),
        lambda: model.elbo(x, seed=0),
        lambda: model.sample(num=2, seed=0),
    ):
        with pytest.raises(ValueError, match="needs a condition"):
            use()
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 3"):
        model.encode(x, [0, NUM_CLASSES])
    with pytest.raises(
        ValueError, match="guidance must be >= 0 and finite, and 0"
    ):
        model.sample(condition=[0], seed=0, guidance=1.0)
    # N(0, I) is what it is.
    np.testing.assert_array_equal(of_labels().prior().mean(), [0, 0])


# --- Contracts. ------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
def test_a_sample_depends_on_its_condition_and_row_seed_alone(learned):
    model = of_labels("full", learned=learned)
    y = labels(6)
    sheet = model.sample(condition=y, seed=3).numpy()
    assert sheet.shape == (6, *SHAPE)
    np.testing.assert_allclose(
        model.sample(condition=y[:2], seed=3), sheet[:2], rtol=1e-5
    )
    rows = seeds.row_seeds(3, 6)
    for i in (1, 5):
        alone = model.sample(condition=y[i : i + 1], seed=rows[i : i + 1])
        np.testing.assert_allclose(alone, sheet[i : i + 1], rtol=1e-5)
    assert np.abs(model.sample(condition=y, seed=4) - sheet).max() > 1e-3
    assert (
        np.abs(model.sample(condition=(y + 1) % 3, seed=3) - sheet).max() > 1e-3
    )


def test_with_a_constant_condition_it_equals_a_vae(float64):
    model = of_labels("full")
    features = np.random.default_rng(0).standard_normal(5)
    table = np.tile(features, (NUM_CLASSES + 1, 1))
    model.condition_network.set_weights([table])
    vae = kgm.VAE(
        kgm.mlp_encoder(SHAPE, model.posterior.params_size, (16,)),
        kgm.mlp_decoder(2, model.likelihood.params_shape, (16,)),
        model.posterior,
        model.likelihood,
    )
    for mine, theirs in (
        (vae.encoder, model.encoder),
        (vae.decoder, model.decoder),
    ):
        kernel, bias, *rest = theirs.get_weights()
        mine.set_weights([kernel[:-5], bias + features @ kernel[-5:], *rest])
    x, y = images(6), labels(6)
    np.testing.assert_allclose(model.elbo(x, y, seed=2), vae.elbo(x, seed=2))
    np.testing.assert_allclose(
        model.sample(condition=y, seed=2), vae.sample(6, seed=2)
    )
    for model_terms, vae_terms in zip(
        model({"image": x, "condition": y}).values(),
        vae(x).values(),
        strict=True,
    ):
        np.testing.assert_allclose(model_terms, vae_terms)


def test_evaluate_is_the_average_whatever_the_batches_and_the_order(
    run_eagerly,
):
    model = of_labels(learned=True, label_dropout=0.4)
    model.compile(run_eagerly=run_eagerly)
    data = dicts(50)
    terms = model(data)
    order = np.random.default_rng(0).permutation(50)
    for batch_size, rows in ((50, order), (16, np.arange(50))):
        part = {key: value[rows] for key, value in data.items()}
        dataset = tf.data.Dataset.from_tensor_slices(part).batch(batch_size)
        results = model.evaluate(dataset, verbose=0, return_dict=True)
        for name in ("rate", "distortion"):
            mean = terms[name].numpy().mean()
            assert results[name] == pytest.approx(mean, rel=1e-5)
    assert results["elbo"] == pytest.approx(
        -(results["rate"] + results["distortion"]), rel=1e-6
    )


def test_beta_weighs_the_rate():
    model = of_labels(learned=True, beta=3.0)
    model.compile(run_eagerly=True)
    results = model.evaluate(dicts(), verbose=0, return_dict=True)
    assert results["loss"] == pytest.approx(
        results["distortion"] + 3 * results["rate"], rel=1e-5
    )


@keras.saving.register_keras_serializable("test_cvae")
class OwnEmbedding(keras.layers.Layer):
    """A user's own: as many rows as labels, and no input shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = self.add_weight(shape=(NUM_CLASSES, 5))

    def call(self, labels):
        return tf.gather(self.table, labels)


@pytest.mark.parametrize(
    ("network", "size", "condition", "num_classes"),
    [
        (OwnEmbedding, 5, labels(4), NUM_CLASSES),
        (word_network, 6, np.array([[1, 2], [3, 4], [5, 6], [0, 0]]), None),
        (
            lambda: kgm.image_condition((9, 7, 2), 4, filters=2),
            4,
            np.ones((4, 9, 7, 2), np.float32),
            None,
        ),
    ],
    ids=["own", "tokens", "image"],
)
def test_any_input_of_a_keras_network_can_be_a_condition(
    network, size, condition, num_classes
):
    model = assemble(network(), size, num_classes=num_classes, learned=True)
    x = images(4)
    assert model.elbo(x, condition, seed=0).shape == (4,)
    assert model.sample(condition, seed=0).shape == (4, *SHAPE)
    model.compile(run_eagerly=True)
    model.fit({"image": x, "condition": condition}, verbose=0)
    copy = model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        copy.elbo(x, condition, seed=0), model.elbo(x, condition, seed=0)
    )


def test_convolutional_networks_train():
    shape = (9, 7, 1)
    posterior = kgm.MultivariateNormalTriL(2)
    likelihood = kgm.IndependentBernoulli(shape)
    model = kgm.ConditionalVAE(
        kgm.conv_encoder(shape, posterior.params_size, 2, condition_size=3),
        kgm.conv_decoder(2, likelihood.params_shape, 2, condition_size=3),
        posterior,
        likelihood,
        kgm.label_embedding(2, 3),
        num_classes=2,
    )
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    x = np.random.default_rng(0).integers(0, 2, (8, *shape)).astype("float32")
    data = {"image": x, "condition": np.arange(8) % 2}
    losses = model.fit(data, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_bfloat16_networks_keep_a_float32_bound(bfloat16):
    model = of_labels("full", learned=True, label_dropout=0.1)
    data = dicts()
    terms = model(data)
    assert {value.dtype for value in terms.values()} == {tf.float32}
    guided = model.sample(condition=labels(), seed=0, guidance=2.0)
    assert guided.dtype == tf.float32
    keras.config.set_dtype_policy("float32")
    exact = of_labels("full", learned=True, label_dropout=0.1)
    exact.set_weights(model.get_weights())
    # bfloat16 has 8 bits of mantissa: half a percent of some 12 nats.
    np.testing.assert_allclose(
        exact.elbo(*data.values(), seed=0),
        model.elbo(*data.values(), seed=0),
        rtol=1e-2,
    )
    model.compile(run_eagerly=True)
    model.fit(data, verbose=0)


def test_float64_policy_gives_float64(float64):
    x = images()
    for model, c in ((of_labels(learned=True), labels()), (of_parts(), x)):
        assert model.elbo(x, c, seed=0).dtype == tf.float64
        assert model.sample(condition=c, seed=0).dtype == tf.float64


def test_monte_carlo_is_the_likelihood_of_one_draw_of_the_prior():
    model, x, c = of_labels(learned=True), images(6), labels(6)
    rows = seeds.row_seeds(3, 6)
    prior = model.prior(c)
    z = prior.loc + prior.scale.matvec(seeds.normal(rows, (2,)))
    np.testing.assert_allclose(
        model.monte_carlo(x, c, seed=3),
        model.decode(z, c).log_prob(x),
        rtol=1e-5,
    )
    # Observed entries are not counted.
    parts = of_parts()
    other = np.where(OBSERVED, images(6, seed=1), x)
    zeros = np.zeros_like(x)
    counted = parts.monte_carlo(x, zeros, seed=3)
    np.testing.assert_allclose(
        parts.monte_carlo(other, zeros, seed=3), counted, rtol=1e-6
    )
    assert np.abs(parts.monte_carlo(1 - x, zeros, seed=3) - counted).min() > 0


def test_conditions_of_any_length_are_embedded():
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(7, 5),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model = assemble(network, 5)
    for length in (1, 4):
        words = np.arange(3 * length).reshape(3, length) % 7
        assert model.sample(condition=words, seed=0).shape == (3, *SHAPE)


# --- Files. ----------------------------------------------------------------


def test_a_loaded_model_trains_on(tmp_path):
    model = of_labels(learned=True, label_dropout=0.3)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    model.fit(dicts(), epochs=2, verbose=0)
    model.save(tmp_path / "m.keras")
    copy = keras.saving.load_model(tmp_path / "m.keras")
    for one in (model, copy):
        one.fit(dicts(), verbose=0)
    for mine, theirs in zip(
        model.get_weights(), copy.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_labels_of_every_integer_type_are_the_same_labels():
    model = of_labels()
    x, classes = images(3), labels(3)
    expected = model.encode(x, classes).mean()
    for dtype in (f"{sign}int{bits}" for sign in "u " for bits in (8, 16, 32)):
        same = classes.astype(dtype.strip())
        np.testing.assert_array_equal(model.encode(x, same).mean(), expected)
    model.compile(run_eagerly=True)
    model.fit({"image": x, "condition": classes.astype("uint8")}, verbose=0)


def test_graphs_check_labels_of_small_types():
    model = of_labels()
    encode = tf.function(lambda x, c: model.encode(x, c).mean())
    encode(images(1), np.array([2], "uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="0 to 2, got"):
        encode(images(1), np.array([200], "uint8"))


def test_words_of_every_integer_type_are_the_same_words():
    model = assemble(word_network(), 6)
    words = np.arange(6).reshape(3, 2)
    expected = model.encode(images(3), words).mean()
    for dtype in ("uint8", "int16", "uint32"):
        found = model.encode(images(3), words.astype(dtype)).mean()
        np.testing.assert_array_equal(found, expected)
