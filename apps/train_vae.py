"""Trains a variational autoencoder on images.

  python -m apps.train_vae                    # 8x8 digits, no download
  python -m apps.train_vae --dataset=fashion_mnist --data_dir=DIR

The same command goes on after an interruption. Results lie in --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from absl import flags

from . import common_flags, guard

FLAGS = flags.FLAGS

common_flags.define_training_flags(default_workdir="runs/vae")
common_flags.define_data_flags()
flags.DEFINE_enum(
    "binarization",
    None,
    ["none", "dynamic", "threshold"],
    "Pixels as they are, drawn anew each epoch with probability their grey "
    "value, or cut at 0.5 (default: dynamic for bernoulli, else none). "
    "bernoulli with none is a cross entropy, not a likelihood.",
)
flags.DEFINE_enum("network", "conv", ["conv", "mlp"], "Kind of both networks.")
common_flags.define_sizes(
    "hidden_sizes",
    None,
    "Widths of the mlp's hidden layers, from data to latent (default: "
    "200,200).",
)
flags.DEFINE_integer("latent_size", 16, "Width of the latent.", lower_bound=1)
flags.DEFINE_enum(
    "posterior", "diagonal", ["diagonal", "full"], "Covariance of q(z|x)."
)
flags.DEFINE_enum(
    "likelihood",
    "bernoulli",
    ["bernoulli", "gaussian", "discretized_logistic"],
    "Kind of p(x|z).",
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


def main():
    """Trains, reads the test split once, and writes the results."""
    check_flags()
    common_flags.set_precision_and_seed()
    from keras_genmodels import runs

    data = common_flags.load_data()
    model = build_model(data)
    options = common_flags.training_options(len(data.train.images))
    common_flags.run_once(
        __name__,
        data,
        model=model,
        options=options,
        run=lambda workdir: runs.train_vae(
            model,
            data,
            workdir,
            options,
            binarization=FLAGS.binarization,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            verbose=common_flags.verbosity(),
        ),
        summary=runs.summary,
    )


def check_flags():
    """Refuses flags that contradict each other; resolves --binarization."""
    if FLAGS.binarization is None:
        bernoulli = FLAGS.likelihood == "bernoulli"
        FLAGS.binarization = "dynamic" if bernoulli else "none"
    if FLAGS.likelihood != "gaussian":
        guard.refuse(("observation_stddev",), "--likelihood=gaussian")
    if FLAGS.network == "mlp":
        FLAGS.hidden_sizes = FLAGS.hidden_sizes or (200, 200)
    elif FLAGS.hidden_sizes:
        raise guard.WrongFlags("--hidden_sizes goes with --network=mlp alone")


def build_model(data):
    """Assembles the VAE that the flags describe."""
    from keras_genmodels import distribution_layers, networks
    from keras_genmodels.models import VAE

    posterior = distribution_layers.POSTERIORS[FLAGS.posterior](
        FLAGS.latent_size
    )
    likelihood = build_likelihood(data)
    shape, size = data.image_shape, posterior.params_size
    if FLAGS.network == "conv":
        encoder = networks.conv_encoder(shape, size)
        decoder = networks.conv_decoder(
            FLAGS.latent_size, likelihood.params_shape
        )
    else:
        encoder = networks.mlp_encoder(shape, size, FLAGS.hidden_sizes)
        decoder = networks.mlp_decoder(
            FLAGS.latent_size, likelihood.params_shape, FLAGS.hidden_sizes[::-1]
        )
    return VAE(
        encoder,
        decoder,
        posterior,
        likelihood,
        beta=FLAGS.beta,
        seed=FLAGS.seed,
        rate_warmup_steps=FLAGS.rate_warmup_steps,
    )


def build_likelihood(data):
    """Assembles the likelihood that the flags describe."""
    from keras_genmodels import distribution_layers as layers

    shape = data.image_shape
    if FLAGS.likelihood == "bernoulli":
        grey_values = FLAGS.binarization == "none"
        return layers.IndependentBernoulli(shape, grey_values=grey_values)
    if FLAGS.likelihood == "gaussian":
        return layers.IndependentNormal(shape, stddev=FLAGS.observation_stddev)
    data.check_levels()
    return layers.IndependentDiscretizedLogistic(shape)


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
