"""Draws images from a trained model.

  python -m apps.generate --workdir=DIR --seed=1 --output=grid.png

An --output that ends in .npz holds them as an array `image`, float32 in [0, 1]
[num_images, height, width, channels].
"""

from absl import flags

from . import common_flags

FLAGS = flags.FLAGS

# So many images are decoded at once.
_PART = 1000

common_flags.define_path("workdir", "runs/vae", "A finished run.")
flags.DEFINE_integer("num_images", 64, "How many images.", lower_bound=1)
flags.DEFINE_integer(
    "seed",
    0,
    "Image i depends on the seed and i alone.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
common_flags.define_path(
    "output",
    None,
    "A .png (one sheet) or .npz (default: figures/generated.png of the run).",
)


def main():
    """Draws, and writes one sheet or the arrays."""
    workdir, output = common_flags.workdir_and_output(
        "figures/generated.png", (".png", ".npz")
    )
    import numpy as np

    from keras_genmodels import files, plots, seeds

    model = workdir.load_model()
    rows = seeds.row_seeds(FLAGS.seed, FLAGS.num_images)
    images = np.concatenate(
        [
            model.sample(len(part), seed=part)
            for part in np.split(rows, range(_PART, len(rows), _PART))
        ]
    )
    if output.suffix == ".png":
        plots.save_png(output, plots.image_grid(images))
    else:
        # A Gaussian's mean may lie a little outside.
        images = np.clip(images, 0, 1).astype(np.float32)
        files.write_arrays(output, image=images)
    print(f"{len(images)} images in {output}")


def run():
    """Runs the app from the command line."""
    common_flags.run(main, __name__)


if __name__ == "__main__":
    run()
