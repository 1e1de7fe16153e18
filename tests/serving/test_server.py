"""The small local server: `apps.serve`, and what it refuses."""

import re
import shutil
import signal
import sys

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from support.app_runs import (
    TIMEOUT,
    assert_refused,
    run,
    run_without_tensorflow,
)
from support.toy_server import (
    SHAPE,
    images,
    predict_request,
    save_toys,
    started,
    write_warmup,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    prediction_service_pb2_grpc,
)

from keras_genmodels import serving
from keras_genmodels.core.errors import UserError


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory):
    path = save_toys(tmp_path_factory.mktemp("saved_models"))
    (path / "toy" / "12").mkdir()
    return path


@pytest.fixture(scope="module")
def local(export_dir):
    """The process of the local server, and its address."""
    command = [
        *(sys.executable, "-m", "apps.serve", f"--export_dir={export_dir}"),
        *("--port=0", "--num_workers=2", "--queue_size=2"),
    ]
    with started(command) as process:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Serving other \(1\), toy \(10\) at (127\.0\.0\.1:\d+)\n", line
        )
        assert found, line + process.stdout.read()
        yield process, found[1]
        # It stops on the first signal, after the running requests.
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "Stopped.\n"
        assert process.wait(TIMEOUT) == 0


@pytest.fixture
def stub(local):
    with grpc.insecure_channel(local[1]) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def refused(method, request):
    with pytest.raises(grpc.RpcError) as error:
        method(request, timeout=TIMEOUT)
    return error.value.code(), error.value.details()


def test_the_newest_complete_version_is_served(stub):
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
    """Returns a tensor that contradicts its own description."""
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
    ("request_", "code", "message"),
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
         "INVALID_ARGUMENT", "image cannot be read"),
        (predict_request("noise", image=spoilt(rows=7), sigma=[1.0]),
         "INVALID_ARGUMENT", "image cannot be read"),
        (predict_request("noise", image=spoilt(dtype=99), sigma=[1.0]),
         "INVALID_ARGUMENT", "image cannot be read"),
        (predict_request("noise", image=spoilt(dtype=20), sigma=[1.0]),
         "INVALID_ARGUMENT", "image must be of dtype float32, got resource"),
        (predict_request("noise", image=spoilt(dtype=21), sigma=[1.0]),
         "INVALID_ARGUMENT", "image must be of dtype float32, got variant"),
        (predict_request("noise", image=spoilt(sizes=[2**62] * 3),
                         sigma=[1.0]),
         "INVALID_ARGUMENT", "more than 67108864 bytes"),
        (predict_request("noise", image=spoilt(sizes=[0, 2**62, 2**62]),
                         sigma=[1.0]),
         "INVALID_ARGUMENT", "image cannot be read"),
        (predict_request("noise", image=spoilt(sizes=[1] * 10**5),
                         sigma=[1.0]),
         "INVALID_ARGUMENT", "image cannot be read"),
        # As a header, three bytes for each of a character's three.
        (predict_request("€" * 5000), "FAILED_PRECONDITION", "€" * 600),
        # A few bytes that stand for a terabyte.
        (predict_request("noise", image=spoilt(rows=2**36), sigma=[1.0]),
         "INVALID_ARGUMENT", "more than 67108864 bytes"),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused(stub, request_, code, message):
    found, details = refused(stub.Predict, request_)
    assert found.name == code
    assert message in details


def test_compressed_strings_take_no_memory(stub, local):
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


def test_other_methods_are_refused(stub):
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
    """Of 2 workers and 2 places in the queue, some may still be in use."""
    ask = predict_request("slow", image=images(1))
    calls = [stub.Predict.future(ask, timeout=TIMEOUT) for _ in range(12)]
    codes = [call.code().name for call in calls]
    assert codes.count("OK") >= 2
    assert {*codes} == {"OK", "RESOURCE_EXHAUSTED"}


def test_a_message_that_is_too_large_is_refused(export_dir, local):
    big = np.zeros((2**22, *SHAPE), np.float32)
    with (
        serving.Client(
            local[1], "toy", batch_size=2**22, max_message_mb=1024
        ) as asking,
        pytest.raises(UserError, match="too much for the server"),
    ):
        asking.noise(big, 1)


def failing_warmup(version):
    refused = predict_request("denoise", image=images(1), sigma=[-1.0])
    write_warmup(version, [refused])
    return "warmup_requests has a record that fails", "sigma must be > 0"


def garbled_warmup(version):
    write_warmup(version, [])
    records = version / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(b"no protobuf")
    return ("warmup_requests has a record that fails",)


def damaged_warmup(version):
    write_warmup(version, [])
    records = version / "assets.extra" / "tf_serving_warmup_requests"
    records.write_bytes(b"12345")
    return ("warmup_requests holds no record",)


def damaged_model(version):
    (version / "saved_model.pb").write_bytes(b"no protobuf")
    return "bad/1 cannot be loaded", "export it again"


def missing_model(version):
    (version / "saved_model.pb").unlink()
    return "holds no exported model", "apps.export"


@pytest.mark.parametrize(
    "damage",
    [
        *(failing_warmup, garbled_warmup, damaged_warmup),
        *(damaged_model, missing_model),
    ],
)
def test_a_model_that_fails_is_not_served(
    tmp_path, export_dir, in_process, damage
):
    version = tmp_path / "bad" / "1"
    messages = damage(shutil.copytree(export_dir / "other" / "1", version))
    with pytest.raises(UserError) as error:
        serving.Server(tmp_path, port=0)
    for message in messages:
        assert message in str(error.value)


@pytest.mark.slow
def test_a_port_in_use_is_reported(export_dir, local):
    port = local[1].partition(":")[2]
    flags = f"--export_dir={export_dir}", f"--port={port}"
    assert_refused(run("serve", *flags), "serve", f"listen on {local[1]}")


@pytest.mark.slow
def test_wrong_flags_are_refused_without_tensorflow():
    process = run_without_tensorflow("serve", "--port=70000")
    assert_refused(process, "serve", "port")
    process = run_without_tensorflow("serve", "--help")
    assert "batching" in process.stdout
    assert process.returncode == 0
