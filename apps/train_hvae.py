"""Trains a variational autoencoder with several layers of latents.

  python -m apps.train_hvae                   # 8x8 digits, no download
  python -m apps.train_hvae --latent_sizes=20,10,5    # three layers
  python -m apps.train_hvae --prior=vamp      # a trained p(z) of the top layer
  python -m apps.train_hvae --dataset=fashion_mnist --data_dir=DIR

The same command resumes an interrupted run. Results are written to --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from .cli import data_flags, guard, latent_flags, prior_flags, training_flags

# With --network=conv or resnet: width of the features of an image, and of the
# hidden layer of each network of them.
_FEATURES = 256

training_flags.define_flags("runs/hvae", default_steps=3000)
latent_flags.define_flags(has_layers=True)
prior_flags.define_flags()
data_flags.define_patch_flags()


def main():
    """Trains and writes the results."""
    config = resolve(training_flags.read(__name__))
    training_flags.train(build_model, config)


def resolve(config):
    """Checks the flags and fills in defaults."""
    if len(config.latent_sizes) < 2:
        raise guard.WrongFlags(
            f"--latent_sizes={config.latent_sizes[0]} is a single layer: give "
            "two or more, such as 16,16, or use train_vae"
        )
    data_flags.check_patch_flags(config)
    return prior_flags.resolve(latent_flags.resolve(config))


def build_model(config, data):
    """Builds the model that the flags describe."""
    from keras_genmodels.models import HierarchicalVAE

    sizes = config.latent_sizes
    above = [sum(sizes[i + 1 :]) for i in range(len(sizes))]
    posteriors = [latent_flags.build_posterior(config, n) for n in sizes]
    *encoder_sizes, width = config.hidden_sizes or (_FEATURES,)
    return HierarchicalVAE(
        encoder=latent_flags.build_encoder(
            config, data.image_shape, width, encoder_sizes
        ),
        posteriors=posteriors,
        posterior_networks=[
            build_network(config, f"posterior_{i}", width, layer, above[i])
            for i, layer in enumerate(posteriors)
        ],
        prior_networks=[
            build_network(config, f"prior_{i}", above[i], layer)
            for i, layer in enumerate(posteriors[:-1])
        ],
        prior=prior_flags.build(config, data, sizes[-1]),
        **latent_flags.build_shared_parts(config, data, sum(sizes)),
    )


def build_network(config, name, input_size, layer, latent_size=0):
    """Builds the network of the parameters of a layer of q(z|x) or p(z).

    Args:
        config: `Config`.
        name: of the network.
        input_size: width of the input.
        layer: distribution layer that reads the parameters.
        latent_size: width of a second input, the layers above; 0 for none.
    """
    from keras_genmodels.networks import encoders

    return encoders.mlp_encoder(
        (input_size,),
        layer.params_size,
        (config.hidden_sizes or (_FEATURES,))[-1:],
        latent_size,
        name=name,
        gated=latent_flags.is_gated(config),
    )


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
