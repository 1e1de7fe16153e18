"""Draws images from a trained model.

  python -m apps.generate --workdir=DIR --seed=1 --output=grid.png

A denoiser walks from noise to images in --num_steps steps. An --output that
ends in .npz holds them as an array `image`, float32 in [0, 1] [num_images,
height, width, channels].
"""

import functools

from absl import flags

from . import common_flags, guard

FLAGS = flags.FLAGS

# So many images are made at once.
_PART = 256

common_flags.define_path("workdir", "runs/vae", "A finished run.")
flags.DEFINE_integer("num_images", 64, "How many images.", lower_bound=1)
flags.DEFINE_integer(
    "seed",
    0,
    "Image i depends on the seed and i alone.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "num_steps", 100, "Of a denoiser: steps of the walk.", lower_bound=1
)
flags.DEFINE_float(
    "stochasticity",
    0.0,
    "Of a denoiser: how much noise is put back on the way, in [0, 1).",
    lower_bound=0,
    upper_bound=0.999,
)
common_flags.define_levels(
    "sigma",
    None,
    "Of a denoiser: LOWEST,HIGHEST noise level of the walk (default: the "
    "range that it was made for).",
    least=2,
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

    draw = sampler(workdir.load_model())
    rows = seeds.row_seeds(FLAGS.seed, FLAGS.num_images)
    images = np.concatenate(
        [
            draw(len(part), seed=part)
            for part in np.split(rows, range(_PART, len(rows), _PART))
        ]
    )
    if output.suffix == ".png":
        plots.save_png(output, plots.image_grid(images))
    else:
        # A Gaussian's mean or a walk's end may lie a little outside.
        images = np.clip(images, 0, 1).astype(np.float32)
        files.write_arrays(output, image=images)
    print(f"{len(images)} images in {output}")


def sampler(model):
    """Gives the function of a number and seeds that draws images."""
    from keras_genmodels.denoisers import Denoiser
    from keras_genmodels.restoration import generate

    if not isinstance(model, Denoiser):
        guard.refuse(("num_steps", "stochasticity", "sigma"), "a denoiser")
        return model.sample
    lowest, highest = model.sigma_range
    if lowest == highest:
        guard.refuse(
            ("stochasticity", "sigma"),
            "a denoiser of a range of noise levels (this one knows "
            f"{lowest:g})",
        )
    sigma_min, sigma_max = FLAGS.sigma or (None, None)
    return functools.partial(
        generate,
        model,
        model.event_shape,
        num_steps=FLAGS.num_steps,
        stochasticity=FLAGS.stochasticity,
        sigma_max=sigma_max,
        sigma_min=sigma_min,
    )


def run():
    """Runs the app from the command line."""
    guard.run(main, __name__)


if __name__ == "__main__":
    run()
