"""Trains a conditional variational autoencoder, p(image | condition).

  python -m apps.train_cvae                   # 8x8 digits, given their label
  python -m apps.train_cvae --condition=quadrants --num_quadrants=2
  python -m apps.train_cvae --label_dropout=0.1    # also without a label
  python -m apps.train_cvae --prior=flow           # a trained p(z|condition)
  python -m apps.train_cvae --dataset=fashion_mnist --data_dir=DIR

The same command resumes an interrupted run. Results are written to --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from absl import flags

from .cli import guard, latent_flags, prior_flags, training_flags

# Width of the features that a condition is embedded to.
_LABEL_SIZE = 32
_PART_SIZE = 128
# Hidden layers of the learned prior, without --hidden_sizes.
_PRIOR_SIZES = (200,)

training_flags.define_flags("runs/cvae", default_steps=3000)
latent_flags.define_flags()
flags.DEFINE_enum(
    "condition",
    "label",
    ["label", "quadrants"],
    "Condition on the label, or on a part of the image, which the model "
    "completes.",
)
flags.DEFINE_integer(
    "num_quadrants",
    None,
    "With --condition=quadrants, the observed quadrants: 1 for the lower left "
    "one, 2 for the left half, 3 for all but the upper right one (default: 1).",
    lower_bound=1,
    upper_bound=3,
)
prior_flags.define_flags(is_conditional=True)
flags.DEFINE_float(
    "label_dropout",
    0.0,
    "Probability of dropping the label in training, which enables "
    "unconditional samples (generate --label=none) and --guidance.",
    lower_bound=0,
    upper_bound=0.99,
)


def main():
    """Trains and writes the results."""
    config = resolve(training_flags.read(__name__))
    training_flags.train(build_model, config)


def resolve(config):
    """Checks the flags and fills in defaults."""
    config = prior_flags.resolve(latent_flags.resolve(config))
    if config.condition == "label":
        config.forbid(("num_quadrants",), "--condition=quadrants")
        return config
    config.forbid(("label_dropout",), "--condition=label")
    if config.prior == "vamp":
        raise guard.WrongFlags(
            "--prior=vamp requires --condition=label: with parts of images all "
            "pseudo-inputs would be encoded for each image"
        )
    if config.likelihood == "logistic_mixture":
        raise guard.WrongFlags(
            "--likelihood=logistic_mixture requires --condition=label: its "
            "channels depend on each other, so that no part can be observed "
            "alone"
        )
    return config.fill(num_quadrants=1)


def build_model(config, data):
    """Builds the conditional VAE that the flags describe."""
    from keras_genmodels import operators
    from keras_genmodels.models import ConditionalVAE
    from keras_genmodels.networks import encoders

    shape = data.image_shape
    if config.condition == "label":
        num_classes, size = data.num_classes(), _LABEL_SIZE
        condition = {
            "condition_network": encoders.label_embedding(num_classes, size),
            "num_classes": num_classes,
            "label_dropout": config.label_dropout,
        }
    else:
        size = _PART_SIZE
        condition = {
            "condition_network": build_image_condition(config, shape, size),
            "observed_mask": operators.observed_quadrants(
                shape, config.num_quadrants
            ),
        }
    parts = latent_flags.build_parts(config, data, condition_size=size)
    condition["prior"] = prior_flags.build(
        config, data, config.latent_size, size
    )
    if config.prior == "learned":
        condition["prior_network"] = encoders.mlp_prior(
            size,
            parts["posterior"].params_size,
            config.hidden_sizes or _PRIOR_SIZES,
        )
    return ConditionalVAE(**parts, **condition)


def build_image_condition(config, image_shape, size):
    """Builds the network that embeds the observed part of an image."""
    from keras_genmodels.networks import convolutions, encoders

    if latent_flags.is_convolutional(config):
        return convolutions.image_condition(
            image_shape, size, **latent_flags.convolutions_of(config)
        )
    return encoders.mlp_encoder(
        image_shape,
        size,
        config.hidden_sizes,
        name="condition",
        gated=latent_flags.is_gated(config),
    )


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
