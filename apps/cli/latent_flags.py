"""Flags of latent-variable models, and the parts that they describe."""

from absl import flags

from . import choices, flag_types

# Layers of `distributions.layers`, by the values of --posterior.
_POSTERIORS = {
    "diagonal": "MultivariateNormalDiag",
    "full": "MultivariateNormalTriL",
}
# Values of --network that have convolutions.
_CONVOLUTIONAL = ("conv", "resnet")


def define_flags(has_layers=False):
    """Defines the flags that train_vae, train_cvae and train_hvae share.

    Args:
        has_layers: whether the model has several layers of latents.
    """
    flags.DEFINE_enum(
        "binarization",
        None,
        choices.BINARIZATIONS,
        "none keeps grey values; dynamic draws each pixel anew in each epoch, "
        "with its grey value as probability; threshold compares with 0.5 "
        "(default: dynamic for bernoulli, else none). bernoulli with none is a "
        "cross entropy, not a likelihood.",
    )
    flags.DEFINE_enum(
        "network",
        "conv",
        ["conv", "resnet", "mlp", "gated_mlp"],
        "Kind of encoder and decoder; a resnet has a residual block of two "
        "more convolutions at each resolution; each hidden layer of a gated "
        "MLP is a dense one times a sigmoid one.",
    )
    flag_types.define_sizes(
        "hidden_sizes",
        None,
        "With --network=mlp or gated_mlp: widths of the hidden layers of the "
        "encoder, which the decoder has in reverse order (default: 200,200; "
        "300,300 for gated_mlp).",
    )
    flag_types.define_sizes(
        "filters",
        None,
        "With --network=conv or resnet: channels at full resolution, which "
        "each halving of the resolution doubles, up to 128 (default: 16); or "
        "the channels at each resolution, such as 8,64,128,128 for 28x28 "
        "pixels: few at full resolution make a network cheaper.",
    )
    flag_types.define_sizes(
        "residual_blocks",
        None,
        "With --network=resnet: residual blocks at each resolution, one number "
        "for all (default: 1) or one for each, such as 0,1,2,2.",
        least=0,
    )
    if has_layers:
        flag_types.define_sizes(
            "latent_sizes",
            (16, 16),
            "Widths of the layers of latents, two or more, from the one next "
            "to the image to the top.",
        )
        covariance_of = "each layer of q(z|x), and of p(z) below the top"
        free_bits_help = "Count the rate of each layer"
    else:
        flags.DEFINE_integer(
            "latent_size", 16, "Width of the latent.", lower_bound=1
        )
        covariance_of = "the posterior q(z|x)"
        free_bits_help = (
            "With --posterior=diagonal and --prior=standard: count the rate of "
            "each latent"
        )
    flags.DEFINE_enum(
        "posterior",
        "diagonal",
        [*_POSTERIORS],
        f"Covariance of {covariance_of}.",
    )
    flags.DEFINE_enum(
        "likelihood",
        "bernoulli",
        [
            "bernoulli",
            "gaussian",
            "discretized_logistic",
            "logistic_mixture",
        ],
        "Distribution p(x|z) of the pixels; the last has channels that depend "
        "on each other, for colours.",
    )
    flags.DEFINE_integer(
        "num_logistics",
        None,
        "With --likelihood=logistic_mixture: components of each pixel's "
        "mixture (default: 5).",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "observation_stddev",
        None,
        "With --likelihood=gaussian: its standard deviation (default: "
        "learned).",
        lower_bound=1e-6,
    )
    flags.DEFINE_float("beta", 1.0, "Weight of the rate.", lower_bound=0)
    flags.DEFINE_integer(
        "rate_warmup_steps",
        0,
        "Number of training steps over which the weight of the rate is "
        "annealed linearly from 0 to beta; fewer than the run has.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "num_importance_samples",
        1,
        "Draws of z for each image and step: 1 trains on the elbo, more on the "
        "importance-weighted bound (IWAE), with as many decoder calls.",
        lower_bound=1,
    )
    flags.DEFINE_boolean(
        "doubly_reparameterized",
        False,
        "With --num_importance_samples above 1: use the doubly reparameterized "
        "gradient estimator, which has less variance.",
    )
    flags.DEFINE_float(
        "free_bits",
        0.0,
        f"{free_bits_help}, averaged over the batch, as at least this many "
        "nats in training, which keeps latents in use.",
        lower_bound=0,
    )


def resolve(config):
    """Checks the flags and fills in defaults.

    Args:
        config: `Config`.

    Returns:
        `Config`.

    Raises:
        WrongFlags: if flags contradict each other.
    """
    if config.num_importance_samples == 1:
        config.forbid(
            ("doubly_reparameterized",), "--num_importance_samples above 1"
        )
    else:
        config.forbid(("beta", "free_bits"), "--num_importance_samples=1")
    if config.beta == 0:
        config.forbid(("rate_warmup_steps", "free_bits"), "--beta above 0")
    if "latent_size" in config.values:  # Not of several layers.
        _check_free_bits(config)
    if config.likelihood != "gaussian":
        config.forbid(("observation_stddev",), "--likelihood=gaussian")
    if config.likelihood == "logistic_mixture":
        config = config.fill(num_logistics=5)
    else:
        config.forbid(("num_logistics",), "--likelihood=logistic_mixture")
    bernoulli = config.likelihood == "bernoulli"
    config = config.fill(binarization="dynamic" if bernoulli else "none")
    if config.network != "resnet":
        config.forbid(("residual_blocks",), "--network=resnet")
    if not is_convolutional(config):
        config.forbid(("filters",), "--network=conv or resnet")
        width = 300 if is_gated(config) else 200
        return config.fill(hidden_sizes=(width, width))
    config.forbid(("hidden_sizes",), "--network=mlp or gated_mlp")
    return config.fill(filters=(16,))


def _check_free_bits(config):
    """Checks that the rate is a sum over the latents, for --free_bits."""
    if config.posterior != "diagonal":
        config.forbid(("free_bits",), "--posterior=diagonal")
    if config.prior != "standard":
        config.forbid(("free_bits",), "--prior=standard")


def is_convolutional(config):
    """Returns whether the networks of images have convolutions."""
    return config.network in _CONVOLUTIONAL


def convolutions_of(config):
    """Returns `filters` and `residual_blocks` of the networks of images.

    Returns:
        dict of each to an int for all resolutions, or a tuple of one for each.
    """
    blocks = (1,) if config.network == "resnet" else (0,)
    each = {
        "filters": config.filters,
        # Not filled in before, as the records of earlier runs do not have it.
        "residual_blocks": config.residual_blocks or blocks,
    }
    return {
        name: sizes[0] if len(sizes) == 1 else sizes
        for name, sizes in each.items()
    }


def is_gated(config):
    """Returns whether the networks are gated MLPs."""
    return config.network == "gated_mlp"


def build_parts(config, data, condition_size=0):
    """Builds the arguments that a VAE and a conditional VAE share.

    Args:
        config: `Config`.
        data: `datasets.ImageDataset`.
        condition_size: width of the features of a condition, 0 for none.

    Returns:
        dict, arguments of the model's constructor.
    """
    posterior = build_posterior(config, config.latent_size)
    return {
        "encoder": build_encoder(
            config,
            data.image_shape,
            posterior.params_size,
            config.hidden_sizes,
            condition_size,
        ),
        "posterior": posterior,
        **build_shared_parts(config, data, config.latent_size, condition_size),
    }


def build_shared_parts(config, data, latent_size, condition_size=0):
    """Builds the arguments that all models share: p(x|z) and the objective.

    Args:
        config, data, condition_size: as of `build_parts`.
        latent_size: int, width of z.

    Returns:
        dict, arguments of the model's constructor.
    """
    from keras_genmodels.networks import convolutions, encoders

    likelihood = _build_likelihood(config, data)
    shapes = latent_size, likelihood.params_shape
    if is_convolutional(config):
        decoder = convolutions.conv_decoder(
            *shapes, condition_size=condition_size, **convolutions_of(config)
        )
    else:
        decoder = encoders.mlp_decoder(
            *shapes,
            config.hidden_sizes[::-1],
            condition_size,
            is_gated(config),
        )
    return {
        "decoder": decoder,
        "likelihood": likelihood,
        "beta": config.beta,
        "seed": config.seed,
        "rate_warmup_steps": config.rate_warmup_steps,
        "num_importance_samples": config.num_importance_samples,
        "doubly_reparameterized": config.doubly_reparameterized,
        "free_bits": config.free_bits,
    }


def build_posterior(config, latent_size):
    """Builds the distribution layer of q(z|x), or of a layer of latents."""
    from keras_genmodels.distributions import layers

    return getattr(layers, _POSTERIORS[config.posterior])(latent_size)


def build_encoder(
    config, image_shape, output_size, hidden_sizes, condition_size=0
):
    """Builds a network of images.

    Args:
        config: `Config`.
        image_shape: (height, width, channels).
        output_size: int, size of the output per image.
        hidden_sizes: widths of the hidden layers of an MLP.
        condition_size: as of `build_parts`.

    Returns:
        Keras network.
    """
    from keras_genmodels.networks import convolutions, encoders

    if is_convolutional(config):
        return convolutions.conv_encoder(
            image_shape,
            output_size,
            condition_size=condition_size,
            **convolutions_of(config),
        )
    return encoders.mlp_encoder(
        image_shape,
        output_size,
        hidden_sizes,
        condition_size,
        gated=is_gated(config),
    )


def _build_likelihood(config, data):
    from keras_genmodels.distributions import layers, logistic_mixture

    shape = data.image_shape
    if config.likelihood == "bernoulli":
        grey_values = config.binarization == "none"
        return layers.IndependentBernoulli(shape, grey_values=grey_values)
    if config.likelihood == "gaussian":
        return layers.IndependentNormal(shape, stddev=config.observation_stddev)
    data.check_levels()
    if config.likelihood == "logistic_mixture":
        return logistic_mixture.IndependentLogisticMixture(
            shape, config.num_logistics
        )
    return layers.IndependentDiscretizedLogistic(shape)
