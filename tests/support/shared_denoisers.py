"""Exact denoisers whose data replicas share, to be compared with others."""

import contextlib
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_genmodels as kgm
from keras_genmodels.export.exporter import export
from keras_genmodels.training import strategy
from support.dense_posterior import derivative

SHAPE = (4, 3, 1)
# Not a multiple of the replicas.
NUM_EVENTS = 700


def data(kind):
    """Returns images, of which hundreds are within a small sigma."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_EVENTS, *SHAPE), np.uint8)
    pixels[:300] = pixels[0] + rng.integers(0, 2, (300, *SHAPE), np.uint8)
    return pixels if kind == "uint8" else (pixels / 255).astype(kind)


def noisy(sigma, dtype):
    """Returns noisy images, one for each level."""
    clean = data("uint8")[295 : 295 + len(sigma)] / 255
    noise = np.random.default_rng(1).standard_normal(clean.shape)
    return (clean + sigma[:, None, None, None] * noise).astype(dtype)


def adapted(kind, built=None):
    scope = built.scope() if built else contextlib.nullcontext()
    with scope:
        denoiser = kgm.EmpiricalDenoiser()
    denoiser.adapt(data(kind))
    return denoiser


def results(denoiser):
    """Returns what a denoiser computes, by name."""
    dtype = denoiser.variable_dtype

    def per_image(values):
        return values[:, None, None, None]

    sigma = np.array([1e-3, 0.004, 0.02, 0.3, 5.0], dtype)
    x = noisy(sigma, dtype)
    found = derivative(denoiser.denoise, x, sigma, np.sin(37 * x))
    posterior = denoiser.posterior(x, sigma, 300)
    density = denoiser.noisy_data(0.3)
    rows = tf.constant([[1, i] for i in range(9)], tf.int32)
    return {
        "denoised": found[0].numpy(),
        "by_x": found[1].numpy(),
        # Scaled, as dividing by a small sigma magnifies rounding.
        "by_sigma": found[2].numpy() * sigma**3,
        "score": per_image(sigma**2) * denoiser.score(x, sigma).numpy(),
        "probabilities": posterior.probabilities.numpy(),
        "indices": posterior.indices.numpy(),
        "draws": density.draw(rows).numpy(),
        "log_density": density.log_prob(x).numpy(),
        "samples": denoiser.sample(3, seed=0, num_steps=4).numpy(),
        "restored": kgm.restore(
            denoiser, x, sigma=sigma, max_steps=3
        ).x.numpy(),
        "predicted": denoiser.predict([x, sigma], verbose=0),
        "mean": np.asarray(denoiser.data_mean),
        "range": np.asarray(denoiser.sigma_range),
    }


def both(kinds, policy, name="mirrored"):
    """Returns results of one device and of all, and rows on each device.

    To be called once in a process: TensorFlow takes the collective operations
    of two strategies for the same.
    """
    keras.config.set_dtype_policy(policy)
    built = strategy.build(name)
    found = []
    for kind in kinds:
        whole, shared = adapted(kind), adapted(kind, built)
        found.append((results(whole), results(shared), places(shared)))
    return found


def on_workers():
    """Returns results of one device and of all workers, and what is refused.

    Returns:
        as an item of `both`, and the message of a file of the data of all.
    """
    keras.config.set_dtype_policy("float64")
    built = strategy.build("multi_worker")
    whole, shared = adapted("uint8"), adapted("uint8", built)
    message = ""
    try:
        shared.save(pathlib.Path(tempfile.mkdtemp(), "model.keras"))
    except ValueError as error:
        message = str(error)
    return results(whole), results(shared), places(shared), message


def places(denoiser):
    """Returns the device and the shape of each part of the data."""
    parts = denoiser._strategy.experimental_local_results(denoiser._shared.data)
    return [(part.device[-5:], tuple(part.shape)) for part in parts]


def files():
    """Returns results before and after a file, in a scope and without one."""
    built = strategy.build("mirrored")
    shared = adapted("uint8", built)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        shared.save(path)
        plain = keras.saving.load_model(path)
        with built.scope():
            again = keras.saving.load_model(path)
    x = noisy(np.float32([0.1, 0.2]), "float32")
    denoised = [it.denoise(x, 0.2).numpy() for it in (shared, plain, again)]
    stored = [np.asarray(weight) for weight in plain.weights]
    return denoised, stored, plain.spans_devices, places(again)


def refusals():
    """Returns the messages of what such a denoiser cannot do."""
    built = strategy.build("mirrored")
    shared = adapted("uint8", built)
    x = noisy(np.float32([0.1, 0.2]), "float32")
    with built.scope():
        of_few = kgm.EmpiricalDenoiser()
    calls = [
        lambda: built.run(lambda: shared.denoise(x, 0.2)),
        lambda: of_few.adapt(np.ones((1, 3), np.uint8)),
        lambda: kgm.restore(shared, x, sigma=0.2, jit_compile=True),
        lambda: export(shared, tempfile.mkdtemp(), "shared"),
    ]
    messages = []
    for call in calls:
        try:
            call()
        except ValueError as error:
            messages.append(str(error))
        else:
            messages.append("")
    return messages
