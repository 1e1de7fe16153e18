"""Times generating, and computes how far it is from the data for each solver.

  python benchmarks/generation.py             # about two minutes on 2 cores
  python benchmarks/generation.py --distances --dataset=fashion_mnist

Each round measures 64 images of the default denoising autoencoder, with its
default walk, 20 evaluations by DPM-Solver++(2M), and as many forward passes of
its U-Net alone, in a `tf.function` with the same XLA setting; and the walk of
version 0.3, 100 Euler steps. Prints the times of each round, and the medians
of the ratios.

With --distances nothing is drawn: for the Wiener filter each solver multiplies
the coordinate along a principal axis by a factor. Prints the Wasserstein-2
distance of what is generated, from 40 to 0.02, to Gaussian data with the
covariance of the first 3000 test images (the 1437 training images of the
digits), and the smallest and largest share of the variance that is kept along
the first ten axes by the defaults of `generate`.
"""

import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "XLA.")
flags.DEFINE_integer("rounds", 5, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("num_images", 64, "Images.", lower_bound=1)
flags.DEFINE_bool("distances", False, "Compute distances instead of times.")
flags.DEFINE_string("dataset", "digits", "Data set of --distances.")
flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets.")

SHAPE = (28, 28, 1)
NUM_STEPS, OLD_STEPS = 20, 100
SIGMA_MAX, SIGMA_MIN = 40.0, 0.02


def main(_):
    """Prints times, or distances."""
    print_distances() if FLAGS.distances else print_times()
    return 0


def print_times():
    """Prints the times of each round and the medians of their ratios."""
    from keras_genmodels.core import devices

    use_xla = {"true": True, "false": False}.get(
        FLAGS.jit_compile, devices.has_gpu()
    )
    denoiser = build_denoiser()

    def walk(**settings):
        return denoiser.sample(
            FLAGS.num_images, seed=0, jit_compile=use_xla, **settings
        ).numpy()

    def old():
        walk(solver="euler", num_steps=OLD_STEPS)

    passes = passes_part(denoiser.network, use_xla)
    walk(), passes(), old()
    rounds = [
        [seconds(part) for part in (walk, passes, old)]
        for _ in range(FLAGS.rounds)
    ]
    for new, bare, before in rounds:
        print(
            f"{NUM_STEPS} evaluations {new:.2f} s, as many bare passes "
            f"{bare:.2f} s, {OLD_STEPS} Euler steps {before:.2f} s"
        )
    overhead = statistics.median(new / bare for new, bare, _ in rounds)
    speedup = statistics.median(before / new for new, _, before in rounds)
    print(
        f"XLA: {use_xla}; generating to bare passes: {overhead:.3f}; "
        f"{OLD_STEPS} Euler steps to {NUM_STEPS} evaluations: {speedup:.2f}"
    )


def build_denoiser():
    """Returns a new default denoiser."""
    import numpy as np

    from keras_genmodels.denoisers.autoencoder import DenoisingAutoencoder
    from keras_genmodels.networks import denoisers

    denoiser = DenoisingAutoencoder(denoisers.unet(SHAPE))
    images = np.random.default_rng(0).random((100, *SHAPE), np.float32)
    denoiser.adapt(images)
    return denoiser


def passes_part(network, use_xla):
    """Returns a function that runs as many forward passes."""
    import tensorflow as tf

    x = tf.random.stateless_normal((FLAGS.num_images, *SHAPE), (0, 0))
    level = tf.zeros((FLAGS.num_images,))
    forward = tf.function(
        lambda x, level: network([x, level]), jit_compile=use_xla
    )

    def passes():
        for _ in range(NUM_STEPS):
            forward(x, level).numpy()

    return passes


def seconds(part):
    """Returns the time of a function."""
    start = time.perf_counter()
    part()
    return time.perf_counter() - start


def print_distances():
    """Prints the distance to the data by solver and number of evaluations."""
    import numpy as np

    denoiser = wiener_filter()
    variances = np.asarray(denoiser.eigenvalues)
    start = np.full_like(variances, SIGMA_MAX**2)
    counts = (10, 18, 35, 100, 1000)
    print(f"evaluations: {counts}; start N(m, {SIGMA_MAX:g}^2 I)")
    for solver, schedule in (
        ("euler", "geometric"),
        ("heun", "karras"),
        ("dpmpp_2m", "geometric"),
    ):
        distances = []
        for count in counts:
            # Heun's method takes an odd number.
            steps = count - (solver == "heun" and count % 2 == 0)
            gain = gains(
                denoiser,
                start,
                solver=solver,
                schedule=schedule,
                num_steps=steps,
                sigma_max=SIGMA_MAX,
                sigma_min=SIGMA_MIN,
            )
            errors = np.sqrt(variances) - np.abs(gain) * np.sqrt(start)
            distances.append(f"{np.sqrt((errors**2).sum()):.4f}")
        print(f"{solver}, {schedule}: {' / '.join(distances)}")
    start = variances + denoiser.sigma_range[1] ** 2
    kept = (gains(denoiser, start) ** 2 * start)[:10] / variances[:10]
    print(f"kept variance by default: {kept.min():.4f} to {kept.max():.4f}")


def wiener_filter():
    """Returns the Wiener filter of the data, in float64."""
    import keras
    import numpy as np

    from keras_genmodels import datasets
    from keras_genmodels.denoisers import LinearDenoiser

    keras.config.set_dtype_policy("float64")
    data = datasets.load(FLAGS.dataset, data_dir=FLAGS.data_dir)
    digits = FLAGS.dataset == "digits"
    images = data.train.images if digits else data.test.images[:3000]
    denoiser = LinearDenoiser()
    denoiser.adapt(np.asarray(images))
    return denoiser


def gains(denoiser, start, **settings):
    """Returns the factors of x - m along the axes, for starts `[M]`."""
    import numpy as np

    axes = np.moveaxis(np.asarray(denoiser.eigenvectors), -1, 0)
    mean = np.asarray(denoiser.data_mean)
    scales = np.sqrt(start).reshape(-1, 1, 1, 1)
    found = denoiser.sample(
        len(axes), seed=0, initial=mean + scales * axes, **settings
    )
    along = ((found - mean) * axes).numpy().sum((1, 2, 3))
    return along / np.sqrt(start)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
