"""Trains a variational autoencoder on images.

  python -m apps.train_vae                    # 8x8 digits, no download
  python -m apps.train_vae --prior=vamp       # a trained p(z)
  python -m apps.train_vae --dataset=fashion_mnist --data_dir=DIR

The same command resumes an interrupted run. Results are written to --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from .cli import data_flags, guard, latent_flags, prior_flags, training_flags

training_flags.define_flags("runs/vae", default_steps=3000)
latent_flags.define_flags()
prior_flags.define_flags()
data_flags.define_patch_flags()


def main():
    """Trains and writes the results."""
    config = latent_flags.resolve(training_flags.read(__name__))
    data_flags.check_patch_flags(config)
    config = prior_flags.resolve(config)
    training_flags.train(build_model, config)


def build_model(config, data):
    """Builds the VAE that the flags describe."""
    from keras_genmodels.models import VAE

    prior = prior_flags.build(config, data, config.latent_size)
    return VAE(**latent_flags.build_parts(config, data), prior=prior)


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
