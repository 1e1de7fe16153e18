"""The tasks of `peers.py`, each built in the process that runs it."""

import importlib.metadata
import os
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SIDE = 28
SIGMA = 0.5
MEAN, DEVIATION = 0.5, 0.3
VAE_IMAGES, VAE_WIDTH, LATENT_SIZE = 20_000, 512, 8


class Task(NamedTuple):
    """Something to be timed.

    Args:
        run: function without arguments that returns when its work is done.
        images: int, number of images of a run.
        versions: dict of names of packages to versions.
        weights: dict of layers to arrays, of a U-Net of this package.
        output: array `[batch, 28, 28]`, the result of a forward pass.
    """

    run: Callable[[], Any]
    images: int
    versions: dict
    weights: dict | None = None
    output: np.ndarray | None = None


def keras_task(task, options):
    """Builds a task of this package."""
    import keras

    keras.config.set_dtype_policy(
        "mixed_bfloat16" if task.endswith("bfloat16") else "float32"
    )
    versions = versions_of("tensorflow")
    if task == "vae":
        run = keras_vae(options)
        images = options["vae_steps"] * options["vae_batch_size"]
        return Task(run, images, versions)
    network = keras_unet(options)
    clean, noisy, level = unet_inputs(options)
    forward = keras_forward(network, centred(noisy), level)
    run = forward
    weights = {it.name: it.get_weights() for it in network.layers}
    output = forward().numpy()[..., 0]
    if task.startswith("training"):
        run = keras_training(network, clean, noisy, level)
    return Task(
        lambda: run().numpy(), options["batch_size"], versions, weights, output
    )


def unet_inputs(options):
    """Returns clean and noisy images `[batch, 28, 28, 1]`, and the level."""
    rng = np.random.default_rng(0)
    shape = (options["batch_size"], SIDE, SIDE, 1)
    clean = rng.random(shape, np.float32)
    noisy = clean + SIGMA * rng.standard_normal(shape, np.float32)
    level = np.full(shape[0], np.log(SIGMA) / 4, np.float32)
    return clean, noisy, level


def centred(noisy):
    """Returns the input of the network for noisy images."""
    return (noisy - MEAN) / (DEVIATION**2 + SIGMA**2) ** 0.5


def error(network, clean, noisy):
    """Returns the weighted error of D(x, SIGMA), for a network of x."""
    total = DEVIATION**2 + SIGMA**2
    out = SIGMA * DEVIATION / total**0.5
    kept = MEAN + (noisy - MEAN) * (DEVIATION**2 / total)
    return (kept + out * network(centred(noisy)) - clean) / out


def keras_unet(options, sides=(SIDE, SIDE)):
    """Builds the default U-Net with random weights, the same in each call."""
    import keras_genmodels as kgm

    network = kgm.unet(
        (*sides, 1),
        filters=options["filters"],
        blocks=options["blocks"],
        stem_stride=options.get("stem_stride", 1),
    )
    rng = np.random.default_rng(1)
    for weight in network.weights:
        scale = (2 / max(1, np.prod(weight.shape[:-1]))) ** 0.5
        weight.assign(0.3 * scale * rng.standard_normal(weight.shape))
    return network


def keras_forward(network, x, level):
    """Returns a compiled forward pass."""
    import tensorflow as tf

    x, level = tf.constant(x), tf.constant(level)
    return tf.function(lambda: network([x, level]))


def keras_training(network, *inputs):
    """Returns a compiled training step."""
    import keras
    import tensorflow as tf

    clean, noisy, level = map(tf.constant, inputs)
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            errors = error(lambda x: network([x, level]), clean, noisy)
            loss = tf.reduce_sum(errors**2)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, network.trainable_variables, strict=True)
        )
        return loss

    return step


def keras_vae(options):
    """Returns a function that calls `fit` as `train_vae` does."""
    import keras_genmodels as kgm
    from keras_genmodels import datasets
    from keras_genmodels.training import fit

    steps, shape = options["vae_steps"], (SIDE, SIDE, 1)
    posterior = kgm.MultivariateNormalDiag(LATENT_SIZE)
    likelihood = kgm.IndependentBernoulli(shape)
    hidden = (VAE_WIDTH, VAE_WIDTH)
    model = kgm.VAE(
        kgm.mlp_encoder(shape, posterior.params_size, hidden),
        kgm.mlp_decoder(LATENT_SIZE, likelihood.params_shape, hidden),
        posterior,
        likelihood,
    )
    # The peers' rate does not fall, and they average no weights.
    settings = {"learning_rate_schedule": "constant", "ema_momentum": 0}
    fit.compile_model(
        model, fit.Options(epochs=1, steps_per_epoch=steps, **settings)
    )
    images = vae_images().reshape(-1, *shape)
    batches = datasets.training_batches(
        datasets.Split(images, None),
        batch_size=options["vae_batch_size"],
        seed=0,
        binarization="dynamic",
    ).map(lambda batch: batch["image"])
    return lambda: model.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    )


def vae_images():
    """Returns uint8 `[20000, 784]`, a third of them not black."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (VAE_IMAGES, SIDE**2), np.uint8)
    return values * (rng.random(values.shape) < 0.3).astype(np.uint8)


def torch_task(task, options, compiled=False):
    """Builds a task of PyTorch; for a U-Net `options` have its `weights`."""
    import torch

    versions = versions_of("torch")
    compile_it = torch.compile if compiled else lambda function: function
    if task == "vae":
        run = torch_vae(options, compile_it)
        images = options["vae_steps"] * options["vae_batch_size"]
        return Task(run, images, versions)
    from torch_networks import Unet

    kind, precision = task.split("_")
    network = Unet(options["weights"], options["filters"], options["blocks"])
    network = network.to(memory_format=torch.channels_last)
    call = compile_it(network)
    clean, noisy, level = map(torch.from_numpy, unet_inputs(options))
    # Images of one channel are in both formats.
    clean, noisy = clean.permute(0, 3, 1, 2), noisy.permute(0, 3, 1, 2)
    in_precision = torch.autocast(
        "cpu", torch.bfloat16, enabled=precision == "bfloat16"
    )

    x = centred(noisy)

    def forward():
        with torch.inference_mode(), in_precision:
            return call(x, level)

    output = forward().numpy()[:, 0]
    run = forward
    if kind == "training":
        optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)

        def run():
            optimizer.zero_grad(set_to_none=True)
            with in_precision:
                errors = error(lambda x: call(x, level), clean, noisy)
                loss = (errors**2).sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return Task(run, options["batch_size"], versions, None, output)


def torch_compiled_task(task, options):
    """Builds a task of PyTorch with `torch.compile`."""
    # Its worker processes are not allowed in the process of a pool.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return torch_task(task, options, compiled=True)


def torch_vae(options, compile_it):
    """Returns a function that trains for an epoch in a bare loop."""
    import torch
    from torch_networks import Vae

    images = torch.from_numpy(vae_images())
    model = Vae(SIDE**2, VAE_WIDTH, LATENT_SIZE)
    call = compile_it(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def train():
        rows = torch.randperm(VAE_IMAGES)
        rows = rows.repeat(-(-_drawn(options) // VAE_IMAGES))[: _drawn(options)]
        for batch in rows.split(options["vae_batch_size"]):
            x = torch.bernoulli(images[batch].float() / 255)
            optimizer.zero_grad(set_to_none=True)
            call(x).backward()
            optimizer.step()

    return train


def _drawn(options):
    """Returns the number of images of an epoch."""
    return options["vae_steps"] * options["vae_batch_size"]


def pythae_task(task, options):
    """Builds the training of the VAE by pythae's trainer."""
    if task != "vae":
        return None
    import torch
    from pythae.data.datasets import BaseDataset, DatasetOutput
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch_networks import hidden_layers

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.layers = hidden_layers(SIDE**2, VAE_WIDTH, 2 * LATENT_SIZE)

        def forward(self, x):
            loc, log_variance = self.layers(x).chunk(2, 1)
            return ModelOutput(embedding=loc, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = hidden_layers(LATENT_SIZE, VAE_WIDTH, SIDE**2)

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z).sigmoid())

    class Binarized(BaseDataset):
        def __getitem__(self, index):
            x = torch.bernoulli(self.data[index])
            return DatasetOutput(data=x, labels=self.labels[index])

    config = VAEConfig(
        input_dim=(SIDE**2,),
        latent_dim=LATENT_SIZE,
        reconstruction_loss="bce",
    )
    images = torch.from_numpy(vae_images()[: _drawn(options)]).float() / 255
    trainer = BaseTrainer(
        VAE(config, Encoder(), Decoder()),
        Binarized(images, torch.zeros(len(images))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=options["vae_batch_size"],
            learning_rate=1e-3,
            no_cuda=True,
        ),
    )
    trainer.prepare_training()
    trainer.callback_handler.callbacks.clear()
    return Task(
        lambda: trainer.train_step(1),
        len(images),
        versions_of("torch", "pythae"),
    )


def versions_of(*names):
    """Returns a dict of the names of packages to their versions."""
    return {name: importlib.metadata.version(name) for name in names}


BUILDERS = {
    "keras": keras_task,
    "pytorch": torch_task,
    "pytorch_compiled": torch_compiled_task,
    "pythae": pythae_task,
}
