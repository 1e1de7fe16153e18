"""One exported version that the local server has loaded."""

import contextlib
import math

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from keras_genmodels.core.errors import UserError
from keras_genmodels.export import warmup
from keras_genmodels.export.description import EXTRA
from keras_genmodels.export.loader import Loader, LoadError, RunError

# TensorFlow's own limit.
_MAX_DIMS = 254


class ServedModel:
    """A version that is loaded and has answered its warm-up records.

    Args:
        path: pathlib.Path of its folder.
        max_bytes: maximum size of one input, in bytes.

    Attributes:
        name: the model's name.
        version: int.
        metadata: SignatureDefMap of its signatures.

    Raises:
        UserError: if it cannot be loaded or refuses a warm-up record.
    """

    def __init__(self, path, max_bytes):
        self.name = path.parent.name
        self.version = int(path.name)
        self._max_bytes = max_bytes
        try:
            self._loader = Loader(path)
        except LoadError as error:
            raise UserError(f"{error}; export it again") from error
        self.metadata = _metadata(self._loader.signatures)
        with contextlib.ExitStack() as undo:
            undo.callback(self._loader.close)
            self._warm_up(path / EXTRA / warmup.FILE)
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
        # Unknown inputs are not read: the loader refuses their names.
        inputs = {
            name: _to_array(name, proto, infos[name], self._max_bytes)
            if name in infos
            else None
            for name, proto in request.inputs.items()
        }
        outputs = self._loader.run(signature, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(self.spec(signature))
        for name in _filtered(request.output_filter, outputs):
            proto = tf.make_tensor_proto(outputs[name])
            response.outputs[name].CopyFrom(proto)
        return response

    def spec(self, signature=""):
        """Returns the ModelSpec of an answer."""
        spec = predict_pb2.PredictRequest().model_spec
        spec.name = self.name
        spec.version.value = self.version
        spec.signature_name = signature
        return spec

    def _warm_up(self, path):
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
            # TensorFlow reads a damaged short file as an empty one.
            raise UserError(f"{path} holds no record; export it again")


def refusal(status, message):
    """Returns the `RunError` of a `grpc.StatusCode`."""
    return RunError(status.value[0], message)


def _metadata(signatures):
    """Returns the SignatureDefMap of `Signature`s."""
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


def _to_array(name, proto, info, max_bytes):
    """Reads a TensorProto, whose few bytes may stand for a large array."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    try:
        dtype = tf.as_dtype(proto.dtype)
        if dtype != info.dtype:
            raise refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{name} must be of dtype {info.dtype}, got {dtype.name}",
            )
        if len(shape) > _MAX_DIMS or min(shape, default=0) < 0:
            raise ValueError(f"it has the shape {shape[:_MAX_DIMS]}")
        if math.prod(shape) * dtype.size > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name} cannot be read as a tensor: {error}",
        ) from error


def _filtered(output_filter, outputs):
    """Returns the names of the outputs that a request asks for."""
    unknown = [name for name in output_filter if name not in outputs]
    if unknown:
        raise refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"output tensor alias not found in signature: {unknown[0]} Outputs "
            f"expected to be in the set {{{','.join(outputs)}}}.",
        )
    return output_filter or outputs
