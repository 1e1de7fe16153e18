"""The programs of `accelerator.py`, as this package makes them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import vae_networks
from accelerator_arrays import make
from accelerator_inputs import (
    binary_images,
    compile_model,
    equal,
    images_in,
    noisy_images,
    row_seeds,
    seed_weights,
)

F32, BF16 = "float32", "mixed_bfloat16"
# How much outputs may differ from those of a CPU, of the largest value. Where
# float32 is asked for, GPUs multiply in TF32, which has 3 more bits than
# bfloat16; images by bfloat16 differ from those by float32 by 0.006, and the
# variables after a training step by up to 0.09.
TOLERANCE, TRAINING_TOLERANCE = 0.02, {F32: 0.02, BF16: 0.2}
# Largest |error| / max_i |x_i - D| of the exact denoiser.
ERROR_BOUND = 0.003


class Sizes(NamedTuple):
    """How large the programs are; the defaults are those of the package."""

    side: int = 28
    filters: tuple = (32, 64, 128)
    blocks: int = 2
    batches: tuple = (64, 512)
    hidden: int = 512
    vae_batches: tuple = (128, 1024)
    events: int = 60_000
    event_batch: int = 128
    images: int = 100
    draws: int = 5000
    draws_at_once: int = 100_000
    samples: int = 1024
    restore_steps: int = 10
    euler_steps: int = 100

    @property
    def shape(self):
        """Shape of an image."""
        return (self.side, self.side, 1)


SMALL = Sizes(
    side=8,
    filters=(8, 16),
    blocks=1,
    batches=(4, 8),
    hidden=16,
    vae_batches=(8, 16),
    events=600,
    event_batch=16,
    images=3,
    draws=200,
    draws_at_once=400,
    samples=16,
    restore_steps=3,
    euler_steps=10,
)


class Program(NamedTuple):
    """A function of this package that is to be lowered.

    Args:
        function: of tensors.
        arguments: list of their specifications.
        weights: dict of the ids of the handles of variables to specifications.
        operations: int, multiplications and additions of its products; None
            if they are not counted.
        cases: list of dicts: `title`, and `events`, values of the
            specifications of kind "events"; None for a single case.
        tolerance: float, how much the outputs may differ.
    """

    function: Callable[..., Any]
    arguments: list
    weights: dict
    operations: int | None = None
    cases: list | None = None
    tolerance: float = TOLERANCE


def programs(sizes):
    """Returns the programs, the most important first.

    Returns:
        dict of names to title, dtype policy, and function that returns a
        `Program`.
    """
    images = f"generate {sizes.batches[0]} images"
    euler = f"{images}, {sizes.euler_steps} Euler steps"
    draws = f"{sizes.draws_at_once} draws of the bound"
    return {
        "exact": ("exact denoiser", F32, partial(exact, sizes)),
        "generate_float32": (
            f"{images}, 20 evaluations, float32",
            F32,
            partial(generating, sizes),
        ),
        "bound": (
            f"bound of {sizes.images} images by {sizes.draws} draws",
            F32,
            partial(bound, sizes),
        ),
        "bound_noise": (
            f"the noise of {draws}",
            F32,
            partial(bound_noise, sizes),
        ),
        "bound_weights": (
            f"the weights of {draws}",
            F32,
            partial(bound_weights, sizes),
        ),
        "conditional": (
            f"{sizes.samples} conditional samples",
            F32,
            partial(conditional_samples, sizes),
        ),
        "euler": (euler, F32, partial(euler_steps, sizes, 0.0)),
        "stochastic": (
            f"{euler}, with noise",
            F32,
            partial(euler_steps, sizes, 0.5),
        ),
        **unet_programs(sizes),
        "generate_bfloat16": (
            f"{images}, 20 evaluations, bfloat16",
            BF16,
            partial(generating, sizes),
        ),
        **{
            f"{name}_{batch}": (
                f"{title}, training, float32, batch {batch}",
                F32,
                partial(vae_training, sizes, batch, name == "vae_conv"),
            )
            for name, title in (
                ("vae", "VAE"),
                ("vae_conv", "VAE with convolutions"),
            )
            for batch in sizes.vae_batches
        },
        "restore": (
            f"restore {sizes.batches[0]} images, {sizes.restore_steps} steps",
            F32,
            partial(restoring, sizes),
        ),
    }


def unet_programs(sizes):
    """Returns forward passes and training steps of the U-Net."""
    return {
        f"{kind}_{dtype}_{batch}": (
            f"U-Net, {kind}, {dtype}, batch {batch}",
            policy,
            partial(build, sizes, batch),
        )
        for kind, build in (("forward", forward), ("training", training))
        for policy, dtype in ((F32, "float32"), (BF16, "bfloat16"))
        for batch in sizes.batches
    }


def autoencoder(sizes):
    """Returns a default denoiser, its weights, and operations per image."""
    import keras

    import keras_genmodels as kgm

    network = kgm.unet(sizes.shape, filters=sizes.filters, blocks=sizes.blocks)
    model = kgm.DenoisingAutoencoder(network)
    model.adapt(make(images_in(sizes.shape, 1000)))
    operations = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            pixels = math.prod(layer.output.shape[1:3])
            operations += 2 * pixels * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            operations += 2 * math.prod(layer.kernel.shape)
    return model, seed_weights(model.weights), operations


def forward(sizes, batch):
    """Denoises a batch."""
    model, weights, operations = autoencoder(sizes)
    return Program(
        lambda x, sigma: model.denoise(x, sigma),
        [noisy_images(sizes.shape, batch), equal([batch], 0.4)],
        weights,
        operations * batch,
    )


def training(sizes, batch):
    """Trains a U-Net for a step."""
    import keras

    model, weights, operations = autoencoder(sizes)
    weights |= compile_model(model, learning_rate_warmup_steps=500)
    return Program(
        lambda x: model.train_step(x),
        [images_in(sizes.shape, batch)],
        weights,
        3 * operations * batch,
        tolerance=TRAINING_TOLERANCE[keras.config.dtype_policy().name],
    )


def generating(sizes, **settings):
    """Generates images, with the settings of `sample`."""
    model, weights, operations = autoencoder(sizes)
    batch, steps = sizes.batches[0], settings.get("num_steps", 20)
    return Program(
        lambda rows: model.sample(
            batch, seed=rows, jit_compile=True, **settings
        ),
        [row_seeds(batch)],
        weights,
        operations * batch * steps,
    )


def euler_steps(sizes, stochasticity):
    """Generates images as version 0.3 did."""
    return generating(
        sizes,
        solver="euler",
        num_steps=sizes.euler_steps,
        stochasticity=stochasticity,
    )


def restoring(sizes):
    """Restores images, without a tolerance."""
    import keras_genmodels as kgm

    model, weights, operations = autoencoder(sizes)
    batch, steps = sizes.batches[0], sizes.restore_steps
    return Program(
        lambda x, sigma: kgm.restore(
            model,
            x,
            sigma=sigma,
            max_steps=steps,
            tolerance=0,
            jit_compile=True,
        ),
        [noisy_images(sizes.shape, batch), equal([batch], 0.4)],
        weights,
        operations * batch * steps,
    )


def exact(sizes):
    """Denoises by the exact denoiser of two sets of images."""
    import keras_genmodels as kgm

    def part(name):
        return {
            "kind": "events",
            "part": name,
            "content": "near-duplicates",
            "sigma": 0.15,
            "num": sizes.events,
            "side": sizes.side,
            "batch_size": sizes.event_batch,
        }

    denoiser = kgm.EmpiricalDenoiser()
    denoiser.adapt(make(part("data")).reshape(-1, *sizes.shape))
    weights = {
        id(weight.value.handle): part(weight.path.split("/")[-1])
        for weight in denoiser.weights
    }
    return Program(
        lambda x, sigma: denoiser.denoise(x, sigma),
        [part("noisy"), part("sigma")],
        weights,
        4 * sizes.events * sizes.side**2 * sizes.event_batch,
        [
            {
                "title": f"{content}, sigma {sigma:g}",
                "events": {"content": content, "sigma": sigma},
            }
            for content in ("near-duplicates", "bright images")
            for sigma in (0.05, 0.15, 0.5)
        ],
        ERROR_BOUND,
    )


def vae(sizes, latent_size, hidden=None):
    """Returns a VAE of binary images, and its weights.

    Args:
        sizes: `Sizes`.
        latent_size: int, width of the latent.
        hidden: int, width of two hidden layers; None for convolutions.
    """
    import keras_genmodels as kgm

    posterior = kgm.MultivariateNormalDiag(latent_size)
    likelihood = kgm.IndependentBernoulli(sizes.shape)
    encoder, decoder = kgm.conv_encoder, kgm.conv_decoder
    settings = {}
    if hidden:
        encoder, decoder = kgm.mlp_encoder, kgm.mlp_decoder
        settings = {"hidden_sizes": (hidden, hidden)}
    model = kgm.VAE(
        encoder(sizes.shape, posterior.params_size, **settings),
        decoder(latent_size, likelihood.params_shape, **settings),
        posterior,
        likelihood,
    )
    return model, seed_weights(model.weights)


def vae_training(sizes, batch, is_conv):
    """Trains a VAE for a step."""
    hidden = None if is_conv else sizes.hidden
    model, weights = vae(sizes, latent_size=8, hidden=hidden)
    weights |= compile_model(model)
    networks = (model.encoder, model.decoder)
    count = sum(map(vae_networks.operations, networks))
    return Program(
        lambda x: model.train_step(x),
        [binary_images(sizes.shape, batch)],
        weights,
        3 * count * batch,
    )


def bound_model(sizes):
    """Returns the VAE of the bound, its weights, and operations per draw."""
    model, weights = vae(sizes, latent_size=50, hidden=min(200, sizes.hidden))
    kernels = [it for it in model.decoder.weights if len(it.shape) == 2]
    return model, weights, 2 * sum(math.prod(it.shape) for it in kernels)


def bound(sizes):
    """Estimates log p(x), in a single program."""
    import keras_genmodels as kgm

    model, weights, operations = bound_model(sizes)
    return Program(
        lambda x, rows: kgm.log_likelihood(
            model,
            x,
            num_samples=sizes.draws,
            seed=rows,
            chunk_size=sizes.draws_at_once,
            jit_compile=True,
        ),
        [binary_images(sizes.shape, sizes.images), row_seeds(sizes.images)],
        weights,
        operations * sizes.images * sizes.draws,
    )


def bound_noise(sizes):
    """Draws the noise of a round: the first of the bound's two functions."""
    draw, _, weights, _ = bound_steps(sizes)
    groups = sizes.draws_at_once // 100
    numbers = {"kind": "integers", "shape": [100, groups], "seed": 5}
    return Program(
        draw, [row_seeds(groups), {**numbers, "high": sizes.draws}], weights
    )


def bound_weights(sizes):
    """Weighs a round of draws: the second of the bound's two functions."""
    _, weigh, weights, operations = bound_steps(sizes)
    groups = sizes.draws_at_once // 100
    noise = {"kind": "normal", "shape": [100, groups, 50], "seed": 6}
    counted = {"kind": "full", "shape": [100, groups], "dtype": "bool"}
    return Program(
        weigh,
        [noise, {**counted, "value": True}, binary_images(sizes.shape, groups)],
        weights,
        operations * sizes.draws_at_once,
    )


def bound_steps(sizes):
    """Returns both functions, the weights, and operations per draw."""
    from keras_genmodels.models import likelihood

    model, weights, operations = bound_model(sizes)
    draw, weigh = likelihood._build_steps(lambda: model, True)
    return draw, weigh, weights, operations


def conditional_samples(sizes):
    """Draws images of given classes."""
    import keras_genmodels as kgm

    posterior = kgm.MultivariateNormalDiag(32)
    likelihood = kgm.IndependentBernoulli(sizes.shape)
    layers = {"hidden_sizes": (sizes.hidden,) * 2, "condition_size": 16}
    model = kgm.ConditionalVAE(
        kgm.mlp_encoder(sizes.shape, posterior.params_size, **layers),
        kgm.mlp_decoder(32, likelihood.params_shape, **layers),
        posterior,
        likelihood,
        kgm.label_embedding(10, 16),
        num_classes=10,
    )
    labels = {"kind": "integers", "shape": [sizes.samples], "seed": 7}
    return Program(
        lambda labels, rows: model.sample(condition=labels, seed=rows),
        [{**labels, "high": 10}, row_seeds(sizes.samples)],
        seed_weights(model.weights),
    )
