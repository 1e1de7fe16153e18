"""Trains a denoising autoencoder on images, or adapts a denoiser to them.

  python -m apps.train_dae                     # 8x8 digits, no download
  python -m apps.train_dae --sigma=0.1 --network=mlp      # the lecture's
  python -m apps.train_dae --blind             # not told the noise level
  python -m apps.train_dae --denoiser=exact    # no training: sum_i P(x_i|x) x_i
  python -m apps.train_dae --denoiser=linear --rank=30             # V V'x
  python -m apps.train_dae --dataset=fashion_mnist --data_dir=DIR

The same command goes on after an interruption. Results lie in --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from absl import flags

from .cli import common_flags, guard

FLAGS = flags.FLAGS

# More overfits the digits.
_DEFAULT_STEPS = 1000

common_flags.define_training_flags("runs/dae", _DEFAULT_STEPS)
common_flags.define_data_flags()
flags.DEFINE_enum(
    "denoiser",
    "learned",
    ["learned", "linear", "exact"],
    "A network that is trained; the best linear map (Wiener, or V V'x with "
    "--rank); the exact posterior mean over the training images. The last two "
    "need no training.",
)
common_flags.define_levels(
    "sigma",
    None,
    "Noise to train at, in units of pixels in [0, 1]: one level, or "
    "LOWEST,HIGHEST for a range (default: 0.05,1.5).",
)
flags.DEFINE_bool(
    "blind", False, "Don't tell the network the noise level of a range."
)
flags.DEFINE_integer(
    "copies", 1, "Noisy copies of each image in a step.", lower_bound=1
)
flags.DEFINE_enum(
    "network",
    None,
    ["unet", "bias_free_unet", "mlp"],
    "Kind of network (default: unet; with --blind, bias_free_unet).",
)
common_flags.define_sizes(
    "filters",
    None,
    "Channels of the U-Net's levels, from the full size down (default: "
    "32,64,128).",
)
common_flags.define_sizes(
    "hidden_sizes",
    None,
    "Widths of the mlp's hidden layers (default: 512,512).",
)
flags.DEFINE_integer(
    "rank",
    None,
    "Of --denoiser=linear: how many directions are kept, at any noise level "
    "(default: all, each shrunk as the noise level asks).",
    lower_bound=1,
)
flags.DEFINE_bool(
    "center",
    True,
    "Of --denoiser=linear: whether about the mean image, or (--nocenter) "
    "about 0, the lecture's V V'x to the letter.",
)

_OF_LEARNED = (
    "sigma",
    "blind",
    "copies",
    "network",
    "filters",
    "hidden_sizes",
    "epochs",
    "batch_size",
    "learning_rate",
    "learning_rate_warmup_steps",
    "learning_rate_schedule",
    "gradient_clip_norm",
    "ema_momentum",
    "early_stopping_patience",
    "checkpoint_every",
    "jit_compile",
    "init_from",
)


def main():
    """Trains or adapts, reads the test split once, and writes the results."""
    check_flags()
    common_flags.set_precision_and_seed()
    from keras_genmodels.runs import denoiser as denoiser_runs

    data = common_flags.load_data()
    denoiser = build_denoiser(data)
    if FLAGS.denoiser != "learned":
        common_flags.run_once(
            __name__,
            data,
            run=lambda workdir: denoiser_runs.adapt_denoiser(
                denoiser, data, workdir, seed=FLAGS.seed
            ),
            summary=denoiser_runs.summary,
        )
        return
    options = common_flags.training_options(
        len(data.train.images), _DEFAULT_STEPS
    )
    common_flags.run_once(
        __name__,
        data,
        model=denoiser,
        options=options,
        run=lambda workdir: denoiser_runs.train_dae(
            denoiser,
            data,
            workdir,
            options,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            verbose=common_flags.verbosity(),
        ),
        summary=denoiser_runs.summary,
    )


def check_flags():
    """Refuses flags that contradict each other; resolves some defaults."""
    if FLAGS.denoiser != "learned":
        guard.refuse(_OF_LEARNED, "--denoiser=learned")
    if FLAGS.denoiser != "linear":
        guard.refuse(("rank", "center"), "--denoiser=linear")
    if FLAGS.denoiser != "learned":
        return
    FLAGS.sigma = FLAGS.sigma or (0.05, 1.5)
    if FLAGS.blind and FLAGS.sigma[0] == FLAGS.sigma[-1]:
        raise guard.WrongFlags("--blind needs a range: --sigma=LOWEST,HIGHEST")
    if FLAGS.network is None:
        FLAGS.network = "bias_free_unet" if FLAGS.blind else "unet"
    if FLAGS.network == "bias_free_unet" and not FLAGS.blind:
        raise guard.WrongFlags(
            "--network=bias_free_unet has no place for a noise level: add "
            "--blind, or take --network=unet"
        )
    if FLAGS.network == "mlp":
        guard.refuse(("filters",), "--network=unet or bias_free_unet")
        FLAGS.hidden_sizes = FLAGS.hidden_sizes or (512, 512)
    else:
        guard.refuse(("hidden_sizes",), "--network=mlp")
        FLAGS.filters = FLAGS.filters or (32, 64, 128)


def build_denoiser(data):
    """Assembles the denoiser that the flags describe."""
    from keras_genmodels import denoisers
    from keras_genmodels.denoisers import DenoisingAutoencoder

    if FLAGS.denoiser == "exact":
        return denoisers.EmpiricalDenoiser()
    if FLAGS.denoiser == "linear":
        return denoisers.LinearDenoiser(FLAGS.rank, FLAGS.center)
    return DenoisingAutoencoder(
        build_network(data.image_shape),
        sigma=FLAGS.sigma,
        blind=FLAGS.blind,
        copies=FLAGS.copies,
        seed=FLAGS.seed,
    )


def build_network(image_shape):
    """Assembles the network that the flags describe."""
    from keras_genmodels.networks import denoisers as networks

    conditional = not FLAGS.blind and len(set(FLAGS.sigma)) > 1
    if FLAGS.network == "mlp":
        return networks.mlp_denoiser(
            image_shape, conditional, FLAGS.hidden_sizes
        )
    if FLAGS.network == "bias_free_unet":
        return networks.bias_free_unet(image_shape, FLAGS.filters)
    return networks.unet(image_shape, conditional, FLAGS.filters)


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
