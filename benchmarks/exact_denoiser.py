"""Times `EmpiricalDenoiser` against a matrix product, and weighs it.

  python benchmarks/exact_denoiser.py               # 60 000 x 784, some minutes
  python benchmarks/exact_denoiser.py --sigmas=0.5 --rounds=3

In each round, one after the other: 2048 x 2048 matrix products in float32, and
for each noise level one `denoise` in a `tf.function`, plain and with XLA, of a
batch of noisy images, some of which were left out of the data. The data are
random bytes; `--dataset` takes a data set of TFDS that is prepared already.
Printed are the medians over rounds of the time and of the ratio of the
denoiser's operations/s (4 for each value of the data and image, whatever it
does) to the product's; and, for each noise level, how far the peak of the
memory of a process of its own rises above what it held after `adapt`.
"""

import multiprocessing
import statistics
import sys
import threading
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", None, "Image data set of TFDS, prepared.")
flags.DEFINE_integer("events", 60000, "Random images.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images at once.", lower_bound=1)
flags.DEFINE_list(
    "sigmas", ["0.01", "0.1", "0.25", "0.5", "2"], "Noise levels."
)
flags.DEFINE_integer("rounds", 7, "Rounds to take medians of.", lower_bound=1)


def main(_):
    """Times and weighs, and prints the medians."""
    sigmas = [float(sigma) for sigma in FLAGS.sigmas]
    # First: a fresh process each, before this one has memory of its own.
    context = multiprocessing.get_context("spawn")
    options = (FLAGS.dataset, FLAGS.events, FLAGS.batch_size)
    with context.Pool(1, maxtasksperchild=1) as pool:
        for sigma in sigmas:
            stored, risen = pool.apply(memory, (*options, sigma))
            print(f"sigma {sigma:g}: {risen:.0f} MB above {stored:.0f} MB")
    denoiser, clean = make_denoiser(*options)
    operations = 4 * denoiser.num_events * clean[0].size * len(clean)
    parts = [
        (
            f"sigma {sigma:g}{', XLA' * xla}",
            denoising(denoiser, clean, sigma, xla),
        )
        for sigma in sigmas
        for xla in (False, True)
    ]
    matrix_products()
    rounds = [one_round(parts) for _ in range(FLAGS.rounds)]
    for i, (name, _) in enumerate(parts):
        took = statistics.median(times[i][0] for times in rounds)
        ratio = statistics.median(
            operations / seconds / product
            for seconds, product in (times[i] for times in rounds)
        )
        print(f"{name}: {took:.3f} s, {ratio:.2f} of the matrix product")
    return 0


def one_round(parts):
    """Gives for each part its seconds and the product's operations/s."""
    times = []
    for _, part in parts:
        product = matrix_products()
        start = time.perf_counter()
        part()
        times.append((time.perf_counter() - start, product))
    return times


def make_denoiser(dataset, events, batch_size):
    """Gives a denoiser, and clean images that are not among its data."""
    import numpy as np

    from keras_genmodels.denoisers import EmpiricalDenoiser

    if dataset:
        import tensorflow_datasets as tfds

        data, rest = (
            tfds.load(dataset, split=split, batch_size=-1, download=False)
            for split in ("train", f"test[:{batch_size}]")
        )
        data, rest = data["image"].numpy(), rest["image"].numpy()
    else:
        rng = np.random.default_rng(0)
        size = (events + batch_size, 28, 28, 1)
        data = rng.integers(0, 256, size, np.uint8)
        # As dark as drawings: half of the pixels are 0.
        data *= rng.integers(0, 2, size, np.uint8)
        data, rest = data[:events], data[events:]
    denoiser = EmpiricalDenoiser()
    denoiser.adapt(data)
    return denoiser, rest.astype("float32") / 255


def denoising(denoiser, clean, sigma, jit_compile):
    """Gives a function without arguments that denoises a batch, and waits."""
    import numpy as np
    import tensorflow as tf

    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = tf.constant(clean + np.float32(sigma) * noise)
    level = tf.fill([len(clean)], sigma)
    function = tf.function(denoiser.denoise, jit_compile=jit_compile)
    function(noisy, level)
    return lambda: function(noisy, level).numpy()


def memory(dataset, events, batch_size, sigma):
    """Gives MB held after `adapt`, and by how much `denoise` goes above."""
    import psutil

    denoiser, clean = make_denoiser(dataset, events, batch_size)
    process, done, highest = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    part = denoising(denoiser, clean, sigma, False)
    for _ in range(3):
        part()
    done.set()
    watcher.join()
    return before / 1e6, (highest[0] - before) / 1e6


def matrix_products():
    """Multiplies 2048 x 2048 matrices; gives the operations/s."""
    import tensorflow as tf

    matrix = tf.ones((2048, 2048)) / 2048
    product = matrix
    start = time.perf_counter()
    for _ in range(5):
        product = tf.matmul(product, matrix)
    product.numpy()
    return 5 * 2 * 2048**3 / (time.perf_counter() - start)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
