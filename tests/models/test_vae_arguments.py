"""Arguments and data that a VAE refuses."""

import keras
import numpy as np
import pytest
from support.small_vaes import SHAPE, binary_images, make_vae

import keras_genmodels as kgm


def _assemble(**changes):
    posterior = kgm.MultivariateNormalDiag(3)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    pieces = {
        "encoder": kgm.mlp_encoder(SHAPE, posterior.params_size, (4,)),
        "decoder": kgm.mlp_decoder(3, likelihood.params_shape, (4,)),
        "posterior": posterior,
        "likelihood": likelihood,
    }
    return kgm.VAE(**{**pieces, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": -1.0}, "beta must be >= 0, got -1.0"),
        ({"beta": float("nan")}, "beta must be >= 0"),
        ({"rate_warmup_steps": -1}, "rate_warmup_steps must be an int >= 0"),
        ({"rate_warmup_steps": 2.5}, "rate_warmup_steps must be an int >= 0"),
        (
            {"rate_warmup_steps": float("inf")},
            "rate_warmup_steps must be an int >= 0",
        ),
        ({"seed": -3}, "seed must be"),
        ({"posterior": "diagonal"}, "posterior must be a distribution layer"),
        (
            {"likelihood": keras.layers.Dense(3)},
            "likelihood must be a distribution layer",
        ),
        (
            {"posterior": kgm.IndependentNormal((3,), stddev=1.0)},
            "posterior must be",
        ),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _assemble(**changes)


def test_pieces_that_do_not_fit_are_refused():
    message = r"encoder must return .*\[batch, 6\], got float32 \[batch, 5\]"
    with pytest.raises(ValueError, match=message):
        _assemble(encoder=kgm.mlp_encoder(SHAPE, 5, (4,)))
    with pytest.raises(ValueError, match=r"decoder must .*\[batch, 12\]"):
        _assemble(decoder=kgm.mlp_decoder(3, (12,), (4,)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 8, 8), np.float32), r"shape \[batch, 8, 8, 1\]"),
        (np.zeros((2, 8, 7, 1), np.float32), r"got \(2, 8, 7, 1\)"),
        (np.zeros((2, *SHAPE), np.uint8), "floating type .*got uint8"),
    ],
)
def test_events_of_another_shape_or_type_are_refused(x, message):
    model = make_vae()
    for use in (model.encode, lambda x: model.elbo(x, seed=0), model):
        with pytest.raises(ValueError, match=message):
            use(x)


def test_training_mode_requires_a_compiled_model():
    with pytest.raises(ValueError, match="compile first"):
        make_vae()(binary_images(), training=True)


def test_targets_and_foreign_losses_are_refused():
    x = binary_images()
    model = make_vae()
    model.compile()
    with pytest.raises(ValueError, match=r"fit\(x\), not fit\(x, y\)"):
        model.fit(x, x, verbose=0)
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"its own loss .* without {name}"):
            make_vae().compile(**{name: ["mse"]})


@pytest.mark.parametrize(
    "method", ["evaluate", pytest.param("fit", marks=pytest.mark.slow)]
)
def test_grey_images_are_refused_by_a_bernoulli(method):
    model = make_vae()
    model.compile()
    with pytest.raises(ValueError, match="binarise") as error:
        getattr(model, method)(np.full((4, *SHAPE), 0.5, "float32"), verbose=0)
    assert "\n" not in str(error.value)
