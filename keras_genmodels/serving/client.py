"""Runs the signatures of exported models on a server, over gRPC.

It relies on nothing but TensorFlow Serving's documented interface, and works
with TensorFlow Serving and with `serving.Server`.
"""

import math
import numbers

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_genmodels.core.arrays import map_batches
from keras_genmodels.core.errors import UserError
from keras_genmodels.core.validation import check_count
from keras_genmodels.export.loader import Signature, TensorInfo
from keras_genmodels.serving.errors import request_error
from keras_genmodels.serving.rows import (
    as_array,
    row_count,
    row_seeds,
    to_rows,
)

_MEGABYTE = 2**20
# Of a message, for all but the rows.
_OVERHEAD = 2**16
_SETTINGS = ("step_size", "max_steps", "tolerance")


class Client:
    """Runs the signatures of one model on a server.

    Images are `[batch, height, width, channels]`, floating in [0, 1], or uint8,
    which is read as value / 255; so is a uint8 `image` or `condition` of any
    other shape that the model takes as floats. An input with one entry per row
    may be a single value for all rows. The methods below return float32
    `[batch, ...]` if the signature has one output, and else a dict of arrays
    by name. Several threads may share a client.

    Args:
        address: host:port of the server's gRPC.
        model: name of the model on the server.
        timeout: seconds that one request may take.
        batch_size: maximum number of rows of one request; larger inputs, and
            those that exceed `max_message_mb`, are split, and their outputs
            joined. The server's batching file should allow it.
        max_message_mb: maximum size of a request and of an answer, in MiB.

    Raises:
        UserError: for a bad argument; and from the methods for inputs that do
            not fit the signature. `errors.RequestError`, a UserError, if the
            server does not answer or refuses the request.
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
        check_count("batch_size", batch_size, error=UserError)
        check_count("max_message_mb", max_message_mb, error=UserError)
        self.address = address
        self.model = model
        self.timeout = timeout
        self.batch_size = batch_size
        limit = max_message_mb * _MEGABYTE
        self._channel = grpc.insecure_channel(
            address,
            [
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
            ],
        )
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._max_bytes = limit
        self._signatures = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the connection."""
        self._channel.close()

    def signatures(self):
        """Requests the model's signatures.

        Returns:
            dict of names to `Signature`s: dicts `inputs` and `outputs` of names
            to (dtype, shape, name of the tensor).
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = self.model
        request.metadata_field.append("signature_def")
        response = self._call(self._stub.GetModelMetadata, request)
        metadata = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(metadata)
        self._signatures = {
            name: Signature(_infos(found.inputs), _infos(found.outputs))
            for name, found in sorted(metadata.signature_def.items())
            # Others load the variables of a SavedModel.
            if not name.startswith("__")
        }
        return self._signatures

    def signature(self, name):
        """Returns the `Signature` of that name, requested at the first call."""
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
            signature: its name.
            **inputs: its inputs by name, arrays or lists.

        Returns:
            dict of the names of its outputs to arrays `[batch, ...]`.
        """
        found = self.signature(signature)
        self._check_names(signature, found.inputs, inputs)
        if not inputs:
            return self._predict_part(signature, {})
        rows = to_rows(inputs, found.inputs)
        outputs = map_batches(
            lambda *part: self._predict_part(
                signature, dict(zip(rows, part, strict=True))
            ),
            *rows.values(),
            batch_size=self._num_rows(rows),
        )
        return {name: outputs[name] for name in found.outputs}

    def reconstruct(self, image, condition=None):
        """Returns the decoded posterior mean of images."""
        return self._run("reconstruct", image=image, condition=condition)

    def encode(self, image, condition=None):
        """Returns the posterior's `loc`, and `stddev` or `scale_tril`, or `z`.

        See the signature `encode` of `export.export`.
        """
        return self._run("encode", image=image, condition=condition)

    def decode(self, z, condition=None):
        """Returns the images of latents `[batch, latent_size]`."""
        return self._run("decode", z=z, condition=condition)

    def generate(
        self,
        num=None,
        *,
        seed,
        condition=None,
        label=None,
        num_steps=None,
        guidance=None,
    ):
        """Draws images, the same as `model.sample` for the same seed.

        With `num_steps` it requests `generate_with`.

        Args:
            num: int, number of images; optional if there is a seed or a
                condition for each.
            seed: int in [0, 2**31), from which that of each row is derived by
                folding in its index, or int32 `[num, 2]`.
            condition: for a conditional model: a label, labels `[num]`, or
                other conditions.
            label: the same for labels; the number of classes means "no label"
                in a model trained with label dropout.
            num_steps: for a denoiser, number of its evaluations, or numbers
                `[num]`, or their maximum if it does not receive sigma; by
                default that of the export.
            guidance: with `num_steps`, for a denoiser trained with label
                dropout: strength of the guidance, or strengths `[num]`;
                by default 0.
        """
        if label is not None and condition is not None:
            raise UserError("give label or condition, not both")
        condition = label if condition is None else condition
        num = row_count(num, seed, condition)
        inputs = {"seed": row_seeds(seed, num), "condition": condition}
        if num_steps is None:
            if guidance is not None:
                raise UserError("guidance requires num_steps: give both")
            return self._run("generate", **inputs)
        if guidance is None:
            found = self.signature("generate_with").inputs
            guidance = 0.0 if "guidance" in found else None
        return self._run(
            "generate_with", num_steps=num_steps, guidance=guidance, **inputs
        )

    def log_likelihood(self, image, condition=None, *, seed):
        """Returns `log_likelihood`, `elbo`, `rate`, `distortion` in nats.

        Args:
            image: images.
            condition: for a conditional model.
            seed: of the importance samples, as in `generate`.
        """
        image = as_array("image", image)
        return self._run(
            "log_likelihood",
            image=image,
            condition=condition,
            seed=row_seeds(seed, row_count(None, seed, image)),
        )

    def log_density(self, image, sigma, condition=None):
        """Returns `log_density` of a denoiser and `solver_error`, in nats.

        Args:
            image: images, as the density sees them: clean ones, or noisy ones
                of the level.
            sigma, condition: as in `denoise`. The density is that of the data
                with noise of this level.
        """
        return self._run(
            "log_density", image=image, sigma=sigma, condition=condition
        )

    def denoise(self, image, sigma=None, condition=None):
        """Returns the posterior mean of the clean images.

        Args:
            image: noisy images.
            sigma: their noise level, or levels `[batch]`, > 0; None for a
                denoiser that needs none.
            condition: for a conditional denoiser: a label, or labels
                `[batch]`; the number of classes means "no label" if it was
                trained with label dropout.
        """
        return self._run(
            "denoise", image=image, sigma=sigma, condition=condition
        )

    def noise(self, image, sigma=None, condition=None):
        """Returns the predicted noise, which `denoise` subtracts."""
        return self._run("noise", image=image, sigma=sigma, condition=condition)

    def restore(
        self,
        image,
        sigma=None,
        condition=None,
        *,
        step_size=None,
        max_steps=None,
        tolerance=None,
    ):
        """Returns the restored `image`, `num_steps` and `residual`.

        The settings of the loop are those of the export unless all three are
        passed.

        Args:
            image: noisy images.
            sigma, condition: as in `denoise`.
            step_size: step size of the loop, in (0, 2).
            max_steps: maximum number of steps.
            tolerance: residual at which an image has converged.
        """
        given = {"image": image, "sigma": sigma, "condition": condition}
        values = step_size, max_steps, tolerance
        settings = dict(zip(_SETTINGS, values, strict=True))
        missing = [name for name, value in settings.items() if value is None]
        if not missing:
            return self._run("restore_with", **given, **settings)
        if len(missing) < len(settings):
            raise UserError(
                f"restore lacks {' and '.join(missing)}: give step_size, "
                "max_steps and tolerance, or none of them for those of the "
                "export"
            )
        return self._run("restore", **given)

    def _run(self, signature, **inputs):
        """Runs a signature without the inputs that are None."""
        given = {k: v for k, v in inputs.items() if v is not None}
        outputs = self.predict(signature, **given)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _check_names(self, signature, infos, inputs):
        if inputs.keys() == infos.keys():
            return
        wrong = [f"lacks {name}" for name in infos if name not in inputs]
        wrong += [f"has no input {name}" for name in inputs.keys() - infos]
        raise UserError(
            f"{signature} of the model {self.model} {' and '.join(wrong)}: its "
            f"inputs are {', '.join(infos)}"
        )

    def _num_rows(self, rows):
        """Returns the number of rows of a request."""
        size = sum(array[:1].nbytes for array in rows.values())
        fitting = (self._max_bytes - _OVERHEAD) // max(1, size)
        return min(self.batch_size, max(1, fitting))

    def _predict_part(self, signature, inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self._call(self._stub.Predict, request)
        return {
            name: tf.make_ndarray(proto)
            for name, proto in response.outputs.items()
        }

    def _call(self, method, request):
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise request_error(error, self, self._channel) from error


def _infos(tensors):
    return {
        name: TensorInfo(
            np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype),
            _shape(name, info.tensor_shape),
            info.name,
        )
        for name, info in sorted(tensors.items())
    }


def _shape(name, proto):
    if proto.unknown_rank:
        raise UserError(
            f"the model's tensor {name} has unknown rank, so it cannot be "
            "split into rows"
        )
    return tuple(None if dim.size < 0 else dim.size for dim in proto.dim)
