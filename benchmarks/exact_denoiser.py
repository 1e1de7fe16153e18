"""Times `EmpiricalDenoiser` against a matrix product; measures its memory.

  python benchmarks/exact_denoiser.py    # 60 000 x 784, about 2 minutes
  python benchmarks/exact_denoiser.py --dataset=fashion_mnist
  python benchmarks/exact_denoiser.py --sigmas=0.5 --rounds=3

Each round measures, for each noise level, 2048 x 2048 matrix products in
float32 and one `denoise` of a batch of noisy images: called eagerly, in a
`tf.function`, and with XLA. The images are held out of the data. By default
they are synthetic: smooth variations of 100 images, so that the posterior
spreads over several images as for photographs. `--dataset` uses real ones.

Prints the median time over rounds, and the median and range of the ratio of
operations/s: of the denoiser (counted as 4 for each value of the data and
image) to the matrix product. Also prints the peak memory of a new process
above what it holds after `adapt`, over all noise levels, including compilation
(200 MB for XLA). The targets are a ratio of 0.75 and 300 MB.
"""

import multiprocessing
import statistics
import sys
import threading
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "dataset", None, "Data set of real images; see `datasets.load`."
)
flags.DEFINE_string("data_dir", None, "Folder of the data sets.")
flags.DEFINE_integer(
    "events", 60000, "Number of synthetic images.", lower_bound=1
)
flags.DEFINE_integer("batch_size", 128, "Images per batch.", lower_bound=1)
flags.DEFINE_list("sigmas", ["0.01", "0.15", "0.5", "5"], "Noise levels.")
flags.DEFINE_integer("rounds", 7, "Number of rounds.", lower_bound=1)

MODES = ("eager", "tf.function", "XLA")


def main(_):
    """Measures memory and time, and prints the medians."""
    sigmas = [float(sigma) for sigma in FLAGS.sigmas]
    options = (FLAGS.dataset, FLAGS.data_dir, FLAGS.events, FLAGS.batch_size)
    # Before this process allocates memory, and in a new process each.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        for mode in MODES:
            stored, risen = pool.apply(memory, (options, sigmas, mode))
            print(f"{mode}: peak {risen:.0f} MB above {stored:.0f} MB")
    denoiser, clean = make_denoiser(*options)
    operations = 4 * denoiser.num_events * clean[0].size * len(clean)
    parts = make_parts(denoiser, clean, sigmas, MODES)
    matrix_products()
    rounds = [one_round(parts.values()) for _ in range(FLAGS.rounds)]
    for name, times in zip(parts, zip(*rounds, strict=True), strict=True):
        took = statistics.median(seconds for seconds, _ in times)
        ratios = sorted(operations / s / product for s, product in times)
        print(
            f"{name}: {took:.3f} s, {statistics.median(ratios):.2f} of the "
            f"matrix product ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    return 0


def one_round(parts):
    """Returns the seconds of each part and the product's operations/s."""
    times = []
    for part in parts:
        product = matrix_products()
        start = time.perf_counter()
        part()
        times.append((time.perf_counter() - start, product))
    return times


def make_denoiser(dataset, data_dir, events, batch_size):
    """Returns a denoiser, and clean images that are not in its data."""
    from keras_genmodels import datasets
    from keras_genmodels.denoisers import EmpiricalDenoiser

    if dataset:
        images = datasets.load(dataset, data_dir=data_dir, validation_split=0)
        data, rest = images.train.images, images.test.images[:batch_size]
    else:
        data = make_images(events + batch_size)
        data, rest = data[:events], data[events:]
    denoiser = EmpiricalDenoiser()
    denoiser.adapt(data)
    scale = 255 if rest.dtype == "uint8" else 1
    return denoiser, rest.astype("float32") / scale


def make_images(count):
    """Generates images of 100 kinds, uint8 `[count, 28, 28, 1]`."""
    import numpy as np

    rng = np.random.default_rng(0)
    # Longer waves have larger amplitudes, as in photographs.
    angles = np.pi * np.outer(np.arange(28) + 0.5, np.arange(12)) / 28
    waves = np.einsum("ai,bj->ijab", np.cos(angles), np.cos(angles))
    lengths = 3 + np.add.outer(np.arange(12), np.arange(12))
    waves = (waves / lengths[..., None, None]).reshape(144, -1)
    waves = waves.astype(np.float32)
    kinds = rng.standard_normal((100, 144), np.float32)
    data = np.empty((count, 784), np.uint8)
    for start in range(0, count, 4096):
        size = len(data[start : start + 4096])
        amplitudes = 0.7 * rng.standard_normal((size, 144), np.float32)
        amplitudes += kinds[rng.integers(0, 100, size)]
        values = 100 + 50 * (amplitudes @ waves)
        data[start : start + size] = np.clip(values, 0, 255)
    return data.reshape(count, 28, 28, 1)


def make_parts(denoiser, clean, sigmas, names):
    """Returns a dict of names to functions that denoise a batch."""
    import numpy as np
    import tensorflow as tf

    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    modes = {
        "eager": denoiser.denoise,
        "tf.function": tf.function(denoiser.denoise),
        "XLA": tf.function(denoiser.denoise, jit_compile=True),
    }

    def part(denoise, sigma):
        noisy = tf.constant(clean + np.float32(sigma) * noise)
        level = tf.fill([len(clean)], np.float32(sigma))
        denoise(noisy, level)
        return lambda: denoise(noisy, level).numpy()

    return {
        f"sigma {sigma:g}, {name}": part(modes[name], sigma)
        for sigma in sigmas
        for name in names
    }


def memory(options, sigmas, mode):
    """Returns the MB held after `adapt`, and the peak of `denoise` above."""
    import psutil

    denoiser, clean = make_denoiser(*options)
    process, done, highest = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for part in make_parts(denoiser, clean, sigmas, [mode]).values():
        part()
    done.set()
    watcher.join()
    return before / 1e6, (highest[0] - before) / 1e6


def matrix_products():
    """Multiplies 2048 x 2048 matrices; returns the operations/s."""
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
