"""Training a denoising autoencoder on pairs of noisy and clean events."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_genmodels as kgm

SHAPE = (4, 4, 1)
CLEAN = np.random.default_rng(0).random((12, *SHAPE), np.float32)
# Noise that no sigma describes.
NOISY = np.where(np.random.default_rng(1).random(CLEAN.shape) < 0.2, 1, CLEAN)
NOISY = NOISY.astype("float32")


def make_dae(sigma=(0.05, 1.5), **kwargs):
    keras.utils.set_random_seed(0)
    network = kgm.mlp_denoiser(
        SHAPE,
        noise_conditional=np.ndim(sigma) == 1 and not kwargs.get("blind"),
        hidden_sizes=(8,),
    )
    model = kgm.DenoisingAutoencoder(network, sigma=sigma, **kwargs)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        rows = slice(4 * i, 4 * i + 4)
        return NOISY[rows], CLEAN[rows]


def data_set():
    return tf.data.Dataset.from_tensor_slices((NOISY, CLEAN)).batch(4)


FORMS = {
    "two arguments": lambda: (NOISY, CLEAN),
    "tuple": lambda: ((NOISY, CLEAN),),
    "dict": lambda: ({"noisy": NOISY, "clean": CLEAN},),
    "data set": lambda: (data_set(),),
    "PyDataset": lambda: (Pairs(),),
}
SETTINGS = {"batch_size": 4, "shuffle": False, "verbose": 0}


@pytest.fixture(scope="module")
def expected():
    return make_dae(blind=True).fit(NOISY, CLEAN, **SETTINGS).history


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            form, marks=[pytest.mark.slow] * (form in ("tuple", "PyDataset"))
        )
        for form in FORMS
    ],
)
def test_pairs_train_alike_in_every_form(form, expected):
    model = make_dae(blind=True)
    data = FORMS[form]()
    settings = SETTINGS
    if form in ("data set", "PyDataset"):
        settings = {"shuffle": False, "verbose": 0}
    assert model.fit(*data, **settings).history == expected
    np.testing.assert_allclose(model.data_mean, CLEAN.mean(0), rtol=1e-5)
    results = model.evaluate(*data, verbose=0, return_dict=True)
    errors = np.square(model.denoise(NOISY) - CLEAN).sum((1, 2, 3))
    assert results["loss"] == pytest.approx(errors.mean(), rel=1e-5)
    assert results["squared_error"] == results["loss"]


def test_a_generator_of_pairs_needs_adapt_first():
    model = make_dae(blind=True)
    batches = Pairs()
    with pytest.raises(ValueError, match=r"call adapt\(data\) before fit"):
        model.fit((batches[i] for i in range(3)), verbose=0)
    model.adapt(CLEAN)
    model.fit((batches[i] for i in range(3)), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{"blind": True}, {"sigma": 0.1}])
def test_training_on_pairs_learns_to_remove_their_noise(kind):
    model = make_dae(**kind)
    history = model.fit(
        NOISY, CLEAN, epochs=8, validation_data=(NOISY, CLEAN), verbose=0
    ).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert history["val_loss"][-1] < 0.9 * history["val_loss"][0]
    found = model.predict(data_set(), verbose=0)["denoised"]
    np.testing.assert_allclose(found, model.denoise(NOISY), atol=1e-6)


def test_models_that_need_sigma_refuse_pairs():
    model = make_dae()
    for arguments in (
        (NOISY, CLEAN),
        ((NOISY, CLEAN),),
        (data_set(),),
        (Pairs(),),
    ):
        with pytest.raises(ValueError, match="lack the noise level") as refusal:
            model.fit(*arguments, verbose=0)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="lack the noise level"):
        model.evaluate(NOISY, CLEAN, verbose=0)
    with pytest.raises(ValueError, match="num_noise_draws=1, got 2"):
        make_dae(blind=True, num_noise_draws=2).fit(NOISY, CLEAN, verbose=0)
    with pytest.raises(ValueError, match="clean events of noisy x"):
        make_dae(blind=True).fit(NOISY, np.arange(12), verbose=0)
