"""Trains a denoising autoencoder on images, or adapts a denoiser to them.

  python -m apps.train_dae                     # 8x8 digits, no download
  python -m apps.train_dae --sigma=0.1 --network=mlp   # a single noise level
  python -m apps.train_dae --blind             # no noise level is passed
  python -m apps.train_dae --condition=label --label_dropout=0.1
  python -m apps.train_dae --denoiser=exact    # no training: sum_i P(x_i|x) x_i
  python -m apps.train_dae --denoiser=linear --rank=30             # V V'x
  python -m apps.train_dae --dataset=fashion_mnist --data_dir=DIR
  python -m apps.train_dae --data_dir=PHOTOS --patch_size=48   # any sizes
  python -m apps.train_dae --latents_of=VAE_RUN --workdir=runs/prior

The same command resumes an interrupted run. Results are written to --workdir:
model.keras, metrics.json, figures/ and tensorboard/. With --latents_of the
model is that VAE with the denoiser as its prior p(z).
"""

from absl import flags

from .cli import (
    choices,
    data_flags,
    flag_types,
    guard,
    latents_of,
    noise_level,
    training_flags,
)

# Noise levels of a training on patches, 2.5 to 64 grey levels of 255.
_PATCH_SIGMA = (0.01, 0.25)
# Those of --for=restoring: without the levels that only generating needs.
_RESTORING_SIGMA = (0.05, 1.5)

training_flags.define_flags("runs/dae", default_steps=1000)
data_flags.define_patch_flags()
flags.DEFINE_enum(
    "denoiser",
    "learned",
    ["learned", "linear", "exact"],
    "A network that is trained; the best linear denoiser (Wiener filter, or "
    "the projection V V'x with --rank); the exact posterior mean over the "
    "training images. The last two need no training.",
)
flag_types.define_path(
    "latents_of",
    None,
    "A finished run of train_vae or train_hvae: train a denoiser of its "
    "latents, of the same data, as a learned prior p(z). It takes a range of "
    "--sigma, in units of the latents (default: 0.02,10), and an mlp.",
)
flags.DEFINE_enum(
    "binarization",
    None,
    choices.BINARIZATIONS,
    "With --latents_of: as in the run of the VAE, which is the default.",
)
flags.DEFINE_enum(
    "for",
    "generating",
    ["generating", "restoring"],
    "What the denoiser is for: generating, at the default --sigma, with which "
    "it restores too; or restoring, at --sigma=0.05,1.5, which does that a "
    "little better. Not with --sigma, --blind or --patch_size, which choose "
    "the noise levels.",
)
flag_types.define_levels(
    "sigma",
    None,
    "Noise level of the training, in units of pixels in [0, 1]: LEVEL, or "
    "LOWEST,HIGHEST for a range with a log-uniform distribution, such as "
    "5/255,1.5 (default: 0.02,40 with a log-normal distribution, of median "
    "0.35; with --for=restoring or --blind 0.05,1.5; with --patch_size "
    "0.01,0.25).",
)
flags.DEFINE_bool("blind", False, "Do not pass the noise level to the network.")
flags.DEFINE_enum(
    "condition",
    "none",
    ["none", "label"],
    "label: the label of the image is an input of the network, so that images "
    "of a given label can be drawn (generate --label=3).",
)
flags.DEFINE_float(
    "label_dropout",
    0.0,
    "With --condition=label: probability of dropping the label in training, "
    "which enables images without a label (generate --label=none) and "
    "--guidance.",
    lower_bound=0,
    upper_bound=0.99,
)
flags.DEFINE_integer(
    "num_noise_draws",
    None,
    "Number of noise draws for each image and step (default: 1; with "
    "--latents_of 4 for each latent).",
    lower_bound=1,
)
flag_types.define_alias("copies", "num_noise_draws")
flags.DEFINE_enum(
    "network",
    None,
    ["unet", "bias_free_unet", "mlp"],
    "Kind of network (default: unet; with --blind and without --condition, "
    "bias_free_unet).",
)
flag_types.define_sizes(
    "filters",
    None,
    "Channels of the levels of the U-Net, from the first down, each of half "
    "the size of the one before (default: 32,64,128).",
)
flags.DEFINE_integer(
    "blocks",
    2,
    "Residual blocks at each level of the U-Net, both down and up.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "stem_stride",
    1,
    "Side in pixels of the squares that are one pixel of the U-Net's first "
    "level, a power of 2. With 2 the same --filters are about three times as "
    "fast.",
    lower_bound=1,
    upper_bound=64,
)
flags.DEFINE_integer(
    "attention_levels",
    0,
    "Levels of the U-Net, from the smallest up, with self-attention.",
    lower_bound=0,
    upper_bound=99,
)
flag_types.define_sizes(
    "hidden_sizes",
    None,
    "Widths of the hidden layers of the mlp (default: 512,512; with "
    "--latents_of 256,256,256).",
)
flags.DEFINE_integer(
    "rank",
    None,
    "With --denoiser=linear: number of principal directions to project onto, "
    "at every noise level (default: the Wiener filter, which shrinks all "
    "directions by the noise level).",
    lower_bound=1,
)
flags.DEFINE_bool(
    "center",
    True,
    "With --denoiser=linear: subtract the mean image; --nocenter projects "
    "about 0, plain V V'x.",
)

_ONLY_LEARNED = (
    "patch_size",
    "patches_per_epoch",
    "smallest_scale",
    "sigma",
    "for",
    "blind",
    "condition",
    "label_dropout",
    "network",
    "filters",
    "blocks",
    "stem_stride",
    "attention_levels",
    "hidden_sizes",
)


def main():
    """Trains or adapts, and writes the results."""
    config = training_flags.read(__name__)
    if config.latents_of is not None:
        latents_of.train(latents_of.resolve(config))
        return
    config.forbid(("binarization",), "--latents_of")
    config = resolve(config)
    strategy = training_flags.start_tensorflow(
        config, only_adapts=config.denoiser != "learned"
    )
    training_flags.train(build_denoiser, config, strategy=strategy)


def resolve(config):
    """Checks the flags and fills in defaults."""
    config = config.fill(num_noise_draws=1)
    if config.denoiser != "learned" and config.num_noise_draws != 1:
        raise guard.WrongFlags("--num_noise_draws requires --denoiser=learned")
    if config.denoiser != "linear":
        config.forbid(("rank", "center"), "--denoiser=linear")
    if config.denoiser != "learned":
        only_learned = (*_ONLY_LEARNED, *training_flags.only_trained())
        config.forbid(only_learned, "--denoiser=learned")
        return config
    by_label = config.condition == "label"
    if not by_label:
        config.forbid(("label_dropout",), "--condition=label")
    data_flags.check_patch_flags(config)
    config = _with_noise_levels(config)
    return _with_network(config, is_bias_free=config.blind and not by_label)


def _with_noise_levels(config):
    """Fills in --sigma, unless the default is that of the denoiser."""
    if "for" in config.present:
        for name in ("sigma", "blind", "patch_size"):
            if name in config.present:
                raise guard.WrongFlags(
                    f"--for excludes --{name}, which chooses the noise levels"
                )
    if config.values["for"] == "restoring":
        config = config.fill(sigma=_RESTORING_SIGMA)
    if config.patch_size is not None:
        config = config.fill(sigma=_PATCH_SIGMA)
    if config.blind and _has_single_level(config):
        raise guard.WrongFlags("--blind requires --sigma=LOWEST,HIGHEST")
    return config


def _with_network(config, is_bias_free):
    """Checks the flags of the network and fills in their defaults.

    Args:
        config: `Config`.
        is_bias_free: whether the network is given the image alone.
    """
    config = config.fill(network="bias_free_unet" if is_bias_free else "unet")
    if config.network == "bias_free_unet" and not is_bias_free:
        raise guard.WrongFlags(
            "--network=bias_free_unet requires --blind and no --condition, as "
            "it takes neither noise level nor label"
        )
    if config.network != "unet":
        config.forbid(("attention_levels",), "--network=unet")
    if config.network == "mlp":
        only_unets = ("filters", "blocks", "stem_stride", "patch_size")
        config.forbid(only_unets, "--network=unet or bias_free_unet")
        return config.fill(hidden_sizes=(512, 512))
    config.forbid(("hidden_sizes",), "--network=mlp")
    config = config.fill(filters=(32, 64, 128))
    if config.stem_stride.bit_count() != 1:
        raise guard.WrongFlags(
            f"--stem_stride={config.stem_stride} must be a power of 2"
        )
    if config.patch_size is not None:
        check_patches(config)
    return config


def check_patches(config):
    """Checks the flags of a training on patches."""
    config.forbid(
        ("condition", "attention_levels"),
        "images of one size (no --patch_size)",
    )
    least = config.stem_stride * 2 ** (len(config.filters) - 1)
    if config.patch_size < least:
        raise guard.WrongFlags(
            f"--patch_size={config.patch_size} must be at least {least}, as "
            f"--filters has {len(config.filters)} levels"
            + (f" after --stem_stride={config.stem_stride}")
            * (config.stem_stride > 1)
        )


def build_denoiser(config, data):
    """Builds the denoiser that the flags describe."""
    from keras_genmodels import denoisers

    noise_level.warn_if_unlikely("sigma", config.sigma or [])
    if config.denoiser == "exact":
        return denoisers.EmpiricalDenoiser()
    if config.denoiser == "linear":
        return denoisers.LinearDenoiser(rank=config.rank, center=config.center)
    num_classes = data.num_classes() if config.condition == "label" else None
    image_shape = data.image_shape
    if config.patch_size is not None:
        # Pictures are restored at their own size.
        image_shape = (None, None, image_shape[-1])
    return denoisers.DenoisingAutoencoder(
        build_network(config, image_shape, num_classes),
        sigma=config.sigma,
        blind=config.blind,
        num_noise_draws=config.num_noise_draws,
        num_classes=num_classes,
        label_dropout=config.label_dropout,
        seed=config.seed,
    )


def build_network(config, image_shape, num_classes):
    """Builds the network that the flags describe."""
    from keras_genmodels.networks import denoisers as networks

    inputs = {
        "noise_conditional": not config.blind and not _has_single_level(config),
        "num_classes": num_classes,
    }
    if config.network == "mlp":
        return networks.mlp_denoiser(
            image_shape, hidden_sizes=config.hidden_sizes, **inputs
        )
    if config.network == "bias_free_unet":
        return networks.bias_free_unet(
            image_shape,
            config.filters,
            config.blocks,
            stem_stride=config.stem_stride,
        )
    return networks.unet(
        image_shape,
        filters=config.filters,
        blocks=config.blocks,
        stem_stride=config.stem_stride,
        attention_levels=config.attention_levels,
        **inputs,
    )


def _has_single_level(config):
    return config.sigma is not None and config.sigma[0] == config.sigma[-1]


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
