"""Conditional VAEs of labels: guidance, dropout, integer types."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from support.small_cvaes import (
    NUM_CLASSES,
    SHAPE,
    assemble,
    dicts,
    images,
    labels,
    of_labels,
    word_network,
)

from keras_genmodels.core import seeds


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
