"""The client: its requests to a server, and its errors."""

import concurrent.futures
import contextlib
import sys

import grpc
import numpy as np
import pytest
from support.toy_server import RNG, SHAPE, Toy, free_port, images
from tensorflow_serving.apis import prediction_service_pb2_grpc

from keras_genmodels import serving
from keras_genmodels.core import seeds
from keras_genmodels.core.errors import UserError


@pytest.fixture(scope="module")
def address(tmp_path_factory, in_process):
    """The address of a server in this process."""
    path = tmp_path_factory.mktemp("saved_models")
    Toy().save(path / "toy" / "1")
    with serving.Server(path, port=0) as server:
        yield server.address


@pytest.fixture
def client(address):
    with serving.Client(address, "toy") as made:
        yield made


# test_tensorflow_serving.py calls these as well.


def test_signatures(client):
    signatures = client.signatures()
    assert {"generate", "serving_default", "restore_with"} <= {*signatures}
    assert not any(name.startswith("__") for name in signatures)
    takes = signatures["generate"].inputs
    assert takes["seed"][:2] == (np.int32, (None, 2))
    assert takes["condition"][:2] == (np.int32, (None,))
    gives = signatures["reconstruct"].outputs
    assert gives["image"][:2] == (np.float32, (None, *SHAPE))


def test_each_method_runs_its_signature(client):
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
    equal(client.log_density(x, 0.5)["log_density"], sums - 0.5)
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


@pytest.mark.parametrize(("width", "rows"), [(2**10, 2), (2**16, 1), (1, 9)])
def test_a_request_has_as_many_rows_as_its_message_holds(width, rows):
    with serving.Client(batch_size=9, max_message_mb=1) as alone:
        x = np.zeros((9, 80, width), "float32")
        assert alone._num_rows({"image": x, "sigma": np.ones(9)}) == rows


def test_generate_takes_a_number_of_steps_and_guidance(client):
    found = client.generate(2, seed=4, num_steps=[3, 5], guidance=0.25)
    np.testing.assert_array_equal(found[:, 0, 0, 0], [3.25, 5.25])
    found = client.generate(2, seed=4, num_steps=3)
    np.testing.assert_array_equal(found[:, 0, 0, 0], [3, 3])
    with pytest.raises(UserError, match="guidance requires num_steps"):
        client.generate(2, seed=4, guidance=1.0)


def test_row_seeds_are_those_of_the_package(client):
    found = client.generate(70, seed=4, label=3)[:, 0, 0, 0]
    rows = seeds.row_seeds(4, 70).numpy()[:, 1] % 1000
    np.testing.assert_array_equal(found, rows + 0.75)
    given = client.generate(seed=[[0, 7], [0, 8]], condition=[0, 4])
    np.testing.assert_array_equal(given[:, 0, 0, 0], [7, 9])
    counted = client.generate(seed=4, condition=[3, 3])
    np.testing.assert_array_equal(counted[:, 0, 0, 0], found[:2])


def test_8_bit_images_are_read_as_fractions(client):
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
     "denoise of the model toy lacks sigma: its inputs are image, sigma"),
    (lambda c: c.predict("restore", image=images(1), sigma=1, x=1),
     "has no input x"),
    (lambda c: c.predict("dream"), "no signature dream: it has decode"),
    (lambda c: c.denoise(images(2)[..., 0], 1),
     r"image must be \[batch, 2, 3, 1\], got \[2, 2, 3\]"),
    (lambda c: c.denoise(images(2), [1, 2, 3]),
     "image has 2 rows, sigma has 3 rows"),
    (lambda c: c.denoise(images(0), 1), "image is empty"),
    (lambda c: c.reconstruct(images(1), 1.5),
     "condition must be of dtype int32, got float64"),
    (lambda c: c.reconstruct(images(1), 2**40),
     "condition has numbers beyond the range of int32"),
    (lambda c: c.reconstruct(images(1), "3"), "condition must be of dtype"),
    (lambda c: c.restore(images(1), 1, max_steps=3),
     "restore lacks step_size and tolerance"),
    (lambda c: c.denoise(np.ones((2, *SHAPE), int), 1),
     "image must be uint8, which is read as value / 255, or floating, got int"),
    (lambda c: c.predict("flat", condition=[[1, 2, 3, 4]]),
     "condition must be uint8, which is read"),
    (lambda c: c.denoise([[1, 2], [3]], 1), "image is not an array"),
    (lambda c: c.log_likelihood([[1, 2], [3]], 1, seed=1),
     "image is not an array"),
    (lambda c: c.generate(seed=1, label=[[1, 2], [3]]),
     "condition is not an array"),
    (lambda c: c.generate(seed=[[1, 2], [3]], label=1), "seed is not an array"),
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


@pytest.mark.parametrize(("ask", "message"), WRONG)
def test_errors_are_one_line(client, ask, message):
    with pytest.raises(UserError, match=message) as error:
        ask(client)
    assert "\n" not in str(error.value)
    assert client.noise(images(1), 1).shape == (1, *SHAPE)


def test_two_clients_get_their_own_answers(client):
    def ask(number):
        x = images(3)
        with serving.Client(client.address, "toy") as own:
            for i in range(40):
                found = own.reconstruct(x, number * 100 + i)
                expected = x + np.float32(number * 100 + i)
                np.testing.assert_array_equal(found, expected)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, [1, 2]))


def test_a_timeout_is_reported(client):
    with serving.Client(client.address, "toy", timeout=0.05) as hasty:
        hasty._signatures = client.signatures()
        with pytest.raises(UserError, match="did not answer within"):
            hasty.predict("slow", image=images(1))


# Without a server, or with one that fails.


def test_a_missing_server_is_reported():
    address = f"127.0.0.1:{free_port()}"
    with (
        serving.Client(address) as alone,
        pytest.raises(
            serving.RequestError, match=f"no server answers at {address}"
        ) as error,
    ):
        alone.signatures()
    assert error.value.status == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "bad",
    [
        *({"timeout": value} for value in (0.0, "a", np.nan, np.inf)),
        *({"batch_size": value} for value in (0, 1.5, None)),
        {"max_message_mb": 0.5},
    ],
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(UserError, match=f"{next(iter(bad))} must be"):
        serving.Client(**bad)


@contextlib.contextmanager
def refusing(status, details):
    """Yields a client of a server that refuses every request."""

    class Refusing(prediction_service_pb2_grpc.PredictionServiceServicer):
        def GetModelMetadata(self, request, context):
            context.abort(status, details)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Refusing(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with serving.Client(f"127.0.0.1:{port}") as asking:
            yield asking
    finally:
        server.stop(None)


def test_a_full_queue_is_not_taken_for_a_missing_server():
    """TensorFlow Serving refuses with UNAVAILABLE while its queue is full."""
    details = "The batch scheduling queue to which this was submitted is full"
    with (
        refusing(grpc.StatusCode.UNAVAILABLE, details) as asking,
        pytest.raises(serving.RequestError, match="too much for") as error,
    ):
        asking.signatures()
    assert error.value.status == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (
            "assertion failed: [image must be 0 or 1, got 0.5] [image:binary]"
            "\n\t [[{{node Assert}}]]",
            ("image must be 0 or 1, got 0.5", "image", "binary"),
        ),
        # As a model exported by 0.2 refuses.
        (
            "assertion failed: [image must be 0 or 1, got 0.5]\n\t [[{{node",
            ("image must be 0 or 1, got 0.5", None, None),
        ),
        (
            "assertion failed: [x must be] [3:4] [Condition x > y did not",
            ("x must be 3:4", None, None),
        ),
        ("input size does not match\nmore", ("input size", None, None)),
    ],
)
def test_a_refusal_has_a_status_an_input_and_a_reason(details, expected):
    sentence, name, reason = expected
    with (
        refusing(grpc.StatusCode.INVALID_ARGUMENT, details) as asking,
        pytest.raises(serving.RequestError, match=sentence) as error,
    ):
        asking.signatures()
    assert error.value.status == grpc.StatusCode.INVALID_ARGUMENT
    assert (error.value.input, error.value.reason) == (name, reason)
    assert "\n" not in str(error.value)


def test_a_missing_extra_is_named_at_first_use(monkeypatch):
    for name in ("tensorflow_serving", "tensorflow_serving.apis"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "keras_genmodels.serving.client", False)
    with pytest.raises(UserError, match=r"Client.*tensorflow_serving.*extra"):
        serving.Client()
