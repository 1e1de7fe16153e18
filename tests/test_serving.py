"""Tests the client against the local server, and TensorFlow Serving if there.

The model is made by hand: what it answers tells what it was asked.
"""

import concurrent.futures
import contextlib
import json
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from app_runs import (
    ROOT,
    TIMEOUT,
    assert_refused,
    run,
    run_python,
    run_without_tensorflow,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

import keras_genmodels as kgm
from keras_genmodels import seeds, serving
from keras_genmodels.errors import UserError
from keras_genmodels.export import export
from keras_genmodels.exporting import serving_config, table

SHAPE = (2, 3, 1)
RNG = np.random.default_rng(0)
BINARY = "tensorflow_model_server"
IMAGE_OF_SERVER = "tensorflow/serving"


def spec(name, *shape, dtype=tf.float32):
    return tf.TensorSpec([None, *shape], dtype, name)


IMAGE = spec("image", *SHAPE)
LABELS = spec("condition", dtype=tf.int32)
SEED = spec("seed", 2, dtype=tf.int32)
SIGMA = spec("sigma")
SETTINGS = [
    spec("step_size"),
    spec("max_steps", dtype=tf.int32),
    spec("tolerance"),
]


def pixels(rows):
    """Gives pictures whose pixels are all the number of their row."""
    rows = tf.reshape(tf.cast(rows, tf.float32), (-1, 1, 1, 1))
    return tf.tile(rows, (1, *SHAPE))


class Toy(tf.Module):
    """Answers with what it was asked."""

    def __init__(self, offset=0.0):
        self.offset = tf.Variable(offset)

    def reconstruct(self, image, condition):
        return {"image": image + pixels(condition) + self.offset}

    def encode(self, image, condition):
        loc = tf.reduce_sum(image, (1, 2, 3)) + tf.cast(condition, tf.float32)
        return {"loc": loc[:, tf.newaxis], "stddev": loc[:, tf.newaxis] + 1}

    def decode(self, z, condition):
        return {"image": pixels(z[:, 0]) + pixels(condition)}

    def generate(self, seed, condition):
        return {"image": pixels(seed[:, 1] % 1000) + pixels(condition) / 4}

    def log_likelihood(self, image, condition, seed):
        rate = tf.cast(seed[:, 1] % 1000 + condition, tf.float32)
        distortion = tf.reduce_sum(image, (1, 2, 3))
        elbo = -(rate + distortion)
        return {
            "log_likelihood": elbo + 1,
            "elbo": elbo,
            "rate": rate,
            "distortion": distortion,
        }

    def denoise(self, image, sigma):
        message = "sigma must be > 0 and finite, got"
        check = tf.debugging.Assert(
            tf.reduce_all(sigma > 0), [message, tf.reduce_min(sigma)]
        )
        with tf.control_dependencies([check]):
            return {"denoised": image + pixels(sigma)}

    def noise(self, image, sigma):
        return {"noise": image - pixels(sigma)}

    def restore(self, image, sigma):
        return {
            "image": image + pixels(sigma),
            "num_steps": tf.ones_like(sigma, tf.int32),
            "residual": sigma,
        }

    def restore_with(self, image, sigma, step_size, max_steps, tolerance):
        return {
            "image": image + pixels(sigma * step_size),
            "num_steps": max_steps,
            "residual": tolerance,
        }

    def flat(self, condition):
        return {"image": condition}

    def slow(self, image):
        """Takes much of a second."""
        big = tf.zeros((900, 900)) + tf.reduce_sum(image)
        for _ in range(60):
            big = tf.tanh(big @ big)
        return {"image": image + tf.reduce_sum(big)}

    def save(self, path, warmup=()):
        """Writes a version, and its warm-up records if there are any."""
        signatures = {
            name: tf.function(getattr(self, name), input_signature=specs)
            for name, specs in {
                "reconstruct": [IMAGE, LABELS],
                "encode": [IMAGE, LABELS],
                "decode": [spec("z", 1), LABELS],
                "generate": [SEED, LABELS],
                "log_likelihood": [IMAGE, LABELS, SEED],
                "denoise": [IMAGE, SIGMA],
                "noise": [IMAGE, SIGMA],
                "restore": [IMAGE, SIGMA],
                "restore_with": [IMAGE, SIGMA, *SETTINGS],
                "flat": [spec("condition", 4)],
                "slow": [IMAGE],
            }.items()
        }
        signatures["serving_default"] = signatures["reconstruct"]
        tf.saved_model.save(self, path, signatures)
        records = pathlib.Path(path, "assets.extra/tf_serving_warmup_requests")
        records.parent.mkdir()
        if not warmup:
            return
        with tf.io.TFRecordWriter(str(records)) as writer:
            for request in warmup:
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.CopyFrom(request)
                writer.write(log.SerializeToString())


def predict_request(signature, model="toy", version=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        if not isinstance(value, tf.make_tensor_proto(0).__class__):
            value = tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(value)
    return request


def images(num):
    return RNG.random((num, *SHAPE), np.float32)


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved_models")
    warmup = [
        predict_request("noise", image=images(n), sigma=np.ones(n, "f"))
        for n in (1, 4)
    ]
    Toy(offset=100.0).save(path / "toy" / "9")
    Toy().save(path / "toy" / "10", warmup)
    shutil.copytree(path / "toy" / "9", path / "toy" / ".writing-11")
    (path / "toy" / "12").mkdir()
    shutil.copytree(path / "toy" / "9", path / "other" / "1")
    return path


@contextlib.contextmanager
def started(command):
    """Runs a server until the block ends; yields it and its output's lines."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def serve(export_dir, *flags):
    return started(
        [
            *(sys.executable, "-m", "apps.serve", "--port=0"),
            *(f"--export_dir={export_dir}", *flags),
        ]
    )


@pytest.fixture(scope="module")
def local(export_dir):
    """The local server: its process, and its address."""
    with serve(export_dir, "--num_workers=2", "--queue_size=2") as process:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Serving other \(1\), toy \(10\) at (127\.0\.0\.1:\d+)\n", line
        )
        assert found, line + process.stdout.read()
        yield process, found[1]
        # The first signal ends it, once what was asked is answered.
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "Ended.\n"
        assert process.wait(TIMEOUT) == 0


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def has_image():
    """Tells whether TensorFlow Serving's container can be run at once."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "image", "inspect", IMAGE_OF_SERVER]
    return not subprocess.run(command, capture_output=True).returncode


@pytest.fixture(scope="module")
def program():
    """What starts TensorFlow Serving itself here."""
    if shutil.which(BINARY):
        return BINARY
    if has_image():
        return "docker run"
    pytest.skip(
        f"{BINARY} is not on PATH, nor is there the container image "
        f"{IMAGE_OF_SERVER}: this was tested against the local server, not "
        "against TensorFlow Serving"
    )


def root_of(program, path):
    """Gives where the server finds the exported models."""
    return str(path) if program == BINARY else "/models"


@contextlib.contextmanager
def started_by(program, lines):
    """Starts TensorFlow Serving by one of the lines that an export prints.

    Yields:
        the addresses of gRPC and REST.
    """
    joined = lines.replace("\\\n", " ").splitlines()
    (line,) = [it for it in joined if it.strip().startswith(program)]
    ports = free_port(), free_port()
    command, name = shlex.split(line), f"kgm-{ports[0]}"
    for before, after in (
        ("--port=8500", f"--port={ports[0]}"),
        ("--rest_api_port=8501", f"--rest_api_port={ports[1]}"),
        ("127.0.0.1:8500:8500", f"127.0.0.1:{ports[0]}:8500"),
        ("127.0.0.1:8501:8501", f"127.0.0.1:{ports[1]}:8501"),
        ("run", f"run --name={name}"),
    ):
        command = [
            part
            for word in command
            for part in (after.split() if word == before else [word])
        ]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    with started(command), grpc.insecure_channel(addresses[0]) as channel:
        try:
            grpc.channel_ready_future(channel).result(TIMEOUT)
            yield addresses
        finally:
            if program != BINARY:
                subprocess.run(["docker", "kill", name], capture_output=True)


@pytest.fixture(scope="module")
def genuine(program, export_dir):
    """The address of TensorFlow Serving itself, without batching."""
    root = root_of(program, export_dir)
    serving_config.write_models_config(export_dir, root)
    lines = serving_config.start_lines(export_dir, root).values()
    words = "\n".join(lines).replace("\\\n", " ")
    words = re.sub(r" \S*batching\S*", "", words)
    with started_by(program, words) as (address, _):
        yield address


@pytest.fixture(scope="module")
def as_printed(program, tmp_path_factory):
    """A VAE, and the addresses of TensorFlow Serving as an export says."""
    path = tmp_path_factory.mktemp("exported")
    posterior = kgm.MultivariateNormalDiag(16)
    likelihood = kgm.IndependentBernoulli((8, 8, 1))
    model = kgm.VAE(
        kgm.mlp_encoder((8, 8, 1), posterior.params_size, (8,)),
        kgm.mlp_decoder(16, likelihood.params_shape, (8,)),
        posterior,
        likelihood,
    )
    root = root_of(program, path)
    version = export(model, path, "vae", serving_root=root)
    with started_by(program, table.summary(version, root)) as addresses:
        yield model, *addresses


@pytest.fixture
def client(local):
    with serving.Client(local[1], "toy") as made:
        yield made


@pytest.fixture
def stub(local):
    with grpc.insecure_channel(local[1]) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


# -- The client, as either server is asked -----------------------------------


def test_signatures(client):
    signatures = client.signatures()
    assert {"generate", "serving_default", "restore_with"} <= {*signatures}
    assert not any(name.startswith("__") for name in signatures)
    takes = signatures["generate"].inputs
    assert takes["seed"][:2] == (np.int32, (None, 2))
    assert takes["condition"][:2] == (np.int32, (None,))
    gives = signatures["reconstruct"].outputs
    assert gives["image"][:2] == (np.float32, (None, *SHAPE))


def test_each_verb_asks_its_signature(client):
    x, labels = images(3), np.array([1, 2, 3], np.int32)
    rows = np.float32(labels).reshape(-1, 1, 1, 1)
    sums = x.sum((1, 2, 3))

    def equal(found, expected):
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    equal(client.reconstruct(x, labels), x + rows)
    encoded = client.encode(x, labels)
    equal(encoded["loc"][:, 0], sums + labels)
    equal(encoded["stddev"], encoded["loc"] + 1)
    equal(client.decode([[5], [6], [7]], labels)[:, 0, 0, 0], [6, 8, 10])
    equal(client.denoise(x, [1, 2, 3]), x + rows)
    equal(client.noise(x, [1, 2, 3]), x - rows)
    restored = client.restore(x, 2)
    equal(restored["image"], x + 2)
    equal(restored["num_steps"], [1, 1, 1])
    restored = client.restore(
        x, 2, step_size=0.5, max_steps=[1, 2, 3], tolerance=0.25
    )
    equal(restored["image"], x + 1)
    equal(restored["num_steps"], [1, 2, 3])
    equal(restored["residual"], [0.25] * 3)
    nats = client.log_likelihood(x, 0, seed=[[0, 1], [0, 2], [0, 3]])
    equal(nats["distortion"], sums)
    equal(nats["rate"], [1, 2, 3])
    equal(nats["log_likelihood"], 1 - nats["rate"] - nats["distortion"])


def test_large_requests_are_split_and_joined_in_order(client):
    x = images(257)
    labels = np.arange(257)
    np.testing.assert_array_equal(
        client.reconstruct(x, labels),
        x + np.float32(labels).reshape(-1, 1, 1, 1),
    )


def test_row_seeds_are_those_of_the_package(client):
    found = client.generate(70, seed=4, label=3)[:, 0, 0, 0]
    rows = seeds.row_seeds(4, 70).numpy()[:, 1] % 1000
    np.testing.assert_array_equal(found, rows + 0.75)
    given = client.generate(seed=[[0, 7], [0, 8]], condition=[0, 4])
    np.testing.assert_array_equal(given[:, 0, 0, 0], [7, 9])
    counted = client.generate(seed=4, condition=[3, 3])
    np.testing.assert_array_equal(counted[:, 0, 0, 0], found[:2])


def test_8_bit_pictures_are_read_as_fractions(client):
    x = RNG.integers(0, 256, (2, *SHAPE), np.uint8)
    np.testing.assert_allclose(
        client.noise(x, np.uint8(2)), x / 255 - 2, rtol=1e-6
    )


def test_8_bit_conditions_are_read_as_fractions_and_latents_are_not(client):
    flat = RNG.integers(0, 256, (2, 4), np.uint8)
    np.testing.assert_allclose(
        client.predict("flat", condition=flat)["image"], flat / 255, rtol=1e-6
    )
    z = np.array([[5], [6]], np.uint8)
    assert client.decode(z, 0)[:, 0, 0, 0].tolist() == [5, 6]


WRONG = [
    (lambda c: c.denoise(images(2), [1, -1]),
     "the model toy refused this: sigma must be > 0 and finite, got -1"),
    (lambda c: c.denoise(images(2)),
     "denoise of the model toy lacks sigma: it takes image, sigma"),
    (lambda c: c.predict("restore", image=images(1), sigma=1, x=1),
     "knows no x"),
    (lambda c: c.predict("dream"), "no signature dream: it has decode"),
    (lambda c: c.denoise(images(2)[..., 0], 1),
     r"image must be \[batch, 2, 3, 1\], got \[2, 2, 3\]"),
    (lambda c: c.denoise(images(2), [1, 2, 3]),
     "image has 2 rows, sigma has 3 rows"),
    (lambda c: c.denoise(images(0), 1), "image is empty"),
    (lambda c: c.reconstruct(images(1), 1.5),
     "condition must be of dtype int32, got float64"),
    (lambda c: c.reconstruct(images(1), 2**40),
     "condition has numbers that int32 can't hold"),
    (lambda c: c.reconstruct(images(1), "3"), "condition must be of dtype"),
    (lambda c: c.restore(images(1), 1, max_steps=3),
     "restore lacks step_size and tolerance"),
    (lambda c: c.denoise(np.ones((2, *SHAPE), int), 1),
     "image must be uint8, which is read as value / 255, or floating, got int"),
    (lambda c: c.predict("flat", condition=[[1, 2, 3, 4]]),
     "condition must be uint8, which is read"),
    (lambda c: c.denoise([[1, 2], [3]], 1), "image is no array"),
    (lambda c: c.log_likelihood([[1, 2], [3]], 1, seed=1),
     "image is no array"),
    (lambda c: c.generate(seed=1, label=[[1, 2], [3]]),
     "condition is no array"),
    (lambda c: c.generate(seed=[[1, 2], [3]], label=1), "seed is no array"),
    (lambda c: c.generate(seed=1), "give num"),
    (lambda c: c.generate(0, seed=1), "num must be an int >= 1, got 0"),
    (lambda c: c.generate(2.5, seed=1), "num must be an int >= 1, got 2.5"),
    (lambda c: c.generate("3", seed=1), "num must be an int >= 1, got '3'"),
    (lambda c: c.generate(1, seed=object()), "object"),
    (lambda c: c.generate(1, seed=-1), "seed must be in"),
    (lambda c: c.generate(3, seed=[[0, 1]], label=1), "row seeds"),
    (lambda c: c.generate(1, seed=1, label=1, condition=1), "not both"),
    (lambda c: c.generate(1, seed=1), "lacks condition"),
    (lambda c: serving.Client(c.address, "no").encode(images(1)),
     "does not have the model no"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "told"), WRONG)
def test_errors_are_one_line(client, ask, told):
    with pytest.raises(UserError, match=told) as error:
        ask(client)
    assert "\n" not in str(error.value)
    assert client.noise(images(1), 1).shape == (1, *SHAPE)


def test_two_clients_are_not_mixed_up(client):
    def ask(number):
        x = images(3)
        with serving.Client(client.address, "toy") as own:
            for i in range(40):
                found = own.reconstruct(x, number * 100 + i)
                expected = x + np.float32(number * 100 + i)
                np.testing.assert_array_equal(found, expected)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, [1, 2]))


def test_an_answer_that_takes_too_long(client):
    with serving.Client(client.address, "toy", timeout=0.05) as hasty:
        hasty._signatures = client.signatures()
        with pytest.raises(UserError, match="did not answer within"):
            hasty.predict("slow", image=images(1))


def test_tensorflow_serving_answers_alike(genuine):
    with serving.Client(genuine, "toy") as asking:
        test_signatures(asking)
        test_each_verb_asks_its_signature(asking)
        test_large_requests_are_split_and_joined_in_order(asking)
        test_row_seeds_are_those_of_the_package(asking)
        test_8_bit_pictures_are_read_as_fractions(asking)
        for ask, told in WRONG:
            test_errors_are_one_line(asking, ask, told)
        test_two_clients_are_not_mixed_up(asking)
        test_an_answer_that_takes_too_long(asking)


def test_the_printed_line_serves_joined_rows(as_printed):
    """Clients at once, whose rows are batched, get each its own."""
    model, address, _ = as_printed
    expected = [model.sample(num=32, seed=seed).numpy() for seed in range(8)]

    def ask(seed):
        with serving.Client(address, "vae") as own:
            for num in (1, 3, 8, 20, 32) * 4:
                np.testing.assert_allclose(
                    own.generate(num, seed=seed),
                    expected[seed][:num],
                    atol=1e-5,
                )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_the_printed_line_serves_after_a_bad_row(as_printed):
    model, address, _ = as_printed
    x = np.zeros((3, 8, 8, 1), np.float32)
    bad = x.copy()
    bad[1, 2] = np.nan
    with serving.Client(address, "vae") as asking:
        with pytest.raises(UserError, match="refused this: image must be fini"):
            asking.reconstruct(bad)
        np.testing.assert_allclose(
            asking.reconstruct(x),
            model.decode(model.encode(x).mean()).mean(),
            atol=1e-5,
        )


def test_the_printed_line_answers_the_bodies_of_the_readme(as_printed):
    model, _, address = as_printed
    drawn, decoded = (
        post(f"http://{address}/v1/models/vae:predict", body)
        for body in re.findall(
            r"curl \S+/models/vae:predict -d '(.*)'\n",
            (ROOT / "README.md").read_text(),
        )
    )
    expected = model.sample(num=2, seed=np.array([[0, 1], [0, 2]], np.int32))
    np.testing.assert_allclose(drawn["outputs"], expected, atol=1e-5)
    expected = model.decode(np.zeros((1, 16), np.float32)).mean()
    np.testing.assert_allclose(decoded["predictions"], expected, atol=1e-5)


def post(url, body):
    with urllib.request.urlopen(url, body.encode(), TIMEOUT) as answer:
        return json.load(answer)


# -- The client alone ----------------------------------------------------------


def test_no_server():
    address = f"127.0.0.1:{free_port()}"
    with (
        serving.Client(address) as alone,
        pytest.raises(UserError, match=f"no server answers at {address}"),
    ):
        alone.signatures()


@pytest.mark.parametrize(
    "bad",
    [
        *({"timeout": value} for value in (0.0, "a", np.nan, np.inf)),
        *({"batch_size": value} for value in (0, 1.5, None)),
        {"max_message_mb": 0.5},
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(UserError, match=f"{next(iter(bad))} must be"):
        serving.Client(**bad)


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (
            "The batch scheduling queue to which this task was submitted is "
            "full; task size is 1 but scheduling queue contains only 0 empty",
            "that was too much for the server at .*: ask for less at once",
        ),
        ("failed to connect", "no server answers at .* \\(failed to connect"),
    ],
)
def test_a_full_queue_is_no_missing_server(details, told):
    """What TensorFlow Serving says while its batches are full."""

    class Overloaded(prediction_service_pb2_grpc.PredictionServiceServicer):
        def GetModelMetadata(self, request, context):
            context.abort(grpc.StatusCode.UNAVAILABLE, details)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Overloaded(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            serving.Client(f"127.0.0.1:{port}") as asking,
            pytest.raises(UserError, match=told),
        ):
            asking.signatures()
    finally:
        server.stop(None)


def test_a_missing_extra_is_told_at_use(monkeypatch):
    for name in ("tensorflow_serving", "tensorflow_serving.apis"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "keras_genmodels.serving.client", False)
    with pytest.raises(UserError) as error:
        serving.Client()
    assert str(error.value) == (
        "serving.Client needs the module tensorflow_serving: install the "
        "extra `serving` (pip install '.[serving]' in a clone of this package)"
    )


# -- The local server alone ----------------------------------------------------


def refused(method, request):
    with pytest.raises(grpc.RpcError) as error:
        method(request, timeout=TIMEOUT)
    return error.value.code(), error.value.details()


def test_the_newest_whole_version_is_served(stub):
    """Of 9, 10, an empty 12 and one that is being written."""
    ask = predict_request("", image=np.zeros((1, *SHAPE), "f"), condition=[3])
    answer = stub.Predict(ask)
    assert answer.model_spec.version.value == 10
    assert answer.model_spec.signature_name == "serving_default"
    found = tf.make_ndarray(answer.outputs["image"])
    np.testing.assert_array_equal(found, np.full((1, *SHAPE), 3, "f"))
    ask.model_spec.version.value = 10
    assert stub.Predict(ask) == answer
    ask.model_spec.name = "other"
    ask.model_spec.ClearField("version")
    answer = stub.Predict(ask)
    assert tf.make_ndarray(answer.outputs["image"]).max() == 103


def test_outputs_are_filtered(stub):
    ask = predict_request("encode", image=images(1), condition=[3])
    ask.output_filter.append("loc")
    assert [*stub.Predict(ask).outputs] == ["loc"]
    ask.output_filter.append("scale")
    code, details = refused(stub.Predict, ask)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "scale" in details


def spoilt(**changes):
    """Gives a tensor that is not what it says."""
    proto = tf.make_tensor_proto(images(1))
    for name, value in changes.items():
        if name == "rows":
            proto.tensor_shape.dim[0].size = value
        elif name == "sizes":
            del proto.tensor_shape.dim[:]
            for size in value:
                proto.tensor_shape.dim.add().size = size
        else:
            setattr(proto, name, value)
    return proto


@pytest.mark.parametrize(
    ("request_", "code", "told"),
    [
        (predict_request("noise", "no"), "NOT_FOUND", "Latest(no)"),
        (predict_request("noise", version=9), "NOT_FOUND", "Specific(toy, 9)"),
        (predict_request("dream"), "FAILED_PRECONDITION", '"dream" not found'),
        (predict_request("noise", x=1.0), "INVALID_ARGUMENT",
         "Missing but required: {image,sigma}"),
        (predict_request("noise", image=1, sigma=1.0), "INVALID_ARGUMENT",
         "image must be of dtype float32, got int32"),
        (predict_request("noise", image="x", sigma=1.0), "INVALID_ARGUMENT",
         "image must be of dtype float32"),
        (predict_request("noise", image=spoilt(rows=-1), sigma=[1.0]),
         "INVALID_ARGUMENT", "image can't be read"),
        (predict_request("noise", image=spoilt(rows=7), sigma=[1.0]),
         "INVALID_ARGUMENT", "image can't be read"),
        (predict_request("noise", image=spoilt(dtype=99), sigma=[1.0]),
         "INVALID_ARGUMENT", "image can't be read"),
        (predict_request("noise", image=spoilt(dtype=20), sigma=[1.0]),
         "INVALID_ARGUMENT", "image must be of dtype float32, got resource"),
        (predict_request("noise", image=spoilt(dtype=21), sigma=[1.0]),
         "INVALID_ARGUMENT", "image must be of dtype float32, got variant"),
        (predict_request("noise", image=spoilt(sizes=[2**62] * 3),
                         sigma=[1.0]),
         "INVALID_ARGUMENT", "more than 67108864 bytes"),
        (predict_request("noise", image=spoilt(sizes=[0, 2**62, 2**62]),
                         sigma=[1.0]),
         "INVALID_ARGUMENT", "image can't be read"),
        (predict_request("noise", image=spoilt(sizes=[1] * 10**5),
                         sigma=[1.0]),
         "INVALID_ARGUMENT", "image can't be read"),
        # As a header, three bytes for each of a character's three.
        (predict_request("€" * 5000), "FAILED_PRECONDITION", "€" * 600),
        # A few bytes that stand for a terabyte.
        (predict_request("noise", image=spoilt(rows=2**36), sigma=[1.0]),
         "INVALID_ARGUMENT", "more than 67108864 bytes"),
    ],
)  # fmt: skip
def test_wrong_requests(stub, request_, code, told):
    found, details = refused(stub.Predict, request_)
    assert found.name == code
    assert told in details


def test_texts_of_few_bytes_take_no_memory(stub, local):
    """An array of as many Python objects would take a quarter of a GB."""
    texts = spoilt(dtype=7, sizes=[2**25], tensor_content=b"")
    texts.string_val.append(b"")
    server = psutil.Process(local[0].pid)
    before = server.memory_info().rss
    code, details = refused(
        stub.Predict, predict_request("noise", image=texts, sigma=[1.0])
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "image must be of dtype float32, got string" in details
    assert server.memory_info().rss - before < 50 * 2**20


def test_what_is_not_imitated(stub):
    asked = classification_pb2.ClassificationRequest()
    assert refused(stub.Classify, asked)[0].name == "UNIMPLEMENTED"
    labelled = predict_request("noise")
    labelled.model_spec.version_label = "stable"
    assert refused(stub.Predict, labelled)[0].name == "UNIMPLEMENTED"
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    metadata.model_spec.name = "toy"
    assert refused(stub.GetModelMetadata, metadata)[0].name == (
        "INVALID_ARGUMENT"
    )
    metadata.metadata_field.append("weights")
    assert "weights" in refused(stub.GetModelMetadata, metadata)[1]


def test_only_this_machine_can_ask(local):
    listening = [
        found.laddr.ip
        for found in psutil.Process(local[0].pid).net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    ]
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_more_than_may_wait_are_refused(stub):
    """2 workers and 2 that wait, of which a test before may hold some."""
    ask = predict_request("slow", image=images(1))
    calls = [stub.Predict.future(ask, timeout=TIMEOUT) for _ in range(12)]
    codes = [call.code().name for call in calls]
    assert codes.count("OK") >= 2
    assert {*codes} == {"OK", "RESOURCE_EXHAUSTED"}


def test_a_message_that_is_too_large(export_dir, local):
    big = np.zeros((2**22, *SHAPE), np.float32)
    with (
        serving.Client(local[1], "toy", batch_size=2**22) as asking,
        pytest.raises(UserError, match="too much for the server"),
    ):
        asking.noise(big, 1)


def failing_warmup(path):
    Toy().save(
        path / "bad" / "1",
        [predict_request("denoise", image=images(1), sigma=[-1.0])],
    )
    return "warmup_requests has a record that fails", "sigma must be > 0"


def garbled_warmup(path):
    Toy().save(path / "bad" / "1")
    extra = path / "bad" / "1" / "assets.extra"
    with tf.io.TFRecordWriter(
        str(extra / "tf_serving_warmup_requests")
    ) as writer:
        writer.write(b"no protobuf")
    return ("warmup_requests has a record that fails",)


def spoilt_warmup(path):
    Toy().save(path / "bad" / "1")
    extra = path / "bad" / "1" / "assets.extra"
    (extra / "tf_serving_warmup_requests").write_bytes(b"12345")
    return ("warmup_requests holds no record",)


def spoilt_model(path):
    (path / "bad" / "1").mkdir(parents=True)
    (path / "bad" / "1" / "saved_model.pb").write_bytes(b"no protobuf")
    return "bad/1 can't be loaded", "export it again"


def no_model(path):
    return ("holds no exported model", "apps.export")


@pytest.fixture(scope="module")
def in_process():
    """Undoes what a server in this process does to the others' tests."""
    from keras_genmodels.serving import loader

    yield
    loader._open_library()._ZN10tensorflow20EnableXlaCompilationEv()


@pytest.mark.parametrize(
    "spoil",
    [failing_warmup, garbled_warmup, spoilt_warmup, spoilt_model, no_model],
)
def test_a_model_that_fails_is_not_served(tmp_path, in_process, spoil):
    told = spoil(tmp_path)
    with pytest.raises(UserError) as error:
        serving.Server(tmp_path, port=0)
    for words in told:
        assert words in str(error.value)


def test_a_taken_port(export_dir, local):
    port = local[1].partition(":")[2]
    flags = f"--export_dir={export_dir}", f"--port={port}"
    assert_refused(run("serve", *flags), "serve", f"listen on {local[1]}")


def test_wrong_flags_of_serve_are_told_at_once():
    process = run_without_tensorflow("serve", "--port=70000")
    assert_refused(process, "serve", "port")
    process = run_without_tensorflow("serve", "--help")
    assert "batching" in process.stdout
    assert process.returncode == 0


# -- The benchmark -------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_finds_no_answer_lost():
    process = run_python(
        *("benchmarks/serving.py", "--requests=50", "--warmup=50")
    )
    assert process.returncode == 0, process.stderr
    assert "50 of 50 requests answered to 8 clients" in process.stdout
    assert "one at a time" in process.stdout


@pytest.mark.parametrize(("after", "status"), [(119, 0), (121, 1)])
def test_growing_memory_ends_the_benchmark(after, status):
    script = (
        "from benchmarks import serving; "
        f"serving.check_memory(before=100, after={after})"
    )
    process = run_python("-c", script)
    assert process.returncode == status
    assert ("memory grew by 21.0 MB" in process.stderr) == bool(status)
