"""The methods of TensorFlow Serving's PredictionService."""

import contextlib

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_genmodels.export.loader import RunError
from keras_genmodels.serving.served_model import refusal

# In bytes. The headers of an answer, which hold the message, are limited to 8
# KiB, and encode some bytes as three.
_MAX_MESSAGE = 2000
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers Predict and GetModelMetadata, and refuses the other methods.

    Args:
        models: dict of names to `ServedModel`s.
    """

    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):
        """Runs a signature."""
        with _aborting(context):
            if not context.is_active():
                # The client has given up while the request was waiting.
                return predict_pb2.PredictResponse()
            return self._find(request.model_spec).predict(request)

    def GetModelMetadata(self, request, context):
        """Returns the signatures of a model."""
        with _aborting(context):
            model = self._find(request.model_spec)
            _check_fields(request.metadata_field)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.CopyFrom(model.spec())
            response.metadata["signature_def"].Pack(model.metadata)
            return response

    def Classify(self, request, context):
        """Refuses the request."""
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "this server has Predict and GetModelMetadata only: use TensorFlow "
            "Serving itself",
        )

    Regress = MultiInference = Classify

    def _find(self, spec):
        """Returns the model that a request names."""
        if spec.version_label:
            raise refusal(
                grpc.StatusCode.UNIMPLEMENTED,
                "version labels need TensorFlow Serving itself",
            )
        model = self._models.get(spec.name)
        version = spec.version.value if spec.HasField("version") else None
        if model is None or version not in (None, model.version):
            which = (
                f"Latest({spec.name})"
                if version is None
                else f"Specific({spec.name}, {version})"
            )
            served = [f"{m.name} {m.version}" for m in self._models.values()]
            raise refusal(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {which}; served are "
                f"{', '.join(served)}",
            )
        return model


def _check_fields(fields):
    code = grpc.StatusCode.INVALID_ARGUMENT
    if not fields:
        raise refusal(
            code,
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
    for field in fields:
        if field != "signature_def":
            raise refusal(code, f"Metadata field {field} is not supported")


@contextlib.contextmanager
def _aborting(context):
    """Ends a refused request with the code and message of the `RunError`."""
    try:
        yield
    except RunError as error:
        message = error.message.encode()[:_MAX_MESSAGE]
        context.abort(_CODES[error.code], message.decode(errors="ignore"))
