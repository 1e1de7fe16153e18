"""Asks a server of exported models over gRPC.

It uses what TensorFlow Serving documents alone, so that it works with
TensorFlow Serving as with the small server beside it.
"""

import math
import numbers
import re

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_genmodels.core import seeds
from keras_genmodels.core.arrays import as_float, map_batches
from keras_genmodels.core.errors import UserError
from keras_genmodels.export.loader import Signature, TensorInfo

_MEGABYTE = 2**20
# What may be given as 8-bit pictures.
_PICTURES = ("image", "condition")
_SETTINGS = ("step_size", "max_steps", "tolerance")
_LONGEST_DETAILS = 300
_FULL = re.compile(r"\bqueue\b.*\bfull\b")
_ASSERTION = re.compile(
    r"assertion failed: \[(.*?)(?:\] \[Condition |\]?\n|\]?$)"
)


class Client:
    """Asks a server what an exported model says.

    Pictures are `[batch, height, width, channels]`, float in [0, 1], or uint8,
    which is read as value / 255. So is uint8 of an `image` or a `condition` of
    any other shape that the model takes as float `[batch, ...]`; of these,
    other integers are refused. Whatever belongs to each row may be given as
    one value for all. Of a verb below whose signature has one output that is
    returned, float32 `[batch, ...]`; of the others a dict of arrays by name.
    Several threads may use one client.

    Args:
        address: host:port of the server's gRPC.
        model: name of the model there.
        timeout: seconds that one request may take.
        batch_size: most rows of one request; what is larger is asked in parts
            and joined again. The server's batching file should allow it.
        max_message_mb: the largest request and answer, in MiB.
    """

    def __init__(
        self,
        address="127.0.0.1:8500",
        model="vae",
        timeout=60.0,
        *,
        batch_size=32,
        max_message_mb=64,
    ):
        if not isinstance(timeout, numbers.Real) or not 0 < timeout < math.inf:
            raise UserError(f"timeout must be > 0 seconds, got {timeout!r}")
        _check_count("batch_size", batch_size)
        _check_count("max_message_mb", max_message_mb)
        self.address = address
        self.model = model
        self.timeout = timeout
        self.batch_size = batch_size
        most_bytes = max_message_mb * _MEGABYTE
        self._channel = grpc.insecure_channel(
            address,
            [
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.max_send_message_length", most_bytes),
            ],
        )
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._signatures = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection."""
        self._channel.close()

    def signatures(self):
        """Asks for the model's signatures.

        Returns:
            dict of names to `Signature`s: its `inputs` and `outputs` are dicts
            of names to (dtype, shape, name of the tensor).

        Raises:
            UserError: if the server does not answer or lacks the model.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = self.model
        request.metadata_field.append("signature_def")
        response = self._ask(self._stub.GetModelMetadata, request)
        metadata = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(metadata)
        self._signatures = {
            name: Signature(_infos(found.inputs), _infos(found.outputs))
            for name, found in sorted(metadata.signature_def.items())
            # What loads a SavedModel is listed among them.
            if not name.startswith("__")
        }
        return self._signatures

    def signature(self, name):
        """Gives the `Signature` of that name, asked for at the first call.

        Raises:
            UserError: if there is none, and as in `signatures`.
        """
        signatures = self._signatures or self.signatures()
        if name not in signatures:
            raise UserError(
                f"the model {self.model} has no signature {name}: it has "
                f"{', '.join(signatures)}"
            )
        return signatures[name]

    def predict(self, signature, **inputs):
        """Runs a signature.

        Args:
            signature: name of it.
            **inputs: its inputs by name, arrays or what makes them; one value
                for each row may be a single one for all rows.

        Returns:
            dict of the outputs' names to arrays `[batch, ...]`.

        Raises:
            UserError: if the inputs do not fit the signature or the server
                refuses them, and as in `signatures`.
        """
        found = self.signature(signature)
        self._check_names(signature, found.inputs, inputs)
        arrays = {
            name: _as_input(name, inputs[name], info)
            for name, info in found.inputs.items()
        }
        num_rows = _num_rows(arrays, found.inputs)
        rows = {
            name: _as_rows(name, array, found.inputs[name], num_rows)
            for name, array in arrays.items()
        }
        outputs = map_batches(
            lambda *part: self._predict_part(
                signature, dict(zip(rows, part, strict=True))
            ),
            *rows.values(),
            batch_size=self.batch_size,
        )
        return {name: outputs[name] for name in found.outputs}

    def reconstruct(self, image, condition=None):
        """Gives the decoded posterior mean of pictures."""
        return self._verb("reconstruct", image=image, condition=condition)

    def encode(self, image, condition=None):
        """Gives the posterior's `loc`, and `stddev` or `scale_tril`."""
        return self._verb("encode", image=image, condition=condition)

    def decode(self, z, condition=None):
        """Gives the pictures of latents `[batch, latent_size]`."""
        return self._verb("decode", z=z, condition=condition)

    def generate(self, num=None, *, seed, condition=None, label=None):
        """Draws pictures; those of one seed are `model.sample`'s of it.

        Args:
            num: how many; may be left out where the seeds or conditions say.
            seed: int in [0, 2**31), from which each row's is derived by
                folding in its number, or int32 `[num, 2]`.
            condition: of a conditional model: a label, labels `[num]`, or
                whatever else it takes.
            label: the same for labels; the number of labels stands for none,
                in a model trained with label dropout.
        """
        if label is not None and condition is not None:
            raise UserError("give label or condition, not both")
        condition = label if condition is None else condition
        num = _count(num, seed, condition)
        return self._verb(
            "generate", seed=_row_seeds(seed, num), condition=condition
        )

    def log_likelihood(self, image, condition=None, *, seed):
        """Gives `log_likelihood`, `elbo`, `rate`, `distortion` in nats.

        Args:
            image: pictures.
            condition: of a conditional model.
            seed: of the importance samples, as in `generate`.
        """
        image = _as_array("image", image)
        return self._verb(
            "log_likelihood",
            image=image,
            condition=condition,
            seed=_row_seeds(seed, _count(None, seed, image)),
        )

    def denoise(self, image, sigma=None):
        """Gives the posterior mean of the clean pictures.

        Args:
            image: noisy pictures.
            sigma: their noise level or levels `[batch]`, > 0; None for a
                denoiser that needs none.
        """
        return self._verb("denoise", image=image, sigma=sigma)

    def noise(self, image, sigma=None):
        """Gives the noise that `denoise` takes away."""
        return self._verb("noise", image=image, sigma=sigma)

    def restore(
        self,
        image,
        sigma=None,
        *,
        step_size=None,
        max_steps=None,
        tolerance=None,
    ):
        """Gives the restored `image`, `num_steps` and `residual`.

        Args:
            image: noisy pictures.
            sigma: as in `denoise`.
            step_size: of the loop, in (0, 2); with the other two, or else
                those of the export are taken.
            max_steps: at most so many steps.
            tolerance: residual at which a picture rests.
        """
        settings = dict(
            zip(_SETTINGS, (step_size, max_steps, tolerance), strict=True)
        )
        missing = [name for name, value in settings.items() if value is None]
        if not missing:
            return self._verb(
                "restore_with", image=image, sigma=sigma, **settings
            )
        if len(missing) < len(settings):
            raise UserError(
                f"restore lacks {' and '.join(missing)}: give step_size, "
                "max_steps and tolerance, or none of them for those of the "
                "export"
            )
        return self._verb("restore", image=image, sigma=sigma)

    def _verb(self, signature, **inputs):
        """Runs a signature without the inputs that are None."""
        given = {k: v for k, v in inputs.items() if v is not None}
        outputs = self.predict(signature, **given)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _check_names(self, signature, infos, inputs):
        if inputs.keys() == infos.keys():
            return
        wrong = [f"lacks {name}" for name in infos if name not in inputs]
        wrong += [f"knows no {name}" for name in inputs if name not in infos]
        raise UserError(
            f"{signature} of the model {self.model} {' and '.join(wrong)}: it "
            f"takes {', '.join(infos)}"
        )

    def _predict_part(self, signature, inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self._ask(self._stub.Predict, request)
        return {
            name: tf.make_ndarray(proto)
            for name, proto in response.outputs.items()
        }

    def _ask(self, method, request):
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise UserError(self._told(error)) from error

    def _told(self, error):
        """Says in one line what went wrong, and what to do."""
        code, details = error.code(), _sentence(error.details())
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            return f"the model {self.model} refused this: {details}"
        # As TensorFlow Serving tells of requests that wait for a batch.
        if code == grpc.StatusCode.UNAVAILABLE and _FULL.search(details):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
        if code == grpc.StatusCode.UNAVAILABLE:
            return (
                f"no server answers at {self.address}: start one by python -m "
                f"apps.serve, or say where one is ({details})"
            )
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return (
                f"that was too much for the server at {self.address}: ask for "
                f"less at once, or by a smaller batch_size ({details})"
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"the server at {self.address} did not answer within "
                f"{self.timeout:g} s: allow a longer timeout, or ask for less"
            )
        if code == grpc.StatusCode.NOT_FOUND:
            return (
                f"the server at {self.address} does not have the model "
                f"{self.model}: {details}"
            )
        return f"the server at {self.address} failed ({code.name}): {details}"


def _sentence(details):
    """Gives the sentence of an assertion, without what TensorFlow adds."""
    details = details or "it did not say why"
    found = _ASSERTION.search(details)
    if found:
        details = found[1].replace("] [", " ")
    return " ".join(details.partition("\n")[0].split())[:_LONGEST_DETAILS]


def _infos(tensors):
    return {
        name: TensorInfo(
            np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype),
            _shape(info.tensor_shape),
            info.name,
        )
        for name, info in sorted(tensors.items())
    }


def _shape(proto):
    if proto.unknown_rank:
        raise UserError(
            "the model has a tensor of unknown rank: no row is known"
        )
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)


def _as_array(name, value):
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"{name} is no array: {error}") from error


def _as_input(name, value, info):
    """Gives an input as an array of its dtype, if that changes nothing."""
    array = _as_array(name, value)
    shows = name in _PICTURES and len(info.shape) > 1
    if shows and info.dtype.kind == "f" and array.dtype.kind in "iu":
        if array.dtype != np.uint8:
            raise UserError(
                f"{name} must be uint8, which is read as value / 255, or "
                f"floating, got {array.dtype}"
            )
        return as_float(array, info.dtype)
    if array.dtype == info.dtype:
        return array
    if not np.can_cast(array.dtype, info.dtype, "same_kind"):
        raise UserError(
            f"{name} must be of dtype {info.dtype}, got {array.dtype}"
        )
    with np.errstate(over="ignore"):
        cast = array.astype(info.dtype)
    if info.dtype.kind == "i" and not np.array_equal(cast, array):
        raise UserError(f"{name} has numbers that {info.dtype} can't hold")
    return cast


def _num_rows(arrays, infos):
    """Gives the number of rows of the inputs that are given by row."""
    counts = {
        name: len(array)
        for name, array in arrays.items()
        if array.ndim == len(infos[name].shape)
    }
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{name} has {n} rows" for name, n in counts.items())
        raise UserError(f"the inputs differ in their number of rows: {told}")
    num = next(iter(counts.values()), 1)
    if not num:
        raise UserError(
            f"there is nothing to ask: {next(iter(counts))} is empty"
        )
    return num


def _as_rows(name, array, info, num_rows):
    """Checks the shape of an input; repeats what is the same for all."""
    shape = info.shape[1:]
    if array.ndim == 0 and not shape:
        array = np.repeat(array, num_rows)
    fits = array.ndim == len(info.shape) and all(
        size in (None, given)
        for size, given in zip(shape, array.shape[1:], strict=True)
    )
    if not fits:
        asked = ", ".join(str(size or "any") for size in shape)
        asked = f"[batch, {asked}]" if shape else "[batch]"
        raise UserError(f"{name} must be {asked}, got {list(array.shape)}")
    return array


def _count(num, seed, by_row):
    """Gives how many rows are asked for, if only by what is given by row."""
    if num is not None:
        _check_count("num", num)
        return num
    by_row, seed = _as_array("condition", by_row), _as_array("seed", seed)
    if by_row.ndim:
        return len(by_row)
    if seed.ndim == 2:
        return len(seed)
    raise UserError("say how many: give num")


def _check_count(name, value):
    is_whole = isinstance(value, numbers.Integral)
    if not is_whole or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be an int >= 1, got {value!r}")


def _row_seeds(seed, num_rows):
    """Gives int32 `[num_rows, 2]`, as the package does for a seed."""
    try:
        return seeds.row_seeds(seed, num_rows).numpy()
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(str(error).partition("\n")[0]) from error
