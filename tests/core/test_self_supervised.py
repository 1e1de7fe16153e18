"""The random numbers of training steps, of all models that train."""

import keras
import numpy as np
import pytest
from support.small_cvaes import dicts, of_labels
from support.small_vaes import binary_images, make_vae

import keras_genmodels as kgm

PIXELS = np.random.default_rng(0).random((8, 4, 4, 1), np.float32)


def make_autoencoder():
    network = kgm.mlp_denoiser(
        (4, 4, 1), noise_conditional=False, hidden_sizes=(8,)
    )
    return kgm.DenoisingAutoencoder(network, sigma=0.3)


KINDS = {
    "vae": (lambda: make_vae(rate_warmup_steps=3), binary_images(8)),
    "conditional": (lambda: of_labels(label_dropout=0.5), dicts(8)),
    "denoiser": (make_autoencoder, PIXELS),
}


def losses(kind, optimizer, **compile_settings):
    """Returns the losses of three steps that change no weight."""
    make, data = KINDS[kind]
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(optimizer, **compile_settings)
    history = model.fit(data, batch_size=8, epochs=3, verbose=0).history
    return history["loss"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind != "conditional"))
        for kind in KINDS
    ],
)
def test_with_gradient_accumulation_each_batch_has_draws_of_its_own(
    kind, run_eagerly
):
    settings = {"run_eagerly": run_eagerly, "jit_compile": False}
    plain = losses(kind, keras.optimizers.SGD(0.0), **settings)
    accumulating = keras.optimizers.SGD(0.0, gradient_accumulation_steps=2)
    assert losses(kind, accumulating, **settings) == plain
    assert len(set(plain)) == 3


# Tracing takes longer than a second.
@pytest.mark.parametrize(
    "kind",
    [
        "denoiser",
        pytest.param("vae", marks=pytest.mark.slow),
        pytest.param("conditional", marks=pytest.mark.slow),
    ],
)
def test_a_model_can_be_trained_and_saved_after_an_error_in_training(
    kind, tmp_path, monkeypatch
):
    make, data = KINDS[kind]
    model = make()
    if kind == "denoiser":
        model.adapt(data)
    model.compile("adam", jit_compile=False)
    with monkeypatch.context() as patch:
        patch.setattr(model, "_per_example_loss", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.fit(data, verbose=0)
    model.fit(data, verbose=0)
    assert int(model.optimizer.iterations) == 1
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")
