"""Flags of the latent-variable models, and the pieces that they describe."""

from absl import flags

from . import common_flags, guard

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags that train_vae and train_cvae have alike."""
    flags.DEFINE_enum(
        "binarization",
        None,
        ["none", "dynamic", "threshold"],
        "Pixels as they are, drawn anew each epoch with probability their "
        "grey value, or cut at 0.5 (default: dynamic for bernoulli, else "
        "none). bernoulli with none is a cross entropy, not a likelihood.",
    )
    flags.DEFINE_enum(
        "network", "conv", ["conv", "mlp"], "Kind of all networks."
    )
    common_flags.define_sizes(
        "hidden_sizes",
        None,
        "Widths of the mlp's hidden layers, from data to latent (default: "
        "200,200).",
    )
    flags.DEFINE_integer(
        "filters",
        None,
        "Channels of the conv networks at full size, from where each halving "
        "of the size doubles them, up to 128 (default: 16).",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "latent_size", 16, "Width of the latent.", lower_bound=1
    )
    flags.DEFINE_enum(
        "posterior",
        "diagonal",
        ["diagonal", "full"],
        "Covariance of the posterior over the latent.",
    )
    flags.DEFINE_enum(
        "likelihood",
        "bernoulli",
        ["bernoulli", "gaussian", "discretized_logistic"],
        "Kind of distribution of the image, given the latent.",
    )
    flags.DEFINE_float(
        "observation_stddev",
        None,
        "Standard deviation of the gaussian likelihood (default: learned).",
        lower_bound=1e-6,
    )
    flags.DEFINE_float("beta", 1.0, "Weight of the rate.", lower_bound=0)
    flags.DEFINE_integer(
        "rate_warmup_steps",
        0,
        "Steps over which the rate's weight grows from 0 to beta.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "num_importance_samples",
        1,
        "Draws of the latent for each image and step: 1 trains on the elbo, "
        "more on the importance-weighted bound (IWAE), at as many decodings.",
        lower_bound=1,
    )
    flags.DEFINE_boolean(
        "doubly_reparameterized",
        False,
        "Of --num_importance_samples above 1: differentiate the bound by the "
        "doubly reparameterised estimator, of less variance.",
    )


def check_flags():
    """Refuses flags that contradict each other; resolves some defaults."""
    if FLAGS.binarization is None:
        bernoulli = FLAGS.likelihood == "bernoulli"
        FLAGS.binarization = "dynamic" if bernoulli else "none"
    if FLAGS.num_importance_samples == 1:
        guard.refuse(
            ("doubly_reparameterized",), "--num_importance_samples above 1"
        )
    else:
        guard.refuse(("beta",), "--num_importance_samples=1")
    if FLAGS.likelihood != "gaussian":
        guard.refuse(("observation_stddev",), "--likelihood=gaussian")
    if FLAGS.network == "mlp":
        guard.refuse(("filters",), "--network=conv")
        FLAGS.hidden_sizes = FLAGS.hidden_sizes or (200, 200)
    else:
        guard.refuse(("hidden_sizes",), "--network=mlp")
        FLAGS.filters = FLAGS.filters or 16


def build_pieces(data, condition_size=0):
    """Assembles what a VAE and a conditional VAE are both made of.

    Args:
        data: the `ImageDataset`.
        condition_size: width of the features of a condition, 0 for none.

    Returns:
        dict, the arguments of the model's constructor.
    """
    from keras_genmodels.distributions import layers as distribution_layers
    from keras_genmodels.networks import encoders

    posterior = distribution_layers.POSTERIORS[FLAGS.posterior](
        FLAGS.latent_size
    )
    likelihood = _build_likelihood(data)
    of_encoder = data.image_shape, posterior.params_size
    of_decoder = FLAGS.latent_size, likelihood.params_shape
    if FLAGS.network == "conv":
        build_encoder, build_decoder = (
            encoders.conv_encoder,
            encoders.conv_decoder,
        )
        of_encoder += (FLAGS.filters,)
        of_decoder += (FLAGS.filters,)
    else:
        build_encoder, build_decoder = (
            encoders.mlp_encoder,
            encoders.mlp_decoder,
        )
        of_encoder += (FLAGS.hidden_sizes,)
        of_decoder += (FLAGS.hidden_sizes[::-1],)
    return {
        "encoder": build_encoder(*of_encoder, condition_size=condition_size),
        "decoder": build_decoder(*of_decoder, condition_size=condition_size),
        "posterior": posterior,
        "likelihood": likelihood,
        "beta": FLAGS.beta,
        "seed": FLAGS.seed,
        "rate_warmup_steps": FLAGS.rate_warmup_steps,
        "num_importance_samples": FLAGS.num_importance_samples,
        "doubly_reparameterized": FLAGS.doubly_reparameterized,
    }


def _build_likelihood(data):
    from keras_genmodels.distributions import layers

    shape = data.image_shape
    if FLAGS.likelihood == "bernoulli":
        grey_values = FLAGS.binarization == "none"
        return layers.IndependentBernoulli(shape, grey_values=grey_values)
    if FLAGS.likelihood == "gaussian":
        return layers.IndependentNormal(shape, stddev=FLAGS.observation_stddev)
    data.check_levels()
    return layers.IndependentDiscretizedLogistic(shape)


def train(module, data, model):
    """Makes the run that the flags describe, unless it is finished.

    Args:
        module: `__name__` of the app's module.
        data: the `ImageDataset`.
        model: the untrained model.
    """
    from keras_genmodels.runs import latent

    options = common_flags.training_options(len(data.train.images))
    common_flags.run_once(
        module,
        data,
        model=model,
        options=options,
        run=lambda workdir: latent.train(
            model,
            data,
            workdir,
            options,
            binarization=FLAGS.binarization,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            verbose=common_flags.verbosity(),
        ),
        summary=latent.summary,
    )
