"""The VAEs that benchmarks time, by flags, and the operations of networks."""

from absl import flags

FLAGS = flags.FLAGS
SHAPE = (28, 28, 1)


def define_flags(hidden_sizes, latent_size):
    """Defines the flags that describe a VAE, with these defaults."""
    flags.DEFINE_enum(
        "network",
        "mlp",
        ["mlp", "gated_mlp", "conv", "resnet"],
        "An MLP and its mirror image, plain or gated, or convolutions, plain "
        "or with residual blocks.",
    )
    flags.DEFINE_list("hidden_sizes", hidden_sizes, "Widths of an MLP.")
    flags.DEFINE_list(
        "filters",
        ["16"],
        "Channels of convolutions at full size, or at each resolution.",
    )
    flags.DEFINE_list(
        "residual_blocks",
        ["1"],
        "With --network=resnet: residual blocks, or those at each resolution.",
    )
    flags.DEFINE_integer(
        "latent_size", latent_size, "Width of the latent.", lower_bound=1
    )
    flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "XLA.")
    for name in ("hidden_sizes", "filters", "residual_blocks"):
        flags.register_validator(
            name,
            lambda sizes: sizes and all(size.isdecimal() for size in sizes),
            "must be ints joined by commas",
        )


def jit_compile():
    """Returns the flag as an argument of the package."""
    return {"true": True, "false": False}.get(FLAGS.jit_compile, "auto")


def build_model():
    """Builds the VAE that the flags describe."""
    import keras_genmodels as kgm

    size = FLAGS.latent_size
    posterior = kgm.MultivariateNormalDiag(size)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    if FLAGS.network in ("mlp", "gated_mlp"):
        hidden = [int(width) for width in FLAGS.hidden_sizes]
        settings = {"gated": FLAGS.network == "gated_mlp"}
        networks = (
            kgm.mlp_encoder(SHAPE, posterior.params_size, hidden, **settings),
            kgm.mlp_decoder(
                size, likelihood.params_shape, hidden[::-1], **settings
            ),
        )
    else:
        blocks = FLAGS.residual_blocks if FLAGS.network == "resnet" else ["0"]
        settings = {
            "filters": _one_or_each(FLAGS.filters),
            "residual_blocks": _one_or_each(blocks),
        }
        networks = (
            kgm.conv_encoder(SHAPE, posterior.params_size, **settings),
            kgm.conv_decoder(size, likelihood.params_shape, **settings),
        )
    return kgm.VAE(*networks, posterior, likelihood)


def _one_or_each(sizes):
    """Returns an int for all resolutions, or a tuple of one for each."""
    numbers = tuple(map(int, sizes))
    return numbers[0] if len(numbers) == 1 else numbers


def operations(network):
    """Counts two operations for each multiply-add of an image."""
    import tensorflow as tf

    row = tf.zeros((1, *network.input_shape[1:]))
    traced = tf.function(network.call, autograph=False)
    total = 0
    for operation in traced.get_concrete_function(row).graph.get_operations():
        inputs = [each.shape for each in operation.inputs]
        if operation.type == "MatMul":
            total += 2 * inputs[1].num_elements()
        elif operation.type == "Conv2D":
            pixels = operation.outputs[0].shape[1:3].num_elements()
            total += 2 * pixels * inputs[1].num_elements()
        elif operation.type == "Conv2DBackpropInput":
            pixels = inputs[2][1:3].num_elements()
            total += 2 * pixels * inputs[1].num_elements()
    return total
