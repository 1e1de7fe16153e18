"""Labels and guidance that a denoiser refuses."""

import numpy as np
import pytest
from support.labelled_denoisers import events, tiny

import keras_genmodels as kgm

X = np.float32(events(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.denoise(X, 0.5, [0, 3]), "labels must be 0 to 1, got 3"),
        (lambda m: m.denoise(X, 0.5, [0.0, 1.0]), "must be integer labels"),
        (lambda m: m.denoise(X, 0.5, [0, 1, 1]), "3 conditions for 2 rows"),
        (lambda m: m.denoise(X, 0.5, 1, -1.0), "guidance must be >= 0"),
        (lambda m: m.denoise(X, 0.5, guidance=1.0), "0 without a label"),
        (
            lambda m: m.denoise(X, 0.5, 1, [1.0, 2.0, 3.0]),
            "one for each of the 2 samples",
        ),
        (
            lambda m: m.sample(condition=[0, 1, 1], seed=0, guidance=[1, 2]),
            "one for each of the 3 samples",
        ),
        (lambda m: m.sample(2, [1, 0], seed=0), "num or condition"),
        (lambda m: m.sample(seed=0), "num or condition"),
        (lambda m: m.sample(condition=[[1]], seed=0), r"pass labels\[:, 0\]"),
        (lambda m: kgm.restore(m, X, sigma=1.0, condition=[1]), "1 conditions"),
        (lambda m: m(X), "takes dicts of image and condition"),
        (lambda m: m({"image": X}), "'condition' is missing"),
        (lambda m: m.fit(X, X), "dicts of image and condition, without targ"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.denoise(X, 0.5), "needs a condition"),
        (lambda m: m.sample(2, seed=0), "needs a condition"),
        (lambda m: kgm.restore(m, X, sigma=0.5), "needs a condition"),
        (lambda m: m.denoise(X, 0.5, 2), "labels must be 0 to 1, got 2"),
        (
            lambda m: m.sample(condition=[1], seed=0, guidance=1.0),
            "guidance .* without label dropout",
        ),
    ],
)
def test_without_label_dropout_a_label_is_required(call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny(label_dropout=0.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be an int >= 1"),
        ({"label_dropout": 0.1}, "label_dropout requires num_classes"),
        (
            {"num_classes": 2, "label_dropout": 1.0},
            r"label_dropout must be in \[0, 1\)",
        ),
        ({"num_classes": 2}, r"must take \[events, levels, labels\]"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    network = kgm.mlp_denoiser((3,), hidden_sizes=(2,))
    with pytest.raises(ValueError, match=message):
        kgm.DenoisingAutoencoder(network, **arguments)
