"""What a conditional VAE refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.small_cvaes import (
    NUM_CLASSES,
    OBSERVED,
    SHAPE,
    assemble,
    images,
    labels,
    of_labels,
    of_parts,
    word_network,
)

import keras_genmodels as kgm


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": -1.0}, "beta must be >= 0, got -1.0"),
        ({"seed": -3}, "seed must be"),
        ({"posterior": 3}, "posterior must be a distribution layer"),
        ({"num_classes": 0}, "num_classes must be an int >= 1, got 0"),
        ({"label_dropout": 1.0}, r"label_dropout must be in \[0, 1\), got 1"),
        ({"label_dropout": -0.1}, r"must be in \[0, 1\), got -0.1"),
        ({"label_dropout": float("nan")}, r"must be in \[0, 1\), got nan"),
        (
            {"num_classes": None, "label_dropout": 0.1},
            "label_dropout requires num_classes",
        ),
        (
            {"num_classes": NUM_CLASSES + 2},
            "no row for label 4: it needs 5 rows",
        ),
        ({"observed_mask": OBSERVED}, "excludes num_classes"),
        (
            {"num_classes": None, "condition_network": keras.Sequential()},
            "one input of a given shape",
        ),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    good = of_labels()
    arguments = good._arguments()
    with pytest.raises(ValueError, match=message):
        kgm.ConditionalVAE(**{**arguments, **changes})


def test_pieces_that_do_not_fit_are_refused():
    for name, network, shapes in (
        ("encoder", kgm.mlp_encoder(SHAPE, 5, (4,), 5), (4, 5)),
        ("decoder", kgm.mlp_decoder(2, (7,), (4,), 5), ("4, 4, 1", 7)),
        ("prior_network", kgm.mlp_prior(5, 3), (4, 3)),
    ):
        expected, got = (rf"\[batch, {shape}\]" for shape in shapes)
        message = f"{name} must return .*{expected}, got float32 {got}"
        with pytest.raises(ValueError, match=message):
            of_labels(**{name: network})


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (OBSERVED.astype(int), "observed_mask must be bool .*got int64"),
        (
            OBSERVED[..., 0],
            r"observed_mask must be bool \(4, 4, 1\), got bool \(4, 4\)",
        ),
        (OBSERVED | True, "nothing to complete"),
    ],
)
def test_a_bad_observed_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        of_parts(observed_mask=mask)
    network = kgm.image_condition((4, 3, 1), 5, filters=2)
    with pytest.raises(ValueError, match=r"takes \(4, 3, 1\)"):
        assemble(network, 5, observed_mask=OBSERVED)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([0, 5], r"labels must be 0 to 2, got 5"),
        ([-1, 0], r"labels must be 0 to 2, got -1"),
        ([0.0, 1.0], r"integer labels \[batch\], got float32 \(2,\)"),
        ([[0], [1]], r"got int32 \(2, 1\): pass labels\[:, 0\]"),
        (np.array([0, 200], "uint8"), "labels must be 0 to 2, got 200"),
        (np.array([0, 2**40]), f"labels must be 0 to 2, got {2**40}"),
        (["a", "b"], r"integer labels \[batch\], got string \(2,\)"),
        ([True, False], r"integer labels \[batch\], got bool"),
        (1, r"integer labels \[batch\], got int32 \(\)"),
        ([0, 1, 2], "got 3 conditions for 2 rows"),
    ],
)
def test_bad_labels_are_refused(condition, message):
    model = of_labels()
    x, z = images(2), np.zeros((2, 2), np.float32)
    for use in (
        lambda: model.encode(x, condition),
        lambda: model.decode(z, condition),
        lambda: model.elbo(x, condition, seed=0),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            use()
        assert "\n" not in str(refusal.value)
    # Keras puts its own lines around it.
    with pytest.raises(ValueError, match=message):
        model({"image": x, "condition": tf.constant(condition)})
    if "rows" not in message:
        with pytest.raises(ValueError, match=message):
            model.sample(condition=condition, seed=0)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), r"float32 \[batch, 4, 4, 1\], got"),
        (np.zeros((2, *SHAPE), np.uint8), "condition must be float32"),
        (np.zeros((3, *SHAPE), np.float32), "got 3 conditions for 2 rows"),
        (None, "needs a condition"),
    ],
)
def test_bad_parts_are_refused(condition, message):
    model = of_parts()
    with pytest.raises(ValueError, match=message):
        model.elbo(images(2), condition, seed=0)


def test_bad_tokens_are_refused():
    model = assemble(word_network(), 6)
    for tokens, got in (
        (np.zeros((2, 3), int), r"got int64 \(2, 3\)"),
        (np.zeros((2, 2)), "got float64"),
    ):
        with pytest.raises(ValueError, match=r"int32 \[batch, 2\], " + got):
            model.encode(images(2), tokens)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image": images(2)}, "'condition' is missing"),
        ({"condition": labels(2)}, "'image' is missing"),
        (images(2), "takes dicts of image and condition, .* got a"),
        (
            {"image": images(2)[..., 0], "condition": labels(2)},
            r"image must have shape \[batch, 4, 4, 1\]",
        ),
    ],
)
def test_bad_data_is_refused(data, message):
    model = of_labels()
    model.compile(run_eagerly=True)
    for use in (model, lambda x: model.fit(x, verbose=0)):
        with pytest.raises(ValueError, match=message):
            use(data)


# The quick tests have it for `evaluate`, in test_keras_verbs.py.
@pytest.mark.slow
@pytest.mark.parametrize("method", ["evaluate", "fit"])
def test_an_unknown_label_in_a_data_set_is_refused(method):
    data = {"image": images(4), "condition": np.array([0, 1, 9, 2])}
    model = of_labels()
    model.compile()
    with pytest.raises(ValueError, match=r"labels must be 0 to 2, got 9"):
        getattr(model, method)(data, verbose=0)
    # XLA drops the check, so that the loss must be infinite.
    distortion = tf.function(model, jit_compile=True)(
        {key: tf.constant(value) for key, value in data.items()}
    )["distortion"]
    np.testing.assert_array_equal(
        np.isinf(distortion), [False, False, True, False]
    )


def test_sample_takes_a_condition_or_a_number():
    model = of_labels(label_dropout=0.1)
    for kwargs in ({}, {"condition": [0], "num": 1}):
        with pytest.raises(ValueError, match="either num or condition"):
            model.sample(**kwargs, seed=0)
    for guidance in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="guidance must be >= 0"):
            model.sample(condition=[0], seed=0, guidance=guidance)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample(num=0, seed=0), "num must be an int >= 1"),
        (
            lambda m: m.sample(num=2, seed=0, guidance=1.0),
            "0 without a label",
        ),
        (
            lambda m: m.sample(condition=[1], seed=0, guidance=[1.0]),
            "guidance must be one number",
        ),
        (
            lambda m: m.sample(condition=[1], seed=0, guidance=np.inf),
            "guidance must be >= 0 and finite",
        ),
        (
            lambda m: m.sample(condition=[2**32], seed=0),
            "labels must be 0 to 2",
        ),
        (lambda m: m.prior([99]), "labels must be 0 to 2, got 99"),
    ],
)
def test_bad_arguments_of_sample_and_prior_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(of_labels(label_dropout=0.1))
