"""Trains a conditional variational autoencoder, P(image | condition).

  python -m apps.train_cvae                   # 8x8 digits, given their label
  python -m apps.train_cvae --condition=quadrants --num_quadrants=2
  python -m apps.train_cvae --label_dropout=0.1    # also without a label
  python -m apps.train_cvae --dataset=fashion_mnist --data_dir=DIR

The same command goes on after an interruption. Results lie in --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from absl import flags

from .cli import common_flags, guard, latent_flags

FLAGS = flags.FLAGS

# Width of the features that a condition is turned to.
_LABEL_SIZE = 32
_PART_SIZE = 128
# Of the learned prior's hidden layers, without --hidden_sizes.
_PRIOR_SIZES = (200,)

common_flags.define_training_flags(default_workdir="runs/cvae")
common_flags.define_data_flags()
latent_flags.define_flags()
flags.DEFINE_enum(
    "condition",
    "label",
    ["label", "quadrants"],
    "What is given: the label, or a part of the image, which the model "
    "completes.",
)
flags.DEFINE_integer(
    "num_quadrants",
    None,
    "Of --condition=quadrants: 1 gives the lower left one, 2 the left half, 3 "
    "all but the upper right one (default: 1).",
    lower_bound=1,
    upper_bound=3,
)
flags.DEFINE_enum(
    "prior",
    "standard",
    ["standard", "learned"],
    "p(z|condition): N(0, I) whatever the condition, or a network's.",
)
flags.DEFINE_float(
    "label_dropout",
    0.0,
    "How often training takes the label away, so that the model also knows "
    "images without one (generate --label=none, --guidance).",
    lower_bound=0,
    upper_bound=0.99,
)


def main():
    """Trains, reads the test split once, and writes the results."""
    check_flags()
    common_flags.set_precision_and_seed()
    data = common_flags.load_data()
    latent_flags.train(__name__, data, build_model(data))


def check_flags():
    """Refuses flags that contradict each other; resolves some defaults."""
    latent_flags.check_flags()
    if FLAGS.condition == "label":
        guard.refuse(("num_quadrants",), "--condition=quadrants")
    else:
        guard.refuse(("label_dropout",), "--condition=label")
        FLAGS.num_quadrants = FLAGS.num_quadrants or 1


def build_model(data):
    """Assembles the conditional VAE that the flags describe."""
    from keras_genmodels import operators
    from keras_genmodels.models import ConditionalVAE
    from keras_genmodels.networks import encoders

    shape = data.image_shape
    if FLAGS.condition == "label":
        num_labels, size = data.num_labels(), _LABEL_SIZE
        condition = {
            "condition_network": encoders.label_embedding(num_labels, size),
            "num_labels": num_labels,
            "label_dropout": FLAGS.label_dropout,
        }
    else:
        size = _PART_SIZE
        condition = {
            "condition_network": build_image_condition(shape, size),
            "known": operators.known_quadrants(shape, FLAGS.num_quadrants),
        }
    pieces = latent_flags.build_pieces(data, condition_size=size)
    if FLAGS.prior == "learned":
        condition["prior_network"] = encoders.mlp_prior(
            size,
            pieces["posterior"].params_size,
            FLAGS.hidden_sizes or _PRIOR_SIZES,
        )
    return ConditionalVAE(**pieces, **condition)


def build_image_condition(image_shape, size):
    """Assembles the network that sums up a part of an image."""
    from keras_genmodels.networks import encoders

    if FLAGS.network == "conv":
        return encoders.image_condition(image_shape, size, FLAGS.filters)
    return encoders.mlp_encoder(
        image_shape, size, FLAGS.hidden_sizes, name="condition"
    )


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
