"""The protobuf messages of TensorFlow Serving's configuration files.

They are declared here, as no package on PyPI has BatchingParameters, and
ModelServerConfig would need the extra `serving`. The fields are those of
tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
tensorflow_serving/config/model_server_config.proto. Only their names matter:
the files are in protobuf's text format.
"""

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

_TYPES = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_INT64 = ".google.protobuf.Int64Value"
_STRING = ".google.protobuf.StringValue"
_BOOL = ".google.protobuf.BoolValue"

# Of each field its type, a scalar or the name of a message; a list if it is
# repeated.
_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": _INT64,
        "batch_timeout_micros": _INT64,
        "max_enqueued_batches": _INT64,
        "num_batch_threads": _INT64,
        "thread_pool_name": _STRING,
        "allowed_batch_sizes": [_TYPES.TYPE_INT64],
        "pad_variable_length_inputs": _TYPES.TYPE_BOOL,
        "enable_large_batch_splitting": _BOOL,
        "max_execution_batch_size": _INT64,
    },
    "ModelConfig": {
        "name": _TYPES.TYPE_STRING,
        "base_path": _TYPES.TYPE_STRING,
        "model_platform": _TYPES.TYPE_STRING,
    },
    "ModelConfigList": {"config": [f".{_PACKAGE}.ModelConfig"]},
    "ModelServerConfig": {"model_config_list": f".{_PACKAGE}.ModelConfigList"},
}


def _classes():
    """Returns the message classes by name, made from `_MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (key, kind) in enumerate(fields.items(), 1):
            _add_field(message, key, number, kind)
    # A pool of its own: in the default one the extra has the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _MESSAGES
    }


def _add_field(message, name, number, kind):
    is_repeated = isinstance(kind, list)
    (kind,) = kind if is_repeated else (kind,)
    field = message.field.add(
        name=name,
        number=number,
        label=_TYPES.LABEL_REPEATED if is_repeated else _TYPES.LABEL_OPTIONAL,
    )
    if isinstance(kind, str):
        field.type, field.type_name = _TYPES.TYPE_MESSAGE, kind
    else:
        field.type = kind


_CLASSES = _classes()
BatchingParameters = _CLASSES["BatchingParameters"]
ModelServerConfig = _CLASSES["ModelServerConfig"]
