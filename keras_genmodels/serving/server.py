"""A small gRPC server of exported models, for tests and for trying things.

It answers `Predict` and `GetModelMetadata` of TensorFlow Serving's
PredictionService by the loader and session that TensorFlow Serving uses. It is
not TensorFlow Serving: requests are not batched, one version a model is served
and no other is looked for while it runs, and there is no REST. Those are
TensorFlow Serving's, and not imitated.
"""

import concurrent.futures
import contextlib
import math
import pathlib

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_genmodels.core.errors import UserError
from keras_genmodels.export import warmup
from keras_genmodels.export.description import EXTRA
from keras_genmodels.export.loader import Loader, LoadError, RunError
from keras_genmodels.export.versions import versions_in

_MEGABYTE = 2**20
# In bytes, of which a header writes some as three: of the 8 KiB that an
# answer's headers may have.
_LONGEST_MESSAGE = 2000
# As TensorFlow itself allows.
_MOST_DIMS = 254
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Server:
    """Serves the newest version of each model that was exported to a folder.

    Every model is loaded and warmed with its own warm-up records before the
    server answers. More requests at once than `num_workers` + `queue_size` get
    RESOURCE_EXHAUSTED. XLA is disabled for the whole process, as by `Loader`.

    Args:
        export_dir: with `<name>/<integer>/`, as exports make it.
        host: to listen on; by default this machine alone can ask.
        port: 0 for one that is free.
        num_workers: requests answered at once.
        queue_size: requests that may wait.
        max_message_mb: the largest request and answer, in MiB.

    Attributes:
        address: host:port.
        versions: dict of the models' names to their versions.

    Raises:
        UserError: if there is nothing to serve, a model can't be loaded, one
            of its warm-up records fails, or the port is taken.
    """

    def __init__(
        self,
        export_dir,
        *,
        host="127.0.0.1",
        port=8500,
        num_workers=4,
        queue_size=64,
        max_message_mb=64,
    ):
        most_bytes = max_message_mb * _MEGABYTE
        with contextlib.ExitStack() as undo:
            models = {
                path.parent.name: undo.enter_context(_Model(path, most_bytes))
                for path in find_versions(export_dir)
            }
            self._pool = concurrent.futures.ThreadPoolExecutor(num_workers)
            self._server = grpc.server(
                self._pool,
                options=_options(most_bytes),
                maximum_concurrent_rpcs=num_workers + queue_size,
            )
            service = _Service(models)
            prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
                service, self._server
            )
            self.address = _bind(self._server, host, port)
            self._models = undo.pop_all()
        self.versions = {name: it.version for name, it in models.items()}
        self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, grace=5.0):
        """Ends the server, once what a model is at has come to its end.

        Args:
            grace: seconds after which whoever asked is told that it ended.
        """
        self._server.stop(grace).wait()
        self._pool.shutdown(cancel_futures=True)
        self._models.close()


def find_versions(export_dir):
    """Lists the folder of the newest version of each model.

    Raises:
        UserError: if there is none.
    """
    newest = []
    for folder in sorted(pathlib.Path(export_dir).glob("*")):
        whole = [
            path
            for _, path in versions_in(folder)
            if (path / "saved_model.pb").is_file()
        ]
        newest += whole[-1:]
    if not newest:
        raise UserError(
            f"{export_dir} holds no exported model (NAME/VERSION/"
            "saved_model.pb): export one by python -m apps.export"
        )
    return newest


def _options(most_bytes):
    return [
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.max_send_message_length", most_bytes),
        # A second server on the same port would get half of the requests.
        ("grpc.so_reuseport", 0),
    ]


def _bind(server, host, port):
    """Listens, and gives the address."""
    host = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UserError(
            f"can't listen on {host}:{port}, which another server may do: "
            "give another port, 0 for one that is free"
        ) from error
    return f"{host}:{bound}"


def _refusal(status, message):
    return RunError(status.value[0], message)


class _Model:
    """One version, loaded and warm.

    Args:
        path: its folder.
        most_bytes: of one input.
    """

    def __init__(self, path, most_bytes):
        self.name = path.parent.name
        self.version = int(path.name)
        self._most_bytes = most_bytes
        try:
            self._loader = Loader(path)
        except LoadError as error:
            raise UserError(f"{error}; export it again") from error
        self.metadata = _metadata(self._loader.signatures)
        with contextlib.ExitStack() as undo:
            undo.callback(self._loader.close)
            self._warm(path / EXTRA / warmup.FILE)
            undo.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loader.close()

    def predict(self, request):
        """Answers a PredictRequest.

        Raises:
            RunError: if it is refused.
        """
        signature = request.model_spec.signature_name or "serving_default"
        found = self._loader.signatures.get(signature)
        infos = found.inputs if found else {}
        # What the signature lacks is not read: the loader refuses its name.
        inputs = {
            name: _to_array(name, proto, infos[name], self._most_bytes)
            if name in infos
            else None
            for name, proto in request.inputs.items()
        }
        outputs = self._loader.run(signature, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(self.spec(signature))
        for name in _wanted(request.output_filter, outputs):
            proto = tf.make_tensor_proto(outputs[name])
            response.outputs[name].CopyFrom(proto)
        return response

    def spec(self, signature=""):
        """Says what was asked, as an answer does."""
        spec = predict_pb2.PredictRequest().model_spec
        spec.name = self.name
        spec.version.value = self.version
        spec.signature_name = signature
        return spec

    def _warm(self, path):
        """Answers the warm-up records, if there are any."""
        try:
            requests = warmup.read(path)
            for signature, inputs in requests:
                self._loader.run(signature, inputs)
        except (
            *(RunError, DecodeError, tf.errors.OpError),
            *(TypeError, ValueError),
        ) as error:
            raise UserError(
                f"{path} has a record that fails: {error}; export it again"
            ) from error
        if path.exists() and not requests:
            # TensorFlow reads a short file that is spoilt as an empty one.
            raise UserError(f"{path} holds no record; export it again")


def _metadata(signatures):
    """Gives the SignatureDefMap of a model."""
    metadata = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in signatures.items():
        definition = metadata.signature_def[name]
        definition.method_name = "tensorflow/serving/predict"
        for infos, tensors in (
            (signature.inputs, definition.inputs),
            (signature.outputs, definition.outputs),
        ):
            for key, info in infos.items():
                tensors[key].CopyFrom(_tensor_info(info))
    return metadata


def _tensor_info(info):
    return meta_graph_pb2.TensorInfo(
        name=info.name,
        dtype=tf.as_dtype(info.dtype).as_datatype_enum,
        tensor_shape=tf.TensorShape(info.shape).as_proto(),
    )


def _to_array(name, proto, info, most_bytes):
    """Reads a TensorProto, which may be a few bytes that stand for many."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    try:
        dtype = tf.as_dtype(proto.dtype)
        if dtype != info.dtype:
            raise _refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{name} must be of dtype {info.dtype}, got {dtype.name}",
            )
        if len(shape) > _MOST_DIMS or min(shape, default=0) < 0:
            raise ValueError(f"it has the shape {shape[:_MOST_DIMS]}")
        if math.prod(shape) * dtype.size > most_bytes:
            raise ValueError(f"it has more than {most_bytes} bytes")
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise _refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name} can't be read as a tensor: {error}",
        ) from error


def _wanted(output_filter, outputs):
    """Gives the names of the outputs that a request asks for."""
    unknown = [name for name in output_filter if name not in outputs]
    if unknown:
        raise _refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"output tensor alias not found in signature: {unknown[0]} Outputs "
            f"expected to be in the set {{{','.join(outputs)}}}.",
        )
    return output_filter or outputs


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers of the PredictionService, by its methods' own names."""

    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):
        """Runs a signature."""
        with _aborting(context):
            if not context.is_active():
                # Whoever asked gave up while this waited.
                return predict_pb2.PredictResponse()
            return self._find(request.model_spec).predict(request)

    def GetModelMetadata(self, request, context):
        """Tells the signatures."""
        with _aborting(context):
            model = self._find(request.model_spec)
            _check_fields(request.metadata_field)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.CopyFrom(model.spec())
            response.metadata["signature_def"].Pack(model.metadata)
            return response

    def Classify(self, request, context):
        """Refuses: TensorFlow Serving's alone."""
        _refuse(context)

    def Regress(self, request, context):
        """Refuses: TensorFlow Serving's alone."""
        _refuse(context)

    def MultiInference(self, request, context):
        """Refuses: TensorFlow Serving's alone."""
        _refuse(context)

    def _find(self, spec):
        """Gives the model that a request names."""
        if spec.version_label:
            raise _refusal(
                grpc.StatusCode.UNIMPLEMENTED,
                "version labels are TensorFlow Serving's and not imitated",
            )
        model = self._models.get(spec.name)
        version = spec.version.value if spec.HasField("version") else None
        if model is None or version not in (None, model.version):
            which = (
                f"Latest({spec.name})"
                if version is None
                else f"Specific({spec.name}, {version})"
            )
            raise _refusal(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {which}; there are "
                + ", ".join(
                    f"{m.name} {m.version}" for m in self._models.values()
                ),
            )
        return model


def _check_fields(fields):
    code = grpc.StatusCode.INVALID_ARGUMENT
    if not fields:
        raise _refusal(
            code,
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
    for field in fields:
        if field != "signature_def":
            raise _refusal(code, f"Metadata field {field} is not supported")


@contextlib.contextmanager
def _aborting(context):
    """Ends a request that is refused with its code and its message."""
    try:
        yield
    except RunError as error:
        cut = error.message.encode()[:_LONGEST_MESSAGE]
        context.abort(_CODES[error.code], cut.decode(errors="ignore"))


def _refuse(context):
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "this is TensorFlow Serving's; here are Predict and GetModelMetadata",
    )
