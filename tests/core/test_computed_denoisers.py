"""Keras' verbs of denoisers that are computed, not trained."""

import keras
import numpy as np
import pytest
from support.small_models import COMPUTED, KINDS, PIXELS, adapted, make

import keras_genmodels as kgm


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_denoisers_denoise_when_called(kind):
    model, inputs = make(kind)
    x, sigma = inputs if isinstance(inputs, list) else (inputs, None)
    expected = model.denoise(x, sigma)
    np.testing.assert_array_equal(model(inputs), expected)
    if sigma is not None:
        both = {"image": x, "sigma": sigma}
        np.testing.assert_array_equal(model(both), expected)
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0), expected, atol=1e-6
    )
    model.compile(loss="mse", metrics=["mae"])
    results = model.evaluate(inputs, PIXELS, verbose=0, return_dict=True)
    error = expected - PIXELS
    assert results["loss"] == pytest.approx(np.square(error).mean(), rel=1e-4)
    assert results["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_denoisers_are_not_trained(kind):
    model, inputs = make(kind)
    for use in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"adapt\(data\) computes it"):
            use(inputs, PIXELS)


def fresh(model):
    return type(model).from_config(model.get_config())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_load_into_a_new_model(kind, tmp_path):
    model, inputs = make(kind)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    copy = fresh(model)
    copy.load_weights(path)
    keras.tree.map_structure(
        np.testing.assert_array_equal, copy(inputs), model(inputs)
    )
    if kind in COMPUTED:
        assert copy.sigma_range == model.sigma_range


def test_weights_of_another_rank_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    adapted(kgm.LinearDenoiser(rank=3)).save_weights(path)
    for rank in (2, None):
        model = kgm.LinearDenoiser(rank=rank)
        with pytest.raises(ValueError, match="are those of rank 3"):
            model.load_weights(path)
        assert not model.built
