"""Trains a variational autoencoder on images.

  python -m apps.train_vae                    # 8x8 digits, no download
  python -m apps.train_vae --dataset=fashion_mnist --data_dir=DIR

The same command goes on after an interruption. Results lie in --workdir:
model.keras, metrics.json, figures/ and tensorboard/.
"""

from .cli import common_flags, guard, latent_flags

common_flags.define_training_flags(default_workdir="runs/vae")
common_flags.define_data_flags()
latent_flags.define_flags()


def main():
    """Trains, reads the test split once, and writes the results."""
    latent_flags.check_flags()
    common_flags.set_precision_and_seed()
    from keras_genmodels.models import VAE

    data = common_flags.load_data()
    latent_flags.train(__name__, data, VAE(**latent_flags.build_pieces(data)))


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
