"""VAEs of 50 latents with each prior: trained, exported and served."""

import re
import sys

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from support.app_runs import run, succeed
from support.toy_server import predict_request, started
from tensorflow_serving.apis import prediction_service_pb2_grpc

import keras_genmodels as kgm

PRIORS = ("standard", "flow", "mixture", "vamp")
NUM_LATENTS = 50
SEEDS = np.array([[0, 1], [0, 2], [0, 1]], np.int32)

# A training, an export and a server of four models.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(folder):
    """Loaded models by prior, each exported to the folder models/."""
    loaded = {}
    for prior in PRIORS:
        workdir = folder / prior
        train = (
            *(f"--workdir={workdir}", f"--prior={prior}", "--epochs=3"),
            *(f"--latent_size={NUM_LATENTS}", "--network=mlp"),
            *("--hidden_sizes=32", "--jit_compile=false"),
        )
        succeed(run("train_vae", *train))
        succeed(
            run(
                "export",
                f"--workdir={workdir}",
                f"--export_dir={folder / 'models'}",
                f"--name={prior}",
            )
        )
        loaded[prior] = keras.saving.load_model(workdir / "model.keras")
    return loaded


@pytest.fixture(scope="module")
def stub(folder, models):
    command = [
        *(sys.executable, "-m", "apps.serve", "--port=0"),
        f"--export_dir={folder / 'models'}",
    ]
    with started(command) as process:
        line = process.stdout.readline()
        address = re.search(r"127\.0\.0\.1:\d+", line)
        assert address, line
        with grpc.insecure_channel(address[0]) as channel:
            yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_server_answers_as_the_model(stub, models, prior):
    model = models[prior]

    def ask(signature, **inputs):
        answer = stub.Predict(predict_request(signature, prior, **inputs))
        return {k: tf.make_ndarray(v) for k, v in answer.outputs.items()}

    drawn = ask("generate", seed=SEEDS)["image"]
    np.testing.assert_allclose(
        drawn, model.sample(3, seed=SEEDS), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(drawn[0], drawn[2], rtol=1e-5, atol=1e-6)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    x = (drawn > 0.5).astype(np.float32)
    encoded = ask("encode", image=x)["loc"]
    assert encoded.shape == (3, NUM_LATENTS)
    np.testing.assert_allclose(
        encoded, model.encode(x).mean(), rtol=1e-4, atol=1e-5
    )
    found = ask("log_likelihood", image=x, seed=SEEDS)["log_likelihood"]
    assert found.shape == (3,)
    expected = kgm.log_likelihood(model, x, num_samples=100, seed=SEEDS)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
