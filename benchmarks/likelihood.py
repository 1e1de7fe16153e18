"""Times `likelihood.importance_weighted` against a matrix product.

  python benchmarks/likelihood.py                    # some 2 minutes
  python benchmarks/likelihood.py --dataset=fashion_mnist
  python benchmarks/likelihood.py --images=100 --rounds=3

The model is a VAE of 784 Bernoulli pixels with networks of 200-200 units and
50 latents, of random weights, and the images are made up or, with
`--dataset`, real ones of the test split; both are binary. Neither changes
what there is to compute.

In each round, one after the other: 2048 x 2048 matrix products in float32,
and the estimate of all images with `--num_samples` draws of z each. Printed
are the medians over rounds of its time and of the ratio of its operations/s
(2 for each weight of the decoder and draw) to the product's, the ratio's
range, and how far the peak of the memory of a process of its own rises above
what it held with model and images, compilation included. The aims are a ratio
of 0.5 and 1000 MB.
"""

import multiprocessing
import statistics
import sys
import threading
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", None, "Real images; see `datasets.load`.")
flags.DEFINE_string("data_dir", None, "Folder of the data sets.")
flags.DEFINE_integer("images", 1000, "How many images.", lower_bound=1)
flags.DEFINE_integer("num_samples", 5000, "Draws per image.", lower_bound=1)
flags.DEFINE_integer("chunk_size", 2000, "Draws at once.", lower_bound=1)
flags.DEFINE_bool("jit_compile", True, "Whether XLA compiles it.")
flags.DEFINE_integer("rounds", 5, "Rounds to take medians of.", lower_bound=1)

SHAPE = (28, 28, 1)


def main(_):
    """Weighs and times, and prints the medians."""
    data = (FLAGS.dataset, FLAGS.data_dir, FLAGS.images)
    settings = {
        "num_samples": FLAGS.num_samples,
        "chunk_size": FLAGS.chunk_size,
        "jit_compile": FLAGS.jit_compile,
    }
    # First: a fresh process, before this one has memory of its own.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        stored, risen = pool.apply(memory, (data, settings))
    print(f"peak {risen:.0f} MB above {stored:.0f} MB")
    model, x = build_model(), load_images(*data)
    estimate(model, x[:1], settings)
    weights = sum(w.shape.num_elements() for w in kernels(model.decoder))
    operations = 2 * weights * len(x) * FLAGS.num_samples
    rounds = []
    for _ in range(FLAGS.rounds):
        product = matrix_products()
        start = time.perf_counter()
        estimate(model, x, settings)
        took = time.perf_counter() - start
        rounds.append((took, operations / took / product))
        print(f"{took:.2f} s, product {product / 1e9:.0f} GFLOP/s")
    took, ratio = (
        statistics.median(values) for values in zip(*rounds, strict=True)
    )
    ratios = sorted(ratio for _, ratio in rounds)
    print(
        f"{took:.2f} s, {ratio:.2f} of the matrix product "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    return 0


def build_model():
    """Gives the VAE to time."""
    import keras_genmodels as kgm

    posterior = kgm.MultivariateNormalDiag(50)
    likelihood = kgm.IndependentBernoulli(SHAPE)
    return kgm.VAE(
        kgm.mlp_encoder(SHAPE, posterior.params_size, (200, 200)),
        kgm.mlp_decoder(50, likelihood.params_shape, (200, 200)),
        posterior,
        likelihood,
    )


def kernels(network):
    """Gives the matrices that a network multiplies by."""
    return [weight for weight in network.weights if len(weight.shape) == 2]


def load_images(dataset, data_dir, count):
    """Gives binary images, float32 `[count, 28, 28, 1]`, or fewer."""
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
    """Makes the estimate, and waits for it."""
    from keras_genmodels.models import likelihood

    likelihood.importance_weighted(model, x, **settings)[0].numpy()


def memory(data, settings):
    """Gives MB held with model and images, and how far the peak is above."""
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
