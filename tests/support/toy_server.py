"""A toy model whose answers show what was requested, and servers."""

import contextlib
import shutil
import socket
import subprocess

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from support.app_runs import ROOT

SHAPE = (2, 3, 1)
RNG = np.random.default_rng(0)
SLOW_STEPS = 100_000


def spec(name, *shape, dtype=tf.float32):
    return tf.TensorSpec([None, *shape], dtype, name)


IMAGE = spec("image", *SHAPE)
LABELS = spec("condition", dtype=tf.int32)
SEED = spec("seed", 2, dtype=tf.int32)
SIGMA = spec("sigma")
STEPS = spec("num_steps", dtype=tf.int32)
SETTINGS = [
    spec("step_size"),
    spec("max_steps", dtype=tf.int32),
    spec("tolerance"),
]


def pixels(rows):
    """Returns images whose pixels all equal the number of their row."""
    rows = tf.reshape(tf.cast(rows, tf.float32), (-1, 1, 1, 1))
    return tf.tile(rows, (1, *SHAPE))


class Toy(tf.Module):
    """Computes each output from the inputs of the request."""

    def __init__(self, offset=0.0):
        self.offset = tf.Variable(offset)

    def reconstruct(self, image, condition):
        return {"image": image + pixels(condition) + self.offset}

    def encode(self, image, condition):
        loc = tf.reduce_sum(image, (1, 2, 3)) + tf.cast(condition, tf.float32)
        return {"loc": loc[:, tf.newaxis], "stddev": loc[:, tf.newaxis] + 1}

    def decode(self, z, condition):
        return {"image": pixels(z[:, 0]) + pixels(condition)}

    def generate(self, seed, condition):
        return {"image": pixels(seed[:, 1] % 1000) + pixels(condition) / 4}

    def generate_with(self, seed, num_steps, guidance):
        return {"image": pixels(num_steps) + pixels(guidance)}

    def log_likelihood(self, image, condition, seed):
        rate = tf.cast(seed[:, 1] % 1000 + condition, tf.float32)
        distortion = tf.reduce_sum(image, (1, 2, 3))
        elbo = -(rate + distortion)
        return {
            "log_likelihood": elbo + 1,
            "elbo": elbo,
            "rate": rate,
            "distortion": distortion,
        }

    def denoise(self, image, sigma):
        message = "sigma must be > 0 and finite, got"
        check = tf.debugging.Assert(
            tf.reduce_all(sigma > 0), [message, tf.reduce_min(sigma)]
        )
        with tf.control_dependencies([check]):
            return {"denoised": image + pixels(sigma)}

    def noise(self, image, sigma):
        return {"noise": image - pixels(sigma)}

    def log_density(self, image, sigma):
        nats = tf.reduce_sum(image, (1, 2, 3)) - sigma
        return {"log_density": nats, "solver_error": sigma}

    def restore(self, image, sigma):
        return {
            "image": image + pixels(sigma),
            "num_steps": tf.ones_like(sigma, tf.int32),
            "residual": sigma,
        }

    def restore_with(self, image, sigma, step_size, max_steps, tolerance):
        return {
            "image": image + pixels(sigma * step_size),
            "num_steps": max_steps,
            "residual": tolerance,
        }

    def flat(self, condition):
        return {"image": condition}

    def slow(self, image):
        """Takes much of a second, on any number of cores."""
        total = tf.reduce_sum(image)
        for _ in tf.range(SLOW_STEPS):
            total = tf.sin(total)
        return {"image": image + total}

    def save(self, path):
        """Writes a version."""
        signatures = {
            name: tf.function(getattr(self, name), input_signature=specs)
            for name, specs in {
                "reconstruct": [IMAGE, LABELS],
                "encode": [IMAGE, LABELS],
                "decode": [spec("z", 1), LABELS],
                "generate": [SEED, LABELS],
                "generate_with": [SEED, STEPS, spec("guidance")],
                "log_likelihood": [IMAGE, LABELS, SEED],
                "denoise": [IMAGE, SIGMA],
                "noise": [IMAGE, SIGMA],
                "log_density": [IMAGE, SIGMA],
                "restore": [IMAGE, SIGMA],
                "restore_with": [IMAGE, SIGMA, *SETTINGS],
                "flat": [spec("condition", 4)],
                "slow": [IMAGE],
            }.items()
        }
        signatures["serving_default"] = signatures["reconstruct"]
        tf.saved_model.save(self, path, signatures)


def write_warmup(path, requests):
    """Writes the warm-up records of a version."""
    records = path / "assets.extra" / "tf_serving_warmup_requests"
    records.parent.mkdir()
    with tf.io.TFRecordWriter(str(records)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def predict_request(signature, model="toy", version=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        if not isinstance(value, tf.make_tensor_proto(0).__class__):
            value = tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(value)
    return request


def images(num):
    return RNG.random((num, *SHAPE), np.float32)


def save_toys(path):
    """Writes two models, one of them with complete and unfinished versions."""
    toy = path / "toy"
    Toy(offset=100.0).save(toy / "9")
    Toy().save(toy / "10")
    write_warmup(
        toy / "10",
        [
            predict_request("noise", image=images(n), sigma=np.ones(n, "f"))
            for n in (1, 4)
        ],
    )
    shutil.copytree(toy / "9", toy / ".writing-11")
    shutil.copytree(toy / "9", path / "other" / "1")
    return path


@contextlib.contextmanager
def started(command):
    """Runs a server until the block ends; yields it and its output's lines."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
