"""The warm-up records of a version, which a server replays when it loads it.

They need the extra `serving`, which is imported where it is used.
"""

import tensorflow as tf

from keras_genmodels.core.errors import UserError
from keras_genmodels.export import example_requests

FILE = "tf_serving_warmup_requests"
# TensorFlow Serving reads at most this many records.
_MAX_RECORDS = 1000


def messages(alternative=", or export with warmup=False"):
    """Imports the protobuf messages of TensorFlow Serving.

    Args:
        alternative: str, what else the user can do if they are missing.

    Returns:
        module `prediction_log_pb2`.

    Raises:
        UserError: if the extra `serving` is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise UserError(
            "warm-up records need tensorflow-serving-api: install the extra "
            "`serving` (pip install '.[serving]' in a clone of this package)"
            f"{alternative}"
        ) from error
    return prediction_log_pb2


def write(path, description, sizes):
    """Writes one record for each signature and batch size.

    Args:
        path: of the file.
        description: dict, the content of model.json.
        sizes: sequence of ints, batch sizes.

    Raises:
        UserError: if there would be more records than a server reads.
    """
    count = len(description["signatures"]) * len(sizes)
    if count > _MAX_RECORDS:
        raise UserError(
            f"{len(sizes)} batch sizes need {count} warm-up records, and a "
            f"server reads {_MAX_RECORDS}: list fewer allowed_batch_sizes"
        )
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in description["signatures"]:
            for size in sizes:
                inputs = example_requests.valid_inputs(
                    description, signature, size
                )
                log = _log(description["name"], signature, inputs)
                writer.write(log.SerializeToString())


def read(path):
    """Reads the requests of a file of records.

    Args:
        path: pathlib.Path of the file.

    Returns:
        list of (signature, dict of names to arrays); empty without a file.
    """
    if not path.exists():
        return []
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    parse = messages(alternative="").PredictionLog.FromString
    requests = [parse(record).predict_log.request for record in records]
    return [
        (
            request.model_spec.signature_name,
            {name: tf.make_ndarray(x) for name, x in request.inputs.items()},
        )
        for request in requests
    ]


def _log(name, signature, inputs):
    log = messages().PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return log
