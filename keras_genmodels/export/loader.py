"""Runs an exported version with the loader of TensorFlow Serving, by ctypes.

It calls TensorFlow's C functions `TF_LoadSessionFromSavedModel` and
`TF_SessionRun`, which load and run models in a server, and needs NumPy but
neither TensorFlow's Python, Keras, TFP nor the rest of this package. It is not
the `tensorflow_model_server` binary and has no batching, versions or REST.

  python loader.py VERSION_DIR REQUESTS ANSWERS

answers each file NNNN.npz of the folder REQUESTS (arrays by the names of the
inputs, and the name of the signature as `__signature__`) with an NNNN.npz in
the folder ANSWERS: the outputs or, for a refused request, `__error__` (the
message) and `__code__` (the number of a gRPC status).
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import pathlib
import sys
import threading
from typing import NamedTuple

import numpy as np

INVALID_ARGUMENT = 3
FAILED_PRECONDITION = 9
# The script fails if it has imported one of these.
NOT_IMPORTED = (
    "tensorflow",
    "keras",
    "tensorflow_probability",
    "keras_genmodels",
)

# TensorFlow's numbers of the dtypes that a signature can have.
_DTYPES = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}


class LoadError(Exception):
    """A version cannot be loaded."""


class RunError(Exception):
    """A request was refused.

    Attributes:
        code: number of a gRPC status, 3 for INVALID_ARGUMENT.
        message: str, written by the signature or by TensorFlow.
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class TensorInfo(NamedTuple):
    """One input or output of a signature.

    Attributes:
        dtype: NumPy dtype.
        shape: tuple with None for an axis of any size; None for any rank.
        name: name of the tensor in the graph, such as
            `StatefulPartitionedCall:0`.
    """

    dtype: np.dtype
    shape: tuple | None
    name: str


class Signature(NamedTuple):
    """The inputs and outputs of a signature: dicts of `TensorInfo` by name."""

    inputs: dict
    outputs: dict


class Loader:
    """A loaded version of an exported model.

    It disables XLA in the whole process, as a stock server on a CPU does.

    Args:
        path: folder with a saved_model.pb that has the tag `serve`.

    Attributes:
        signatures: dict of names to `Signature`s.

    Raises:
        LoadError: if TensorFlow is missing or the folder cannot be loaded.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._library = _load_library()
        self._runs = 0
        self._idle = threading.Condition()
        with contextlib.ExitStack() as undo:
            self._graph = self._library.TF_NewGraph()
            undo.callback(self._library.TF_DeleteGraph, self._graph)
            self._session, meta_graph = self._load()
            undo.callback(self._end_session)
            self.signatures = _read_signatures(meta_graph)
            self._tensors = {
                name: (
                    self._find(signature.inputs),
                    self._find(signature.outputs),
                )
                for name, signature in self.signatures.items()
            }
            self._undo = undo.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, signature, inputs):
        """Runs a signature; several threads may do so at once.

        Args:
            signature: its name; empty for `serving_default`.
            inputs: dict of the names of its inputs to arrays.

        Returns:
            dict of the names of its outputs to arrays.

        Raises:
            RunError: if there is no such signature or an input is refused.
        """
        signature = signature or "serving_default"
        if signature not in self.signatures:
            raise RunError(
                FAILED_PRECONDITION,
                f'Serving signature key "{signature}" not found; there are '
                f"{', '.join(sorted(self.signatures))}.",
            )
        infos = self.signatures[signature].inputs
        _check_names(infos, inputs)
        arrays = [_as_array(n, inputs[n], info) for n, info in infos.items()]
        with self._in_use():
            outputs = self._run(*self._tensors[signature], arrays)
        return dict(
            zip(self.signatures[signature].outputs, outputs, strict=True)
        )

    def close(self):
        """Waits for running calls, then frees the model."""
        with self._idle:
            self._idle.wait_for(lambda: not self._runs)
            self._undo.close()
            self._session = None

    @contextlib.contextmanager
    def _in_use(self):
        with self._idle:
            if self._session is None:
                raise RunError(FAILED_PRECONDITION, "the model is closed")
            self._runs += 1
        try:
            yield
        finally:
            with self._idle:
                self._runs -= 1
                self._idle.notify_all()

    def _load(self):
        """Returns the session and the bytes of the MetaGraphDef."""
        library = self._library
        with (
            _owned(library, "SessionOptions") as options,
            _owned(library, "Buffer") as buffer,
            _owned(library, "Status") as status,
        ):
            session = library.TF_LoadSessionFromSavedModel(
                options,
                None,
                os.fsencode(self.path),
                (ctypes.c_char_p * 1)(b"serve"),
                1,
                self._graph,
                buffer,
                status,
            )
            code, message = _status(library, status)
            if code:
                raise LoadError(f"{self.path} cannot be loaded: {message}")
            content = buffer.contents
            return session, ctypes.string_at(content.data, content.length)

    def _end_session(self):
        with _owned(self._library, "Status") as status:
            self._library.TF_CloseSession(self._session, status)
            self._library.TF_DeleteSession(self._session, status)

    def _find(self, infos):
        """Returns tensors of the graph, as a C array of `_Output`."""
        found = (_Output * len(infos))()
        for output, info in zip(found, infos.values(), strict=True):
            operation, _, index = info.name.partition(":")
            output.oper = self._library.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            output.index = int(index or 0)
            if not output.oper:
                raise LoadError(
                    f"{self.path}: its graph lacks the tensor {info.name} that "
                    "a signature names"
                )
        return found

    def _run(self, feeds, fetches, arrays):
        """Runs the session, and frees its input and output tensors."""
        library = self._library
        given = (ctypes.c_void_p * len(feeds))()
        got = (ctypes.c_void_p * len(fetches))()
        with contextlib.ExitStack() as freed:
            status = freed.enter_context(_owned(library, "Status"))
            for i, array in enumerate(arrays):
                given[i] = _to_tensor(library, array)
                freed.callback(library.TF_DeleteTensor, given[i])
            library.TF_SessionRun(
                self._session,
                None,
                feeds,
                given,
                len(feeds),
                fetches,
                got,
                len(fetches),
                None,
                0,
                None,
                status,
            )
            for tensor in filter(None, got):
                freed.callback(library.TF_DeleteTensor, tensor)
            code, message = _status(library, status)
            if code:
                raise RunError(code, message)
            return [_to_array(library, tensor) for tensor in got]


def _check_names(infos, inputs):
    """Refuses missing and unknown inputs, with the message of the server."""
    if inputs.keys() == infos.keys():
        return
    extra, missing = (
        ",".join(sorted(names))
        for names in (inputs.keys() - infos, infos.keys() - inputs)
    )
    raise RunError(
        INVALID_ARGUMENT,
        f"input size does not match signature: {len(inputs)}!={len(infos)}. "
        f"Sent extra: {{{extra}}}. Missing but required: {{{missing}}}.",
    )


def _as_array(name, value, info):
    """Returns an input as a contiguous array, if it has the right dtype.

    The session checks shapes, as in the server. It also checks dtypes, but
    would not name the input.
    """
    array = np.asarray(value)
    if array.dtype != info.dtype:
        raise RunError(
            INVALID_ARGUMENT,
            f"{name} must be of dtype {info.dtype}, got {array.dtype}",
        )
    # `ascontiguousarray` would turn a scalar into a vector.
    return array if array.flags.c_contiguous else array.copy()


# -- The C library ---------------------------------------------------------


class _Output(ctypes.Structure):
    _fields_ = (("oper", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


_POINTER = ctypes.c_void_p
_COUNT = ctypes.c_int
_DIMS = ctypes.POINTER(ctypes.c_int64)
_TENSORS = ctypes.POINTER(_POINTER)
_OUTPUTS = ctypes.POINTER(_Output)
_BYTES = ctypes.c_char_p
_BUFFER = ctypes.POINTER(_Buffer)

# Types of the result and of the arguments, from tensorflow/c/c_api.h.
_FUNCTIONS = {
    "TF_NewStatus": (_POINTER,),
    "TF_DeleteStatus": (None, _POINTER),
    "TF_GetCode": (_COUNT, _POINTER),
    "TF_Message": (_BYTES, _POINTER),
    "TF_NewBuffer": (_BUFFER,),
    "TF_DeleteBuffer": (None, _BUFFER),
    "TF_NewGraph": (_POINTER,),
    "TF_DeleteGraph": (None, _POINTER),
    "TF_GraphOperationByName": (_POINTER, _POINTER, _BYTES),
    "TF_NewSessionOptions": (_POINTER,),
    "TF_DeleteSessionOptions": (None, _POINTER),
    "TF_LoadSessionFromSavedModel": (
        _POINTER,
        *(_POINTER, _BUFFER, _BYTES, ctypes.POINTER(_BYTES), _COUNT),
        *(_POINTER, _BUFFER, _POINTER),
    ),
    "TF_CloseSession": (None, _POINTER, _POINTER),
    "TF_DeleteSession": (None, _POINTER, _POINTER),
    "TF_SessionRun": (
        None,
        *(_POINTER, _BUFFER, _OUTPUTS, _TENSORS, _COUNT),
        *(_OUTPUTS, _TENSORS, _COUNT, _TENSORS, _COUNT, _BUFFER, _POINTER),
    ),
    "TF_AllocateTensor": (_POINTER, _COUNT, _DIMS, _COUNT, ctypes.c_size_t),
    "TF_DeleteTensor": (None, _POINTER),
    "TF_TensorType": (_COUNT, _POINTER),
    "TF_NumDims": (_COUNT, _POINTER),
    "TF_Dim": (ctypes.c_int64, _POINTER, _COUNT),
    "TF_TensorData": (_POINTER, _POINTER),
    "TF_TensorByteSize": (ctypes.c_size_t, _POINTER),
    # tensorflow::DisableXlaCompilation()
    "_ZN10tensorflow21DisableXlaCompilationEv": (None,),
}


def _load_library():
    """Returns TensorFlow's C library, with XLA disabled."""
    try:
        library = _open_library()
    except (OSError, AttributeError) as error:
        raise LoadError(
            f"TensorFlow's C library cannot be used: {error}"
        ) from error
    library._ZN10tensorflow21DisableXlaCompilationEv()
    return library


@functools.cache
def _open_library():
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise LoadError("TensorFlow is missing: pip install tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    folder = pathlib.Path(spec.origin).parent
    for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
        library = ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL)
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@contextlib.contextmanager
def _owned(library, kind):
    """Yields a new object of the C library, and deletes it at the end."""
    made = getattr(library, f"TF_New{kind}")()
    try:
        yield made
    finally:
        getattr(library, f"TF_Delete{kind}")(made)


def _status(library, status):
    """Returns the code, 0 for success, and the message of a status."""
    message = library.TF_Message(status).decode(errors="replace")
    return library.TF_GetCode(status), message


def _to_tensor(library, array):
    """Copies an array into a new TF_Tensor."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = library.TF_AllocateTensor(
        _NUMBERS[array.dtype], shape, array.ndim, array.nbytes
    )
    data = library.TF_TensorData(tensor)
    ctypes.memmove(data, array.ctypes.data, array.nbytes)
    return tensor


def _to_array(library, tensor):
    """Copies a TF_Tensor into a new array."""
    shape = [
        library.TF_Dim(tensor, i) for i in range(library.TF_NumDims(tensor))
    ]
    array = np.empty(shape, _DTYPES[library.TF_TensorType(tensor)])
    data = library.TF_TensorData(tensor)
    ctypes.memmove(array.ctypes.data, data, array.nbytes)
    return array


# -- Signatures of a MetaGraphDef, in protobuf's wire format ------------------


def _read_signatures(meta_graph):
    """Reads MetaGraphDef.signature_def, a map in field 5."""
    signatures = {}
    for name, content in _entries(_fields(meta_graph).get(5, ())):
        # Others load variables and are not for users.
        if not name.startswith("__saved_model"):
            fields = _fields(content)
            signatures[name] = Signature(
                _read_tensors(name, fields.get(1, ())),
                _read_tensors(name, fields.get(2, ())),
            )
    if not signatures:
        raise LoadError("the SavedModel has no signatures")
    return signatures


def _read_tensors(signature, entries):
    tensors = {}
    for name, content in sorted(_entries(entries)):
        fields = _fields(content)
        dtype = fields.get(2, [0])[-1]
        if dtype not in _DTYPES or 1 not in fields:
            raise LoadError(
                f"the tensor {name} of the signature {signature} has an "
                f"unsupported type ({dtype}); supported are "
                f"{', '.join(map(str, _NUMBERS))}"
            )
        shape = _read_shape(fields.get(3, [b""])[-1])
        tensors[name] = TensorInfo(
            _DTYPES[dtype], shape, fields[1][-1].decode()
        )
    return tensors


def _read_shape(content):
    """Reads a TensorShapeProto; its field 3 means that the rank is unknown."""
    fields = _fields(content)
    if fields.get(3, [0])[-1]:
        return None
    sizes = [_fields(dim).get(1, [0])[-1] for dim in fields.get(2, ())]
    # -1, the unknown size, is encoded as an unsigned int64.
    return tuple(size if size < 2**63 else None for size in sizes)


def _entries(contents):
    """Yields the names and the contents of a map's entries."""
    for content in contents:
        fields = _fields(content)
        yield fields[1][-1].decode(), fields.get(2, [b""])[-1]


def _fields(content):
    """Returns the values of the fields of a message, by field number.

    It knows the wire types that TensorFlow writes: integers (0), 8 bytes (1),
    bytes preceded by their number (2) and 4 bytes (5).
    """
    fields, at = {}, 0
    while at < len(content):
        key, at = _varint(content, at)
        if key & 7 == 0:
            value, at = _varint(content, at)
        elif key & 7 in (1, 2, 5):
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, at = _varint(content, at)
            value, at = content[at : at + size], at + size
        else:
            raise LoadError(f"the MetaGraphDef has the wire type {key & 7}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(content, at):
    """Reads an integer of 7 bits per byte, the lowest first."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


# -- The script ----------------------------------------------------------------


def answer_all(version_dir, requests, answers):
    """Answers the requests of a folder.

    Args:
        version_dir: folder of the version.
        requests: folder of files NNNN.npz.
        answers: folder for the answers, files of the same names.
    """
    paths = pathlib.Path(requests).glob("*.npz")
    with Loader(version_dir) as loader:
        for path in sorted(paths, key=lambda path: int(path.stem)):
            with np.load(path, allow_pickle=False) as file:
                inputs = dict(file)
            signature = str(inputs.pop("__signature__"))
            np.savez(
                pathlib.Path(answers, path.name),
                **_answer(loader, signature, inputs),
            )


def _answer(loader, signature, inputs):
    try:
        return loader.run(signature, inputs)
    except RunError as error:
        return {
            "__error__": np.array(error.message),
            "__code__": np.array(error.code),
        }


def _main():
    if len(sys.argv) != 4:
        sys.exit("loader.py: expected VERSION_DIR REQUESTS ANSWERS")
    try:
        answer_all(*sys.argv[1:])
    except LoadError as error:
        sys.exit(f"loader.py: {error}")
    imported = [name for name in NOT_IMPORTED if name in sys.modules]
    if imported:
        sys.exit(f"loader.py: imported {', '.join(imported)}")


if __name__ == "__main__":
    _main()
