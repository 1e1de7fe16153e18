"""Times `likelihood.importance_weighted` against a matrix product.

  python benchmarks/likelihood.py                    # about 2 minutes
  python benchmarks/likelihood.py --dataset=fashion_mnist
  python benchmarks/likelihood.py --network=conv --images=10

The model is a VAE of 784 Bernoulli pixels with random weights, by default with
200-200 networks and 50 latents. The binary images are random or, with
`--dataset`, from a test split. Neither changes the amount of computation.

Each round measures 2048 x 2048 matrix products in float32, and the estimate of
all images with `--num_samples` samples of z each. Prints the median time over
rounds, and the median and range of the ratio of operations/s: of the estimate
(counted as 2 for each multiply-add of the decoder and sample) to the matrix
product; and the same ratio of the decoder alone, of which as many passes are
made. Also prints the peak memory of a new process above what it holds with
the model and the images, including compilation. The targets, for an MLP, are a
ratio of 0.6 and 1000 MB.
"""

import multiprocessing
import statistics
import sys
import threading
import time

import vae_networks
from absl import app, flags
from vae_networks import SHAPE, build_model, jit_compile, operations

FLAGS = flags.FLAGS

vae_networks.define_flags(["200", "200"], 50)

flags.DEFINE_string(
    "dataset", None, "Data set of real images; see `datasets.load`."
)
flags.DEFINE_string("data_dir", None, "Folder of the data sets.")
flags.DEFINE_integer("images", 1000, "Number of images.", lower_bound=1)
flags.DEFINE_integer("num_samples", 5000, "Samples per image.", lower_bound=1)
flags.DEFINE_integer("chunk_size", 2000, "Samples at once.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Number of rounds.", lower_bound=1)


def main(_):
    """Measures memory and time, and prints the medians."""
    data = (FLAGS.dataset, FLAGS.data_dir, FLAGS.images)
    settings = {
        "num_samples": FLAGS.num_samples,
        "chunk_size": FLAGS.chunk_size,
        "jit_compile": jit_compile(),
    }
    # In a new process, before this one allocates memory.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, parse_flags, (sys.argv,), 1) as pool:
        stored, risen = pool.apply(memory, (data, settings))
    print(f"peak {risen:.0f} MB above {stored:.0f} MB")
    model, x = build_model(), load_images(*data)
    decode = bare_decoder(model)
    estimate(model, x[:1], settings)
    decode(1)
    draws = len(x) * FLAGS.num_samples
    total = operations(model.decoder) * draws
    rounds = []
    for _ in range(FLAGS.rounds):
        product = matrix_products()
        took = seconds(estimate, model, x, settings)
        bare = seconds(decode, -(-draws // FLAGS.chunk_size))
        rounds.append([took, *(total / it / product for it in (took, bare))])
        print(
            f"{took:.2f} s, decoder alone {bare:.2f} s, product "
            f"{product / 1e9:.0f} GFLOP/s"
        )
    times, ratios, bare_ratios = zip(*rounds, strict=True)
    print(
        f"{statistics.median(times):.2f} s, {statistics.median(ratios):.2f} of "
        f"the matrix product ({min(ratios):.2f} to {max(ratios):.2f}); the "
        f"decoder alone {statistics.median(bare_ratios):.2f}"
    )
    return 0


def seconds(function, *arguments):
    """Returns the time of a call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def bare_decoder(model):
    """Returns a function that makes a number of passes of the decoder alone."""
    import tensorflow as tf

    from keras_genmodels.core import xla

    latents = tf.random.stateless_normal(
        (FLAGS.chunk_size, model.latent_size), (0, 0)
    )
    compiled = xla.resolve(jit_compile(), model)
    decode = tf.function(model.decoder, jit_compile=compiled, autograph=False)

    def passes(count):
        for _ in range(count):
            params = decode(latents)
        params.numpy()

    return passes


def parse_flags(argv):
    """Parses the flags in a new process."""
    FLAGS(argv)


def load_images(dataset, data_dir, count):
    """Returns at most `count` binary images, float32 `[n, 28, 28, 1]`."""
    import numpy as np

    from keras_genmodels import datasets
    from keras_genmodels.core.arrays import as_float

    rng = np.random.default_rng(0)
    if dataset is None:
        return (rng.random((count, *SHAPE)) < 0.3).astype(np.float32)
    split = datasets.load(dataset, data_dir=data_dir, validation_split=0).test
    grey = as_float(split.images[:count])
    return (rng.random(grey.shape) < grey).astype(np.float32)


def estimate(model, x, settings):
    """Computes the estimate."""
    from keras_genmodels.models import likelihood

    likelihood.importance_weighted(model, x, **settings)[0].numpy()


def memory(data, settings):
    """Returns the MB held with model and images, and the peak above."""
    import psutil

    model, x = build_model(), load_images(*data)
    model.elbo(x[:1], seed=0)
    process, done, highest = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    estimate(model, x, settings)
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
