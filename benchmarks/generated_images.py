"""Measures what generated images keep of the data: variances and labels.

  python benchmarks/generated_images.py --workdir=RUN --num_images=10000

RUN is a finished run of an app that trains on images with labels. Prints the
share of the variance of the training images that its samples have along each
of their first ten principal axes, and in all, with its standard error; the
labels that a small classifier finds in samples and in test images, the last of
which is "no image"; and the time of 64 samples, the median of a few rounds.

Standard errors are those of Gaussian data: sqrt(2 / n) of a variance.
"""

import math
import statistics
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_string("workdir", "runs/dae", "A finished run.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the data set, if it has moved."
)
flags.DEFINE_integer("num_images", 2000, "Samples.", lower_bound=2)
flags.DEFINE_integer("seed", 0, "Seed of the samples.", lower_bound=0)
flags.DEFINE_integer("rounds", 5, "Rounds of the time.", lower_bound=1)

NUM_AXES, NUM_TIMED = 10, 64


def main(_):
    """Prints the shares, the labels and the time."""
    from keras_genmodels.metrics.classifier import cached_classifier
    from keras_genmodels.models.batched_sampling import sample
    from keras_genmodels.runs.workdir import Workdir

    workdir = Workdir(FLAGS.workdir)
    model, run = workdir.load_model(), workdir.read_run()
    data = run.load_data(FLAGS.data_dir)
    images = sample(model, FLAGS.num_images, seed=FLAGS.seed)
    print_variances(data.train.images, images)
    classifier = cached_classifier(data, workdir.path)
    for name, found in (("samples", images), ("test", data.test.images)):
        shares = label_shares(classifier, found)
        text = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"labels of {name}, %: {text}")
    print(f"{NUM_TIMED} images in {median_time(model):.2f} s")
    return 0


def print_variances(train, images):
    """Prints the shares of the variance of images `[n, ...]` that are kept."""
    import numpy as np

    from keras_genmodels.core import arrays

    data, found = (
        arrays.as_float(x).reshape(len(x), -1).astype(np.float64)
        for x in (train, images)
    )
    mean = data.mean(0)
    variances, axes = np.linalg.eigh(np.cov(data.T))
    variances, axes = variances[::-1], axes[:, ::-1]
    along = (found - mean) @ axes[:, :NUM_AXES]
    kept = along.var(axis=0) / variances[:NUM_AXES]
    error = math.sqrt(2 / len(found))
    print(
        f"kept variance along the first {NUM_AXES} axes: "
        f"{' '.join(f'{share:.3f}' for share in kept)} (standard error "
        f"{error:.3f} of each), in all "
        f"{found.var(axis=0).sum() / variances.sum():.3f}"
    )


def label_shares(classifier, images):
    """Returns the share of each label that a classifier finds in images."""
    import numpy as np

    from keras_genmodels.core import arrays

    logits = arrays.map_batches(
        lambda batch: classifier(arrays.as_float(batch)),
        images,
        batch_size=500,
    )
    found = np.argmax(logits, axis=-1)
    return np.bincount(found, minlength=logits.shape[-1]) / len(found)


def median_time(model):
    """Returns the time of some samples, after a first call."""
    times = []
    for _ in range(1 + FLAGS.rounds):
        start = time.perf_counter()
        model.sample(NUM_TIMED, seed=FLAGS.seed).numpy()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
