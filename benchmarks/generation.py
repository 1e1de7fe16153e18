"""Times generating, and computes how far it is from the data for each solver.

  python benchmarks/generation.py             # about two minutes on 2 cores
  python benchmarks/generation.py --euler_steps=185
  python benchmarks/generation.py --distances --dataset=fashion_mnist

Each round measures 64 images of the default denoising autoencoder, with its
default walk, 20 evaluations by DPM-Solver++(2M), and as many forward passes of
its U-Net alone, in a `tf.function` with the same XLA setting; and Euler steps,
100 as in version 0.3. Prints the times of each round, and the medians of the
ratios.

With --distances nothing is drawn: for the Wiener filter each solver multiplies
the coordinate along a principal axis by a factor. Prints the Wasserstein-2
distance of what is generated to Gaussian data with the covariance of the first
3000 test images (the 1437 training images of the digits): for the range of
levels of version 0.3 and for today's, from N(m, sigma^2 I) and from the noisy
data; how many Euler steps come as close as 20 evaluations by DPM-Solver++(2M);
and the smallest and largest share of the variance that is kept along the first
ten axes by the defaults of `generate`.
"""

import bisect
import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "XLA.")
flags.DEFINE_integer("rounds", 5, "Number of rounds.", lower_bound=1)
flags.DEFINE_integer("num_images", 64, "Images.", lower_bound=1)
flags.DEFINE_integer("euler_steps", 100, "Euler steps.", lower_bound=1)
flags.DEFINE_bool("distances", False, "Compute distances instead of times.")
flags.DEFINE_string("dataset", "digits", "Data set of --distances.")
flags.DEFINE_string("data_dir", None, "Folder of prepared TFDS data sets.")

SHAPE = (28, 28, 1)
NUM_STEPS = 20
# Highest and lowest level of version 0.3, and of today.
OLD_LEVELS, LEVELS = (1.5, 0.05), (40.0, 0.02)
# Numbers of evaluations by the highest and the lowest level.
COUNTS = {
    OLD_LEVELS: (10, 35, 100),
    LEVELS: (10, 18, 20, 35, 100, 1000),
}
SCHEDULES = {"euler": "geometric", "heun": "karras", "dpmpp_2m": "geometric"}
MOST_EULER_STEPS = 1000


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
        walk(solver="euler", num_steps=FLAGS.euler_steps)

    passes = passes_part(denoiser.network, use_xla)
    walk(), passes(), old()
    rounds = [
        [seconds(part) for part in (walk, passes, old)]
        for _ in range(FLAGS.rounds)
    ]
    for new, bare, before in rounds:
        print(
            f"{NUM_STEPS} evaluations {new:.2f} s, as many bare passes "
            f"{bare:.2f} s, {FLAGS.euler_steps} Euler steps {before:.2f} s"
        )
    overhead = statistics.median(new / bare for new, bare, _ in rounds)
    speedup = statistics.median(before / new for new, _, before in rounds)
    print(
        f"XLA: {use_xla}; generating to bare passes: {overhead:.3f}; "
        f"{FLAGS.euler_steps} Euler steps to {NUM_STEPS} evaluations: "
        f"{speedup:.2f}"
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
    total = np.sqrt(variances.sum())
    print(f"square root of the total variance: {total:.2f}")
    for levels, counts in COUNTS.items():
        for name, own in (("N(m, sigma^2 I)", 0), ("the noisy data", 1)):
            start = own * variances + levels[0] ** 2
            print(f"{levels[0]:g} to {levels[1]:g}, from {name}: {counts}")
            for solver in SCHEDULES:
                found = [
                    distance(denoiser, start, levels, solver, count)
                    for count in counts
                ]
                print(f"  {solver}: {' / '.join(f'{d:.4f}' for d in found)}")
    start = variances + LEVELS[0] ** 2
    aim = distance(denoiser, start, LEVELS, "dpmpp_2m", NUM_STEPS)
    count = bisect.bisect_left(
        range(1, MOST_EULER_STEPS + 1),
        True,
        key=lambda n: distance(denoiser, start, LEVELS, "euler", n) <= aim,
    )
    more = count == MOST_EULER_STEPS
    print(
        f"Euler steps as close as {NUM_STEPS} evaluations: "
        + (f"more than {count}" if more else f"{count + 1}")
    )
    start = variances + denoiser.sigma_range[1] ** 2
    kept = (gains(denoiser, start) ** 2 * start)[:10] / variances[:10]
    print(f"kept variance by default: {kept.min():.4f} to {kept.max():.4f}")


def distance(denoiser, start, levels, solver, count):
    """Returns the distance of what is generated to the data.

    Args:
        denoiser: Wiener filter of the data.
        start: array `[M]`, the variances of the start along the axes.
        levels: highest and lowest level.
        solver: str.
        count: int, evaluations of D; one less for Heun's method if it is even.
    """
    import numpy as np

    gain = gains(
        denoiser,
        start,
        solver=solver,
        schedule=SCHEDULES[solver],
        num_steps=count - (solver == "heun" and count % 2 == 0),
        sigma_max=levels[0],
        sigma_min=levels[1],
    )
    wanted = np.sqrt(np.asarray(denoiser.eigenvalues))
    return np.linalg.norm(wanted - np.abs(gain) * np.sqrt(start))


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
