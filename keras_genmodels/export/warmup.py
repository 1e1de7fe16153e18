"""The warm-up records of an export, by which a server is fast from the start.

They need the extra `serving`, which is imported where it is used.
"""

import tensorflow as tf

from keras_genmodels.core.errors import UserError
from keras_genmodels.export import example_requests

FILE = "tf_serving_warmup_requests"
# What TensorFlow Serving reads of a file at most.
_MOST = 1000


def messages(otherwise=", or export without them by --nowarmup (warmup=False)"):
    """Imports the messages of TensorFlow Serving.

    Args:
        otherwise: str, what else to do if they are missing.

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
            f"{otherwise}"
        ) from error
    return prediction_log_pb2


def write(path, description, sizes):
    """Writes a record for each signature at each batch size.

    Args:
        path: of the file.
        description: dict, the content of model.json.
        sizes: ints, batch sizes.

    Raises:
        UserError: if there would be more records than a server takes.
    """
    count = len(description["signatures"]) * len(sizes)
    if count > _MOST:
        raise UserError(
            f"{len(sizes)} batch sizes make {count} warm-up records, and a "
            f"server takes {_MOST}: list fewer allowed_batch_sizes"
        )
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in description["signatures"]:
            for size in sizes:
                inputs = example_requests.right_inputs(
                    description, signature, size
                )
                log = _log(description["name"], signature, inputs)
                writer.write(log.SerializeToString())


def read(path):
    """Reads the requests of a file of records.

    Args:
        path: of the file; if there is none, there are no requests.

    Returns:
        list of (signature, dict of names to arrays).
    """
    if not path.exists():
        return []
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    log_of = messages(otherwise="").PredictionLog.FromString
    logs = [log_of(record) for record in records]
    return [
        (
            log.predict_log.request.model_spec.signature_name,
            {
                name: tf.make_ndarray(tensor)
                for name, tensor in log.predict_log.request.inputs.items()
            },
        )
        for log in logs
    ]


def _log(name, signature, inputs):
    log = messages().PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return log
