"""The conditional VAE: completion, labels, contracts, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_cvaes import (
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
